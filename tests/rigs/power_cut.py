"""Power cuts of a file system: a journal on a loop-mounted ext4 that is shut down without flushing its log.

`python -m tests.rigs.power_cut DIRECTORY COUNT`, as root, under `unshare -m --propagation private`. Each cut has an
image of its own. Only what was acknowledged before the ioctl began counts: it must be there after the next mount.
Prints one line: cuts, acknowledged records, and how many of them were lost or corrupt (it ends with 1 if any).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from agent.journal import Line
from tests.rigs.crashing import Crashed, forked
from tests.rigs.journals import Bench

SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN, _IOR('X', 125, __u32)
NO_LOG_FLUSH = 2
IMAGE_BYTES = 16 * 2**20
PAUSE_S = 0.0005
"""A writer that never rests holds Python's lock so much that the journal's thread may commit nothing for seconds."""
LEAST, SLOW_S = 20, 20.0
"""A cut waits for so many acknowledgements, on a slow disk for so long: one after the first record proves little."""


def write_on(directory: Path, acknowledgements: int) -> None:
    """Append without end; show the number of each record once it is durable."""
    bench = Bench(directory, max_bytes=256 * 1024, commit_s=0.001)

    def committed(lines: Sequence[Line]) -> None:
        os.write(acknowledgements, "".join(line.text + "\n" for line in lines).encode())

    bench.committed = committed  # type: ignore[method-assign]

    async def story() -> None:
        journal = bench.journal()
        await journal.open()
        for number in range(10**6):
            journal.append(bench.icmp(number), urgent=number % 5 == 0)
            if number % 3 == 0:
                await asyncio.sleep(PAUSE_S)
            if number % 50 == 0:
                journal.mark_sent(journal.ep, range(number - 50, number))

    asyncio.run(story())


def shut_down(mount: Path) -> None:
    """Cut the power of this file system: nothing that is not on the disk yet will come there."""
    fd = os.open(mount, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(fd)


def cut(root: Path, blank: Path, after_s: float) -> list[str]:
    """One power cut; gives what had been acknowledged before it began."""
    image, mount = root / "image", root / "mount"
    subprocess.run(["cp", "--sparse=always", blank, image], check=True)
    mount.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 2**20)

    def child() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        write_on(mount / "store", writing)

    pid = forked(child)
    os.close(writing)
    shown, until = b"", time.monotonic() + after_s
    os.set_blocking(reading, False)
    while time.monotonic() < until or (shown.count(b"\n") < LEAST and time.monotonic() < until + SLOW_S):
        try:
            shown += os.read(reading, 2**20)
        except BlockingIOError:
            time.sleep(0.001)
    shut_down(mount)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    subprocess.run(["umount", mount], check=True)
    return [text for text in shown.decode(errors="replace").split("\n") if text.startswith("{") and text.endswith("}")]


def judge(store: Path, acknowledged: Sequence[str]) -> None:
    """After the next boot: the file is whole, and every acknowledged record is held, or its loss is declared."""
    bench = Bench(store, max_bytes=256 * 1024, boot="77ab01")

    async def story() -> None:
        async with bench.open() as journal:
            await journal.flush()
            if list(store.glob("journal.set-aside-*.sqlite")) or journal.in_memory:
                raise Crashed(f"the store was not taken: {journal.trouble or bench.fields('event')}")
            held = {line.seq: line.text for line in await journal.read([(1, journal.committed_seq)], 10**6)}
            crash = [f for f in bench.fields("loss") if f["reason"] == "crash"]
            if len(crash) != 1 or crash[0]["to_seq"] - crash[0]["from_seq"] != 999:
                raise Crashed(f"the power cut is not declared: {crash}")
            for text in acknowledged:
                seq = json.loads(text)["seq"]
                if held.get(seq, text) != text or (seq not in held and seq >= journal.first_seq):
                    raise Crashed(f"acknowledged and gone, or changed: {text[:90]}")
            if acknowledged and crash[0]["from_seq"] <= json.loads(acknowledged[-1])["seq"]:
                raise Crashed("the counter fell behind what was acknowledged")

    asyncio.run(story())


def main() -> int:
    """Cut the power so many times."""
    root, count = Path(sys.argv[1]), int(sys.argv[2])
    chance, total, wrong = random.Random(count), 0, 0
    blank = root / "blank"
    with blank.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", blank], check=True)
    for _ in range(count):
        acknowledged = cut(root, blank, chance.uniform(0.02, 0.15))
        total += len(acknowledged)
        subprocess.run(["mount", "-o", "loop", root / "image", root / "mount"], check=True)
        verdict = forked(lambda acked=acknowledged: judge(root / "mount" / "store", acked))  # type: ignore[misc]
        wrong += bool(os.waitpid(verdict, 0)[1])
        subprocess.run(["umount", root / "mount"], check=True)
        (root / "image").unlink()
    shutil.rmtree(root / "mount")
    print(f"{count} power cuts, {total} acknowledged records, {wrong} cuts with a record lost or corrupt")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""A journal on a small ext4 that fills up, or that the kernel makes read-only: in memory and back by itself.

`python -m tests.rigs.spoilt_disk DIRECTORY full|error`, as root, under `unshare -m --propagation private`.
Prints what the journal said, and how many seconds it took to be back.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from agent.journal import Journal, keeper
from tests.rigs.journals import Bench

IMAGE_BYTES = 4 * 2**20
SLOW_S = 10.0


class Ext4:
    """An ext4 file system in a file, with the faults it can have."""

    def __init__(self, root: Path) -> None:
        """Make and mount it below `root`."""
        self.image, self.mount = root / "image", root / "mount"
        self.mount.mkdir()
        with self.image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        subprocess.run(["mount", "-o", "loop,errors=remount-ro", self.image, self.mount], check=True)

    def fill(self) -> None:
        """Leave no room."""
        with (self.mount / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def empty(self) -> None:
        """Make room again."""
        (self.mount / "filler").unlink()

    def break_down(self) -> None:
        """Let ext4 find an error in itself: with errors=remount-ro it is read-only from then on."""
        device = Path(f"/sys/dev/block/{self._number()}").readlink().name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")

    def _number(self) -> str:
        number = self.mount.stat().st_dev
        return f"{os.major(number)}:{os.minor(number)}"

    def mend(self) -> None:
        """Check it and mount it anew, as after `fsck`; nothing may hold it open any more."""
        subprocess.run(["umount", self.mount], check=True)
        subprocess.run(["fsck.ext4", "-p", "-f", self.image], check=False, capture_output=True)
        subprocess.run(["mount", "-o", "loop", self.image, self.mount], check=True)


async def until(condition: Callable[[], bool]) -> float:
    """Wait for it; gives the seconds it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(SLOW_S):
        while not condition():
            await asyncio.sleep(0.01)
    return loop.time() - began


async def live(bench: Bench, journal: Journal, count: int) -> None:
    """Measuring goes on: each record is given out, at most a commit later."""
    before = len([line for line in bench.seen if line.type == "icmp"])
    for number in range(count):
        journal.append(bench.icmp(number))
        await asyncio.sleep(0)
    async with asyncio.timeout(SLOW_S):
        await journal.flush()
    await asyncio.sleep(0)
    assert len([line for line in bench.seen if line.type == "icmp"]) == before + count


async def story(disk: Ext4, fault: str) -> None:
    """Use it, spoil it, use it, mend it, use it."""
    bench = Bench(disk.mount / "store", max_bytes=64 * 2**20, commit_s=0.01)
    async with bench.open() as journal:
        epoch = journal.ep
        await live(bench, journal, 300)
        (disk.fill if fault == "full" else disk.break_down)()
        for _ in range(200):
            await live(bench, journal, 20)
            if journal.in_memory:
                break
        assert journal.in_memory and journal.ep != epoch, "the fault was not noticed"
        print(journal.trouble)
        await live(bench, journal, 200)
        (disk.empty if fault == "full" else disk.mend)()
        back_s = await until(lambda: not journal.in_memory)
        await live(bench, journal, 200)
        assert journal.ep == epoch and journal.trouble == ""
        print(f"back after {back_s:.1f} s")
        await drained(bench, journal)
    shown: dict[tuple[str, int], str] = {}
    for line in bench.seen:
        assert shown.setdefault((line.ep, line.seq), line.text) == line.text
    kinds = [event["kind"] for event in bench.fields("event")]
    assert kinds[0] == "store_in_memory" and kinds[-1] == "store_back"


async def drained(bench: Bench, journal: Journal) -> None:
    """All that was shown can be read, and marked sent: the disk's and the memory's."""
    given: set[tuple[str, int]] = set()
    while lines := await journal.unsent(0, 1000):
        given |= {(line.ep, line.seq) for line in lines}
        for ep in {line.ep for line in lines}:
            journal.mark_sent(ep, [line.seq for line in lines if line.ep == ep])
        await journal.flush()
    assert {(line.ep, line.seq) for line in bench.seen} <= given and journal.pending == 0


def main() -> None:
    """Run the story of one fault."""
    keeper.RETRY_S = 0.2
    asyncio.run(story(Ext4(Path(sys.argv[1])), sys.argv[2]))


if __name__ == "__main__":
    main()

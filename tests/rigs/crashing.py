"""A journal in a process of its own that is killed, or whose system calls fail, at a chosen point.

`python -m tests.rigs.crashing DIRECTORY FAULT` lets strace interfere with call 1, 2, 3… of a short run until one run
is not touched any more, and looks at the store after each. The processes are forked from one that has imported
everything: 30 ms each. FAULT: `signal=KILL`, `error=EIO`, `error=ENOSPC` (that call alone), or with `+` at the end
(that call and all that follow). Prints one line: how many points there were.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import shutil
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from agent.journal import Journal, Line, Ranges, keeper
from agent.journal import store as store_module
from agent.model import Record
from tests.rigs.journals import Bench

CALLS = "pwrite64,pwritev,fdatasync,fsync,ftruncate,unlink,rename"
ATTACHED_S = 10.0
MOST_POINTS = 400
SMALL_BYTES = 9 * 1024
ROUNDS = 5
SENT_EVERY = 5


class Crashed(AssertionError):
    """What the store should not have done."""


def forked(work: Callable[[], None]) -> int:
    """Run this in a child process; gives its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - an os._exit must come whatever happens, or the child goes on as a second parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def short_blocks() -> None:
    """Let a short run reach everything: merging, checkpoints, eviction, going to memory and back."""
    store_module.BLOCK_RECORDS = 8
    store_module.LEAST_BYTES = SMALL_BYTES
    keeper.RETRY_S = 0.02


def run(directory: Path, acknowledgements: int) -> None:
    """Append, mark, remember and evict a little; each durable line is written to the descriptor at once."""
    bench = Bench(directory, max_bytes=SMALL_BYTES, commit_s=0.001)

    counted = [True]

    def committed(lines: Sequence[Line]) -> None:
        for line in lines if counted else ():
            os.write(acknowledgements, (line.text + "\n").encode())

    bench.committed = committed  # type: ignore[method-assign]

    async def story() -> None:
        journal = bench.journal()
        await journal.open()
        for number in range(ROUNDS):
            for more in range(5):
                journal.append(noise(bench, number * 10 + more))
            journal.remember("conn", str(number))
            await journal.flush()
            journal.mark_sent(journal.ep, [journal.committed_seq // SENT_EVERY * SENT_EVERY])
        await asyncio.sleep(0.03)
        journal.append(noise(bench, 999))
        await journal.flush()
        counted.clear()
        await still_there(journal)
        await journal.close()

    asyncio.run(story())


def noise(bench: Bench, number: int) -> Record:
    """Make a record that does not become small: the store is soon at its limit."""
    detail = random.Random(number).randbytes(150).hex()
    return Record("icmp", bench.now(), {"check": "gateway", "outcome": "pass", "rtt_mean_s": 0.001, "detail": detail})


async def still_there(journal: Journal) -> None:
    """An epoch in memory keeps all that was published from it, until it is sent."""
    for shelf in journal._shelves.readable:
        if shelf.in_memory:
            lines = await journal._run(shelf.store.read, Ranges.of([(1, 10**9)]), 10**6)
            os.write(2, "".join(f"memory {line.text}\n" for line in lines).encode())


def check_file(directory: Path) -> None:
    """Let SQLite look for damage, in a copy: the journal itself is to find the file as it was left."""
    path = directory / "journal.sqlite"
    if path.exists() and path.stat().st_size:
        copy = directory.parent / "copy"
        shutil.copytree(directory, copy)
        with sqlite3.connect(copy / path.name) as db:
            whole = db.execute("PRAGMA quick_check").fetchone()[0]
        db.close()
        shutil.rmtree(copy)
        if whole != "ok":
            raise Crashed(whole)


def judge(directory: Path, acknowledged: Sequence[str], in_memory: Sequence[str], killed: bool) -> None:
    """Reopen the store: whole, nothing acknowledged is lost, no number has two contents, no gap is undeclared."""
    check_file(directory)
    bench = Bench(directory)

    async def story() -> tuple[str, int, list[str]]:
        async with bench.open() as journal:
            journal.append(bench.icmp(10**6))
            await journal.flush()
            held = await journal.read([(1, journal.committed_seq)], 10**6)
            if aside := list(directory.glob("journal.set-aside-*.sqlite")):
                raise Crashed(f"set aside: {aside}")
            numbers = [line.seq for line in held]
            texts = [line.text for line in held]
            declared = {seq for _, seq in losses(texts)}
            if missing := set(range(journal.first_seq, journal.next_seq)) - declared - set(numbers):
                raise Crashed(f"gap: {sorted(missing)[:5]}")
            if killed and any(line.type == "loss" and '"reason":"thinned"' not in line.text for line in held):
                raise Crashed(f"declared lost: {sorted(declared)}")
            return journal.ep, journal.first_seq, texts

    ep, first_seq, held = asyncio.run(story())
    contents: dict[tuple[str, int], str] = {}
    for text in (*acknowledged, *in_memory, *held):
        key = (json.loads(text)["ep"], json.loads(text)["seq"])
        if contents.setdefault(key, text) != text:
            raise Crashed(f"two contents: {key}")
    there = {*held, *in_memory}
    declared = losses([*held, *acknowledged, *in_memory])
    for text in acknowledged:
        record = json.loads(text)
        evicted = record["ep"] != ep or record["seq"] < first_seq
        accounted = (record["ep"], record["seq"]) in declared or record["seq"] % SENT_EVERY == 0
        if text not in there and not (evicted and accounted):
            raise Crashed(f"epoch {ep}: acknowledged and gone: {text[:90]}")


def losses(texts: Iterable[str]) -> set[tuple[str, int]]:
    """Give the numbers, with their epoch, that `loss` records among these declare."""
    records = [json.loads(text) for text in texts if '"type":"loss"' in text]
    return {(r["ep"], n) for r in records for n in range(r["from_seq"], r["to_seq"] + 1)}


def touched(directory: Path, fault: str, point: int) -> bool:
    """One run with the fault at its `point`-th call; tells whether that call came."""
    here, there = os.pipe(), os.pipe()
    errors = directory.parent / "errors"
    with errors.open("wb") as sink:
        go_read, go_write = here

        def child() -> None:
            os.dup2(sink.fileno(), 2)
            os.close(there[0])
            os.read(go_read, 1)
            run(directory, there[1])

        pid = forked(child)
    os.close(there[1])
    when = f"{point}+" if fault.endswith("+") else str(point)
    inject = f"inject={CALLS}:{fault.rstrip('+')}:when={when}"
    log = directory.parent / "strace.log"
    command = ["strace", "-f", "-o", str(log), "-e", f"trace={CALLS}", "-e", inject, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr
        ready, _, _ = select.select([tracer.stderr], [], [], ATTACHED_S)
        if not ready or b"attached" not in os.read(tracer.stderr.fileno(), 4096):
            raise Crashed("strace could not attach")
        os.write(go_write, b".")
        shown = b""
        while chunk := os.read(there[0], 65536):
            shown += chunk
        _, status = os.waitpid(pid, 0)
    for fd in (go_read, go_write, there[0]):
        os.close(fd)
    acknowledged = [text for text in shown.decode().split("\n")[:-1] if text.endswith("}")]
    said = errors.read_text()
    in_memory = [line[7:] for line in said.split("\n") if line.startswith("memory ")]
    killed = os.WIFSIGNALED(status)
    if not killed and os.waitstatus_to_exitcode(status):
        raise Crashed(f"the journal broke: {said[-3000:]}")
    verdict = forked(lambda: judge(directory, acknowledged, in_memory, killed))
    if os.waitstatus_to_exitcode(os.waitpid(verdict, 0)[1]):
        raise Crashed(f"{fault} at call {point} of {sys.argv[1]}")
    return killed or "INJECTED" in log.read_text()


def main() -> None:
    """Sweep over all points of one run."""
    root, fault = Path(sys.argv[1]), sys.argv[2]
    short_blocks()
    for point in range(1, MOST_POINTS):
        directory = root / "run" / "store"
        directory.parent.mkdir()
        came = touched(directory, fault, point)
        shutil.rmtree(directory.parent)
        if not came:
            print(f"{point - 1} points of {fault}")
            return
    raise Crashed(f"more than {MOST_POINTS} points")


if __name__ == "__main__":
    main()

"""An error in the journal that nobody foresaw ends the agent with one clear line, and never hangs it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from agent.condition import STUCK_S, Headway
from agent.journal import Journal, JournalEnded
from tests.rigs.journals import Bench
from tests.rigs.mosquitto import free_port
from tests.rigs.service import config, tcp, written

SPOILT = """
import sys
from agent.journal.store import Store
commit = Store.commit

def spoilt(store, batch):
    # The first commits are those of the opening; then memory runs out.
    if batch.lines:
        raise MemoryError("no room")
    return commit(store, batch)

Store.commit = spoilt
"""
SERVICE = SPOILT + "from pathlib import Path\nfrom agent.service import serve\nsys.exit(serve(Path(sys.argv[1])))\n"
ONCE = SPOILT + "from agent.__main__ import main\nsys.argv[1:] = ['run', '--once', '-c', sys.argv[1]]\nmain()\n"


def run_out_of_memory(journal: Journal) -> None:
    def commit(_batch: object) -> object:
        raise MemoryError("no room")

    journal._shelves.present.store.commit = commit  # type: ignore[method-assign,assignment]


def test_whoever_waits_for_the_journal_hears_that_it_ended_and_it_can_be_closed(tmp_path: Path) -> None:
    b = Bench(tmp_path / "store")

    async def story() -> None:
        journal = b.journal()
        await journal.open()
        await b.fill(journal, 3)
        kept = asyncio.create_task(journal.kept())
        run_out_of_memory(journal)
        journal.append(b.icmp(3))
        waiting = asyncio.create_task(journal.flush())
        for wait in (kept, waiting):
            with pytest.raises(JournalEnded, match="MemoryError: no room"):
                await asyncio.wait_for(wait, 20)
        with pytest.raises(JournalEnded):
            await journal.flush()
        with pytest.raises(JournalEnded):
            await asyncio.wait_for(journal.close(), 20)

    asyncio.run(story())
    seen = [(line.ep, line.seq) for line in b.seen]
    assert len(seen) == 3
    b.seen.clear()

    async def again() -> None:
        async with b.open() as journal:
            await b.fill(journal, 1)

    asyncio.run(again())
    assert (b.seen[-1].ep, b.seen[-1].seq) == (seen[0][0], 4), "the number of what was never seen is free again"


def test_a_journal_that_is_closed_in_an_orderly_way_tells_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        journal = Bench(tmp_path / "store").journal()
        await journal.open()
        kept = asyncio.create_task(journal.kept())
        await asyncio.sleep(0)
        assert not kept.done()
        await journal.close()
        await asyncio.wait_for(kept, 20)

    asyncio.run(story())


@pytest.mark.parametrize("program", [SERVICE, ONCE], ids=["service", "once"])
def test_the_agent_ends_with_one_sentence_and_an_exit_code_that_asks_for_a_restart(
    tmp_path: Path, program: str
) -> None:
    file = written(tmp_path, config(tmp_path, [tcp("port", free_port())]))
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1, done.stderr
    sentence = "the journal cannot go on (MemoryError: no room); start siteprobe anew, and report this"
    assert [line for line in done.stderr.splitlines() if sentence in line], done.stderr
    assert "never retrieved" not in done.stderr and "ExceptionGroup" not in done.stderr, done.stderr


def test_headway_is_a_commit_within_two_minutes_or_nothing_that_waits() -> None:
    class Counts:
        committed_seq, next_seq = 5, 6

    journal = Counts()
    headway = Headway(journal, 0.0)
    assert headway.made(10.0)
    journal.next_seq = 7
    assert headway.made(10.0 + STUCK_S - 1)
    assert not headway.made(10.0 + STUCK_S)
    journal.committed_seq = 6
    assert headway.made(10.0 + STUCK_S)

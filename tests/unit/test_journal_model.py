"""The journal against a plain model: Hypothesis tries any order of appending, marking, crashing, moving."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.journal import Journal, store
from agent.model import Record, Scalar
from tests.rigs.journals import Bench

SMALL = 24 * 1024


class JournalMachine(RuleBasedStateMachine):
    """The model: the text of each pair that was ever shown, what was marked, and what the present run remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(store, "LEAST_BYTES", SMALL)  # small, so that eviction and merging come early
        self.patch.setattr(store, "BLOCK_RECORDS", 30)
        self.root = Path(tempfile.mkdtemp(prefix="journal-model-"))
        self.runner = asyncio.Runner()
        self.bench = Bench(self.root / "0", max_bytes=SMALL, commit_s=3600.0)
        self.shown: dict[tuple[str, int], str] = {}
        self.sent: set[tuple[str, int]] = set()
        self.waiting = 0
        self.number = self.copies = self.boots = 0
        self.left: list[Journal] = []

    @initialize()
    def begin(self) -> None:
        self._open()

    # -- actions -----------------------------------------------------------------------------

    @rule(count=st.integers(1, 60), size=st.integers(1, 900), urgent=st.booleans())
    def append(self, count: int, size: int, urgent: bool) -> None:
        async def story() -> None:
            for _ in range(count):
                self.number += 1
                expected = self.journal.next_seq
                assert self.journal.append(self._record(size), urgent) == expected
            await asyncio.sleep(0)

        self._run(story())
        self._learn()

    @rule()
    def flush(self) -> None:
        last = self.journal.next_seq - 1
        self._run(self.journal.flush())
        self._learn()
        assert self.journal.committed_seq >= last

    @rule(share=st.sampled_from([1, 2, 3]), limit=st.integers(1, 400))
    def mark_sent(self, share: int, limit: int) -> None:
        lines = self._run(self.journal.unsent(0, limit))
        numbers = [line.seq for line in lines]
        assert numbers == sorted(set(numbers))
        for line in lines:
            assert self.shown[line.ep, line.seq] == line.text
        self.journal_mark([line.seq for line in lines[::share]])

    def journal_mark(self, numbers: list[int]) -> None:
        async def story() -> None:
            self.journal.mark_sent(self.journal.ep, numbers)

        self._run(story())
        self.sent |= {(self.journal.ep, seq) for seq in numbers}

    @rule(seconds=st.integers(1, 100))
    def time_passes(self, seconds: int) -> None:
        self.bench.ts += seconds

    @rule(days=st.sampled_from([30, 200]))
    def grow_old(self, days: int) -> None:
        """What is older than max_age goes, declared."""
        self.bench.ts += days * 86400
        for _ in range(2):
            self.append(1, 10, True)
            self.flush()

    @rule()
    def crash(self) -> None:
        """Drop the journal without closing it: what is on the disk at this moment is what the next run finds."""
        self._settle_thread()
        self._move_to(self.bench.machine)

    @rule()
    def power_cut(self) -> None:
        """Crash, and another boot: 1,000 numbers are declared."""
        self._settle_thread()
        self.boots += 1
        self.bench.boot = f"{self.boots:06x}"
        before = self.journal.ep
        self._move_to(self.bench.machine)
        assert self.journal.ep == before

    @rule()
    def reopen(self) -> None:
        ep, committed = self.journal.ep, self.journal.next_seq
        self._run(self.journal.close())
        self._learn()
        self._open()
        assert self.journal.ep == ep and self.journal.next_seq >= committed

    @rule()
    def other_machine(self) -> None:
        """The store was copied: a new epoch, which names the old one."""
        self._settle_thread()
        old, committed = self.journal.ep, self.journal.committed_seq
        self._move_to(f"board-{self.copies + 2}")
        first = json.loads(self.shown[self.journal.ep, 1])
        assert self.journal.ep != old and self.journal.first_seq == 1
        assert (first["kind"], first["old_ep"], first["old_last_seq"]) == ("epoch_changed", old, committed)

    # -- what is always true -----------------------------------------------------------------

    @invariant()
    def each_number_is_held_or_declared(self) -> None:
        self._settle_thread()
        journal = self.journal
        held = self._run(journal.read([(1, journal.committed_seq)], 10**6))
        self._learn()
        for line in held:
            assert self.shown[line.ep, line.seq] == line.text
        numbers = {line.seq for line in held}
        declared = {n for (ep, _), text in self.shown.items() if ep == journal.ep for n in declares(text)}
        declared |= {n for one in journal._queue._all for n in declares(one.line.text)}
        for seq in range(journal.first_seq, journal.committed_seq + 1):
            assert seq in numbers or seq in declared, f"gap at {seq}"
        for seq in range(1, journal.first_seq):
            assert seq in declared or (journal.ep, seq) in self.sent, f"{seq} went undeclared"
        sent = {seq for ep, seq in self.sent if ep == journal.ep}
        assert len(declared - sent) <= journal.lost_total <= len(declared)
        open_numbers = set(range(journal.first_seq, journal.next_seq)) - declared
        assert len(open_numbers - sent) <= journal.pending <= len(open_numbers)
        assert not journal.in_memory and journal.trouble == ""

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            for journal in (*self.left, self.journal):
                self._run(journal.close())
        self.runner.close()
        self.patch.undo()
        shutil.rmtree(self.root)

    # -- inside ------------------------------------------------------------------------------

    def _record(self, size: int) -> Record:
        text = f"{self.number**40:0{size}}"[:size]
        fields: dict[str, Scalar] = {
            "check": f"c-{self.number % 7}",
            "outcome": "pass",
            "rtt_mean_s": 0.001,
            "detail": text,
        }
        return Record("icmp", self.bench.now(), fields)

    def _run(self, work: Any) -> Any:
        return self.runner.run(work)

    def _open(self) -> None:
        self.journal = self.bench.journal()
        self._run(self.journal.open())
        self._run(self.journal.flush())
        self._learn()

    def _settle_thread(self) -> None:
        """Let a commit that has begun end, so that a copy of the files is what a killed process leaves."""

        async def settle() -> None:
            journal = self.journal
            while journal._queue._in_flight or journal._commit_at <= asyncio.get_running_loop().time():
                await journal._run(int)
                await asyncio.sleep(0)

        self._run(settle())

    def _move_to(self, machine: str) -> None:
        self._learn()
        self.copies += 1
        new = self.root / str(self.copies)
        shutil.copytree(self.bench.directory, new)
        self.left.append(self.journal)
        self.bench = Bench(
            new, max_bytes=SMALL, commit_s=3600.0, machine=machine, boot=self.bench.boot, ts=self.bench.ts
        )
        self._open()

    def _learn(self) -> None:
        """Take in what was shown; a pair never has two contents."""
        self._run(asyncio.sleep(0))
        for line in self.bench.seen:
            assert self.shown.setdefault((line.ep, line.seq), line.text) == line.text
        self.bench.seen.clear()


def declares(text: str) -> range:
    """Give what a `loss` record declares, nothing for any other."""
    if '"type":"loss"' not in text:
        return range(0)
    found = json.loads(text)
    return range(found["from_seq"], found["to_seq"] + 1)


JournalMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestJournalModel = JournalMachine.TestCase

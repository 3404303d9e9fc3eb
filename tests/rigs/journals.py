"""Journals for tests: realistic icmp records, a clock that the test sets, and what was committed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.clock import Instant
from agent.journal import Journal, Line
from agent.journal.rows import checksum
from agent.model import Record

MIB = 2**20
DAY_S = 86400.0
MAIN_FIELDS = {"icmp": "rtt_mean_s", "http": "total_s", "tcp": "connect_s"}
START_TS = 1_763_820_202.123


@dataclass(frozen=True)
class Buffer:
    """The `buffer` section."""

    directory: str
    max_bytes: int = 64 * MIB
    max_age_s: float = 90 * DAY_S
    commit_s: float = 0.02


@dataclass
class Bench:
    """One store directory over several runs of the agent; `boot`, `clock` and `ts` are the test's to set.

    `wrong_s`: by how much the wall clock is wrong.
    """

    directory: Path
    max_bytes: int = 64 * MIB
    max_age_s: float = 90 * DAY_S
    commit_s: float = 0.02
    machine: str = "board-1"
    boot: str = "9c1e7a"
    clock: str = "synced"
    ts: float = START_TS
    wrong_s: float = 0.0
    seen: list[Line] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self.directory / "journal.sqlite"

    def now(self) -> Instant:
        """Give the moment that the test has set."""
        return Instant(self.ts + self.wrong_s, int(self.ts * 1000) % 10**12, self.clock, self.boot)

    def icmp(self, number: int) -> Record:
        """Make the icmp record of the contract's example, with values that differ from record to record."""
        rtt_s = round(0.0003 + (number * 7919 % 1000) / 1e6, 9)
        fields: dict[str, Any] = {"check": "gateway", "layer": "gateway", "target": "gateway", "address": "10.20.0.1"}
        fields |= {"outcome": "pass", "duration_s": 0.412, "sent": 3, "received": 3, "loss_ratio": 0.0}
        fields |= {"rtt_min_s": rtt_s, "rtt_mean_s": rtt_s * 1.1, "rtt_max_s": rtt_s * 1.3, "ipdv_s": rtt_s / 7}
        return Record("icmp", self.now(), fields | {"number": number})

    def committed(self, lines: Sequence[Line]) -> None:
        """Keep what the journal says is durable."""
        self.seen += lines
        self.commits.append(len(lines))

    def journal(self) -> Journal:
        """Make a journal that is not open yet."""
        buffer = Buffer(str(self.directory), self.max_bytes, self.max_age_s, self.commit_s)
        return Journal(buffer, "main-hospital-01", self.machine, self.committed, self.now, MAIN_FIELDS)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Journal]:
        """Open a journal and close it in an orderly way."""
        journal = self.journal()
        await journal.open()
        try:
            yield journal
        finally:
            await journal.close()

    async def fill(self, journal: Journal, count: int, each: int = 100) -> None:
        """Append `count` icmp records, committing after every `each`."""
        for number in range(count):
            journal.append(self.icmp(number))
            if number % each == each - 1:
                await journal.flush()
        await journal.flush()

    def fields(self, record_type: str) -> list[dict[str, Any]]:
        """Give the committed records of a type as JSON objects."""
        return [json.loads(line.text) for line in self.seen if line.type == record_type]

    def make_unclean(self) -> None:
        """Make the closed file look as after a crash."""
        ((*row, _),) = self.rows("SELECT ep, machine, boot, 0, next_seq, lost_total, settled, lost, 0 FROM state")
        self.rows(f"UPDATE state SET clean = 0, checksum = {checksum(row)}")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the closed file."""
        with sqlite3.connect(self.path) as db:
            found = db.execute(query).fetchall()
        db.close()
        return found

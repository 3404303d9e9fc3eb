"""A desk for commands with a journal of ten lines, hands that only note, and a clock that the test sets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.clock import Instant, rfc3339
from agent.commands import Desk, Hands, Suppression
from agent.config import Buffer, Commands
from agent.messages import compact
from agent.model import Record
from agent.rounds import NotNow, Running
from tests.rigs import virtual_time
from tests.rigs.stories import config_of

BASE = "siteprobe/v1/org/site/node"
PACE = "siteprobe/v1/org/fleet/pace"
START = Instant(1_795_000_000.0, 3_600_000, "synced", "boot-1")
ENABLED = ("replay", "report", "suppress", "check", "traceroute")


@dataclass
class Notes:
    """The journal: numbers 1 to 200 were given, 11 to 150 and 160 to 200 are held."""

    values: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    ep: str = "ep1"
    next_seq: int = 201

    def append(self, record: Record, urgent: bool = False) -> int:
        self.records.append(record)
        return 0

    def remember(self, key: str, value: str) -> None:
        self.values[key] = value

    def recall(self, key: str) -> str | None:
        return self.values.get(key)

    async def flush(self) -> None:
        return

    async def read(self, ranges: Iterable[tuple[int, int]], limit: int = 1000) -> Sequence[Any]:
        held = [n for n in (*range(11, 151), *range(160, 201)) if any(a <= n <= b for a, b in ranges)]
        return [SimpleNamespace(seq=n, text=json.dumps({"seq": n})) for n in held[:limit]]


class Front:
    """The desk, and everything that it did."""

    def __init__(self, folder: Path, enabled: tuple[str, ...] = ENABLED, notes: Notes | None = None) -> None:
        self.notes, self.now = notes or Notes(), START
        self.answers: list[Mapping[str, Any]] = []
        self.replayed: list[tuple[int, int]] = []
        self.paces: list[tuple[bool, float | None, float | None]] = []
        self.suppressed: list[Suppression | None] = []
        self.checked: dict[str, Exception] = {"runs": Running("runs"), "not-now": NotNow("was asked 1 s ago")}
        config = replace(config_of(()), commands=Commands(enabled=enabled), buffer=Buffer(directory=str(folder)))
        self.desk = Desk(config, self.notes, self._hands(), lambda: self.now)

    def _hands(self) -> Hands:
        async def check(name: str) -> tuple[str, int]:
            if name in self.checked:
                raise self.checked[name]
            return "ep1", 42

        return Hands(
            respond=lambda suffix, payload: self.answers.append(
                json.loads(compact({"to": suffix, **payload}).encode())
            ),
            replay=self.replayed.extend,
            report=lambda: 7,
            check=check,
            trace=check,
            pace=lambda *pace: self.paces.append(pace),
            suppress=self.suppressed.append,
        )

    def send(self, name: str, payload: bytes, retained: bool = False) -> Mapping[str, Any] | None:
        """Have a message come in, and everything done that follows; gives the answer, None for silence."""
        before = len(self.answers)
        self.desk.receive(f"{BASE}/command/{name}", payload, retained)
        while not self.desk.waiting.empty():
            virtual_time.run(self.desk.obey(self.desk.waiting.get_nowait()))
        return self.answers[before] if len(self.answers) > before else None

    def ask(self, name: str, args: Any = None, retained: bool = False, **changes: Any) -> Mapping[str, Any]:
        """Send a well-formed command but for `changes`; None takes a key out."""
        body = {"id": f"id-{len(self.answers)}", "exp": self.time(30), "args": {} if args is None else args} | changes
        sent = {key: value for key, value in body.items() if value is not None}
        answer = self.send(name, json.dumps(sent).encode(), retained)
        assert answer is not None
        return answer

    def pace(self, **body: Any) -> None:
        """Have the centre set a pace; `exp` in seconds from now."""
        sent = body | {"exp": self.time(body["exp"])} if "exp" in body else body
        self.desk.receive(PACE, json.dumps(sent).encode(), True)

    def time(self, seconds: float) -> str:
        """Write a time so many seconds from now."""
        return rfc3339(self.now.ts + seconds)

    def later(self, seconds: float, **changes: Any) -> None:
        """Let time pass, and have the desk look."""
        moved = replace(self.now, ts=self.now.ts + seconds, mono_ms=self.now.mono_ms + round(seconds * 1000))
        self.now = replace(moved, **changes)
        self.desk.look()

    def kinds(self) -> list[str]:
        """Name the kinds of the events so far."""
        return [str(record.fields["kind"]) for record in self.notes.records]

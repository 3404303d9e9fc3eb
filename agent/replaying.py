"""Health and verdict over recorded records, so that a verdict seen in the field can be argued about.

Nothing is measured and nothing is sent: the records go through the same pipeline as in the service, in the order of
their numbers; between two of them time passes in steps of a second, as the service judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from agent.check import CheckOptions
from agent.clock import Instant
from agent.config import Config
from agent.model import Record, Scalar
from agent.pipeline import Pipeline
from agent.verdict import SiteFacts

MOST_STEPS = 40
"""Seconds that pass between two records: no rule of the verdict waits for longer than 30."""
HEAD = ("v", "node", "ep", "seq", "ts", "clock", "boot", "mono_ms", "type", "late")
TIMELINE = ("transition", "verdict")


class Unreadable(ValueError):
    """A line that holds no record; the text is one sentence with its number."""


@dataclass
class Notebook:
    """A journal that only remembers: numbers records and keeps them."""

    ep: str = "replay"
    records: list[Record] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def next_seq(self) -> int:
        """The number that the next record gets."""
        return len(self.records) + 1

    def append(self, record: Record, urgent: bool = False) -> int:
        """Keep a record and give its number."""
        self.records.append(record)
        return len(self.records)

    def remember(self, key: str, value: str) -> None:
        """Keep a small value."""
        self.kept[key] = value

    def recall(self, key: str) -> str | None:
        """Give a kept value."""
        return self.kept.get(key)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a timeline: what was said at a moment, by the recorder (`then`) or by this replay (`now`)."""

    at: Instant
    whose: str
    record: Record


def read_records(lines: Iterable[str]) -> list[Record]:
    """Read records from lines of JSON, in the order of their numbers, each number once.

    A line is a record, an array of records, or a message as `siteprobe demo --json` prints it (`topic`, `payload`);
    messages that are no records are passed over. Raises `Unreadable` for a line that is no JSON.
    """
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    epochs: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        for body in _records_in(line, number) if line.strip() else ():
            epochs.setdefault(body["ep"], len(epochs))
            found.setdefault((body["ep"], body["seq"]), body)
    ordered = sorted(found, key=lambda key: (epochs[key[0]], key[1]))
    return [record_of(found[key]) for key in ordered]


def _records_in(line: str, number: int) -> Iterator[Mapping[str, Any]]:
    try:
        found = json.loads(line)
    except ValueError:
        raise Unreadable(f"line {number} is no JSON; one record, or one array of records, is expected a line") from None
    if isinstance(found, dict) and "topic" in found:
        found = found.get("payload")
    for body in found if isinstance(found, list) else [found]:
        if isinstance(body, dict) and all(key in body for key in ("ep", "seq", "ts", "mono_ms", "type")):
            yield body


def record_of(body: Mapping[str, Any]) -> Record:
    """Turn the JSON object of a record back into the record; raises ValueError for a time that is none."""
    ts = datetime.fromisoformat(str(body["ts"])).timestamp()
    taken = Instant(ts, int(body["mono_ms"]), str(body.get("clock", "")), str(body.get("boot", "")))
    fields: dict[str, Scalar] = {key: value for key, value in body.items() if key not in HEAD}
    return Record(str(body["type"]), taken, fields)


class Replay:
    """Plays records to the pipeline of a config, and keeps what it said."""

    def __init__(self, config: Config, began: Instant) -> None:
        """Begin with nothing known."""
        self._checks: dict[str, CheckOptions] = {check.name: check for check in config.active}
        self._notebook = Notebook()
        self._pipeline = Pipeline(config, self._notebook, lambda *card: None, began)
        self._facts = SiteFacts(began)
        self._noted = 0
        self.unknown: set[str] = set()
        """Names of recorded checks that the config does not have."""

    def play(self, records: Iterable[Record]) -> Iterator[Entry]:
        """Give the timeline: what the recorder said then, and what is said now."""
        for record in records:
            yield from self._pass_time(record.taken)
            if record.type in TIMELINE:
                yield Entry(record.taken, "then", record)
            elif record.type == "event":
                self._hear(record)
            elif "outcome" in record.fields:
                self._take(record)
            yield from self._judge(record.taken)

    def _pass_time(self, until: Instant) -> Iterator[Entry]:
        """Judge each second up to the next record, as the service does."""
        last = self._facts.now
        for step in range(1, min(int((until.mono_ms - last.mono_ms) / 1000), MOST_STEPS) + 1):
            at = replace(last, ts=last.ts + step, mono_ms=last.mono_ms + 1000 * step)
            yield from self._judge(at)

    def _judge(self, now: Instant) -> Iterator[Entry]:
        self._facts = replace(self._facts, now=now)
        self._pipeline.judge(self._facts)
        fresh, self._noted = self._notebook.records[self._noted :], len(self._notebook.records)
        yield from (Entry(now, "now", record) for record in fresh if record.type in TIMELINE)

    def _take(self, record: Record) -> None:
        check = self._checks.get(record.check)
        if check is None:
            self.unknown.add(record.check)
        elif record.type == check.type:
            self._pipeline.take(check, record, ())

    def _hear(self, record: Record) -> None:
        """Follow the suppressions that were in force."""
        kind, detail = str(record.fields.get("kind")), str(record.fields.get("detail") or "")
        began, ended = kind == "suppression_began", kind == "suppression_ended"
        if (began and detail.startswith("maintenance")) or (ended and self._facts.suppressed):
            words = detail if began else ""
            self._pipeline.suspend(words, record.taken)
            self._facts = replace(self._facts, suppressed=words)
        if (began and detail.startswith("isolation")) or ended:
            self._facts = replace(self._facts, isolated=detail if began else "")

"""What is left of records that had to go unsent: one `summary` a check, with its count and its main figure. Pure.

A summary's own time is that of the first record it stands for, and `period_s` reaches to the last. A summary that
has to go unsent itself is added to the next one, so that their counts stay true however often that happens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.clock import ClockQuality, Instant
from agent.model import Record, Scalar

SUMMARY = "summary"
LEAST_AT_ONCE = 4
RECORDS_EACH = 8
"""One summary in place of at least so many records on average: more would fill the room that was just made."""
Key = tuple[str, str]
OTHERS: Key = ("", "")


@dataclass(slots=True)
class Series:
    """The records of one check: how many there were, and the figures of its main field (`measured` have it)."""

    first: Instant
    last: Instant
    count: int = 0
    passed: int = 0
    failed: int = 0
    measured: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, other: Series) -> None:
        """Take in later records of the same check."""
        self.last = other.last
        self.count += other.count
        self.passed += other.passed
        self.failed += other.failed
        self.measured += other.measured
        self.total += other.total
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)

    @property
    def period_s(self) -> float | None:
        """Seconds from the first to the last record; None where the clock was unset over a restart."""
        if self.first.boot == self.last.boot:
            return max(self.last.mono_ms - self.first.mono_ms, 0) / 1000
        if ClockQuality.UNSYNCED in (self.first.clock, self.last.clock):
            return None
        return max(round(self.last.ts - self.first.ts, 3), 0.0)


class Summaries:
    """Adds records up by check and type; gives one `summary` record of each."""

    def __init__(self, main_fields: Mapping[str, str]) -> None:
        """Start empty; `main_fields` names the record field that counts, by check type."""
        self._main_fields = main_fields
        self._series: dict[Key, Series] = {}
        self._records = 0

    def __bool__(self) -> bool:
        """Tell whether there is anything to say."""
        return bool(self._series)

    def add_text(self, text: str) -> None:
        """Add a numbered record, as read back; one that is damaged has nothing to tell."""
        try:
            found = json.loads(text)
            ts = datetime.fromisoformat(found["ts"]).timestamp()
            self.add(found["type"], Instant(ts, found["mono_ms"], found["clock"], found["boot"]), found)
        except (ValueError, KeyError, TypeError):
            return

    def add(self, record_type: str, taken: Instant, fields: Mapping[str, Any]) -> None:
        """Add a record. Those without an outcome (a transition, an event) are only declared lost, not summed up."""
        self._records += 1
        if record_type == SUMMARY:
            self._join((str(fields.get("check", "")), str(fields.get("of_type", ""))), summed(taken, fields))
        elif "outcome" in fields:
            value = fields.get(self._main_fields.get(record_type, ""))
            self._join((str(fields.get("check", "")), record_type), measured(taken, fields["outcome"], value))

    def join(self, other: Summaries) -> None:
        """Take in what another one has added up."""
        self._records += other._records
        for key, series in other._series.items():
            self._join(key, series)

    def records(self) -> list[Record]:
        """Give the summaries; the checks with the fewest records share one without a name where there are many."""
        most = max(LEAST_AT_ONCE, self._records // RECORDS_EACH)
        ordered = sorted((k for k in self._series if k != OTHERS), key=lambda k: -self._series[k].count)
        kept = ordered if len(self._series) <= most else ordered[: most - 1]
        rest = Summaries(self._main_fields)
        for key in self._series:
            if key not in kept:
                rest._join(OTHERS, self._series[key])
        return [self._record(key, self._series[key]) for key in kept] + [
            rest._record(OTHERS, series) for series in rest._series.values()
        ]

    def _join(self, key: Key, series: Series) -> None:
        if key in self._series:
            self._series[key].add(series)
        else:
            self._series[key] = Series(series.first, series.last)
            self._series[key].add(series)

    def _record(self, key: Key, s: Series) -> Record:
        check, of_type = key
        fields: dict[str, Scalar] = {"check": check, "of_type": of_type} if check else {}
        if s.period_s is not None:
            fields["period_s"] = s.period_s
        fields |= {"count": s.count, "pass": s.passed, "fail": s.failed}
        if s.measured and key != OTHERS:
            fields |= {"field": self._main_fields.get(of_type, ""), "measured": s.measured}
            fields |= {"min": s.least, "mean": s.total / s.measured, "max": s.most}
        return Record(SUMMARY, s.first, fields)


def measured(taken: Instant, outcome: str, value: object) -> Series:
    """Make the series of one record."""
    series = Series(taken, taken, 1, int(outcome == "pass"), int(outcome == "fail"))
    if isinstance(value, int | float):
        series.measured, series.total, series.least, series.most = 1, float(value), float(value), float(value)
    return series


def summed(taken: Instant, fields: Mapping[str, Any]) -> Series:
    """Make a series again of a `summary` record."""
    period_s = fields.get("period_s") or 0.0
    last = Instant(taken.ts + period_s, taken.mono_ms + round(period_s * 1000), taken.clock, taken.boot)
    series = Series(taken, last, fields["count"], fields["pass"], fields["fail"])
    if count := fields.get("measured"):
        series.measured, series.total = count, fields["mean"] * count
        series.least, series.most = fields["min"], fields["max"]
    return series

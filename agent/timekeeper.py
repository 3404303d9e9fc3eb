"""Watches the wall clock for the whole agent: its steps, and that it does not stand before what was known before.

Nothing here corrects anything: records are ordered by their numbers, timers run by the monotonic clock, and the
journal puts the times of unsent records right. These events tell the reader why times look as they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from agent.clock import STEP_S, WRITTEN_S, Clock, ClockQuality, rfc3339
from agent.model import Record, event

LAST_TS = "last_ts"
"""Key under which the journal keeps the newest wall time, in whole seconds since 1970."""
KEEP_MS = 60_000


class Values(Protocol):
    """The part of `agent.journal.Journal` that is used here."""

    def append(self, record: Record, urgent: bool = False) -> int:
        """Keep a record and give its number."""

    def remember(self, key: str, value: str) -> None:
        """Keep a small value over restarts."""

    def recall(self, key: str) -> str | None:
        """Give a remembered value."""


class Timekeeper:
    """Tells of steps as they happen, and keeps the newest time that the clock has shown."""

    def __init__(self, clock: Clock, values: Values, warn: Callable[[str], None]) -> None:
        """Watch `clock`; `warn` gets one sentence for the log."""
        self._clock, self._values, self._warn = clock, values, warn
        self._kept_ms = -math.inf

    def begin(self) -> None:
        """Tell once, at the start, if the clock stands before a time that is known to be over."""
        now, known_ts = self._clock.now(), max(self._last_ts(), WRITTEN_S)
        if now.ts < known_ts - STEP_S:
            detail = (
                f"the clock says {rfc3339(now.ts)}, but it was {rfc3339(known_ts)} before: it is not set; "
                "measuring goes on, and times of unsent records are put right once it is"
            )
            self._values.append(event("clock_behind", detail, now, known_ts=rfc3339(known_ts)))
            self._warn(detail)

    def look(self) -> None:
        """Tell of each step, and keep the time once a minute; called every second or so."""
        now = self._clock.now()
        for step in self._clock.take_steps():
            seconds = round(step.to_ts - step.from_ts, 3)
            detail = f"the clock was set from {said(step.from_ts)} to {said(step.to_ts)}, by {seconds:+.15g} s"
            self._values.append(event("clock_step", detail, now, seconds=seconds))
            self._warn(detail)
        if now.mono_ms - self._kept_ms >= KEEP_MS:
            self._kept_ms = now.mono_ms
            self.keep()

    def keep(self) -> None:
        """Keep the present time: of a set clock always, of an unset one if it is the newest seen."""
        now = self._clock.now()
        if now.clock != ClockQuality.UNSYNCED or now.ts > self._last_ts():
            self._values.remember(LAST_TS, str(int(now.ts)))

    def _last_ts(self) -> float:
        return float(self._values.recall(LAST_TS) or 0)


def said(ts: float) -> str:
    """Write what a clock showed, which may be no date at all."""
    try:
        return rfc3339(ts)
    except (ValueError, OverflowError, OSError):
        return f"{ts:.0f} s since 1970"

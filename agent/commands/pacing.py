"""How fast things may go: budgets against floods of commands, and the pace that the centre sets for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.clock import ClockQuality, Instant, rfc3339
from agent.commands.request import json_object, timestamp

MINUTE_MS = 60_000
PACE_LIMIT_BYTES = 4096
LONGEST_PACE_S = 86_400.0
"""`exp` of a pace lies at most a day ahead (contract, section 3)."""
RATE_LIMIT = 100_000.0
SPREAD_LIMIT_S = 3600.0
"""As in the config's mqtt.spread."""


class Minute:
    """Counts to a limit within each minute, and what goes beyond it."""

    def __init__(self, limit: int) -> None:
        """Allow `limit` a minute."""
        self._limit = limit
        self._began_ms = 0
        self._taken = self._beyond = 0

    def take(self, now: Instant) -> bool:
        """Take one; False if this minute's are used up."""
        if not self._taken:
            self._began_ms = now.mono_ms
        self._taken += 1
        if self._taken <= self._limit:
            return True
        self._beyond += 1
        return False

    def over(self, now: Instant) -> int:
        """Once the minute is over begin a new one, and say how many went beyond the limit of the last."""
        if now.mono_ms - self._began_ms < MINUTE_MS:
            return 0
        beyond, self._taken, self._beyond = self._beyond, 0, 0
        return beyond


@dataclass(frozen=True, slots=True)
class Pace:
    """What the centre asks of all: None = nothing said. Rates in records/s (0 = unlimited), times in seconds."""

    hold: bool
    late_rate: float | None
    spread_s: float | None
    exp_ts: float
    received_ms: int

    def in_force(self, now: Instant) -> bool:
        """Tell whether it still holds: by `exp`, and by our own time for a day at most.

        While our clock is unset `exp` cannot be judged. Then it is obeyed, for it only slows the backlog: after
        a power cut the whole fleet may wake up without a clock, and that is when the centre must be spared.
        """
        if now.mono_ms - self.received_ms >= LONGEST_PACE_S * 1000:
            return False
        return now.clock == ClockQuality.UNSYNCED or now.ts < self.exp_ts

    @property
    def values(self) -> tuple[bool, float | None, float | None]:
        """What it asks for: hold, late_rate, spread_s."""
        return self.hold, self.late_rate, self.spread_s

    @property
    def sentence(self) -> str:
        """Say it for people."""
        rate = "" if self.late_rate is None else f", at most {self.late_rate:g} records/s (0 = no limit of its own)"
        spread = "" if self.spread_s is None else f", reconnects spread over {self.spread_s:g} s"
        held = "is held" if self.hold else "flows"
        return f"the backlog {held}{rate}{spread}, until {rfc3339(self.exp_ts)}"


def read_pace(payload: bytes, now: Instant) -> Pace | None:
    """Read the message of `fleet/pace`; None where it was removed. Raises ValueError for junk, with one sentence."""
    if not payload:
        return None
    body = json_object(payload, PACE_LIMIT_BYTES)
    hold = body.get("hold", False)
    if not isinstance(hold, bool):
        raise ValueError("hold is neither true nor false")
    pace = Pace(
        hold,
        _number(body, "late_rate", RATE_LIMIT),
        _number(body, "spread_s", SPREAD_LIMIT_S),
        timestamp(body.get("exp")),
        now.mono_ms,
    )
    if now.clock != ClockQuality.UNSYNCED and pace.exp_ts - now.ts > LONGEST_PACE_S:
        raise ValueError(f"exp is more than {LONGEST_PACE_S / 3600:.0f} h ahead")
    return pace


def _number(body: dict[str, Any], key: str, most: float) -> float | None:
    found = body.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= most:
        raise ValueError(f"{key} is not a number from 0 to {most:g}")
    return float(found)

"""How long to wait: before the next connection, and before a refused lane tries again."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

STEADY_S = 60.0
"""A connection that lasted this long, with one PUBACK, was a good one: the next wait is short again."""
SMALLEST_CEILING_S = 0.5
"""With `spread: 0s` a refusing broker must still not be asked in a tight loop."""
FILES_AGAIN_S = 60.0
"""A mended certificate or password file is in use within this time (contract, rule 8)."""
KICKS = 3
"""So many connections in a row that the far end closed soon after: another client has our identity."""
KICKED_S = 60.0
"""Two agents with one identity leave each other at least this long in peace (contract, rule 6)."""

UNHEARD_S = 10.0
NOT_AUTHORISED_S = 300.0
FIRST_REFUSAL_S = 5.0
NOT_AUTHORISED = 0x87


class Backoff:
    """Full jitter under a ceiling that doubles from `spread` to `retry_max` (contract, rule 6)."""

    def __init__(self, spread_s: float, retry_max_s: float, random: Random) -> None:
        """Take the config's two limits; `random` is seeded in tests."""
        self._first_s = min(max(spread_s, SMALLEST_CEILING_S), retry_max_s)
        self._retry_max_s = retry_max_s
        self._ceiling_s = self._first_s
        self._random = random
        self._kicks = 0

    @property
    def duplicate(self) -> bool:
        """Whether the last losses look like another client with our identity."""
        return self._kicks >= KICKS

    def spread(self, spread_s: float) -> None:
        """Take another first ceiling; one that has grown in the meantime stays."""
        first_s = min(max(spread_s, SMALLEST_CEILING_S), self._retry_max_s)
        if self._ceiling_s == self._first_s or self._ceiling_s < first_s:
            self._ceiling_s = first_s
        self._first_s = first_s

    def lost(self, kind: str, up_s: float, acknowledged: bool) -> float:
        """Give the wait after a connection of `up_s` seconds that ended as `kind` (see `Closed`)."""
        if kind == "refused":
            return self.failed(kind)
        if kind == "renewed":
            return 0.0
        if up_s >= STEADY_S and acknowledged:
            self._ceiling_s, self._kicks = self._first_s, 0
        kicked = kind == "closed" and up_s < STEADY_S
        if kind != "suspect":
            self._kicks = KICKS if kind == "taken_over" else self._kicks + 1 if kicked else 0
        jitter_s = self._jitter()
        return KICKED_S + jitter_s if self.duplicate else jitter_s

    def failed(self, kind: str) -> float:
        """Give the wait after an attempt that brought no connection (see `NotConnected`)."""
        self._kicks = 0
        if kind == "refused":
            return self._retry_max_s * self._random.uniform(0.9, 1.0)
        wait_s = self._jitter()
        return min(wait_s, FILES_AGAIN_S) if kind in ("certificate", "tls") else wait_s

    def _jitter(self) -> float:
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(2 * ceiling_s, self._retry_max_s)
        return self._random.uniform(0.0, ceiling_s)


@dataclass(slots=True)
class Hold:
    """A lane after a refusal: closed for a while, then one message at a time until one is taken."""

    retry_max_s: float
    until: float = 0.0
    trying: bool = False
    _next_s: float = FIRST_REFUSAL_S

    def open(self, now: float, in_flight: int) -> bool:
        """Tell whether the lane may send now, with so many of its messages in flight."""
        return now >= self.until and not (self.trying and in_flight)

    def taken(self) -> None:
        """Free the lane again: a message was accepted."""
        self.trying, self._next_s = False, FIRST_REFUSAL_S

    def unheard(self, now: float) -> None:
        """Try one message every ten seconds, to find out when somebody is subscribed again."""
        self.trying, self.until = True, now + UNHEARD_S

    def pause(self, now: float) -> None:
        """Expect what another lane found, but leave a lane that is trying already to its own pace."""
        if not self.trying:
            self.unheard(now)

    def refused(self, reason_code: int, now: float) -> None:
        """Wait after the broker's no: 5 min when not authorised, else doubling up to `retry_max_s`."""
        if now < self.until:
            return
        wait_s = NOT_AUTHORISED_S if reason_code == NOT_AUTHORISED else min(self._next_s, self.retry_max_s)
        self._next_s = min(2 * self._next_s, self.retry_max_s)
        self.trying, self.until = True, now + wait_s

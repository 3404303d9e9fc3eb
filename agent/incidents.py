"""Which incident a fault belongs to.

The same fault within ten minutes is the same incident (contract, section 4). A fault is the same while
its causes overlap, whatever its name: a second data centre that joins, or a service that first refuses and
then falls silent, opens no second incident. Faults without a checked cause are told by their verdict.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from agent.messages import compact

SAME_S = 600.0
KEPT = 10


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident: its id (`ep-seq` of the verdict record that opened it), and when it was last seen (seconds)."""

    id: str
    verdict: str
    cause: tuple[str, ...]
    ts: float

    def same(self, verdict: str, cause: tuple[str, ...], ts: float) -> bool:
        """Tell whether a fault seen now is this one."""
        alike = bool(set(cause) & set(self.cause)) if cause else self.verdict == verdict
        return alike and ts - self.ts <= SAME_S


@dataclass(frozen=True, slots=True)
class Incidents:
    """The last incidents, newest last; `open` is the id of the one in force, "" without a fault."""

    known: tuple[Incident, ...] = ()
    open: str = ""

    def opened(self, verdict: str, cause: tuple[str, ...], fresh: str, ts: float) -> Incidents:
        """Go into a fault: a known one that comes back or goes on, else a new one with the id `fresh`."""
        before = self.seen(ts) if self.open else self
        found = next((i for i in reversed(before.known) if i.same(verdict, cause, ts)), None)
        now = Incident(found.id if found else fresh, verdict, tuple(cause), ts)
        others = tuple(i for i in before.known if i.id != now.id)
        return Incidents((*others, now)[-KEPT:], now.id)

    def seen(self, ts: float) -> Incidents:
        """Note that the open incident still stands."""
        return replace(self, known=tuple(replace(i, ts=ts) if i.id == self.open else i for i in self.known))

    def closed(self, ts: float) -> Incidents:
        """Note that no fault stands any more."""
        return replace(self.seen(ts), open="") if self.open else self

    def text(self) -> str:
        """Write the incidents for the journal."""
        return compact([[i.id, i.verdict, list(i.cause), i.ts] for i in self.known])


def recalled(text: str | None) -> Incidents:
    """Read what an earlier run wrote; what cannot be read is forgotten."""
    try:
        return Incidents(tuple(_incident(*kept) for kept in json.loads(text or "[]"))[-KEPT:])
    except (ValueError, TypeError):
        return Incidents()


def _incident(key: object, verdict: object, cause: Iterable[object], ts: float) -> Incident:
    return Incident(str(key), str(verdict), tuple(str(name) for name in cause), float(ts))

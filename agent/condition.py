"""The agent's own condition: what the verdict must know beside the checks, and what impairs the probe itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agent.footprint import spare_descriptors
from agent.health import Health
from agent.model import Failure, State

STARVED_RATIO = 0.1
"""One late check is chance; more than a tenth of all is a machine that cannot keep up."""
STUCK_S = 120.0
"""A journal that commits nothing for so long, with records waiting, is stuck: let the watchdog act."""
SPARE_DESCRIPTORS = 8
"""A handful is needed at once for a lookup, a connection and the store: below it, checks fail by our own fault."""


class Headway:
    """Watches that what is appended to the journal gets committed."""

    def __init__(self, journal: Any, now: float) -> None:
        """Watch from `now` on (seconds of the loop clock)."""
        self._journal, self._committed, self._since = journal, 0, now

    def made(self, now: float) -> bool:
        """Tell whether something was committed within the last two minutes, or nothing waits."""
        committed = self._journal.committed_seq
        if committed != self._committed or self._journal.next_seq == committed + 1:
            self._committed, self._since = committed, now
            return True
        return now - self._since < STUCK_S


def away_s(delivery: Any, began: float, now: float) -> float:
    """Say for how many seconds nothing was acknowledged; 0 while the connection works.

    A connection counts once something was acknowledged on it: a broker may take us in and drop us for ever.
    """
    heard = delivery.last_acknowledged
    if delivery.connected and heard is not None and heard >= delivery.since:
        return 0.0
    return now - (began if heard is None else heard)


def own_trouble(journal: Any, healths: Iterable[Health], overdue: int, checks: int) -> str:
    """Say in one sentence what impairs this probe: its store, a privilege, descriptors, the processor; "" if nothing.

    `overdue` of `checks` began late.
    """
    if journal.in_memory:
        return str(journal.trouble)
    for health in healths:
        if health.state is State.UNKNOWN and health.last.get("failure") == Failure.LOCAL_PERMISSION:
            return str(health.last.get("detail") or "a privilege is missing")
    if spare_descriptors() < SPARE_DESCRIPTORS:
        return "no file descriptors are left; raise LimitNOFILE= of the service, or ask fewer checks at a time"
    return f"{overdue} checks begin late" if overdue > 1 + STARVED_RATIO * checks else ""

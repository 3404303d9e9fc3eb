"""When each check is due. Pure over the seconds of the loop clock.

The first run of a check comes within min(interval, 5 s) of the start; after that it keeps to a grid
whose phase follows from the names of node and check, so that neither the checks of a node nor the
nodes of a fleet ask at the same moment. Slots lie on ticks of 100 ms: what is due in one tick leaves
together. A run that ends late skips the slots it missed and never catches up in a bunch.
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections.abc import Iterable, Mapping

from agent.safety import TICK_S, on_tick

FIRST_WITHIN_S = 5.0
OVERDUE_AFTER_S = 0.5
"""A run that begins this long after its slot is overdue: the machine is starved."""


def share(node: str, name: str) -> float:
    """Give the place of a check within any span, from 0 to below 1, the same on each start."""
    return zlib.crc32(f"{node}/{name}".encode()) / 2**32


class Schedule:
    """The due times of all checks; one run of a check at a time."""

    def __init__(
        self,
        intervals_s: Iterable[tuple[str, float]],
        node: str,
        start: float,
        not_before: Mapping[str, float] | None = None,
    ) -> None:
        """Plan the first run of each check (name, interval in seconds), some of them not before a given time."""
        self._node = node
        self._intervals_s = dict(intervals_s)
        self._planned: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._overdue: dict[str, float] = {}
        for name, interval_s in self._intervals_s.items():
            first = start + share(node, name) * min(interval_s, FIRST_WITHIN_S)
            self._plan(name, on_tick(max(first, (not_before or {}).get(name, first))))

    def next_at(self) -> float:
        """Say when something is due next; infinity if nothing is planned."""
        while self._heap and self._planned.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now: float) -> list[str]:
        """Take the checks that are due; each must come back by `finished`."""
        found = []
        while self.next_at() <= now:
            at, name = heapq.heappop(self._heap)
            del self._planned[name]
            if now - at > OVERDUE_AFTER_S:
                self._overdue[name] = now
            found.append(name)
        return found

    def finished(self, name: str, began: float, now: float, pause_s: float = 0.0) -> None:
        """Plan the next run: the first slot of the grid that is not within half an interval of the last.

        With `pause_s` it comes so long after the last one, off the grid.

        The last slot may lie up to a tick before `began`: without that allowance intervals below two ticks
        would skip every other slot.
        """
        interval_s = self._intervals_s[name]
        if pause_s:
            self._plan(name, on_tick(max(now, began + pause_s)))
            return
        phase = share(self._node, name) * interval_s
        earliest = max(now, began - TICK_S + interval_s / 2)
        self._plan(name, on_tick(phase + math.floor((earliest - phase) / interval_s + 1) * interval_s))

    def resume(self, now: float) -> None:
        """After a long stop of the whole process: what is overdue waits for its next slot, without a burst."""
        for name, at in list(self._planned.items()):
            if at < now:
                self.finished(name, now - self._intervals_s[name], now)

    def hurry(self, name: str, at: float) -> None:
        """Ask a check earlier than planned; one that is running now is left alone."""
        at = on_tick(at)
        if name in self._planned and at < self._planned[name]:
            self._plan(name, at)

    def overdue(self, now: float, within_s: float = 60.0) -> int:
        """Count the checks that began late within the last minute, or should have begun and did not."""
        late = {name for name, at in self._overdue.items() if now - at <= within_s}
        waiting = {name for name, at in self._planned.items() if now - at > OVERDUE_AFTER_S}
        return len(late | waiting)

    def _plan(self, name: str, at: float) -> None:
        self._planned[name] = at
        heapq.heappush(self._heap, (at, name))

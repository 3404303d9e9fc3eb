"""Records that have a number and wait for their commit: bounded, so that a disk that hangs costs no memory. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agent.journal.blocks import Line
from agent.journal.ranges import Ranges, Span
from agent.journal.summary import Summaries
from agent.model import Record

MOST_WAITING = 10_000
"""33 minutes at 5 records/s, about 20 MB; as many again may be in flight to a disk that does not answer."""
DROPPED_AT_ONCE = 500
THINNED = "thinned"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A numbered record before its commit; the `ticket` stays its own when the number changes.

    `bound`: it speaks of records of this epoch, and so must not move to another one.
    """

    ticket: int
    line: Line
    record: Record
    bound: bool = False

    @property
    def lost(self) -> Span | None:
        """Give the numbers that it declares lost, if it does."""
        fields = self.record.fields
        return (int(str(fields["from_seq"])), int(str(fields["to_seq"]))) if self.record.type == "loss" else None


class Left(NamedTuple):
    """What a queue held when its store was left: what moves on, what nobody has declared, what was thinned out.

    `summaries`: of what was thinned out and is not summed up yet.
    """

    moving: list[Waiting]
    undeclared: Ranges
    thinned: Ranges
    summaries: Summaries


class Queue:
    """Keeps the order of the numbers. The first of them may be in flight: with the store's thread, and not to be lost.

    What is dropped because too many wait is remembered (`dropped`, `summaries`) until somebody declares it.
    """

    def __init__(self, main_fields: Mapping[str, str]) -> None:
        """Start empty; see `Summaries` for `main_fields`."""
        self._main_fields = main_fields
        self._all: list[Waiting] = []
        self._in_flight = 0
        self.dropped = Ranges()
        self.summaries = Summaries(main_fields)

    def __len__(self) -> int:
        """Count those that wait, in flight included."""
        return len(self._all)

    @property
    def oldest_ts(self) -> list[float]:
        """Give the time of the oldest one, nothing if there is none."""
        return [waiting.line.ts for waiting in self._all[:1]]

    def holds_ticket_up_to(self, last: int) -> bool:
        """Tell whether a record appended no later than this ticket still waits."""
        return any(waiting.ticket <= last for waiting in self._all)

    def add(self, waiting: Waiting) -> Ranges:
        """Put one at the end. Gives the numbers that were dropped for it, which count as lost from now on."""
        self._all.append(waiting)
        if len(self._all) - self._in_flight <= MOST_WAITING:
            return Ranges()
        going = self._all[self._in_flight :][:DROPPED_AT_ONCE]
        del self._all[self._in_flight : self._in_flight + DROPPED_AT_ONCE]
        for one in going:
            self.summaries.add(one.record.type, one.record.taken, one.record.fields)
        gone = Ranges.of([*((one.line.seq, one.line.seq) for one in going), *spans_lost(going)])
        self.dropped = self.dropped.union(gone)
        return gone

    def take_dropped(self) -> tuple[Ranges, Summaries]:
        """Give what was dropped since the last time, to be declared now."""
        taken = self.dropped, self.summaries
        self.dropped, self.summaries = Ranges(), Summaries(self._main_fields)
        return taken

    def send(self) -> list[Line]:
        """Give all lines for a commit; they are in flight until `committed` or `leave`."""
        self._in_flight = len(self._all)
        return [waiting.line for waiting in self._all]

    def committed(self) -> None:
        """Forget what was in flight: it is durable."""
        del self._all[: self._in_flight]
        self._in_flight = 0

    def leave(self) -> Left:
        """Empty the queue, because another store is used from now on; what is bound to its epoch stays behind."""
        losses = [waiting for waiting in self._all if waiting.lost]
        thinned = [waiting for waiting in losses if waiting.record.fields["reason"] == THINNED]
        left = Left(
            [waiting for waiting in self._all if not waiting.bound],
            Ranges.of(spans_lost(losses)),
            Ranges.of(spans_lost(thinned)).union(self.dropped),
            self.summaries,
        )
        self.take_dropped()
        self._all, self._in_flight = [], 0
        return left


def spans_lost(all_waiting: Iterable[Waiting]) -> list[Span]:
    """Give what the `loss` records among them declare."""
    return [waiting.lost for waiting in all_waiting if waiting.lost]

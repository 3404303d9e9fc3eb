"""The window of messages in flight, and whose turn is next.

In flight are at most min(10, the broker's Receive Maximum) messages of all lanes together (contract,
rule 4). The backlog gets at most two of these slots, so that a fresh record never waits behind more
than two arrays; where the window is below three, fresh records and backlog take turns.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from agent.publisher.wire import Line

MOST_IN_FLIGHT = 10
"""More gains nothing (paho is slower with 1000 than with 20), and common brokers allow 10 or 20."""
MOST_LATE = 2
ACK_TIMEOUT_S = 30.0
"""MQTT 5 forbids sending again on a living connection: a missing PUBACK means that it is dead."""


MEASURED = 100
"""Answers whose time is kept: enough for a mean that one slow answer does not make."""


class Lane(StrEnum):
    """The ways to the broker, in order of precedence."""

    ANSWERS = "answers"
    CARDS = "cards"
    LIVE = "live"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message about to be sent: the records `lines` of one epoch in it, or none for a card."""

    lane: Lane
    suffix: str
    payload: bytes
    retain: bool = False
    lines: tuple[Line, ...] = ()

    @property
    def ep(self) -> str:
        """Epoch of its records."""
        return self.lines[0].ep if self.lines else ""

    @property
    def seqs(self) -> tuple[int, ...]:
        """Numbers of its records, ascending."""
        return tuple(line.seq for line in self.lines)

    @property
    def keys(self) -> tuple[tuple[str, int], ...]:
        """Its records as (ep, seq)."""
        return tuple((line.ep, line.seq) for line in self.lines)


class Window:
    """What is in flight on one connection."""

    def __init__(self, receive_maximum: int) -> None:
        """Start empty with the broker's limit."""
        self.size = min(MOST_IN_FLIGHT, max(receive_maximum, 1))
        self._flights: dict[int, tuple[Outgoing, float]] = {}
        self._late_was_last = False
        self.delays_s: deque[float] = deque(maxlen=MEASURED)

    def __len__(self) -> int:
        """Count the messages in flight."""
        return len(self._flights)

    @property
    def full(self) -> bool:
        """Whether nothing more may be sent now."""
        return len(self._flights) >= self.size

    def in_flight(self, lane: Lane) -> int:
        """Count the messages of one lane."""
        return sum(out.lane is lane for out, _ in self._flights.values())

    def turns(self) -> tuple[Lane, ...]:
        """Give the lanes that may send now, the preferred one first."""
        narrow = self.size < MOST_LATE + 1
        if self.full:
            return ()
        if self.in_flight(Lane.LATE) >= (1 if narrow else MOST_LATE):
            return Lane.ANSWERS, Lane.CARDS, Lane.LIVE
        if narrow and not self._late_was_last:
            return Lane.ANSWERS, Lane.CARDS, Lane.LATE, Lane.LIVE
        return Lane.ANSWERS, Lane.CARDS, Lane.LIVE, Lane.LATE

    def sent(self, mid: int, outgoing: Outgoing, now: float) -> None:
        """Note a message that was handed to the wire."""
        self._flights[mid] = (outgoing, now)
        if outgoing.lines:
            self._late_was_last = outgoing.lane is Lane.LATE

    def answered(self, mid: int, now: float) -> Outgoing | None:
        """Take an acknowledged message out; None if it was not ours (or acknowledged twice)."""
        flight = self._flights.pop(mid, None)
        if flight is None:
            return None
        self.delays_s.append(now - flight[1])
        return flight[0]

    def records(self) -> set[tuple[str, int]]:
        """Name the records in flight as (ep, seq)."""
        return {key for out, _ in self._flights.values() for key in out.keys}

    def flights(self) -> tuple[Outgoing, ...]:
        """Give the messages in flight, the oldest first."""
        return tuple(out for out, _ in self._flights.values())

    def overdue_at(self) -> float | None:
        """Say when the oldest PUBACK is overdue (loop clock); None when nothing is in flight."""
        oldest = min((at for _, at in self._flights.values()), default=None)
        return None if oldest is None else oldest + ACK_TIMEOUT_S

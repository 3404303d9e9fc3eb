"""What is remembered of a device between runs: how much it can answer at once, and how long it has been silent."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from agent.snmp.credentials import Credentials

if TYPE_CHECKING:
    from agent.snmp.plain import PlainPeer
    from agent.snmp.usm import Peer

OIDS_A_PDU = 33
"""About 1,000 bytes of answer, so that it fits an Ethernet frame with v3's head; halved at tooBig."""
ROWS_AT_FIRST = 10
ROWS_MOST_A_PDU = 25
"""GETBULK max-repetitions: more hurts weak devices (field.md 3.2)."""
SILENT_POLLS = 3
PAUSE_FIRST_S, PAUSE_LONGEST_S, JITTER = 60.0, 900.0, 0.2
"""After three silent polls a device is left alone for 1, 2, 4, 8, 15 minutes, ±20 % (field.md 3.2)."""
MISSING_REMEMBERED = 2000
MISSING_AGAIN_S = 900.0
"""v1 fails a whole question for one object that is not there: it is left out of questions for 15 minutes."""


class Pace:
    """How many objects or rows one question asks for: less after trouble, slowly more while it goes well."""

    def __init__(self, start: int, most: int) -> None:
        """Begin with `start`, and never go beyond `most`."""
        self.now, self._most = start, most

    def well(self, asked: int) -> None:
        """A question for so many was answered."""
        if asked >= self.now:
            self.now = min(self.now + 1, self._most)

    def too_big(self, asked: int) -> None:
        """The device said that its answer would be too big: what it can do is known now."""
        self.now = self._most = max(1, asked // 2)

    def silent(self, asked: int) -> None:
        """No answer came, from a device that answers smaller questions."""
        self.now = max(1, asked // 2)


class Silence:
    """Counts the polls in a row without any answer, and says until when the device is left alone."""

    def __init__(self, jitter: random.Random) -> None:
        """Begin with none; `jitter` spreads the ends of the pauses."""
        self.polls, self._until, self._jitter = 0, 0.0, jitter

    def heard(self) -> None:
        """An answer came, whatever it said."""
        self.polls, self._until = 0, 0.0

    def another(self, now: float) -> None:
        """A poll stayed without any answer (`now`: seconds of the loop clock)."""
        self.polls += 1
        if self.polls >= SILENT_POLLS:
            doublings = min(self.polls - SILENT_POLLS, 10)  # 2**10 minutes is far beyond the longest pause
            pause_s = min(PAUSE_FIRST_S * 2**doublings, PAUSE_LONGEST_S)
            self._until = now + pause_s * self._jitter.uniform(1 - JITTER, 1 + JITTER)

    def left_s(self, now: float) -> float:
        """Say for how many seconds it is still left alone."""
        return max(0.0, self._until - now)

    def ask_now(self) -> None:
        """End the pause, but count on: the device gave a sign of life that is not yet an answer."""
        self._until = 0.0


class Access:
    """One way into a device: who we are there, and how long that has met silence."""

    def __init__(self, peer: PlainPeer | Peer, jitter: random.Random) -> None:
        """Begin with nothing heard and nothing missed."""
        self.peer = peer
        self.silence = Silence(jitter)


class Device:
    """What is remembered of one address and port."""

    def __init__(self) -> None:
        """Start with nothing in flight."""
        self.lock = asyncio.Lock()
        self.objects = Pace(OIDS_A_PDU, OIDS_A_PDU)
        self.rows = Pace(ROWS_AT_FIRST, ROWS_MOST_A_PDU)
        self.accesses: dict[Credentials, Access] = {}
        self._missing: dict[str, float] = {}

    def missing(self, oid: str, now: float) -> bool:
        """Tell whether v1 said lately that this object is not there."""
        return now < self._missing.get(oid, 0.0)

    def misses(self, oid: str, now: float) -> None:
        """Remember that an object is not there; with too many of them all are asked again."""
        if len(self._missing) >= MISSING_REMEMBERED:
            self._missing.clear()
        self._missing[oid] = now + MISSING_AGAIN_S

"""Ways to a target: who answered at which hop, whether two of them are the same, and a short name for one.

A hop may be silent once and answer the next time: routers send ICMP errors sparingly (RFC 1812 4.3.2.8). So two
ways are the same where nothing contradicts: at no hop two different addresses, and the target as far away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

SILENT = "*"
ID_DIGITS = 12
REMEMBERED = 6
UNREST = 3
"""So many changes within the last REMEMBERED runs are no change of the way: something sends by packet, not by flow."""


@dataclass(frozen=True, slots=True)
class Way:
    """The addresses by hop, "" for a silent one, ended by the last that answered; `reached` with the target."""

    hops: tuple[str, ...] = ()
    reached: bool = False

    @property
    def text(self) -> str:
        """The hops for people and records: comma-joined, `*` for a silent one."""
        return ",".join(hop or SILENT for hop in self.hops)

    @property
    def id(self) -> str:
        """A short name for the addresses and the hops at which they answered."""
        words = [f"{number} {hop}" for number, hop in enumerate(self.hops, 1) if hop]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:ID_DIGITS]

    def fits(self, other: Way) -> bool:
        """Tell whether nothing that both know contradicts."""
        known = all(not a or not b or a == b for a, b in zip(self.hops, other.hops, strict=False))
        longer = self.reached and len(other.hops) > len(self.hops)
        shorter = other.reached and len(self.hops) > len(other.hops)
        return known and not longer and not shorter

    def merged(self, other: Way) -> Way:
        """Know what either of two ways that fit knows."""
        short, long = sorted((self.hops, other.hops), key=len)
        padded = short + ("",) * (len(long) - len(short))
        return Way(tuple(a or b for a, b in zip(padded, long, strict=True)), self.reached or other.reached)


def way_of(responders: Mapping[int, str], reached: int | None) -> Way:
    """Make a way of who answered after how many hops; a router that answers for the next hop too stands once."""
    last = reached if reached is not None else max(responders, default=0)
    hops = [responders.get(number, "") for number in range(1, last + 1)]
    if reached is None and len(hops) > 1 and hops[-1] == hops[-2]:
        hops.pop()
    return Way(tuple(hops), reached is not None)


def loop_in(responders: Mapping[int, str]) -> tuple[str, ...]:
    """Give the routers between which packets go round, () where none answered three times."""
    found = [responders[number] for number in sorted(responders)]
    again = next((hop for hop in found if found.count(hop) >= 3), None)
    if again is None:
        return ()
    first = found.index(again)
    return tuple(dict.fromkeys(found[first : found.index(again, first + 1)]))


@dataclass(frozen=True, slots=True)
class Known:
    """What runs before have shown: the way in force, its name, and whether each of the last runs changed it."""

    way: Way | None = None
    id: str = ""
    changes: tuple[bool, ...] = ()

    def after(self, way: Way) -> tuple[Known, bool]:
        """Take in the way of one run; tells whether that is a change to report.

        The name stays while ways fit, also where a hop that was silent answers for the first time.
        """
        if self.way is None:
            return Known(way, way.id, self.changes), False
        if self.way.fits(way):
            return Known(self.way.merged(way), self.id, self._noted(False)), False
        changed = Known(way, way.id, self._noted(True))
        return changed, sum(changed.changes) < UNREST

    def _noted(self, change: bool) -> tuple[bool, ...]:
        return (*self.changes, change)[-REMEMBERED:]

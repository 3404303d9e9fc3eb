"""Watched ports: from what the config calls them to their readings (IF-MIB, RFC 2863)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.model import Failed, Failure
from agent.snmp import oids
from agent.snmp.counters import PortSample
from agent.snmp.session import Session

if TYPE_CHECKING:
    from agent.snmp.message import Value

ROWS_MOST = 2000
"""A device with more ports than this is not searched to its end (field.md 3.2)."""
WALK_PART = 0.5
"""The part of the time left that a search for names may take in one run; it goes on in the next."""
LOOK_AGAIN_S = 900.0
"""A name that was not there is searched again after 15 minutes: a card may have been plugged in."""

NUMBERS = {
    "admin": oids.IF_ADMIN_STATUS,
    "oper": oids.IF_OPER_STATUS,
    "high_speed": oids.IF_HIGH_SPEED,
    "in_octets": oids.IF_HC_IN_OCTETS,
    "out_octets": oids.IF_HC_OUT_OCTETS,
    "in_errors": oids.IF_IN_ERRORS,
    "out_errors": oids.IF_OUT_ERRORS,
    "in_discards": oids.IF_IN_DISCARDS,
    "out_discards": oids.IF_OUT_DISCARDS,
    "discontinuity": oids.IF_DISCONTINUITY,
    "last_change": oids.IF_LAST_CHANGE,
    "fcs_errors": oids.IF_FCS_ERRORS,
    "late_collisions": oids.IF_LATE_COLLISIONS,
    "duplex": oids.IF_DUPLEX,
    "in_packets": oids.IF_HC_IN_UNICAST,
}
OLD_NUMBERS = {"in_octets": oids.IF_IN_OCTETS, "out_octets": oids.IF_OUT_OCTETS, "speed": oids.IF_SPEED}
"""What old devices have in the place of 64-bit counters (RFC 2863 3.1.6): asked only where those are missing."""
COLUMNS = (oids.IF_NAME, *NUMBERS.values())


@dataclass(slots=True)
class Column:
    """A text column of the port table as far as it was read: text to index, and where it stands more than once."""

    oid: str
    index_of: dict[str, int] = field(default_factory=dict)
    sharing: dict[str, list[int]] = field(default_factory=dict)
    after: str = ""
    complete: bool = False
    rows: int = 0


@dataclass(slots=True)
class Names:
    """The names of a device's ports, kept from run to run until it reboots or renumbers them."""

    name: Column = field(default_factory=lambda: Column(oids.IF_NAME))
    alias: Column = field(default_factory=lambda: Column(oids.IF_ALIAS))
    completed_at: float = 0.0
    absent: set[str] = field(default_factory=set)
    absent_from: tuple[int, ...] = ()

    def index(self, port: str) -> int | None:
        """Give the index of a port as the config calls it: a number is an index, else name, then alias."""
        if port.isdecimal():
            return int(port)
        found = self.name.index_of.get(port)
        return self.alias.index_of.get(port) if found is None else found

    def by_alias(self, port: str) -> bool:
        """Tell whether a port was found by what its owner calls it."""
        return not port.isdecimal() and port not in self.name.index_of and port in self.alias.index_of

    def sharing(self, port: str) -> list[int]:
        """List the indexes of all ports that are called so; [] where it is one, or the config gives an index."""
        if port.isdecimal():
            return []
        return (self.alias if self.by_alias(port) else self.name).sharing.get(port, [])

    def moved(self, port: str, index: int | None, sample: PortSample | None) -> bool:
        """Tell whether what was found by its name or alias has another now: devices renumber, people rename."""
        if index is None or port.isdecimal():
            return False
        return sample is None or port != (sample.alias if self.by_alias(port) else sample.name)

    def forget(self) -> None:
        """Read everything anew at the next search."""
        self.name, self.alias, self.completed_at = Column(oids.IF_NAME), Column(oids.IF_ALIAS), 0.0
        self.absent.clear()

    @property
    def complete(self) -> bool:
        """Tell whether every name that there is was read."""
        return self.name.complete and self.alias.complete


async def look_up(session: Session, names: Names, wanted: Iterable[str], repetitions: int) -> dict[str, int | None]:
    """Give the index of each wanted port, None where it is not (yet) known; walks only where it must."""
    ports = tuple(wanted)
    now = asyncio.get_running_loop().time()
    if names.complete and None in map(names.index, ports) and now - names.completed_at >= LOOK_AGAIN_S:
        names.forget()
    until = now + (session.deadline - now) * WALK_PART
    for column in (names.name, names.alias):
        if None in map(names.index, ports):
            await _walk(session, column, until, repetitions)
            if not column.complete:
                break
    if names.complete and not names.completed_at:
        names.completed_at = now
    return {port: names.index(port) for port in ports}


async def _walk(session: Session, column: Column, until: float, repetitions: int) -> None:
    """Read on in a column, GETBULK by GETBULK, until its end, `until` or the cap of rows."""
    loop = asyncio.get_running_loop()
    while not column.complete and loop.time() < until:
        for oid, value in await session.bulk(column.after or column.oid, repetitions):
            inside = oid.startswith(column.oid + ".") and value is not None
            if not inside or column.rows >= ROWS_MOST:
                column.complete = True
                return
            column.after = oid
            column.rows += 1
            index = int(oid.rpartition(".")[2])
            first = column.index_of.setdefault(text(value), index)
            if first != index:
                column.sharing.setdefault(text(value), [first]).append(index)


async def read(
    session: Session, indexes: Iterable[int], with_alias: bool, names: Names
) -> dict[int, PortSample | None]:
    """Read the watched ports; None for an index that the device does not have.

    `names` remembers the columns that none of these ports has, so that they are not asked again.
    """
    wanted = tuple(dict.fromkeys(indexes))
    if names.absent_from != wanted:
        names.absent.clear()
        names.absent_from = wanted
    columns = [c for c in (*COLUMNS, *((oids.IF_ALIAS,) if with_alias else ())) if c not in names.absent]
    found = await session.get([f"{column}.{index}" for index in wanted for column in columns])
    old = [i for i in wanted if _lacks_64_bits(found, i)]
    if old:
        extra = (*OLD_NUMBERS.values(), oids.IF_DESCR)
        found |= await session.get([f"{column}.{index}" for index in old for column in extra])
    at = asyncio.get_running_loop().time()
    read_ports = {index: _sample(found, index, at) for index in wanted}
    if any(read_ports.values()):
        names.absent |= {c for c in columns if c != oids.IF_ALIAS and all(found[f"{c}.{i}"] is None for i in wanted)}
    return read_ports


def _lacks_64_bits(found: dict[str, Value], index: int) -> bool:
    both = (oids.IF_HC_IN_OCTETS, oids.IF_HC_OUT_OCTETS)
    there = found.get(f"{oids.IF_OPER_STATUS}.{index}") is not None
    return there and all(found.get(f"{column}.{index}") is None for column in both)


def _sample(found: dict[str, Value], index: int, at: float) -> PortSample | None:
    if whole(found.get(f"{oids.IF_OPER_STATUS}.{index}"), oids.IF_OPER_STATUS) is None:
        return None
    numbers = _numbers(found, NUMBERS, index)
    old = _numbers(found, OLD_NUMBERS, index)
    bits = 32 if old["in_octets"] is not None or old["out_octets"] is not None else 64
    merged = numbers | {key: value for key, value in old.items() if value is not None}
    name = text(found.get(f"{oids.IF_NAME}.{index}")) or text(found.get(f"{oids.IF_DESCR}.{index}"))
    alias = text(found.get(f"{oids.IF_ALIAS}.{index}"))
    return PortSample(at, name or str(index), alias=alias, octet_bits=bits, **merged)


def _numbers(found: dict[str, Value], columns: Mapping[str, str], index: int) -> dict[str, int | None]:
    """Take the numbers of a port; what the device wrote in another way is as if it were not there."""
    values = {key: found.get(f"{column}.{index}") for key, column in columns.items()}
    return {key: value if isinstance(value, int) else None for key, value in values.items()}


def whole(value: Value, oid: str) -> int | None:
    """Take a number as one; raises `Failed` (mismatch) where the device answered something else."""
    if value is None or isinstance(value, int):
        return value
    raise Failed(Failure.MISMATCH, f"the device answered {oid} with something that is no number")


def text(value: Value) -> str:
    """Take octets as printable text of at most 255 characters (DisplayString), without padding; "" where none is."""
    if not isinstance(value, bytes):
        return ""
    return "".join(c for c in value.decode("utf-8", "replace") if c.isprintable()).strip()[:255]

"""Which devices stand at the other end of a switch's cables (LLDP-MIB), and whether that changed.

One scalar says when the table last changed; the table itself is read only then. What a neighbour says of
itself may name people (field.md 5.3), so only that it is another one is told, never who it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.model import Failed
from agent.snmp import oids
from agent.snmp.device import ROWS_MOST_A_PDU
from agent.snmp.gather import time_left
from agent.snmp.ports import ROWS_MOST, text
from agent.snmp.profile import Value
from agent.snmp.session import Session

TOLD_MOST = 8
"""A switch that starts anew changes all neighbours; more than this is told as a number."""


@dataclass(slots=True)
class Neighbours:
    """The neighbours as read last: for each local port the identities of those behind it."""

    changed_at: int | None = None
    known: dict[str, frozenset[bytes]] | None = None
    names: dict[str, str] = field(default_factory=dict)


async def look(session: Session, seen: Neighbours) -> tuple[int | None, list[str]]:
    """Give how many neighbours there are (None where the device does not say) and what changed, in words."""
    if not time_left(session):
        return _count(seen), []
    try:
        changed_at = (await session.get([oids.LLDP_LAST_CHANGE]))[oids.LLDP_LAST_CHANGE]
        if not isinstance(changed_at, int) or (changed_at == seen.changed_at and seen.known is not None):
            return _count(seen), []
        found = await _read(session)
        if found is None:
            return _count(seen), []
        before, seen.known, seen.changed_at = seen.known, found, changed_at
        moved = [] if before is None else [p for p in {**before, **found} if before.get(p) != found.get(p)]
        return _count(seen), await _words(session, seen, before or {}, moved)
    except Failed:
        return _count(seen), []


def _count(seen: Neighbours) -> int | None:
    return None if seen.known is None else sum(len(found) for found in seen.known.values())


async def _read(session: Session) -> dict[str, frozenset[bytes]] | None:
    """Walk the chassis ids, capped; None where the time does not suffice: then the next poll tries again."""
    found: dict[str, set[bytes]] = {}
    after, rows = oids.LLDP_CHASSIS_ID, 0
    while rows < ROWS_MOST:
        if not time_left(session):
            return None
        for oid, value in await session.bulk(after, ROWS_MOST_A_PDU):
            if not oid.startswith(oids.LLDP_CHASSIS_ID + ".") or value is None:
                return {port: frozenset(ids) for port, ids in found.items()}
            after, rows = oid, rows + 1
            parts = oid[len(oids.LLDP_CHASSIS_ID) + 1 :].split(".")  # time mark, local port, number
            found.setdefault(parts[1] if len(parts) == 3 else oid, set()).add(_identity(value))
    return {port: frozenset(ids) for port, ids in found.items()}


def _identity(value: Value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


async def _words(
    session: Session, seen: Neighbours, before: dict[str, frozenset[bytes]], moved: list[str]
) -> list[str]:
    if len(moved) > TOLD_MOST:
        return [f"the neighbours on {len(moved)} ports changed"]
    words = []
    for port in moved:
        name = await _port_name(session, seen, port)
        now = (seen.known or {}).get(port)
        what = "is gone" if not now else "is new" if port not in before else "is another device than before"
        words.append(f"the neighbour on port {name} {what}")
    return words


async def _port_name(session: Session, seen: Neighbours, port: str) -> str:
    """Name a local port as the switch does: by its id where that is readable, else its number."""
    if port not in seen.names and time_left(session):
        asked = f"{oids.LLDP_LOCAL_PORT_ID}.{port}"
        seen.names[port] = text((await session.get([asked]))[asked])
    return seen.names.get(port) or port

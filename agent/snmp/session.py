"""Questions to devices over SNMP v1, v2c and v3: GET, GETNEXT and GETBULK, nothing else.

`Snmp` lives as long as the process; a `Session` is one run of a check. One question at a time goes to a
device, each datagram (v3's own discovery too) has its permit, and every answer is made plain: {OID: int,
str (an OID), bytes, or None for "no such object"}. pysnmp, whose keys and ciphers v3 uses, is loaded in a
thread at the first v3 question, never at import and never for v1 and v2c.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.model import Failed, Failure
from agent.safety import Gate
from agent.snmp import failures
from agent.snmp.credentials import Credentials
from agent.snmp.device import OIDS_A_PDU, ROWS_AT_FIRST, Access, Device
from agent.snmp.exchange import Exchange, shown
from agent.snmp.memory import give_back_memory
from agent.snmp.message import Bindings, Value
from agent.snmp.oids import NEVER_WALKED
from agent.snmp.plain import PlainPeer
from agent.snmp.table import ROWS_MOST, Table, following, in_order, numbers

if TYPE_CHECKING:
    from agent.snmp.crypto import Keys
    from agent.snmp.usm import Peer

BROKEN_MOST = 5
"""So many objects of one call may be broken on the device; each costs a further question."""

__all__ = ["OIDS_A_PDU", "ROWS_MOST", "Session", "Snmp", "Table", "Value", "numbers", "shown"]


class Snmp:
    """The SNMP side of the process: devices and v3 users. Make it with `ctx.tools.get(Snmp)`."""

    def __init__(self) -> None:
        """Cost nothing yet."""
        self._users: dict[Credentials, Keys] = {}
        self._devices: dict[tuple[str, int], Device] = {}
        self._making = asyncio.Lock()
        self._jitter = random.Random()

    async def session(
        self,
        gate: Gate,
        address: str,
        port: int,
        credentials: Credentials,
        deadline: float,
        say: Callable[[str], None],
        max_repetitions: int = ROWS_AT_FIRST,
    ) -> Session:
        """Begin a run against one device.

        Raises `Failed`: internal where our own SNMPv3 does not work, timeout where the device was silent so
        often that it is left alone for a while.
        """
        device = self._devices.setdefault((address, port), Device())
        if credentials not in device.accesses:
            peer = await self._peer(credentials)
            device.accesses.setdefault(credentials, Access(peer, self._jitter))
        access = device.accesses[credentials]
        now = asyncio.get_running_loop().time()
        if left_s := access.silence.left_s(now):
            raise failures.from_quarantine(access.silence.polls, left_s)
        return Session(Exchange(gate, (address, port), credentials, deadline, say, device, access), max_repetitions)

    def sign_of_life(self, address: str) -> None:
        """A device spoke to us (a trap): it may be asked again although it was silent."""
        for (known, _), device in self._devices.items():
            if known == address:
                for access in device.accesses.values():
                    access.silence.ask_now()

    def reopen(self) -> None:
        """End every pause: the way to the devices was broken, and works again."""
        for device in self._devices.values():
            for access in device.accesses.values():
                access.silence.ask_now()

    async def aclose(self) -> None:
        """Close all sockets."""
        for device in self._devices.values():
            for access in device.accesses.values():
                access.peer.wire.hang_up()
        self._devices.clear()

    async def _peer(self, credentials: Credentials) -> PlainPeer | Peer:
        if credentials.version != "3":
            return PlainPeer(credentials)
        async with self._making:
            if credentials not in self._users:
                self._users[credentials] = await asyncio.to_thread(_keys, credentials)
        return _secure_peer(credentials, self._users[credentials])


def _keys(credentials: Credentials) -> Keys:
    """Load pysnmp, prove that it works here, and make the keys: each takes long enough for a thread."""
    from agent.snmp import crypto

    crypto.prove(credentials)
    keys = crypto.master_keys(credentials)
    give_back_memory()
    return keys


def _secure_peer(credentials: Credentials, keys: Keys) -> Peer:
    from agent.snmp.usm import Peer

    return Peer(credentials, keys)


class Session:
    """One run against one device, under one deadline (seconds of the loop clock).

    All questions raise `Failed` (timeout auth protocol mismatch local_policy overload internal) and
    OSError for what the kernel or an ICMP error says, such as ConnectionRefusedError.
    """

    def __init__(self, exchange: Exchange, max_repetitions: int) -> None:
        """Made by `Snmp.session`."""
        self.deadline = exchange.deadline
        self._exchange, self._device = exchange, exchange.device
        self._v1 = exchange.credentials.version == "1"
        self._rows_most = max_repetitions

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        """Read objects by OID, in as many questions as their number needs; None for one that is not there.

        Also None for a few that the device cannot read (genErr): one broken object must not hide all others.
        """
        now = asyncio.get_running_loop().time()
        found: dict[str, Value] = {oid: None for oid in oids if self._device.missing(oid, now)}
        rest = [oid for oid in dict.fromkeys(oids) if oid not in found]
        spare = min(BROKEN_MOST, len(rest) - 1)
        while rest:
            part = tuple(rest[: self._device.objects.now])
            status, index, answer = await self._exchange.ask("get", part)
            if status == failures.TOO_BIG and len(part) > 1:
                self._device.objects.too_big(len(part))
            elif status == failures.NO_SUCH_NAME:
                rest.remove(self._missed(part, index))
                found[_at(part, index)] = None
            elif status == failures.GEN_ERR and 0 < index <= len(part) and spare:
                spare -= 1
                found[_at(part, index)] = None
                rest.remove(_at(part, index))
            else:
                found.update(self._checked(part, status, index, answer))
                del rest[: len(part)]
        return {oid: found[oid] for oid in oids}

    def _missed(self, part: tuple[str, ...], index: int) -> str:
        """Name the object for which v1 refused the whole question; raises `Failed` where it does not say."""
        if not 0 < index <= len(part) and len(part) > 1:
            raise Failed(Failure.PROTOCOL, "the device answered noSuchName but not to which object")
        oid = _at(part, index)
        if self._v1:
            self._device.misses(oid, asyncio.get_running_loop().time())
        return oid

    def _checked(self, part: tuple[str, ...], status: int, index: int, answer: Bindings) -> Bindings:
        _expect(status, _at(part, index))
        if [oid for oid, _ in answer] != list(part):
            raise Failed(Failure.MISMATCH, "the device answered other objects than were asked")
        self._device.objects.well(len(part))
        return answer

    async def get_next(self, oid: str) -> tuple[str, Value]:
        """Read the object that follows; (OID, None) at the end of what the device shows."""
        return following(oid, (await self._next((oid,), 0))[:1])[0]

    async def bulk(self, oid: str, repetitions: int) -> Bindings:
        """Read up to `repetitions` objects that follow, in ascending order; in v1 one.

        Fewer than that where the check's limit, or what the device can answer at once, is less.
        """
        _may_be_walked(oid)
        rows = min(repetitions, self._device.rows.now, self._rows_most)
        return following(oid, await self._next((oid,), rows))

    async def table(
        self, columns: Sequence[str], *, rows_most: int = ROWS_MOST, until: float | None = None, after: str = ""
    ) -> Table:
        """Read columns of a table side by side, on from the index `after`, to its end, `rows_most` or `until`.

        `until` is a time of the loop clock. A column without a value in a row is missing in that row.
        """
        loop, table = asyncio.get_running_loop(), Table(after=after)
        reached = {column: f"{column}.{after}" if after else column for column in columns}
        for column in columns:
            _may_be_walked(column)
        while reached:
            if len(table.rows) >= rows_most or (until is not None and loop.time() >= until):
                table.complete = False
                break
            rows = min(self._device.rows.now, self._rows_most, max(1, self._device.objects.now // len(reached)))
            answer = await self._next(tuple(reached.values()), rows)
            table.take(reached, answer)
        return in_order(table, rows_most)

    async def _next(self, oids: tuple[str, ...], repetitions: int) -> Bindings:
        """Ask what follows: GETBULK where there is one, with less after tooBig; v1's noSuchName ends a column."""
        while True:
            bulk = repetitions > 0 and not self._v1
            kind, times = ("bulk", repetitions) if bulk else ("next", 0)
            status, index, answer = await self._exchange.ask(kind, oids, times)
            if status == failures.TOO_BIG and times > 1:
                self._device.rows.too_big(times)
                repetitions = self._device.rows.now
                continue
            if status == failures.NO_SUCH_NAME and 0 < index <= len(oids):
                return await self._without(oids, index - 1)
            _expect(status, _at(oids, index))
            if bulk:
                self._device.rows.well(times)
            return answer

    async def _without(self, oids: tuple[str, ...], ended: int) -> Bindings:
        """Ask again without the object after which v1 has nothing, and put its end in its place."""
        rest = oids[:ended] + oids[ended + 1 :]
        answer = await self._next(rest, 0) if rest else []
        return [*answer[:ended], (oids[ended], None), *answer[ended:]]


def _at(part: tuple[str, ...], index: int) -> str:
    return part[min(max(index, 1), len(part)) - 1]


def _expect(status: int, oid: str) -> None:
    if status:
        raise failures.from_status(status, oid)


def _may_be_walked(oid: str) -> None:
    """Refuse tables that bring routers to their knees (field.md 3.2): addresses, routes, forwarding."""
    for prefix, name in NEVER_WALKED.items():
        if f"{oid}.".startswith(f"{prefix}."):
            raise Failed(Failure.LOCAL_POLICY, f"the {name} table is never read whole: it can stop a router")

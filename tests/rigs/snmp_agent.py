"""A scripted SNMP agent: answers v2c from a table, or with whatever bytes a test wants."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from pyasn1.codec.ber import decoder, encoder
from pysnmp.proto.api import v2c

Script = Callable[[bytes], list[bytes]]


def asked(request: bytes) -> tuple[Any, Any, list[str]]:
    """Take a v2c request apart: message, PDU, OIDs."""
    message, _ = decoder.decode(request, asn1Spec=v2c.Message())
    pdu = v2c.apiMessage.get_pdu(message)
    return message, pdu, [str(name) for name, _ in v2c.apiPDU.get_varbinds(pdu)]


def answer(
    request: bytes, values: dict[str, Any] | list[tuple[str, Any]], status: int = 0, other_id: int = 0, index: int = 0
) -> bytes:
    """Answer a v2c request; `values` in the order of the answer."""
    message, pdu, _ = asked(request)
    pairs = list(values.items()) if isinstance(values, dict) else values
    response = v2c.apiPDU.get_response(pdu)
    v2c.apiPDU.set_varbinds(response, [(v2c.ObjectIdentifier(oid), value) for oid, value in pairs])
    v2c.apiPDU.set_error_status(response, status)
    v2c.apiPDU.set_error_index(response, index)
    if other_id:
        v2c.apiPDU.set_request_id(response, int(v2c.apiPDU.get_request_id(pdu)) + other_id)
    v2c.apiMessage.set_pdu(message, response)
    return bytes(encoder.encode(message))


def from_table(table: dict[str, Any]) -> Script:
    """Make a script that answers GET and GETBULK (10 rows) from a table."""
    ordered = sorted(table, key=lambda oid: tuple(map(int, oid.split("."))))

    def script(request: bytes) -> list[bytes]:
        _, pdu, oids = asked(request)
        if not isinstance(pdu, v2c.GetBulkRequestPDU):
            return [answer(request, {oid: table.get(oid, v2c.NoSuchInstance("")) for oid in oids})]
        after = tuple(map(int, oids[0].split(".")))
        rows = [oid for oid in ordered if tuple(map(int, oid.split("."))) > after][:10]
        return [answer(request, {oid: table[oid] for oid in rows} or {oids[0]: v2c.EndOfMibView("")})]

    return script


def from_tree(table: dict[str, Any], most: int = 1000, silent: bool = False) -> Script:
    """Make a script that answers GET, GETNEXT and GETBULK of any width from a table, as RFC 3416 4.2.3 has it.

    More than `most` objects in an answer are too big for it: it says tooBig, or nothing at all.
    """
    ordered = sorted((tuple(map(int, oid.split("."))), oid) for oid in table)

    def after(oid: str) -> tuple[str, Any]:
        place = bisect.bisect_right(ordered, (tuple(map(int, oid.split("."))), oid))
        return (ordered[place][1], table[ordered[place][1]]) if place < len(ordered) else (oid, v2c.EndOfMibView(""))

    def script(request: bytes) -> list[bytes]:
        _, pdu, oids = asked(request)
        bulk = isinstance(pdu, v2c.GetBulkRequestPDU)
        found = [(oid, table.get(oid, v2c.NoSuchInstance(""))) for oid in oids]
        if bulk or isinstance(pdu, v2c.GetNextRequestPDU):
            found = rows = [after(oid) for oid in oids]
            for _ in range(int(v2c.apiBulkPDU.get_max_repetitions(pdu)) - 1 if bulk else 0):
                rows = [after(oid) for oid, _ in rows]
                found = [*found, *rows]
        if len(found) > most:
            return [] if silent else [answer(request, {}, status=1)]
        return [answer(request, found)]

    return script


class Agent(asyncio.DatagramProtocol):
    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.transport: Any = None
        self.port = 0
        self.sender: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.requests.append(data)
        self.sender = addr
        for reply in self.script(data):
            self.transport.sendto(reply, addr)


@asynccontextmanager
async def agent(script: Script) -> AsyncIterator[Agent]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: Agent(script), local_addr=("127.0.0.1", 0))
    try:
        yield protocol
    finally:
        transport.close()

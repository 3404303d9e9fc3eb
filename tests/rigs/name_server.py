"""A scripted name server on loopback, over UDP and TCP, that can answer anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from agent.checks.dns import Dns
from agent.model import Facts
from tests.rigs.servers import LOOPBACK, Answer, Handler, datagram_server, measured, stream_server

TRIES = 20
NAME = "epr.example.org."
Change = Callable[[dns.message.Message], None]


def reply(query: bytes, *records: str, rcode: str = "NOERROR", change: Change | None = None) -> bytes:
    """Answer a query with records as text (`owner TYPE data`)."""
    question = dns.message.from_wire(query)
    answer = dns.message.make_response(question, recursion_available=True)
    answer.set_rcode(dns.rcode.from_text(rcode))
    for record in records:
        owner, kind, data = record.split(" ", 2)
        rrset = answer.find_rrset(
            answer.answer, dns.name.from_text(owner), dns.rdataclass.IN, dns.rdatatype.from_text(kind), create=True
        )
        rrset.add(dns.rdata.from_text("IN", kind, data))
    if change:
        change(answer)
    return answer.to_wire(max_size=65535)


def records(*texts: str, **how: Any) -> Answer:
    return lambda query: [reply(query, *texts, **how)]


@asynccontextmanager
async def name_server(udp: Answer, tcp: Handler | None) -> AsyncIterator[int]:
    async with AsyncExitStack() as ends:
        for _ in range(TRIES):
            port = await ends.enter_async_context(datagram_server(udp))
            try:
                if tcp is not None:
                    await ends.enter_async_context(stream_server(tcp, port=port))
            except OSError:
                continue  # the port that UDP was given is somebody's over TCP: take another
            yield port
            return
        raise OSError(f"no port free over UDP and TCP in {TRIES} tries")


def over_tcp(answer: Callable[[bytes], bytes], pieces: int = 1) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        data = answer(query)
        whole = len(data).to_bytes(2, "big") + data
        for at in range(0, len(whole), -(-len(whole) // pieces)):
            writer.write(whole[at : at + -(-len(whole) // pieces)])
            await writer.drain()
            await asyncio.sleep(0.01)

    return handler


def ask(
    udp: Answer,
    tcp: Handler | None = None,
    *,
    query: str = NAME,
    record: str = "A",
    expect: Sequence[str] = (),
    seconds: float = 5.0,
) -> Facts:
    async def go() -> Facts:
        async with name_server(udp, tcp) as port:
            check = dns_check(port)(name="a", server=LOOPBACK, query=query, record=record, expect=tuple(expect))
            return await measured(check, seconds)

    return asyncio.run(go())


def dns_check(at: int) -> type[Dns]:
    """Give the check with another port than 53, which only root may listen on."""

    class DnsElsewhere(Dns):
        port = at

    return DnsElsewhere

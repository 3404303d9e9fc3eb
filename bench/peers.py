"""Loopback targets that answer at once, so that the bench measures the agent and not its targets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

ANSWER_ADDRESS = bytes([192, 0, 2, 1])
DNS_HEADER_BYTES = 12
DNS_ADDRESS = "127.53.53.53"
"""Name servers are asked at port 53: so an address of the loopback network that nobody else has taken."""
HTTP_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


@dataclass(frozen=True)
class Peers:
    """The ports on 127.0.0.1 where the targets listen, and the name server's address ("" where none may be)."""

    tcp: int
    http: int
    dns: str


def dns_answer(query: bytes) -> bytes:
    """Answer any A question with one address (RFC 1035, 4.1): the question again, and a pointer to its name."""
    end = query.index(0, DNS_HEADER_BYTES) + 5  # the name's end, type and class
    head = query[:2] + bytes([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])
    record = bytes([0xC0, DNS_HEADER_BYTES, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]) + ANSWER_ADDRESS
    return head + query[DNS_HEADER_BYTES:end] + record


class DnsPeer(asyncio.DatagramProtocol):
    """A name server that knows one answer."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(dns_answer(data), addr)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept, wait for the other side to end, close."""
    await reader.read()
    writer.close()


async def answer_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request with 200."""
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HTTP_ANSWER)
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the agent was stopped in the middle of a request
    writer.close()


async def _serve(told: asyncio.Future[Peers], end: asyncio.Event) -> None:
    tcp = await asyncio.start_server(hang_up, "127.0.0.1", 0, backlog=1024)
    http = await asyncio.start_server(answer_http, "127.0.0.1", 0, backlog=1024)
    dns = await _name_server()
    told.set_result(Peers(_port(tcp), _port(http), DNS_ADDRESS if dns else ""))
    await end.wait()
    tcp.close()
    http.close()
    if dns:
        dns.close()


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _name_server() -> asyncio.BaseTransport | None:
    """Listen on port 53; None without the right to it, and then the bench has no dns checks."""
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(DnsPeer, (DNS_ADDRESS, 53))
    except PermissionError:
        return None
    return transport


@contextmanager
def peers() -> Iterator[Peers]:
    """Run the targets in a thread of their own."""
    loop = asyncio.new_event_loop()
    told, end = loop.create_future(), asyncio.Event()
    ready = threading.Event()
    told.add_done_callback(lambda _: ready.set())
    thread = threading.Thread(target=loop.run_until_complete, args=(_serve(told, end),))
    thread.start()
    try:
        if not ready.wait(10):
            raise RuntimeError("the loopback targets did not start within 10 s")
        yield told.result()
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()

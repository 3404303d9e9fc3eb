"""Scripted peers on loopback that can say anything at any time, and one run of a check against them.

async with stream_server(says(b"garbage")) as port: ...
facts = await measured(Tcp(name="a", target="127.0.0.1", port=port))
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import trustme

from agent.checks import Check, Context, Toolbox
from agent.model import Facts, Failed, Failure
from agent.policy import Policy
from agent.safety import Gate, Permit

LOOPBACK = "127.0.0.1"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answer = Callable[[bytes], Sequence[bytes]]


async def measured(
    check: Check,
    seconds: float = 5.0,
    *,
    names: Mapping[str, str] | None = None,
    judge_dates: bool = True,
    said: list[str] | None = None,
    **policy: object,
) -> Facts:
    """Run the check once in this loop, with `names` as the only names that resolve, as the runner would."""

    async def resolve(target: str, deadline: float) -> str:
        if names and target in names:
            return names[target]
        if target[0].isdigit() or ":" in target:
            return target
        raise Failed(Failure.DNS_NXDOMAIN, f"there is no {target}")

    tools = Toolbox()
    ctx = Context(
        Gate(Policy(**policy)),  # type: ignore[arg-type]  # whatever the test wants of it
        tools,
        resolve,
        in_seconds(seconds),
        check_type=check.type,
        judge_certificate_dates=judge_dates,
    )
    if said is not None:
        ctx.say = said.append
    try:
        return await check.run(ctx)
    except Failed as failed:
        return Facts(failed.fields, failure=failed.failure, detail=failed.detail)
    finally:
        await tools.aclose()


def in_seconds(seconds: float) -> float:
    """Give a deadline on the clock of the running loop."""
    return asyncio.get_running_loop().time() + seconds


def open_descriptors() -> int:
    """Count the file descriptors of this process, to find what was left open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def permit(port: int, protocol: str = "tcp", address: str = LOOPBACK) -> Permit:
    """Make a permit without a gate, for tests of what lies below it."""
    return Permit(address, port, protocol)


@asynccontextmanager
async def stream_server(
    handler: Handler, *, tls: ssl.SSLContext | None = None, address: str = LOOPBACK, port: int = 0
) -> AsyncIterator[int]:
    """Serve TCP (or TLS) on a free port, which is given; each connection is closed after its handler."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test ends
        finally:
            writer.transport.abort() if tls else writer.close()

    server = await asyncio.start_server(serve, address, port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close themselves in the next turn


def says(*pieces: bytes, pause_s: float = 0.0, then: float = 0.0, after_bytes: int = 1) -> Handler:
    """Make a handler: reads at least `after_bytes`, sends the pieces with pauses, waits `then` seconds, ends."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if after_bytes:
            await reader.read(65536)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        await asyncio.sleep(then)

    return handler


def resets(first: bytes = b"") -> Handler:
    """Make a handler that reads, sends `first` and then breaks the connection off with a RST."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(first)
        await writer.drain()
        await asyncio.sleep(0.02)
        linger_zero = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        writer.transport.abort()

    return handler


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for answer in self._answer(data):
            self._transport.sendto(answer, addr)


@asynccontextmanager
async def datagram_server(answer: Answer, *, address: str = LOOPBACK) -> AsyncIterator[int]:
    """Answer each datagram with those that `answer` gives for it; gives the port."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(answer), local_addr=(address, 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
        await asyncio.sleep(0)


@contextmanager
def closed_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[int]:
    """Give a port on which nothing listens, kept from others meanwhile (TCP: bound, not listening)."""
    with socket.socket(socket.AF_INET, kind) as held:
        held.bind((LOOPBACK, 0))
        port: int = held.getsockname()[1]
        if kind == socket.SOCK_DGRAM:
            held.close()
        yield port


@contextmanager
def deaf_port() -> Iterator[int]:
    """Give a port that answers no connection request: its queue of two is full, the kernel drops the rest."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(2)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex((LOOPBACK, port))
        yield port
        for client in waiting:
            client.close()


class Certificates:
    """A CA of the test's own, its PEM file, and TLS servers with certificates right or wrong."""

    def __init__(self, directory: Path) -> None:
        """Make the CA; `ca_file` is for the check."""
        self._ca = trustme.CA()
        self.ca_file = str(directory / "ca.pem")
        self._ca.cert_pem.write_to_path(self.ca_file)

    def server(
        self, *names: str, starts_in_days: float = -1, ends_in_days: float = 30, other_ca: bool = False
    ) -> ssl.SSLContext:
        """Make a server's TLS settings with a certificate for the names (default: localhost and 127.0.0.1)."""
        ca = trustme.CA() if other_ca else self._ca
        now = datetime.now(UTC)
        certificate = ca.issue_cert(
            *(names or ("localhost", LOOPBACK)),
            not_before=now + timedelta(days=starts_in_days),
            not_after=now + timedelta(days=ends_in_days),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context

    def write(self, file: Path, *names: str) -> None:
        """Write a right certificate for the names with its key and chain into one PEM file, for a real server."""
        issued = self._ca.issue_cert(*names)
        file.write_bytes(issued.private_key_and_cert_chain_pem.bytes())

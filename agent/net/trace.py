"""One trace of the way to a target: packets with a growing hop limit, and who answers each of them."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from types import TracebackType

from agent.model import Failed, Failure
from agent.net.errors import failed_from_os_error
from agent.net.sockets import address_of
from agent.net.told_socket import Told, ToldSocket, TooBig, failed_from_told, open_icmp, open_raw, own_addresses
from agent.net.trace_packets import IcmpShape, Shape, TcpShape, UdpShape
from agent.policy import parsed
from agent.safety import Permit

FIRST_PORT, PORTS = 33000, 27000
"""Our own port is one of 33000 to 59999: within what Linux takes for outgoing connections itself."""
PORT_TRIES = 16
KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}


class Trace:
    """Sends the packets of one run and collects what comes back; use it as a context manager.

    `responders` are the routers, and the target, by the number of hops after which they answered; `reached` is
    the number of hops to the target; `told` is the ICMP error that says that the way ends before it.
    """

    def __init__(self, permit: Permit, flow: int) -> None:
        """Open the sockets for the permit's target and protocol; `flow` chooses identifier and port, run after run.

        Raises `Failed`: local_permission, local_route, local_address, overload….
        """
        self._loop = asyncio.get_running_loop()
        self._own = own_addresses(permit.address)
        self._target = parsed(permit.address)
        self._exit = ExitStack()
        self._news = asyncio.Event()
        self._last = 0
        self.responders: dict[int, str] = {}
        self.rtts_s: dict[int, float] = {}
        self._sent_s: dict[int, float] = {}
        self.reached: int | None = None
        self.told: Told | None = None
        with ExitStack() as opening:
            self._sock, self._shape = self._opened(opening, permit, flow)
            self._exit = opening.pop_all()
        self._sock.listen(self._hear_answer, self._hear_error)

    def _opened(self, opening: ExitStack, permit: Permit, flow: int) -> tuple[ToldSocket, Shape]:
        version = self._target.version
        if permit.protocol == "icmp":
            sock = open_icmp(permit, flow & 0xFFFF)
            opening.callback(sock.close)
            return sock, IcmpShape(version, sock.identifier(flow & 0xFFFF))
        sock = open_raw(permit)
        opening.callback(sock.close)
        port = _reserved_port(opening, permit, flow)
        of = UdpShape if permit.protocol == "udp" else TcpShape
        shape: Shape = of(version, sock.source, str(self._target), port, permit.port or 0)
        if version == 6 and shape.checksum_at is not None:
            sock.let_kernel_sum(shape.checksum_at)
        return sock, shape

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._exit.close()

    @property
    def target(self) -> str:
        """The address that the way leads to."""
        return str(self._target)

    @property
    def finished(self) -> bool:
        """Whether the target, or somebody on the way, has ended the search."""
        return self.reached is not None or self.told is not None

    @property
    def complete(self) -> bool:
        """Whether nothing more can come: the search has ended, and each hop up to there has answered."""
        end = self.reached if self.reached is not None else self._last
        return self.finished and all(hop in self.responders for hop in range(1, end))

    def send(self, permit: Permit, hops: int) -> None:
        """Send the packet that is to live for so many hops; raises `Failed` where this machine cannot."""
        self._last = hops
        self._sent_s[hops] = self._loop.time()
        try:
            self._sock.send(permit, self._shape.request(hops), hops)
        except TooBig:
            raise Failed(Failure.LOCAL_LINK, "this machine's own interface takes no packets of 80 bytes") from None

    async def wait(self, until: float, *, for_all: bool = False) -> None:
        """Wait until `until` (loop clock), or until the search has ended (`for_all`: and each hop has answered)."""
        while not (self.complete if for_all else self.finished):
            self._news.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                return

    def _hear_answer(self, data: bytes) -> None:
        hops = self._shape.answered(data)
        if hops is not None:
            self._reach(hops or self._last)

    def _hear_error(self, told: Told) -> None:
        hops = self._shape.quoted(told.quoted)
        if hops is None or hops not in self._sent_s or not told.responder:
            return
        if parsed(told.responder) == self._target:
            self._reach(hops)
        elif told.out_of_hops:
            self._note(hops, told.responder)
        elif self.told is None:
            self.told = told
            if told.responder not in self._own:
                self._note(hops, told.responder)
        self._news.set()

    def _reach(self, hops: int) -> None:
        if hops not in self._sent_s:
            return
        self.reached = hops if self.reached is None else min(hops, self.reached)
        self._note(hops, str(self._target))

    def _note(self, hops: int, responder: str) -> None:
        if hops not in self.responders:
            self.responders[hops] = responder
            self.rtts_s[hops] = self._loop.time() - self._sent_s[hops]
        self._news.set()

    @property
    def failed(self) -> Failed | None:
        """What `told` says, as a failure."""
        return failed_from_told(self.told, self._own) if self.told else None


def _reserved_port(opening: ExitStack, permit: Permit, flow: int) -> int:
    """Hold the port of a flow, or one of the next where a program has it, so that the kernel gives it to nobody."""
    wildcard = "::" if parsed(permit.address).version == 6 else "0.0.0.0"
    family = socket.AF_INET6 if wildcard == "::" else socket.AF_INET
    try:
        holder = opening.enter_context(socket.socket(family, KINDS[permit.protocol] | socket.SOCK_NONBLOCK))
    except OSError as error:
        raise failed_from_os_error(error) from error
    for number in range(PORT_TRIES):
        port = FIRST_PORT + (flow + number) % PORTS
        try:
            holder.bind((wildcard, port))
        except OSError as error:
            last = error
        else:
            if permit.protocol == "udp":
                holder.connect(address_of(permit))  # what the target answers is not refused by our own kernel
            return port
    raise failed_from_os_error(last)

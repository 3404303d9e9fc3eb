"""A UDP socket that anybody may send to, read so slowly that a flood costs next to nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from agent.net.sockets import address_of
from agent.safety import Permit

READ_AT_ONCE = 64
PAUSE_S = 0.2
"""64 datagrams in 0.2 s are 320 a second; what is beyond waits in the kernel's buffer, or is dropped there."""
BUFFER_BYTES = 262_144
LARGEST_DATAGRAM = 65535
Take = Callable[[bytes, str, int], None]
"""Takes (datagram, address, port) of a sender."""


class Trickle:
    """Listens on one address and port from its making until `close`."""

    def __init__(self, address: str, port: int, take: Take) -> None:
        """Open the socket; raises OSError. Needs the running loop."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._take, self._loop = take, asyncio.get_running_loop()
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._resting: asyncio.TimerHandle | None = None
        self._read_since, self._read_count = self._loop.time(), 0
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            self._socket.bind((address, port))
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        """Stop listening."""
        if self._resting:
            self._resting.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def answer(self, permit: Permit, data: bytes) -> None:
        """Send a datagram to the address and port of the permit; raises OSError and `Failed`."""
        address, *rest = address_of(permit)
        if self._socket.family == socket.AF_INET6 and ":" not in address:
            address = f"::ffff:{address}"
        self._socket.sendto(data, (address, *rest))

    def _read(self) -> None:
        """Read what waits, at most so much in each stretch of PAUSE_S, in whatever portions it comes."""
        if self._loop.time() - self._read_since >= PAUSE_S:
            self._read_since, self._read_count = self._loop.time(), 0
        while self._read_count < READ_AT_ONCE:
            try:
                data, sender = self._socket.recvfrom(LARGEST_DATAGRAM)
            except OSError:
                return  # nothing waits, or an ICMP error of an answer of ours, which nobody needs
            self._read_count += 1
            self._take(data, sender[0].removeprefix("::ffff:"), sender[1])
        self._loop.remove_reader(self._socket)
        self._resting = self._loop.call_at(self._read_since + PAUSE_S, self._wake)

    def _wake(self) -> None:
        self._resting = None
        self._loop.add_reader(self._socket, self._read)

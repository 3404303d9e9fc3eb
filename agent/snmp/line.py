"""One connected UDP socket to a device. What is sent has its permit; what comes is counted and passed on."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

from agent.safety import Permit

DATAGRAM_LIMIT_BYTES = 8192
"""Our questions have answers of one or two Ethernet frames; this is announced to v3 devices too."""
DATAGRAMS_READ = 8
"""A question has one answer, plus two reports in v3: a flood beyond that is not even decoded."""

IP_RECVERR, IPV6_RECVERR = 11, 25
"""linux/in.h, in6.h: with it a socket also hears that a router, or our own kernel, cannot reach the device."""

FLOOD = 64
"""Datagrams that nobody reads before the socket is closed: then the kernel drops them, and we sleep."""


class Line(asyncio.DatagramProtocol):
    """The socket to one device. It lets the kernel drop what other machines send, and tells of ICMP errors.

    `wanted` holds what is to be sent (or the error that came instead); `sent` and `heard` count the datagrams
    of the question, `last` is the newest that came.
    """

    def __init__(self) -> None:
        """Open nothing yet: the first send does."""
        self.wanted: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        self.sent = self.heard = 0
        self.last = b""
        self._socket: asyncio.DatagramTransport | None = None
        self._listening = self._sending = False
        self._unread = 0

    def take(self, data: bytes) -> None:
        """Judge one datagram of at most `DATAGRAM_LIMIT_BYTES`, while a question is open."""
        raise NotImplementedError

    def begin(self) -> None:
        """Start a question: what is left of older ones is forgotten."""
        self.wanted, self.sent, self.heard, self.last = asyncio.Queue(), 0, 0, b""
        self._listening = True

    def end(self) -> None:
        """End a question: from now on nothing is decoded and nothing is sent."""
        self._listening = False

    async def send(self, permit: Permit, message: bytes) -> None:
        """Send one datagram to the address and port of the permit; raises OSError."""
        if self._socket is None or self._socket.is_closing():
            loop = asyncio.get_running_loop()
            self._socket, _ = await loop.create_datagram_endpoint(
                lambda: self, remote_addr=(permit.address, permit.port or 0)
            )
            six = ":" in permit.address
            level, option = (socket.IPPROTO_IPV6, IPV6_RECVERR) if six else (socket.IPPROTO_IP, IP_RECVERR)
            self._socket.get_extra_info("socket").setsockopt(level, option, True)
        self._sending = True
        self._socket.sendto(message)
        self._sending = False
        self.sent += 1

    def hang_up(self) -> None:
        """Close the socket; the next datagram opens one, from the address that we have then."""
        if self._socket is not None:
            self._socket.close()
            self._socket, self._unread = None, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing to do: `send` has the socket."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to do: `send` opens a new socket."""

    def error_received(self, exc: Exception) -> None:
        """Pass on what the kernel says about the socket, such as an ICMP port unreachable.

        The socket ends with it: what waits in its error queue would keep the loop awake.
        """
        if isinstance(exc, OSError):
            far = exc.errno == errno.ENETUNREACH and not self._sending  # a router's routes, not our own
            self.wanted.put_nowait(OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH)) if far else exc)
            self.hang_up()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Pass a datagram on, unless nobody waits for it, it is one of a flood or too long."""
        if not self._listening or self.heard >= DATAGRAMS_READ:
            self._unread += 1
            if self._unread >= FLOOD:
                self.hang_up()
            return
        self.heard += 1
        self.last = data
        if len(data) <= DATAGRAM_LIMIT_BYTES:
            self.take(data)

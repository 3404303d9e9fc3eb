"""Echoes that may not be fragmented, of any size: what becomes of each tells how large a packet the way takes.

Sizes are of the whole IP packet, as an MTU is. The kernel's own memory of the path MTU is left out of it
(`told_socket`): it may be hours old, and a forged ICMP error may have put it there.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from types import TracebackType

from agent.net import kernel
from agent.net.icmp_wire import ECHO_REQUEST, ICMP, parse_reply, request
from agent.net.told_socket import Told, TooBig, open_icmp
from agent.policy import parsed
from agent.safety import Permit

NAME = b"siteprobe mtu "
"""Begins each payload, so that whoever captures it knows whose it is."""
HEADERS = {4: 20 + ICMP.size, 6: 40 + ICMP.size}
"""Bytes of the IP header (without options) and the ICMP header."""


@dataclass(slots=True, eq=False)
class Sized:
    """One echo: its `size` in bytes, and what became of it.

    `answered`, or `told` by whom it was not let through; `local` where our own interface takes no such packet.
    """

    size: int
    answered: bool = False
    told: Told | None = None
    local: bool = False

    @property
    def settled(self) -> bool:
        """Whether anything is known of it."""
        return self.answered or self.told is not None or self.local


class SizedEchoes:
    """Sends echoes of chosen sizes to one target and hears what becomes of them; use it as a context manager."""

    def __init__(self, permit: Permit) -> None:
        """Open the socket; raises `Failed` (local_permission, local_route…)."""
        self._version = parsed(permit.address).version
        wanted = secrets.randbelow(0x10000)
        self._sock = open_icmp(permit, wanted)
        self._identifier = self._sock.identifier(wanted)
        self._start, self._token = secrets.randbelow(0x10000), NAME + secrets.token_bytes(8)
        self._sent: list[Sized] = []
        self._news = asyncio.Event()
        self._sock.listen(self._hear_answer, self._hear_error)

    def __enter__(self) -> SizedEchoes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._sock.close()

    def interface_mtu(self) -> int | None:
        """Give the MTU of our own interface on the way to the target, None where it cannot be told."""
        try:
            found = kernel.interfaces()
        except OSError:
            return None
        own = f"{self._sock.source}/"
        return next((i.mtu for i in found if any(a.startswith(own) for a in i.addresses)), None)

    def send(self, permit: Permit, size: int) -> Sized:
        """Send one echo; raises `Failed` where this machine cannot, but not where only its size is in the way."""
        echo = Sized(size)
        sequence = (self._start + len(self._sent)) & 0xFFFF
        payload = self._token.ljust(size - HEADERS[self._version], b".")
        self._sent.append(echo)
        try:
            self._sock.send(permit, request(self._version, self._identifier, sequence, payload))
        except TooBig:
            echo.local = True
        return echo

    async def wait(self, echoes: list[Sized], until: float) -> None:
        """Wait until something is known of each of these, or until `until` (loop clock)."""
        while not all(echo.settled for echo in echoes):
            self._news.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                return

    def _hear_answer(self, data: bytes) -> None:
        found = parse_reply(self._version, False, self._identifier, data)
        if found is not None and found[1].startswith(self._token):
            echo = self._echo(found[0])
            if echo is not None and len(data) + HEADERS[self._version] - ICMP.size == echo.size:
                echo.answered = True
                self._news.set()

    def _hear_error(self, told: Told) -> None:
        if len(told.quoted) < ICMP.size or not told.responder:
            return
        kind, code, _, identifier, sequence = ICMP.unpack_from(told.quoted)
        echo = self._echo(sequence)
        if (kind, code, identifier) == (ECHO_REQUEST[self._version], 0, self._identifier) and echo is not None:
            echo.told = echo.told or told
            self._news.set()

    def _echo(self, sequence: int) -> Sized | None:
        number = (sequence - self._start) & 0xFFFF
        return self._sent[number] if number < len(self._sent) else None

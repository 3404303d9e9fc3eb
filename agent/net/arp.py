"""Asks neighbours who has an address, and hears every MAC that answers: ARP, and its IPv6 counterpart.

One packet socket a version of IP for all checks, opened at the first question. It is bound to no
interface, so it outlives that an interface goes down, comes back or gets another name. The kernel lets
through only answers about the addresses that are being asked at this moment: a storm wakes nobody.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.model import Failed, Failure
from agent.net.arp_wire import (
    ETH_P_ARP,
    Claim,
    answers_about,
    ethernet_type,
    question,
    read_advertisement,
    read_arp,
)
from agent.net.errors import failed_from_os_error
from agent.net.icmp_wire import NANOSECONDS, TIMESPEC, attach
from agent.net.neighbours import Way
from agent.policy import Address, parsed
from agent.safety import Permit

BATCH = 64
"""Answers read at one wake-up: a flood cannot hold the loop; what is left wakes it again."""
ENOUGH = 200
"""After so many answers an address is heard no more in this run: it is being flooded, and all was said."""
PACKET_BYTES = 512  # more than any answer that can be right
ANCILLARY_BYTES = 64
CLOCK_STEP_S = 0.001
"""Kernel stamps are wall time: an answer later than what we waited ourselves, by more than this, saw the clock set."""
SO_TIMESTAMPNS = 35  # asm-generic/socket.h; its control message has the same number
SOL_PACKET, PACKET_STATISTICS = 263, 6  # linux/socket.h, linux/if_packet.h
STATISTICS = struct.Struct("=II")  # struct tpacket_stats: passed the filter, dropped since the last look
PACKET_OTHERHOST = 3  # for somebody else, and heard only because the interface is promiscuous

NOT_ALLOWED = (
    "this process may not send ARP: give it CAP_NET_RAW (AmbientCapabilities=CAP_NET_RAW in the unit, or "
    "`setcap cap_net_raw+ep` on its Python)"
)


@dataclass(slots=True, eq=False)
class Question:
    """One who-has and what was heard: by MAC the seconds until its first answer, in the order heard.

    `ignored` counts answers about the address that no neighbour may send, `dropped` those that the kernel
    had no room for.
    """

    address: Address
    way: Way
    sent_s: float
    sent_ns: int
    heard: dict[str, float] = field(default_factory=dict)
    answers: int = 0
    ignored: int = 0
    dropped: int = 0

    def take(self, claim: Claim, arrived_ns: int | None, waited_s: float) -> None:
        """Take an answer in."""
        self.answers += 1
        if not claim.well_formed:
            self.ignored += 1
        elif claim.mac not in self.heard:
            self.heard[claim.mac] = elapsed_s(self.sent_ns, arrived_ns, waited_s)


def elapsed_s(sent_ns: int, arrived_ns: int | None, waited_s: float) -> float:
    """Give the seconds to an answer by the kernel's stamp (wall time), unless the clock was set meanwhile."""
    if arrived_ns is not None:
        found_s = (arrived_ns - sent_ns) / NANOSECONDS
        if 0 < found_s <= waited_s + CLOCK_STEP_S:
            return found_s
    return waited_s


class Ear:
    """The socket of one protocol with the questions under way on it; used on the loop on which it was made."""

    def __init__(self, kind: int) -> None:
        """Open the socket, deaf until something is asked; raises `Failed` (local_permission…)."""
        self._kind = kind
        self._loop = asyncio.get_running_loop()
        self._open: list[Question] = []
        self._sock = opened(kind)
        self._loop.add_reader(self._sock, self.read)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def ask(self, permit: Permit, way: Way) -> Question:
        """Send who-has and begin to listen for the answers; raises `Failed` where it cannot be sent."""
        address = parsed(permit.address)
        asked = Question(address, way, self._loop.time(), time.time_ns())
        packet, destination = question(way.mac, way.source, address)
        self._count_drops()
        self._listen([*self._open, asked])
        try:
            self._sock.sendto(packet, (way.interface, self._kind, 0, 0, destination))
        except OSError as error:
            self.forget(asked)
            raise failed_from_os_error(error) from error
        return asked

    def forget(self, asked: Question) -> None:
        """Listen for the answers to a question no longer."""
        self._listen([other for other in self._open if other is not asked])

    def read(self) -> None:
        """Take in what has arrived."""
        for _ in range(BATCH):
            try:
                self._take()
            except BlockingIOError:
                break
            except OSError:  # an interface went down: told once, the socket goes on
                continue
        self._count_drops()
        if any(asked.answers >= ENOUGH for asked in self._open):
            self._listen(self._open)

    def _take(self) -> None:
        packet, ancillary, _, (interface, _, kind, _, sender) = self._sock.recvmsg(PACKET_BYTES, ANCILLARY_BYTES)
        arrived_ns = stamp_ns(ancillary)
        for asked in self._open if kind != PACKET_OTHERHOST else ():
            claim = read_arp(packet, asked.way.mac) if self._kind == ETH_P_ARP else read_advertisement(packet, sender)
            if claim and claim.address == asked.address and interface == asked.way.interface:
                asked.take(claim, arrived_ns, self._loop.time() - asked.sent_s)

    def _listen(self, questions: Iterable[Question]) -> None:
        self._open = list(questions)
        attach(self._sock, answers_about(self._kind, {a.address for a in self._open if a.answers < ENOUGH}))

    def _count_drops(self) -> None:
        _, dropped = STATISTICS.unpack(self._sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, STATISTICS.size))
        for asked in self._open:
            asked.dropped += dropped


def opened(kind: int) -> socket.socket:
    """Open a packet socket of a protocol that hears nothing yet; raises `Failed`."""
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(kind))
    except PermissionError as error:
        raise Failed(Failure.LOCAL_PERMISSION, NOT_ALLOWED) from error
    except OSError as error:
        raise failed_from_os_error(error) from error
    try:
        attach(sock, answers_about(kind, ()))
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError as error:
        sock.close()
        raise failed_from_os_error(error) from error
    return sock


def stamp_ns(ancillary: Iterable[tuple[int, int, bytes]]) -> int | None:
    """Read the kernel's time of arrival (nanoseconds since 1970), None where it gave none."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and len(data) >= TIMESPEC.size:
            seconds, nanoseconds = TIMESPEC.unpack_from(data)
            return int(seconds) * NANOSECONDS + int(nanoseconds)
    return None


class ArpEndpoint:
    """The packet sockets of the agent, opened at the first question: `ctx.tools.get(ArpEndpoint)`."""

    def __init__(self) -> None:
        """Start without sockets."""
        self._ears: dict[int, Ear] = {}

    async def ask(self, permit: Permit, way: Way, until: float) -> Question:
        """Ask once who has the permit's address, and listen until `until` (loop clock).

        Raises `Failed` where it cannot be sent; a silent address is a `Question` with nothing heard.
        """
        ear = self._ear(ethernet_type(parsed(permit.address)))
        asked = ear.ask(permit, way)
        try:
            await asyncio.sleep(until - asyncio.get_running_loop().time())
            ear.read()  # a busy loop may not have read yet what came in time
        finally:
            ear.forget(asked)
        return asked

    async def aclose(self) -> None:
        """Close the sockets."""
        while self._ears:
            self._ears.popitem()[1].close()

    def _ear(self, kind: int) -> Ear:
        if kind not in self._ears:
            self._ears[kind] = Ear(kind)
        return self._ears[kind]

"""A socket to one target that hears two things: what the target answers, and what anybody on the way says.

Packets are written from the transport header on, carry "don't fragment" whatever the kernel has learnt of the
path (IP_PMTUDISC_PROBE, ip(7)), and live for as many hops as the caller says. ICMP errors come from the error
queue with their sender (IP_RECVERR); the kernel gives a socket only those that quote a packet to its target.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass

from agent.model import Failed, Failure
from agent.net import kernel
from agent.net.errors import failed_from_icmp, failed_from_os_error
from agent.net.icmp_wire import (
    ANCILLARY_BYTES,
    ERROR,
    IP_MTU_DISCOVER,
    IP_RECVERR,
    IPV6_RECVERR,
    NOT_ALLOWED,
    ORIGIN_ICMP,
    ORIGIN_ICMP6,
    PACKET_BYTES,
    attach,
    hop_limit,
    identifier_program,
    offender,
)
from agent.policy import parsed
from agent.safety import Permit

# Numbers of linux/in.h and linux/in6.h that Python does not name.
IP_PMTUDISC_PROBE = IPV6_PMTUDISC_PROBE = 3
IPV6_MTU_DISCOVER, IPV6_DONTFRAG, IPV6_CHECKSUM = 23, 62, 7
BATCH = 64
"""Messages read at one wake-up: a flood cannot hold the loop; what is left wakes it again."""
PROTOCOLS = {"udp": socket.IPPROTO_UDP, "tcp": socket.IPPROTO_TCP}


@dataclass(frozen=True, slots=True)
class Told:
    """An ICMP error: who sent it, what it says, the packet of ours that it quotes (from the transport header on).

    `info` is the MTU of the next hop where the packet was too big for it.
    """

    responder: str
    icmp_type: int
    icmp_code: int
    info: int
    quoted: bytes

    @property
    def out_of_hops(self) -> bool:
        """Whether the packet only ran out of hops: time exceeded in transit (RFC 792, RFC 4443)."""
        return (self.icmp_type, self.icmp_code) == ((3, 0) if ":" in self.responder else (11, 0))

    @property
    def too_big(self) -> bool:
        """Whether the packet was too big for a link (RFC 1191, RFC 8201)."""
        if ":" in self.responder:
            return self.icmp_type == 2
        return (self.icmp_type, self.icmp_code) == (3, 4)


def failed_from_told(told: Told, own: Collection[str]) -> Failed:
    """Classify an ICMP error; one from an address of our `own` is our kernel's, for a neighbour that is silent."""
    return failed_from_icmp(told.icmp_type, told.icmp_code, told.responder, own)


def own_addresses(target: str) -> frozenset[str]:
    """Give this machine's addresses, but for the target: what asks itself may be refused by itself."""
    try:
        return kernel.own_addresses() - {str(parsed(target))}
    except OSError:  # then a failure on our own network reads as if a router had told it
        return frozenset()


class TooBig(Exception):
    """The packet is too big for our own interface: nothing was sent."""


class ToldSocket:
    """One socket, used on the loop on which it was made; `listen` first, `close` at the end."""

    def __init__(self, sock: socket.socket, version: int, raw: bool) -> None:
        """Take an open socket that is connected to its target; `raw` ones of IPv4 see the IP header."""
        self._sock, self._version, self._raw = sock, version, raw
        self._loop = asyncio.get_running_loop()
        self._answer: Callable[[bytes], None] = _ignore
        self._tell: Callable[[Told], None] = _ignore

    @property
    def source(self) -> str:
        """Our own address on the way to the target."""
        return str(self._sock.getsockname()[0]).partition("%")[0]

    def identifier(self, wanted: int) -> int:
        """Give the ICMP identifier in use: that of a ping socket may be another than was `wanted`."""
        return wanted if self._raw else int(self._sock.getsockname()[1])

    def listen(self, answer: Callable[[bytes], None], tell: Callable[[Told], None]) -> None:
        """Hand over each packet that comes from the target, and each ICMP error."""
        self._answer, self._tell = answer, tell
        self._loop.add_reader(self._sock, self.read)

    def let_kernel_sum(self, at: int) -> None:
        """Have the kernel fill in the checksum of IPv6 packets at this place (RFC 3542, 3.1)."""
        self._sock.setsockopt(socket.IPPROTO_IPV6, IPV6_CHECKSUM, at)

    def send(self, permit: Permit, data: bytes, hops: int | None = None) -> None:
        """Send one packet; raises `TooBig` for our own interface, else `Failed` where this machine cannot send."""
        ancillary = [] if hops is None else [hop_limit(self._version, hops)]
        self.read()  # a pending error about an earlier packet would fail this one
        try:
            self._transmit(data, ancillary, permit)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise TooBig from None
            raise failed_from_os_error(error) from None

    def _transmit(self, data: bytes, ancillary: list[tuple[int, int, bytes]], permit: Permit) -> None:
        destination = (_connectable(permit.address), 0)
        try:
            self._sock.sendmsg([data], ancillary, 0, destination)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise
            self.read()  # it was about an earlier packet after all; what fails now is about this one
            self._sock.sendmsg([data], ancillary, 0, destination)

    def read(self) -> None:
        """Take in what has arrived, errors first."""
        _drain(self._read_error)
        _drain(self._read_answer)

    def _read_error(self) -> None:
        data, ancillary, _, _ = self._sock.recvmsg(PACKET_BYTES, ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
        for level, kind, text in ancillary:
            known = (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR))
            if known and len(text) >= ERROR.size:
                _, origin, icmp_type, icmp_code, _, info, _ = ERROR.unpack_from(text)
                if origin in (ORIGIN_ICMP, ORIGIN_ICMP6):
                    self._tell(Told(offender(text[ERROR.size :]), icmp_type, icmp_code, info, data))

    def _read_answer(self) -> None:
        data = self._sock.recv(PACKET_BYTES)
        start = (data[0] & 0x0F) * 4 if data and self._raw and self._version == 4 else 0
        self._answer(data[start:])

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._sock)
        self._sock.close()


def _ignore(_: object) -> None:
    """Hear nothing: nobody listens yet."""


def _drain(read_one: Callable[[], None]) -> None:
    for _ in range(BATCH):
        try:
            read_one()
        except BlockingIOError:
            return
        except OSError:
            continue  # an error told a second time: its full text is on the error queue


def _connectable(address: str) -> str:
    """Give the address as the kernel wants it: an IPv4 one that was written as IPv6 becomes IPv4."""
    return str(parsed(address)) if parsed(address).version == 4 else address


def open_icmp(permit: Permit, identifier: int) -> ToldSocket:
    """Open a socket for echo requests to the permit's address; a ping socket where no raw one may be had.

    Raises `Failed`: local_permission with how to mend it, local_route, local_address….
    """
    version = parsed(permit.address).version
    protocol = socket.IPPROTO_ICMPV6 if version == 6 else socket.IPPROTO_ICMP
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
        with contextlib.suppress(PermissionError):
            sock = _open(version, kind, protocol)
            return _prepared(sock, permit, version, kind == socket.SOCK_RAW, identifier)
    raise Failed(Failure.LOCAL_PERMISSION, NOT_ALLOWED)


def open_raw(permit: Permit) -> ToldSocket:
    """Open a raw socket for packets of the permit's protocol (udp or tcp); raises `Failed` as `open_icmp` does."""
    version = parsed(permit.address).version
    try:
        sock = _open(version, socket.SOCK_RAW, PROTOCOLS[permit.protocol])
    except PermissionError:
        sentence = f"tracing by {permit.protocol} needs CAP_NET_RAW; give it to the service, or use protocol: icmp"
        raise Failed(Failure.LOCAL_PERMISSION, sentence) from None
    return _prepared(sock, permit, version, True, None)


def _open(version: int, kind: socket.SocketKind, protocol: int) -> socket.socket:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    try:
        return socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    except PermissionError:
        raise
    except OSError as error:
        raise failed_from_os_error(error) from None


def _prepared(sock: socket.socket, permit: Permit, version: int, raw: bool, identifier: int | None) -> ToldSocket:
    try:
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
        if identifier is not None and raw:
            attach(sock, identifier_program(version, identifier))
        elif identifier is not None:
            _take_identifier(sock, version, identifier)
        sock.connect((_connectable(permit.address), 0))
    except OSError as error:
        sock.close()
        raise failed_from_os_error(error) from None
    return ToldSocket(sock, version, raw)


def _take_identifier(sock: socket.socket, version: int, identifier: int) -> None:
    """Bind a ping socket to an identifier, or to any where another program has it."""
    anyone = "::" if version == 6 else "0.0.0.0"
    try:
        sock.bind((anyone, identifier))
    except OSError:
        sock.bind((anyone, 0))

"""The packets that trace a way: one packet a hop, all of them the same flow for whoever balances load.

A router that has several ways to a place picks one by a hash of what stays the same within a connection.
So addresses, ports, ICMP identifier and the first four bytes of the transport header never change from hop
to hop, nor from run to run ("Paris" traceroute, Augustin et al., IMC 2006). Which hop a packet was meant for
stands where no router looks, and within the eight bytes that every ICMP error quotes (RFC 792): in the ICMP
sequence number, the UDP length, the TCP sequence number.
"""

from __future__ import annotations

import secrets
import socket
import struct
from dataclasses import dataclass, field
from typing import Protocol

from agent.net.icmp_wire import ECHO_REPLY, ECHO_REQUEST, ICMP, checksum

MOST_HOPS = 16
"""No way within a hospital's network is longer (field.md 3.2, rule 7)."""
NAME = b"siteprobe path "
"""Begins each payload, so that whoever captures it knows whose it is."""
UDP = struct.Struct("!HHHH")  # source port, destination port, length, checksum: RFC 768
TCP = struct.Struct("!HHIIBBHHH")  # ports, sequence, acknowledged, offset, flags, window, checksum, urgent: RFC 9293
SYN, RST, ACK = 0x02, 0x04, 0x10
WINDOW = 1024
MAXIMUM_SEGMENT = struct.pack("!BBH", 2, 4, 1220)  # the option every SYN carries; what fits any IPv6 path
UDP_LENGTH = UDP.size + len(NAME)
"""Length in the UDP header of a packet for no hop; each hop adds one byte."""
WANTED_SUM = 0x2D5A
"""What the 16-bit words of each ICMP packet add up to; any value but 0 and 0xffff, which are two forms of zero."""
FILLER = struct.Struct("!H")
TOKEN_BYTES = 8


class Shape(Protocol):
    """How packets of one transport protocol are written and recognised; bytes begin at the transport header."""

    @property
    def checksum_at(self) -> int | None:
        """Where the kernel fills in the checksum of an IPv6 packet, None where it knows by itself."""

    def request(self, hops: int) -> bytes:
        """Write the packet that is to live for so many hops."""

    def quoted(self, data: bytes) -> int | None:
        """Tell which hop's packet an ICMP error quotes; None for one that is not ours."""

    def answered(self, data: bytes) -> int | None:
        """Tell which hop's packet the target answers; 0 where the answer does not say, None where it is none."""


def _meant(hops: int) -> int | None:
    return hops if 1 <= hops <= MOST_HOPS else None


@dataclass(frozen=True)
class IcmpShape:
    """Echo requests of one identifier and one checksum; the last two bytes make up for the sequence number."""

    version: int
    identifier: int
    start: int = field(default_factory=lambda: secrets.randbelow(0x10000))
    token: bytes = field(default_factory=lambda: secrets.token_bytes(TOKEN_BYTES))

    @property
    def checksum_at(self) -> int | None:
        """Say where the kernel fills in the checksum of an IPv6 packet."""
        return None

    def request(self, hops: int) -> bytes:
        """Write the packet for one hop."""
        sequence = (self.start + hops) & 0xFFFF
        payload = (NAME + self.token).ljust(len(NAME) + TOKEN_BYTES + 1, b".")  # an even number of bytes
        head = ICMP.pack(ECHO_REQUEST[self.version], 0, 0, self.identifier, sequence)
        rest = ~checksum(head + payload) & 0xFFFF
        payload += FILLER.pack((WANTED_SUM - rest) % 0xFFFF)
        own = checksum(head + payload) if self.version == 4 else 0  # that of ICMPv6 covers addresses: the kernel's
        return ICMP.pack(ECHO_REQUEST[self.version], 0, own, self.identifier, sequence) + payload

    def quoted(self, data: bytes) -> int | None:
        """Recognise a packet of ours in an ICMP error."""
        return self._hops(data, ECHO_REQUEST[self.version])

    def answered(self, data: bytes) -> int | None:
        """Recognise the target's answer."""
        ours = data[ICMP.size :].startswith(NAME + self.token)
        return self._hops(data, ECHO_REPLY[self.version]) if ours else None

    def _hops(self, data: bytes, wanted: int) -> int | None:
        if len(data) < ICMP.size:
            return None
        kind, code, _, identifier, sequence = ICMP.unpack_from(data)
        if (kind, code, identifier) != (wanted, 0, self.identifier):
            return None
        return _meant((sequence - self.start) & 0xFFFF)


@dataclass(frozen=True)
class UdpShape:
    """Datagrams between two fixed ports, each hop's one byte longer than the one before."""

    version: int
    source: str
    destination: str
    source_port: int
    port: int

    @property
    def checksum_at(self) -> int | None:
        """Say where the kernel fills in the checksum of an IPv6 packet."""
        return 6

    def request(self, hops: int) -> bytes:
        """Write the packet for one hop."""
        payload = NAME + b"." * hops
        head = UDP.pack(self.source_port, self.port, UDP.size + len(payload), 0)
        own = _checksum(self, socket.IPPROTO_UDP, head + payload) or 0xFFFF  # 0 would say "none" (RFC 768)
        return UDP.pack(self.source_port, self.port, UDP.size + len(payload), own) + payload

    def quoted(self, data: bytes) -> int | None:
        """Recognise a packet of ours in an ICMP error."""
        if len(data) < UDP.size:
            return None
        source, port, length, _ = UDP.unpack_from(data)
        return _meant(length - UDP_LENGTH) if (source, port) == (self.source_port, self.port) else None

    def answered(self, data: bytes) -> int | None:
        """Recognise the target's answer."""
        ours = len(data) >= UDP.size and UDP.unpack_from(data)[:2] == (self.port, self.source_port)
        return 0 if ours else None


@dataclass(frozen=True)
class TcpShape:
    """SYNs between two fixed ports. Nothing listens on ours: the kernel resets what the target opens."""

    version: int
    source: str
    destination: str
    source_port: int
    port: int
    start: int = field(default_factory=lambda: secrets.randbits(32))

    @property
    def checksum_at(self) -> int | None:
        """Say where the kernel fills in the checksum of an IPv6 packet."""
        return 16

    def request(self, hops: int) -> bytes:
        """Write the packet for one hop."""
        own = _checksum(self, socket.IPPROTO_TCP, self._syn(hops, 0))
        return self._syn(hops, own)

    def _syn(self, hops: int, own: int) -> bytes:
        sequence, words = (self.start + hops) & 0xFFFFFFFF, (TCP.size + len(MAXIMUM_SEGMENT)) // 4
        return TCP.pack(self.source_port, self.port, sequence, 0, words << 4, SYN, WINDOW, own, 0) + MAXIMUM_SEGMENT

    def quoted(self, data: bytes) -> int | None:
        """Recognise a packet of ours in an ICMP error."""
        if len(data) < 8:  # as much as RFC 792 promises; the sequence number is in it
            return None
        source, port, sequence = struct.unpack_from("!HHI", data)
        ours = (source, port) == (self.source_port, self.port)
        return _meant((sequence - self.start) & 0xFFFFFFFF) if ours else None

    def answered(self, data: bytes) -> int | None:
        """Recognise the target's answer."""
        if len(data) < TCP.size:
            return None
        port, source, _, acknowledged, _, flags, *_ = TCP.unpack_from(data)
        if (source, port) != (self.source_port, self.port) or not flags & ACK or not flags & (SYN | RST):
            return None
        return _meant((acknowledged - 1 - self.start) & 0xFFFFFFFF)


def _checksum(shape: UdpShape | TcpShape, protocol: int, segment: bytes) -> int:
    """Sum up an IPv4 segment with its pseudo header (RFC 768, RFC 9293); of IPv6 the kernel does it."""
    if shape.version == 6:
        return 0
    addresses = socket.inet_aton(shape.source) + socket.inet_aton(shape.destination)
    return checksum(addresses + struct.pack("!BBH", 0, protocol, len(segment)) + segment)

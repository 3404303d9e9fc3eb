"""Echo requests as bytes, and the sockets that carry them; RFC 792, RFC 4443, icmp(7), raw(7).

The kernel does the sorting: of all that arrives only echo replies with our identifier wake us, and it
stamps each packet as it leaves and arrives (timestamping.rst), so that a busy machine does not measure
itself. What a router answers instead comes with its sender on the error queue (IP_RECVERR, ip(7)).
"""

from __future__ import annotations

import contextlib
import ctypes
import secrets
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from agent.model import Failed, Failure
from agent.net.errors import failed_from_os_error

ECHO_REQUEST = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
ICMP = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence

# Numbers of the kernel's headers that Python does not name.
SO_TIMESTAMPING = SCM_TIMESTAMPING = 37
SO_MEMINFO, MEMINFO_BYTES, MEMINFO_DROPS = (
    55,
    36,
    32,
)  # linux/sock_diag.h: nine words of 32 bits, the last SK_MEMINFO_DROPS
TX_SOFTWARE, RX_SOFTWARE, REPORT_SOFTWARE, OPT_ID, OPT_TSONLY = 1 << 1, 1 << 3, 1 << 4, 1 << 7, 1 << 11
STAMPS = (  # the best first: leaving and arriving; arriving only
    ("kernel", TX_SOFTWARE | RX_SOFTWARE | REPORT_SOFTWARE | OPT_ID | OPT_TSONLY),
    ("kernel_rx", RX_SOFTWARE | REPORT_SOFTWARE),
)
TIMESPEC = struct.Struct("@ll")  # SCM_TIMESTAMPING is three of them; the first is the software stamp
ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err: errno, origin, type, code, pad, info, data
ORIGIN_ICMP, ORIGIN_ICMP6, ORIGIN_TIMESTAMPING = 2, 3, 4
SOL_RAW, ICMP_FILTER, ICMP6_FILTER = 255, 1, 1
SO_ATTACH_FILTER = 26
IP_RECVERR, IPV6_RECVERR = 11, 25
RECVERR = ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR))
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0

NANOSECONDS = 1_000_000_000
RECEIVE_BUFFER_BYTES = 1 << 20
"""Room for what arrives in one busy moment: some 1,000 replies with their stamps (the kernel may grant less)."""
PACKET_BYTES = 2048  # more than the largest echo (1,472 bytes and headers); longer ones are not ours
ANCILLARY_BYTES = 512  # more than the stamps and the error of one message

NOT_ALLOWED = (
    "this process may not send ICMP: give it CAP_NET_RAW (AmbientCapabilities=CAP_NET_RAW in the unit, or "
    "`setcap cap_net_raw+ep` on its Python), or open ping sockets with `sysctl net.ipv4.ping_group_range`"
)


@dataclass(frozen=True, slots=True)
class Wire:
    """One open socket: IP `version` 4 or 6, `raw` or a ping socket, the `identifier` of our echoes."""

    sock: socket.socket
    version: int
    raw: bool
    identifier: int
    timestamping: str


class Reply(NamedTuple):
    """An echo reply as it came in; `stamp_ns` is the kernel's time of arrival (since 1970) or None.

    A named tuple, as `Sent`: two of them are made for each echo, and a frozen dataclass costs three times as much.
    """

    source: str
    sequence: int
    payload: bytes
    stamp_ns: int | None


class Sent(NamedTuple):
    """The kernel's word that our packet number `key` left at `stamp_ns` (since 1970)."""

    key: int
    stamp_ns: int


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error about one of our echoes: who sent it, and what it says."""

    destination: str
    sequence: int
    responder: str
    icmp_type: int
    icmp_code: int


def open_wire(version: int) -> Wire:
    """Open the socket of an IP version; raises `Failed` (local_permission with how to mend it, local_address…)."""
    family, protocol = _family(version)
    for raw in (True, False):
        try:
            sock = socket.socket(
                family, (socket.SOCK_RAW if raw else socket.SOCK_DGRAM) | socket.SOCK_NONBLOCK, protocol
            )
        except PermissionError:
            continue
        except OSError as error:
            raise failed_from_os_error(error) from error
        return _prepared(sock, version, raw)
    raise Failed(Failure.LOCAL_PERMISSION, NOT_ALLOWED)


def _family(version: int) -> tuple[int, int]:
    if version == 6:
        return socket.AF_INET6, socket.IPPROTO_ICMPV6
    return socket.AF_INET, socket.IPPROTO_ICMP


def _prepared(sock: socket.socket, version: int, raw: bool) -> Wire:
    try:
        identifier = secrets.randbelow(0x10000) if raw else _own_identifier(sock, version)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            # No "don't fragment": whether a large packet fits the path is the question of the mtu check.
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        if raw:
            _only_our_replies(sock, version, identifier)
    except OSError as error:
        sock.close()
        raise failed_from_os_error(error) from error
    return Wire(sock, version, raw, identifier, _stamped(sock))


def _own_identifier(sock: socket.socket, version: int) -> int:
    """Let the kernel choose the identifier of a ping socket, as it does a port."""
    sock.bind(("::" if version == 6 else "0.0.0.0", 0))
    identifier: int = sock.getsockname()[1]
    return identifier


def _only_our_replies(sock: socket.socket, version: int, identifier: int) -> None:
    reply = ECHO_REPLY[version]
    if version == 4:  # a set bit keeps that ICMP type out
        sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", ~(1 << reply) & 0xFFFFFFFF))
    else:
        words = [0xFFFFFFFF] * 8
        words[reply // 32] &= ~(1 << reply % 32)
        sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("=8I", *words))
    attach(sock, identifier_program(version, identifier))


def identifier_program(version: int, identifier: int) -> list[tuple[int, int, int, int]]:
    """Write the classic BPF program that lets through only packets with our ICMP identifier.

    A raw IPv4 socket sees the IP header first, a raw IPv6 socket begins with the ICMP header.
    """
    load = [(0xB1, 0, 0, 0), (0x48, 0, 0, 4)] if version == 4 else [(0x28, 0, 0, 4)]  # x = header length; half word
    return [*load, (0x15, 0, 1, identifier), (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0)]  # equal? all : nothing


def attach(sock: socket.socket, program: Iterable[tuple[int, int, int, int]]) -> None:
    """Attach a classic BPF program (code, jump if true, jump if false, operand); raises OSError."""
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    room = ctypes.create_string_buffer(code)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(code) // 8, ctypes.addressof(room)))


def _stamped(sock: socket.socket) -> str:
    for name, flags in STAMPS:
        with contextlib.suppress(OSError):  # an old kernel, or a sandbox: the next best
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, flags)
            return name
    return "user"


def restart_keys(wire: Wire) -> None:
    """Let the kernel count our packets from 0 again (it does when OPT_ID is switched off and on)."""
    flags = dict(STAMPS)["kernel"]
    for value in (flags & ~(OPT_ID | OPT_TSONLY), flags):
        wire.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, value)


def hop_limit(version: int, hops: int) -> tuple[int, int, bytes]:
    """Give the ancillary message that lets one packet live for so many hops."""
    level, kind = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT) if version == 6 else (socket.IPPROTO_IP, socket.IP_TTL)
    return level, kind, struct.pack("=i", hops)


def request(version: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """Write an echo request; the kernel fills in the checksum of ICMPv6 itself (it covers the addresses)."""
    head = ICMP.pack(ECHO_REQUEST[version], 0, 0, identifier, sequence)
    if version == 6:
        return head + payload
    return ICMP.pack(8, 0, checksum(head + payload), identifier, sequence) + payload


def checksum(data: bytes) -> int:
    """Sum up an Internet checksum (RFC 1071); 0 over data that holds its own right checksum.

    2**16 leaves the remainder 1 by 0xFFFF, so the remainder of the whole number is the sum of its 16-bit
    words with every carry added: one division instead of a loop.
    """
    number = int.from_bytes(data + b"\0" * (len(data) % 2), "big")
    return 0xFFFF - (number % 0xFFFF or 0xFFFF * bool(number))


def parse_reply(wire_version: int, with_ip_header: bool, identifier: int, data: bytes) -> tuple[int, bytes] | None:
    """Give sequence and payload of an echo reply with our identifier, None for anything else.

    With an IP header it is of a raw IPv4 socket, which is given packets before anyone looked at their checksum.
    """
    start = (data[0] & 0x0F) * 4 if with_ip_header and data else 0
    if len(data) < start + ICMP.size:
        return None
    kind, code, _, found, sequence = ICMP.unpack_from(data, start)
    if kind != ECHO_REPLY[wire_version] or code or found != identifier:
        return None
    if with_ip_header and checksum(data[start:]):
        return None
    return sequence, data[start + ICMP.size :]


def dropped(wire: Wire) -> int:
    """Count the messages that the kernel has thrown away because we did not read in time; 0 where it does not tell."""
    try:
        words = wire.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO_BYTES)
    except OSError:  # before Linux 4.12, or a sandbox
        return 0
    return struct.unpack_from("=I", words, MEMINFO_DROPS)[0] if len(words) >= MEMINFO_BYTES else 0


def receive(wire: Wire) -> Reply | None:
    """Read one reply; None for a packet that is not ours. Raises BlockingIOError when nothing waits, OSError."""
    data, ancillary, _, source = wire.sock.recvmsg(PACKET_BYTES, ANCILLARY_BYTES)
    found = parse_reply(wire.version, wire.raw and wire.version == 4, wire.identifier, data)
    return None if found is None else Reply(source[0], found[0], found[1], _stamp(ancillary))


def receive_error(wire: Wire) -> Sent | IcmpError | None:
    """Read one message of the error queue; None for one that is not ours. Raises BlockingIOError, OSError."""
    data, ancillary, _, destination = wire.sock.recvmsg(PACKET_BYTES, ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
    told = _told(ancillary)
    if told is None:
        return None
    _, origin, icmp_type, icmp_code, _, _, key = ERROR.unpack_from(told)
    if origin == ORIGIN_TIMESTAMPING:
        stamp_ns = _stamp(ancillary)
        return None if stamp_ns is None else Sent(key, stamp_ns)
    if origin not in (ORIGIN_ICMP, ORIGIN_ICMP6) or len(data) < ICMP.size:
        return None
    kind, _, _, identifier, sequence = ICMP.unpack_from(data)  # of the packet of ours that the error quotes
    if (kind, identifier) != (ECHO_REQUEST[wire.version], wire.identifier):
        return None
    return IcmpError(destination[0], sequence, offender(told[ERROR.size :]), icmp_type, icmp_code)


Ancillary = list[tuple[int, int, bytes]]


def _stamp(ancillary: Ancillary) -> int | None:
    for level, kind, data in ancillary:
        if kind == SCM_TIMESTAMPING and level == socket.SOL_SOCKET and len(data) >= TIMESPEC.size:
            seconds, nanoseconds = TIMESPEC.unpack_from(data)
            return seconds * NANOSECONDS + nanoseconds if seconds else None
    return None


def _told(ancillary: Ancillary) -> bytes | None:
    """Find the struct sock_extended_err, with the address of who sent the error behind it."""
    for level, kind, data in ancillary:
        if (level, kind) in RECVERR and len(data) >= ERROR.size:
            return data
    return None


def offender(address: bytes) -> str:
    """Read the address of who sent an ICMP error out of a struct sockaddr; "" where there is none."""
    family = struct.unpack_from("=H", address)[0] if len(address) >= 2 else socket.AF_UNSPEC
    if family == socket.AF_INET and len(address) >= 8:
        return socket.inet_ntop(socket.AF_INET, address[4:8])
    if family == socket.AF_INET6 and len(address) >= 24:
        return socket.inet_ntop(socket.AF_INET6, address[8:24])
    return ""

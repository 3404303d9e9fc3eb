"""rtnetlink: asking the kernel for its interfaces, addresses and routes; rtnetlink(7), netlink(7).

One request, one dump, over a socket of the moment. No packet leaves the machine. The parsers are
pure functions over the bytes of a dump; all numbers are in the byte order of the machine.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # length, type
ATTRIBUTE_TYPE = 0x3FFF  # without the flags "nested" and "network byte order"

LINK = struct.Struct("=BxHiII")  # family, hardware type, index, flags, change
ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
NEXT_HOP = struct.Struct("=HBBi")  # length, flags, weight, index

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_STATS64, IFLA_CARRIER = 1, 3, 4, 18, 23, 33
IFLA_CARRIER_CHANGES = 35
IFLA_INFO_KIND = 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 4, 5, 6, 9, 15, 18
IFF_UP, IFF_LOOPBACK = 0x1, 0x8
IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x08, 0x40  # not (yet) usable: duplicate address detection
ARPHRD_ETHER = 1
RT_TABLE_MAIN, RTN_UNICAST, RTNH_F_DEAD = 254, 1, 1

ADDRESS_BYTES = ((socket.AF_INET, 4), (socket.AF_INET6, 16))

RECEIVE_BYTES = 65536  # more than one part of any dump (the kernel cuts at 32 KiB)
REPLY_TIMEOUT_S = 2.0  # the kernel answers in microseconds; this only ends a wait that should not be
TRIES = 3  # a dump that was interrupted by a change is taken again


@dataclass(frozen=True, slots=True)
class Link:
    """One interface as a dump tells it. `mac` is "" where there is none; errors and drops are counted since boot,
    as are the changes of its carrier.
    """

    index: int
    name: str
    kind: str
    ethernet: bool
    loopback: bool
    admin_up: bool
    carrier: bool
    mac: str
    mtu: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int = 0
    tx_dropped: int = 0
    carrier_changes: int = 0


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """One address of an interface; `usable` is False while (or after) duplicate detection says no."""

    index: int
    address: str
    prefix: int
    usable: bool


@dataclass(frozen=True, slots=True)
class Route:
    """One default route of the main table; `gateway` is "" for a direct line."""

    family: int
    gateway: str
    index: int
    metric: int


def dump(request: int, fixed: bytes) -> bytes:
    """Ask for one dump and give all its messages; `fixed` is the request's fixed part. Raises OSError."""
    for _ in range(TRIES):
        found, interrupted = _dump_once(request, fixed)
        if not interrupted:
            break
    return found


def _dump_once(request: int, fixed: bytes) -> tuple[bytes, bool]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(REPLY_TIMEOUT_S)
        header = HEADER.pack(HEADER.size + len(fixed), request, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
        kernel.sendto(header + fixed, (0, 0))
        parts = []
        interrupted = finished = False
        while not finished:
            part = kernel.recv(RECEIVE_BYTES)
            parts.append(part)
            for kind, flags, body in messages(part):
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                finished = finished or kind in (NLMSG_DONE, NLMSG_ERROR)
                _raise_if_error(kind, body)
        return b"".join(parts), interrupted


def _raise_if_error(kind: int, body: bytes) -> None:
    if kind == NLMSG_ERROR:
        number = -int.from_bytes(body[:4], sys.byteorder, signed=True) or errno.EIO
        raise OSError(number, f"the kernel refused a netlink question: {os.strerror(number)}")


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Split a dump into (type, flags, body); a message that is cut short ends it."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, _, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size or at + length > len(data):
            return
        yield kind, flags, data[at + HEADER.size : at + length]
        at += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """Read the attributes of a message by type; the last of a type counts."""
    found = {}
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < ATTRIBUTE.size or at + length > len(data):
            break
        found[kind & ATTRIBUTE_TYPE] = data[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def links(data: bytes) -> tuple[Link, ...]:
    """Read the interfaces of an RTM_GETLINK dump."""
    return tuple(_link(body) for kind, _, body in messages(data) if kind == RTM_NEWLINK and len(body) >= LINK.size)


def _link(body: bytes) -> Link:
    _, hardware, index, flags, _ = LINK.unpack_from(body)
    found = attributes(body[LINK.size :])
    # struct rtnl_link_stats64: rx_packets tx_packets rx_bytes tx_bytes rx_errors tx_errors rx_dropped tx_dropped …
    statistics = found.get(IFLA_STATS64, b"").ljust(64, b"\0")
    rx_errors, tx_errors, rx_dropped, tx_dropped = struct.unpack_from("=4Q", statistics, 32)
    return Link(
        index=index,
        name=_text(found.get(IFLA_IFNAME, b"")),
        kind=_text(attributes(found.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b"")),
        ethernet=hardware == ARPHRD_ETHER,
        loopback=bool(flags & IFF_LOOPBACK),
        admin_up=bool(flags & IFF_UP),
        carrier=any(found.get(IFLA_CARRIER, b"")),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=_number(found.get(IFLA_MTU, b"")),
        rx_errors=rx_errors,
        tx_errors=tx_errors,
        rx_dropped=rx_dropped,
        tx_dropped=tx_dropped,
        carrier_changes=_number(found.get(IFLA_CARRIER_CHANGES, b"")),
    )


def addresses(data: bytes) -> tuple[LinkAddress, ...]:
    """Read the IPv4 and IPv6 addresses of an RTM_GETADDR dump."""
    bodies = [body for kind, _, body in messages(data) if kind == RTM_NEWADDR and len(body) >= ADDRESS.size]
    found = (_address(body) for body in bodies)
    return tuple(address for address in found if address.address)


def _address(body: bytes) -> LinkAddress:
    family, prefix, short_flags, _, index = ADDRESS.unpack_from(body)
    found = attributes(body[ADDRESS.size :])
    flags = _number(found[IFA_FLAGS]) if IFA_FLAGS in found else short_flags
    # On a point-to-point line IFA_ADDRESS is the other end, IFA_LOCAL is ours.
    address = address_text(family, found.get(IFA_LOCAL, found.get(IFA_ADDRESS, b"")))
    return LinkAddress(index, address, prefix, not flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED))


def default_routes(data: bytes) -> tuple[Route, ...]:
    """Read the default routes of the main table out of an RTM_GETROUTE dump, lowest metric first, IPv4 first."""
    bodies = [body for kind, _, body in messages(data) if kind == RTM_NEWROUTE and len(body) >= ROUTE.size]
    found = [route for body in bodies for route in _routes(body)]
    return tuple(sorted(found, key=lambda route: (route.family, route.metric)))


def _routes(body: bytes) -> list[Route]:
    family, prefix, _, _, table, _, _, kind, flags = ROUTE.unpack_from(body)
    found = attributes(body[ROUTE.size :])
    table = _number(found[RTA_TABLE]) if RTA_TABLE in found else table
    if prefix or kind != RTN_UNICAST or table != RT_TABLE_MAIN or flags & RTNH_F_DEAD:
        return []
    metric = _number(found.get(RTA_PRIORITY, b""))
    if RTA_MULTIPATH in found:
        return [Route(family, gateway, index, metric) for gateway, index in _next_hops(family, found[RTA_MULTIPATH])]
    return [Route(family, _gateway(family, found), _number(found.get(RTA_OIF, b"")), metric)]


def _next_hops(family: int, data: bytes) -> list[tuple[str, int]]:
    found = []
    at = 0
    while at + NEXT_HOP.size <= len(data):
        length, flags, _, index = NEXT_HOP.unpack_from(data, at)
        if length < NEXT_HOP.size:
            break
        if not flags & RTNH_F_DEAD:
            found.append((_gateway(family, attributes(data[at + NEXT_HOP.size : at + length])), index))
        at += (length + 3) & ~3
    return found


def _gateway(family: int, found: dict[int, bytes]) -> str:
    via = found.get(RTA_VIA, b"")  # an IPv4 route through an IPv6 neighbour: family, then address
    if len(via) > 2:
        return address_text(_number(via[:2]), via[2:])
    return address_text(family, found.get(RTA_GATEWAY, b""))


def address_text(family: int, raw: bytes) -> str:
    """Write an address of 4 or 16 bytes as text, "" for anything else."""
    return socket.inet_ntop(family, raw) if (family, len(raw)) in ADDRESS_BYTES else ""


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, sys.byteorder)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("ascii", "replace")

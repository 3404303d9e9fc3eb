"""What datagrams and streams share: a socket for a permit, and who sent an ICMP error.

With IP_RECVERR the kernel keeps each ICMP error that belongs to a socket in the socket's error queue,
with its sender (ip(7), ipv6(7)); since Linux 5.13 also for a TCP connection that is still being made.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from agent.model import Failed, Failure
from agent.net.errors import failed_from_icmp, failed_from_os_error
from agent.policy import parsed
from agent.safety import Permit

IP_RECVERR = 11  # linux/in.h
IPV6_RECVERR = 25  # linux/in6.h
ORIGINS_ICMP = (2, 3)  # SO_EE_ORIGIN_ICMP and _ICMP6 of linux/errqueue.h; others are our kernel's own remarks
EXTENDED_ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err; the sender's sockaddr follows
FAMILY = struct.Struct("=H")
SENDER_AT: dict[int, slice] = {socket.AF_INET: slice(4, 8), socket.AF_INET6: slice(8, 24)}  # the address in it
ANCILLARY_BYTES = 512
WAITING_ERRORS = 8
"""How many errors are looked through; more wait only where a router floods us."""


def open_socket(permit: Permit, kind: socket.SocketKind) -> socket.socket:
    """Make a non-blocking socket of the permit's address family that keeps ICMP errors.

    Raises `Failed`: overload (no descriptor left), local_address (that version of IP is off).
    """
    family = socket.AF_INET6 if ":" in permit.address else socket.AF_INET
    try:
        opened = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise failed_from_os_error(error) from None
    keep_icmp_errors(opened, True)
    return opened


def address_of(permit: Permit) -> tuple[str, int | None] | tuple[str, int | None, int, int]:
    """Give the permit's address and port as connect(2) wants them; a zone (fe80::1%eth0) becomes its index.

    Raises `Failed` with local_link where no interface has that name, local_route where a link-local address is
    given without one: it is on every link.
    """
    address, _, zone = permit.address.partition("%")
    if not zone:
        if ":" in address and parsed(address).is_link_local:
            raise Failed(Failure.LOCAL_ROUTE, f"{address} is on every link: add the interface, as in {address}%eth0")
        return address, permit.port
    try:
        index = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    except OSError:
        raise Failed(Failure.LOCAL_LINK, f"this machine has no interface {zone}") from None
    return address, permit.port, 0, index


def keep_icmp_errors(sock: socket.socket, keep: bool) -> None:
    """Switch the error queue of a socket on or off."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, keep)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, keep)


def failed_from_socket(sock: socket.socket, error: OSError, permit: Permit) -> Failed:
    """Classify an error of a connected socket, by the ICMP error behind it where there is one."""
    for _ in range(WAITING_ERRORS):
        try:
            _, ancillary, _, _ = sock.recvmsg(1, ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
        except OSError:
            break  # the queue is empty: the errno is all there is
        for _, _, data in ancillary:
            found = _icmp_error(data)
            if found:
                return failed_from_icmp(*found, own_addresses=_own_addresses(sock, permit))
    return failed_from_os_error(error)


def _own_addresses(sock: socket.socket, permit: Permit) -> tuple[str, ...]:
    """Give our own address, unless it is also the target: then it speaks as the target."""
    own = str(sock.getsockname()[0])
    return () if own == permit.address else (own,)


def _icmp_error(data: bytes) -> tuple[int, int, str] | None:
    """Read type, code and sender from a sock_extended_err; None where it is no ICMP error."""
    if len(data) < EXTENDED_ERROR.size + FAMILY.size:
        return None
    _, origin, icmp_type, icmp_code, _, _, _ = EXTENDED_ERROR.unpack_from(data)
    sender = data[EXTENDED_ERROR.size :]
    family = FAMILY.unpack_from(sender)[0]
    if origin not in ORIGINS_ICMP or family not in SENDER_AT:
        return None
    return icmp_type, icmp_code, socket.inet_ntop(family, sender[SENDER_AT[family]])


async def signalled(sock: socket.socket, watch: Callable[..., None], unwatch: Callable[[socket.socket], bool]) -> None:
    """Wait until the kernel calls for the socket; `watch` and `unwatch` are the loop's, for reading or writing."""
    called = asyncio.Event()
    watch(sock, called.set)
    try:
        await called.wait()
    finally:
        unwatch(sock)

"""What an error of the kernel or of a router means, in the closed vocabulary of failures.

An errno says only *that* a packet could not be delivered; the sender of an ICMP error says *who* gave
up (field.md, section 4). So the fields `responder`, `icmp_type` and `icmp_code` go with the failure.
Codes: RFC 792 and RFC 1812 5.2.7.1 for IPv4, RFC 4443 for IPv6.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection

from agent.model import Failed, Failure, Scalar

_ERRNO = {
    errno.ECONNREFUSED: (Failure.REFUSED, "nothing listens on that port"),
    errno.ECONNRESET: (Failure.RESET, "the other side reset the connection"),
    errno.ECONNABORTED: (Failure.RESET, "the connection was aborted"),
    errno.EPIPE: (Failure.RESET, "the other side closed the connection"),
    errno.ETIMEDOUT: (Failure.TIMEOUT, "no answer"),
    errno.EHOSTUNREACH: (Failure.UNREACHABLE, "no route to the host, or its neighbour does not answer"),
    errno.EHOSTDOWN: (Failure.UNREACHABLE, "the host does not answer"),
    errno.ENETUNREACH: (Failure.LOCAL_ROUTE, "this machine has no route there; look at `ip route`"),
    errno.EADDRNOTAVAIL: (Failure.LOCAL_ADDRESS, "this machine has no address for it; look at `ip address`"),
    errno.EAFNOSUPPORT: (Failure.LOCAL_ADDRESS, "this machine has that version of IP switched off"),
    errno.ENETDOWN: (Failure.LOCAL_LINK, "the network interface is down; look at `ip link`"),
    errno.ENODEV: (Failure.LOCAL_LINK, "the network interface is gone; look at `ip link`"),
    errno.EPERM: (
        Failure.LOCAL_PERMISSION,
        "this machine's own firewall forbids it, or CAP_NET_RAW is missing; look at `nft list ruleset` and the unit",
    ),
    errno.EACCES: (
        Failure.LOCAL_PERMISSION,
        "this machine's kernel forbids it: a broadcast address, or a route that prohibits; look at `ip route get`",
    ),
    errno.EMFILE: (Failure.OVERLOAD, "the agent has no file descriptor left; raise LimitNOFILE of the service"),
    errno.ENFILE: (Failure.OVERLOAD, "this machine has no file descriptor left"),
    errno.EAGAIN: (Failure.OVERLOAD, "the kernel's send buffer is full"),
    errno.ENOBUFS: (Failure.OVERLOAD, "the kernel has no send buffer left"),
    errno.ENOMEM: (Failure.OVERLOAD, "the kernel has no memory left"),
}

_UNREACHABLE_4 = {
    0: (Failure.UNREACHABLE, "network unreachable"),
    1: (Failure.UNREACHABLE, "host unreachable"),
    2: (Failure.REFUSED, "protocol unreachable"),
    3: (Failure.REFUSED, "port unreachable"),
    4: (Failure.UNREACHABLE, "the packet is too big for the path"),
    9: (Failure.PROHIBITED, "network prohibited by a firewall"),
    10: (Failure.PROHIBITED, "host prohibited by a firewall"),
    13: (Failure.PROHIBITED, "communication prohibited by a firewall"),
}
_UNREACHABLE_6 = {
    0: (Failure.UNREACHABLE, "no route to the destination"),
    1: (Failure.PROHIBITED, "communication prohibited by a firewall"),
    3: (Failure.UNREACHABLE, "address unreachable"),
    4: (Failure.REFUSED, "port unreachable"),
    5: (Failure.PROHIBITED, "our source address is prohibited by policy"),
    6: (Failure.PROHIBITED, "the destination is prohibited by a reject route"),
}
_OTHER_4 = {
    11: (Failure.UNREACHABLE, "the packet ran out of hops"),
    12: (Failure.PROTOCOL, "a router could not read our packet"),
}
_OTHER_6 = {
    2: (Failure.UNREACHABLE, "the packet is too big for the path"),
    3: (Failure.UNREACHABLE, "the packet ran out of hops"),
    4: (Failure.PROTOCOL, "a router could not read our packet"),
}
UNREACHABLE_4, UNREACHABLE_6 = 3, 1  # ICMP types: destination unreachable


def failed_from_os_error(error: OSError, **fields: Scalar) -> Failed:
    """Classify an error of a system call; `fields` are further record fields known at that point.

    An errno without a meaning here is `internal`: it is never counted against the target.
    """
    number = errno.ETIMEDOUT if isinstance(error, TimeoutError) and error.errno is None else error.errno
    if number is None:
        return Failed(Failure.INTERNAL, f"unexpected error: {error}", **fields)
    failure, sentence = _ERRNO.get(number, (Failure.INTERNAL, f"unexpected system error: {os.strerror(number)}"))
    return Failed(failure, sentence, **fields)


def failed_from_icmp(icmp_type: int, icmp_code: int, responder: str, own_addresses: Collection[str] = ()) -> Failed:
    """Classify an ICMP error (an ICMPv6 one where `responder` is an IPv6 address).

    `own_addresses` are those of this machine: an error from one of them is our own kernel's, for a
    neighbour that did not answer ARP or neighbour discovery: `unreachable`, whatever its code.
    """
    fields: dict[str, Scalar] = {"responder": responder, "icmp_type": icmp_type, "icmp_code": icmp_code}
    if responder in own_addresses:
        return Failed(Failure.UNREACHABLE, "the neighbour does not answer on our own network", **fields)
    failure, sentence = _meaning(icmp_type, icmp_code, ":" in responder)
    return Failed(failure, f"{responder} answered: {sentence}", **fields)


def _meaning(icmp_type: int, icmp_code: int, ipv6: bool) -> tuple[Failure, str]:
    if icmp_type == (UNREACHABLE_6 if ipv6 else UNREACHABLE_4):
        codes = _UNREACHABLE_6 if ipv6 else _UNREACHABLE_4
        return codes.get(icmp_code, (Failure.UNREACHABLE, f"unreachable (code {icmp_code})"))
    others = _OTHER_6 if ipv6 else _OTHER_4
    return others.get(icmp_type, (Failure.PROTOCOL, f"ICMP type {icmp_type} code {icmp_code}"))

"""One DHCP DISCOVER and the OFFERs to it (RFC 2131, RFC 2132), in the child; scapy is the codec.

Never a REQUEST: nothing is leased. A server may hold the address that it offered for a moment.
"""

from __future__ import annotations

import logging
import secrets
import struct
import time
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from agent.packets.wire import (
    DROP,
    HEADER_LENGTH_TO_X,
    IF_ANY_BIT,
    IF_EQUAL,
    KEEP,
    LOAD_BYTE,
    LOAD_HALF,
    LOAD_HALF_AT_X,
    OUTGOING,
    PACKET_TYPE_AT,
    Ear,
    Filter,
    Step,
    open_wire,
)
from agent.policy import EVERYONE

CLIENT_PORT = 68
MESSAGE_TYPE_OFFER, BOOT_REPLY = 2, 2
BROADCAST_FLAG = 0x8000
LEAST_BOOTP_BYTES = 300  # RFC 1542, 2.1: shorter messages are dropped by old relays
FRAME_BYTES = 2048
"""More than an Ethernet frame; an offer beyond that is cut, and then fails to be read."""
LEAST_LISTEN_S = 1.0
"""A server on the own network answers within this; with less time silence would say nothing."""
MOST_READ, MOST_SERVERS = 256, 16
"""Frames read and servers told of one question: a flood ends at these."""
VENDOR_CLASS = b"siteprobe"
"""Says who asks, for whoever sees the packet (option 60)."""
ASKED_FOR = [1, 3, 6, 15, 26, 28, 42, 121]
"""Mask, router, DNS, domain, MTU, broadcast address, NTP, routes: what a Debian host's own client asks for.

No client identifier and no host name: the server then knows the host by its MAC, offers what it leases to
this host anyway, and no further address is held back.
"""
UNREADABLE = (struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError)
"""What scapy raises for malformed packets, beside giving them as raw bytes."""
OFFERS_ONLY = Filter(
    (
        Step(LOAD_BYTE, PACKET_TYPE_AT),
        Step(IF_EQUAL, OUTGOING, yes=DROP),
        Step(LOAD_HALF, 12),
        Step(IF_EQUAL, 0x0800, no=DROP),  # IPv4
        Step(LOAD_BYTE, 23),
        Step(IF_EQUAL, 17, no=DROP),  # UDP
        Step(LOAD_HALF, 20),
        Step(IF_ANY_BIT, 0x1FFF, yes=DROP),  # a later fragment
        Step(HEADER_LENGTH_TO_X, 14),
        Step(LOAD_HALF_AT_X, 16),
        Step(IF_EQUAL, CLIENT_PORT, yes=KEEP, no=DROP),
    ),
    FRAME_BYTES,
)


def load_scapy() -> Any:
    """Import scapy's DHCP layer without the routing table, which it would read whole."""
    from scapy.config import conf

    conf.route_autoload = conf.route6_autoload = False
    logging.getLogger("scapy").setLevel(logging.ERROR)
    from scapy.layers import dhcp

    return dhcp


def discover_frame(mac: str, xid: int, broadcast: bool, address: str, port: int) -> bytes:
    """Write the DISCOVER of our own MAC as an Ethernet frame; `broadcast` asks for broadcast offers."""
    dhcp = load_scapy()
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    options = [
        ("message-type", "discover"),
        ("vendor_class_id", VENDOR_CLASS),
        ("param_req_list", ASKED_FOR),
        "end",
    ]
    own = bytes.fromhex(mac.replace(":", ""))
    bootp = dhcp.BOOTP(op=1, xid=xid, flags=BROADCAST_FLAG * broadcast, chaddr=own) / dhcp.DHCP(options=options)
    body = bytes(bootp).ljust(LEAST_BOOTP_BYTES, b"\0")
    head = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0", dst=address)
    return bytes(head / UDP(sport=CLIENT_PORT, dport=port) / body)


def read_offer(frame: bytes, xid: int, mac: str) -> dict[str, Any] | None:
    """Read an OFFER to our question; None for anything else, however malformed."""
    dhcp = load_scapy()
    from scapy.layers.l2 import Ether

    try:
        packet = Ether(frame)
        if dhcp.BOOTP not in packet or dhcp.DHCP not in packet:
            return None
        head, options = packet[dhcp.BOOTP], named(packet[dhcp.DHCP].options)
        ours = (head.op, head.xid, bytes(head.chaddr)[:6].hex(":")) == (BOOT_REPLY, xid, mac)
        if not ours or options.get("message-type") != [MESSAGE_TYPE_OFFER]:
            return None
        servers, relay = addresses(options.get("server_id")), addresses([head.giaddr])
    except UNREADABLE:
        return None
    if not servers:
        return None
    return {
        "server": servers[0],
        "router": addresses(options.get("router")),
        "dns": addresses(options.get("name_server")),
        "relay": relay[0] if relay else "",
    }


def named(options: Any) -> dict[str, list[Any]]:
    """Give the options by scapy's names for them, each with its values; the first of a name counts."""
    found: dict[str, list[Any]] = {}
    for option in options:
        if isinstance(option, tuple) and option and isinstance(option[0], str):
            found.setdefault(option[0], list(option[1:]))
    return found


def addresses(values: Any) -> list[str]:
    """Keep what is an IPv4 address of one machine, at most eight."""
    found = []
    for value in values or ():
        try:
            address = IPv4Address(value)
        except (AddressValueError, TypeError, ValueError):
            continue
        if not (address.is_unspecified or address.is_multicast or str(address) == EVERYONE):
            found.append(str(address))
    return found[:8]


@dataclass
class Collected:
    """The offers to one question: the first of each server, how many in all, and what was none."""

    xid: int
    mac: str
    offers: dict[str, dict[str, Any]] = field(default_factory=dict)
    count: int = 0
    ignored: int = 0

    def take(self, frame: bytes) -> bool:
        """Take a frame; gives whether more can be taken."""
        offer = read_offer(frame, self.xid, self.mac)
        self.count += offer is not None
        self.ignored += offer is None
        if offer and len(self.offers) < MOST_SERVERS:
            self.offers.setdefault(offer["server"], offer)
        return self.count + self.ignored < MOST_READ


async def discover(
    interface: str, mac: str, broadcast: bool, address: str, port: int, seconds: float, until: float
) -> dict[str, Any]:
    """Send one DISCOVER and collect the OFFERs for so long; where none came, wait for one until `until`.

    `until` is on the monotonic clock, which all processes share. Gives `offers` (one a server), `count`,
    `ignored`. Raises OSError; TimeoutError where no time is left to listen, and then nothing was sent.
    """
    found = Collected(secrets.randbits(32), mac)
    question = discover_frame(mac, found.xid, broadcast, address, port)
    now = time.monotonic()
    if until - now < LEAST_LISTEN_S:
        raise TimeoutError("too slow to ask in time; raise the timeout of the check")
    with Ear(open_wire(interface, OFFERS_ONLY), FRAME_BYTES) as ear:
        ear.wire.send(question)
        while (frame := await ear.hear(min(now + seconds, until))) and found.take(frame):
            pass
        while not found.count and (frame := await ear.hear(until)) and found.take(frame):
            pass
    return {"offers": list(found.offers.values()), "count": found.count, "ignored": found.ignored}

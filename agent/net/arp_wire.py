"""The neighbour question as bytes: ARP for IPv4 (RFC 826), neighbour solicitation for IPv6 (RFC 4861).

Everything here begins after the Ethernet header: the kernel writes that itself on a SOCK_DGRAM packet
socket (packet(7)), with the interface's real MAC as sender, so that another one cannot be sent.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from agent.net.icmp_wire import checksum
from agent.policy import Address

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD  # linux/if_ether.h
ARP = struct.Struct("!HHBBH6s4s6s4s")  # hardware, protocol, their lengths, operation; sender, target: MAC and address
ETHERNET, IPV4 = 1, 0x0800
REQUEST, REPLY = 1, 2
IPV6 = struct.Struct("!IHBB16s16s")  # version, class and flow; payload length; next header; hop limit; from; to
ND = struct.Struct("!BBHI16s")  # type, code, checksum, flags, target; RFC 4861, 4.3 and 4.4
SOLICITATION, ADVERTISEMENT = 135, 136
SOURCE_MAC, TARGET_MAC = 1, 2  # options, RFC 4861, 4.6.1
HOP_LIMIT = 255  # what comes with less has passed a router: no neighbour, RFC 4861, 7.1.2
SOLICITED = 0x4000_0000
VERSION_6 = 6 << 28
NO_MAC = b"\0" * 6
BROADCAST = b"\xff" * 6
VIRTUAL_ROUTERS = {
    "00:00:5e:00:01:": "VRRP group",  # RFC 9568, 7.3; IPv6 below
    "00:00:5e:00:02:": "VRRP group",
    "00:00:0c:07:ac:": "HSRP group",
    "00:00:0c:9f:f": "HSRP version 2 group",
    "00:05:73:a0:0": "HSRP version 2 group",
}
"""How the MACs of virtual routers begin; the rest is the number of their group, in hexadecimal digits."""

# Classic BPF, linux/filter.h: load byte, half word, word at an offset; jump if equal; return.
LOAD_BYTE, LOAD_HALF, LOAD_WORD, EQUAL, RETURN = 0x30, 0x28, 0x20, 0x15, 0x06
WHOLE, NOTHING = 0xFFFFFFFF, 0
Program = list[tuple[int, int, int, int]]


@dataclass(frozen=True, slots=True)
class Claim:
    """What an answer says: this MAC has this address. `well_formed` is False for one that no neighbour may send."""

    address: Address
    mac: str
    well_formed: bool


def ethernet_type(address: Address) -> int:
    """Give the protocol number under which the answer about an address comes."""
    return ETH_P_ARP if address.version == 4 else ETH_P_IPV6


def question(mac: bytes, source: Address | None, target: Address) -> tuple[bytes, bytes]:
    """Write who-has `target`; gives the packet and the MAC it goes to.

    Without a `source` it is a probe, which teaches nobody a wrong address: RFC 5227, 2.1.1; RFC 4862, 5.4.2.
    """
    if isinstance(target, IPv6Address):
        return _solicitation(mac, source, target)
    sender = source.packed if source else bytes(4)
    return ARP.pack(ETHERNET, IPV4, 6, 4, REQUEST, mac, sender, NO_MAC, target.packed), BROADCAST


def _solicitation(mac: bytes, source: Address | None, target: IPv6Address) -> tuple[bytes, bytes]:
    last = target.packed[-3:]
    group = bytes.fromhex("ff0200000000000000000001ff") + last  # solicited-node address, RFC 4291, 2.7.1
    options = bytes((SOURCE_MAC, 1)) + mac if source else b""
    sender = source.packed if source else bytes(16)
    body = ND.pack(SOLICITATION, 0, 0, 0, target.packed) + options
    total = checksum(_pseudo_header(sender, group, len(body)) + body)
    body = ND.pack(SOLICITATION, 0, total, 0, target.packed) + options
    head = IPV6.pack(VERSION_6, len(body), socket.IPPROTO_ICMPV6, HOP_LIMIT, sender, group)
    return head + body, b"\x33\x33\xff" + last


def _pseudo_header(sender: bytes, destination: bytes, length: int) -> bytes:
    """Write what an ICMPv6 checksum covers beside the message (RFC 8200, 8.1)."""
    return sender + destination + struct.pack("!II", length, socket.IPPROTO_ICMPV6)


def read_arp(packet: bytes, own_mac: bytes) -> Claim | None:
    """Read an ARP answer to us; None for one to somebody else, or too short to say anything."""
    if len(packet) < ARP.size:
        return None
    hardware, protocol, mac_bytes, address_bytes, operation, mac, address, to, _ = ARP.unpack_from(packet)
    shaped = (hardware, protocol, mac_bytes, address_bytes, operation) == (ETHERNET, IPV4, 6, 4, REPLY)
    if shaped and to != own_mac:
        return None
    return Claim(IPv4Address(address), mac.hex(":"), shaped and _one_machine(mac))


def read_advertisement(packet: bytes, ethernet_source: bytes) -> Claim | None:
    """Read a neighbour advertisement; None where it is too short, by the rules of RFC 4861, 7.1.2."""
    if len(packet) < IPV6.size + ND.size:
        return None
    _, length, _, hops, sender, destination = IPV6.unpack_from(packet)
    body = packet[IPV6.size : IPV6.size + length]
    if len(body) < ND.size:
        return None
    _, code, _, flags, target = ND.unpack_from(body)
    mac = _target_mac(body[ND.size :])
    to_all = destination[0] == 0xFF
    well_formed = (
        (hops, code) == (HOP_LIMIT, 0)
        and len(body) == length
        and checksum(_pseudo_header(sender, destination, length) + body) == 0
        and mac is not None
        and not (to_all and flags & SOLICITED)
        and _one_machine(mac or ethernet_source)
    )
    return Claim(IPv6Address(target), (mac or ethernet_source).hex(":"), well_formed)


def _target_mac(options: bytes) -> bytes | None:
    """Find the MAC that an advertisement names: b"" where it names none, None where its options make no sense."""
    at, found = 0, b""
    while at < len(options):
        size = options[at + 1] * 8 if at + 1 < len(options) else 0
        if size == 0 or at + size > len(options):
            return None
        if (options[at], size) == (TARGET_MAC, 8):
            found = options[at + 2 : at + 8]
        at += size
    return found


def _one_machine(mac: bytes) -> bool:
    """Tell whether a MAC is that of one machine: not of a group, nor zero."""
    return not mac[0] & 1 and mac != NO_MAC


def answers_about(kind: int, addresses: Collection[Address]) -> Program:
    """Write the program that lets through only answers about these addresses, and nothing while none is asked.

    So the kernel throws a storm away before it wakes us. Only the last 32 bits of an address are compared.
    """
    if not addresses:
        return [(RETURN, 0, 0, NOTHING)]
    words = sorted({int.from_bytes(address.packed[-4:]) for address in addresses})
    if kind == ETH_P_ARP:
        fixed, at = [(LOAD_HALF, 6, REPLY)], 14
    else:
        fixed, at = [(LOAD_BYTE, 6, socket.IPPROTO_ICMPV6), (LOAD_BYTE, 40, ADVERTISEMENT)], 60
    program: Program = []
    left = 2 * len(fixed) + 1 + len(words)
    for load, offset, wanted in fixed:
        left -= 2
        program += [(load, 0, 0, offset), (EQUAL, 0, left, wanted)]
    program.append((LOAD_WORD, 0, 0, at))
    for number, word in enumerate(words):
        program.append((EQUAL, len(words) - number, 0, word))
    return [*program, (RETURN, 0, 0, NOTHING), (RETURN, 0, 0, WHOLE)]


def virtual_router(mac: str) -> str:
    """Name the protocol and group of a virtual router's MAC, such as `VRRP group 7`; "" for any other."""
    for prefix, words in VIRTUAL_ROUTERS.items():
        if mac.startswith(prefix):
            return f"{words} {int(mac[len(prefix) :].replace(':', ''), 16)}"
    return ""

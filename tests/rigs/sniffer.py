"""Prints every IPv4 packet that arrives at an interface, one line of JSON each; run inside a namespace.

sniffer.py INTERFACE        prints `ready` once it listens
sniffer.py INTERFACE arp    also the ARP requests

`at` is when the kernel saw the packet (seconds since 1970); `fault` what is not well-formed in it, "" where all is.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from typing import Any

ETH_P_IP = 0x0800  # linux/if_ether.h; ARP and IPv6 are the kernel's own affairs
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}
SYN, ACK = 0x02, 0x10  # RFC 9293, 3.1
ECHO_REQUEST = 8
ETH_P_ARP, ETH_P_ALL = 0x0806, 0x0003
PACKET_AUXDATA, SOL_PACKET = 8, 263  # linux/if_packet.h, linux/socket.h
SO_TIMESTAMPNS, TIMESPEC = 35, struct.Struct("@ll")  # asm-generic/socket.h: when it passed, not when we read it
CHECKSUM_LEFT_TO_THE_CARD = 8  # TP_STATUS_CSUMNOTREADY: a veth end has no card that would fill it in


def read(packet: bytes) -> dict[str, Any]:
    """Read an IPv4 packet (RFC 791); `request` marks what the sender begins by it, `key` the same request sent anew."""
    length = (packet[0] & 0x0F) * 4
    protocol = PROTOCOLS.get(packet[9], str(packet[9]))
    body = packet[length:]
    found: dict[str, Any] = {
        "from": socket.inet_ntoa(packet[12:16]),
        "to": socket.inet_ntoa(packet[16:20]),
        "protocol": protocol,
        "ttl": packet[8],
    }
    if protocol == "icmp":
        return found | {"request": body[0] == ECHO_REQUEST, "port": None, "key": body[:8].hex()}
    if protocol == "tcp":
        begins = body[13] & (SYN | ACK) == SYN
        return found | {"request": begins, "port": int.from_bytes(body[2:4]), "key": body[:8].hex()}
    if protocol == "udp":
        return found | {"request": True, "port": int.from_bytes(body[2:4]), "key": f"{time.monotonic_ns()}"}
    return found | {"request": True, "port": None, "key": ""}


def fault(packet: bytes, checksum_filled_in: bool) -> str:
    """Say what is not well-formed in an IPv4 packet (RFC 791, 792, 768, 9293); "" where all is."""
    length = (packet[0] & 0x0F) * 4
    body, fragment = packet[length:], int.from_bytes(packet[6:8]) & 0x3FFF
    if packet[0] >> 4 != 4 or length < 20 or length > len(packet) or sums(packet[:length]):
        return "IP header"
    if int.from_bytes(packet[2:4]) != len(packet):
        return "IP length"
    if packet[1] >> 2:
        return "DSCP is not 0"
    return "" if fragment else inner_fault(packet, body, checksum_filled_in)


def inner_fault(packet: bytes, body: bytes, filled_in: bool) -> str:
    pseudo = packet[12:20] + bytes([0, packet[9]]) + len(body).to_bytes(2)
    if packet[9] == 1:
        return "ICMP" if len(body) < 8 or sums(body) else ""
    if packet[9] == 6:
        wrong = len(body) < 20 or not 20 <= (body[12] >> 4) * 4 <= len(body) or (filled_in and sums(pseudo + body))
        return "TCP" if wrong else ""
    if packet[9] == 17:
        wrong = len(body) < 8 or int.from_bytes(body[4:6]) != len(body)
        unsound = filled_in and any(body[6:8]) and sums(pseudo + body)
        return "UDP" if wrong or unsound else ""
    return "neither ICMP, TCP nor UDP"


def sums(data: bytes) -> int:
    """Give the Internet checksum (RFC 1071) over data that holds its own: 0 where it is right."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2]) for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def read_arp(packet: bytes) -> dict[str, Any]:
    """Read an ARP packet (RFC 826) as a request for an address."""
    sender, wanted = socket.inet_ntoa(packet[14:18]), socket.inet_ntoa(packet[24:28])
    whole = packet[:6] == b"\0\x01\x08\0\x06\x04"
    return {
        "from": sender,
        "to": wanted,
        "protocol": "arp",
        "port": None,
        "request": packet[6:8] == b"\0\x01",
        "key": f"{time.monotonic_ns()}",
        "fault": "" if whole else "ARP",
    }


def listen(interface: str, with_arp: bool) -> None:
    kind = ETH_P_ALL if with_arp else ETH_P_IP
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(kind)) as wire:
        wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        wire.bind((interface, kind))
        print("ready", flush=True)
        while True:
            packet, ancillary, _, where = wire.recvmsg(65535, 256)
            told = {(level, word): data for level, word, data in ancillary}
            status = int.from_bytes(told.get((SOL_PACKET, PACKET_AUXDATA), b"")[:4], sys.byteorder)
            seconds, nanoseconds = TIMESPEC.unpack(told[socket.SOL_SOCKET, SO_TIMESTAMPNS])
            at = seconds + nanoseconds / 1e9
            if where[2] == socket.PACKET_OUTGOING:
                continue
            if where[1] == ETH_P_IP:
                found = read(packet) | {"fault": fault(packet, not status & CHECKSUM_LEFT_TO_THE_CARD)}
                print(json.dumps({"at": at, **found}), flush=True)
            elif where[1] == ETH_P_ARP:
                print(json.dumps({"at": at, **read_arp(packet)}), flush=True)


if __name__ == "__main__":
    listen(sys.argv[1], "arp" in sys.argv[2:])

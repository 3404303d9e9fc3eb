"""ARP requests and TCP SYNs as frames, and a program that sends them from a namespace.

headers.py INTERFACE COUNT PER_SECOND HEX…   sends the frames, COUNT times round, at that pace (0: as fast as it can)
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from ipaddress import ip_address

EVERYBODY = b"\xff" * 6
SYN = 0x02


def mac_of(number: int) -> bytes:
    """Make a MAC that is locally administered."""
    return b"\x02" + number.to_bytes(5)


def arp(mac: bytes, sender: str, target: str, *, reply: bool = False, to: bytes = EVERYBODY) -> bytes:
    """Write an ARP packet (RFC 826)."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2 if reply else 1)
    body += mac + ip_address(sender).packed + (to if reply else bytes(6)) + ip_address(target).packed
    return to + mac + b"\x08\x06" + body


def tcp(port: int, flags: int = SYN) -> bytes:
    """Write a TCP header without options (RFC 9293)."""
    return struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 5 << 4, flags, 1024, 0, 0)


def syn4(source: str, to: str, port: int, *, mac: bytes = b"\x02" * 6, to_mac: bytes = b"\x02" * 6) -> bytes:
    """Write a SYN over IPv4."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + ip_address(source).packed + ip_address(to).packed
    return to_mac + mac + b"\x08\x00" + head + tcp(port)


def syn6(source: str, to: str, port: int, *, mac: bytes = b"\x02" * 6, to_mac: bytes = b"\x02" * 6) -> bytes:
    """Write a SYN over IPv6."""
    head = struct.pack("!IHBB", 6 << 28, 20, 6, 64) + ip_address(source).packed + ip_address(to).packed
    return to_mac + mac + b"\x86\xdd" + head + tcp(port)


def send(interface: str, count: int, per_second: float, frames: list[bytes]) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind((interface, 0))
        for _ in range(count):
            for frame in frames:
                wire.send(frame)
                if per_second:
                    time.sleep(1 / per_second)


if __name__ == "__main__":
    send(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), [bytes.fromhex(word) for word in sys.argv[4:]])
    print("sent", flush=True)

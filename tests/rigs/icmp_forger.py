"""Sends forged and garbled ICMP errors for so many seconds: `icmp_forger.py TO ABOUT SECONDS`.

Each claims that the host ABOUT is unreachable, or that hops ran out, and quotes a packet from TO that TO never
sent (an identifier, sequence, port or protocol of somebody else), or is cut short, or is noise.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import time


def checksum(data: bytes) -> int:
    """RFC 1071; this file stands alone."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def error(kind: int, code: int, quoted: bytes) -> bytes:
    body = struct.pack("!BBHI", kind, code, 0, 0) + quoted
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def quoted(source: str, destination: str, protocol: int, words: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(words), 1, 0, 3, protocol, 0)
    return head + socket.inet_aton(source) + socket.inet_aton(destination) + words


def forged(to: str, about: str) -> bytes:
    protocol = random.choice((1, 1, 6, 17))
    words = b"\x08\0" + random.randbytes(random.choice((0, 4, 6, 20)))
    whole = error(*random.choice(((3, 1), (3, 4), (11, 0), (12, 0))), quoted(to, about, protocol, words))
    return random.choice((whole, whole, whole[: random.randrange(len(whole))], random.randbytes(40)))


def main(to: str, about: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as wire:
        print("ready", flush=True)
        while time.monotonic() < end:
            wire.sendto(forged(to, about), (to, 0))
            time.sleep(0.005)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))

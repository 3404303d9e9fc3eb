"""Answers pings in a way that depends on argv: `python -m tests.rigs.echo_liar MODE ADDRESS`.

Modes: twice (two right replies), source (a right reply from another address), token (another payload),
sequence, identifier, garbage (broken messages of many kinds, then the right reply).
With an IPv6 address it lies in ICMPv6 (all but garbage), and always from that address.
The kernel of its namespace must not answer itself (icmp_echo_ignore_all, for IPv6 icmp.echo_ignore_all).
"""

from __future__ import annotations

import socket
import struct
import sys

from agent.net.icmp_wire import ECHO_REPLY, ECHO_REQUEST, ICMP, checksum


def reply(identifier: int, sequence: int, payload: bytes) -> bytes:
    head = ICMP.pack(0, 0, 0, identifier, sequence)
    return ICMP.pack(0, 0, checksum(head + payload), identifier, sequence) + payload


def replies(mode: str, identifier: int, sequence: int, payload: bytes) -> list[bytes]:
    if mode == "token":
        return [reply(identifier, sequence, b"forged".ljust(len(payload), b"x"))]
    if mode == "sequence":
        return [reply(identifier, sequence + 1000, payload)]
    if mode == "identifier":
        return [reply(identifier ^ 1, sequence, payload)]
    if mode == "garbage":
        return [*garbage(identifier, sequence, payload), reply(identifier, sequence, payload)]
    return [reply(identifier, sequence, payload)] * (2 if mode == "twice" else 1)


def garbage(identifier: int, sequence: int, payload: bytes) -> list[bytes]:
    right = reply(identifier, sequence, payload)
    quoted = bytes([0x45]) + bytes(19) + right[:8]
    return [
        right[:4],
        right[:7],
        reply(identifier, sequence, payload[:5]),  # cut
        reply(identifier, sequence, b""),
        reply(identifier, sequence, payload + b"more"),
        reply(identifier, sequence, payload * 1000),  # 56 kB, in fragments
        right[:-1] + b"?",  # the checksum does not fit
        with_code(right, 3),
        message(3, 1, bytes(4)),  # "unreachable" that quotes nothing
        message(3, 1, bytes(4) + quoted[:24]),
        message(3, 1, bytes(4) + b"\x4f" + quoted[1:]),  # a header longer than the quote
        message(11, 0, bytes(4) + quoted),  # about a packet that was never sent
        message(255, 255, bytes(range(256))),
    ]


def message(kind: int, code: int, rest: bytes) -> bytes:
    head = struct.pack("!BBH", kind, code, 0)
    return struct.pack("!BBH", kind, code, checksum(head + rest)) + rest


def with_code(right: bytes, code: int) -> bytes:
    return message(right[0], code, right[4:])


def sockets(family: int) -> tuple[socket.socket, socket.socket]:
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    listening, answering = (socket.socket(family, socket.SOCK_RAW, protocol) for _ in range(2))
    return listening, answering


def main(mode: str, other_address: str) -> None:
    six = ":" in other_address
    listening, answering = sockets(socket.AF_INET6 if six else socket.AF_INET)
    if six or mode == "source":
        answering.bind((other_address, 0))
    print("ready", flush=True)
    while True:
        packet, source = listening.recvfrom(2048)
        start = 0 if six else (packet[0] & 15) * 4  # a raw IPv6 socket is given no IP header
        kind, _, _, identifier, sequence = struct.unpack_from("!BBHHH", packet, start)
        if kind == ECHO_REQUEST[6 if six else 4]:
            for data in replies(mode, identifier, sequence, packet[start + 8 :]):
                # ICMPv6 has another type for the reply, and the kernel fills in its checksum
                answering.sendto(bytes([ECHO_REPLY[6]]) + data[1:] if six else data, source)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

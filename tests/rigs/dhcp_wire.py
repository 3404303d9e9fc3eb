"""DHCP on the wire as the tests read and write it, without the agent's codec; RFC 951, RFC 2131, RFC 2132.

dhcp_wire.py sniff INTERFACE            prints what DHCP clients send there, one line of JSON each
dhcp_wire.py hostile INTERFACE SERVER   answers each DISCOVER with rubbish, then one good offer, then a flood
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any

COOKIE = bytes.fromhex("63825363")
KINDS = {1: "discover", 2: "offer", 3: "request", 5: "ack"}
FLOOD = 3000
SERVER_MAC = "02:00:00:00:00:fe"


def checksum(data: bytes) -> int:
    """Give the internet checksum (RFC 1071); 0 over data that holds a right one."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    total = (total >> 16) + (total & 0xFFFF)
    return int(~(total + (total >> 16)) & 0xFFFF)


def options_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        yield data[at], data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]


def read(frame: bytes) -> dict[str, Any]:
    """Read what a DHCP client sent."""
    ip, udp, bootp = frame[14:34], frame[34:42], frame[42:]
    options = list(options_of(bootp[240:]))
    pseudo = ip[12:20] + b"\0\x11" + udp[4:6]
    return {
        "from": socket.inet_ntoa(ip[12:16]),
        "to": socket.inet_ntoa(ip[16:20]),
        "source_mac": frame[6:12].hex(":"),
        "mac": bootp[28:34].hex(":"),
        "xid": int.from_bytes(bootp[4:8]),
        "broadcast": bool(bootp[10] & 0x80),
        "kind": KINDS.get(dict(options).get(53, b"\0")[0], "other"),
        "vendor_class": dict(options).get(60, b"").decode(),
        "options": [code for code, _ in options],
        "checksums": checksum(ip) == 0 and checksum(pseudo + udp + bootp) == 0,
        "bootp_bytes": len(bootp),
    }


def reply(
    *,
    xid: int,
    mac: str,
    server: str,
    router: str = "",
    dns: Sequence[str] = (),
    relay: str = "0.0.0.0",
    kind: int = 2,
    operation: int = 2,
    cookie: bytes = COOKIE,
    more: bytes = b"",
) -> bytes:
    """Write what a server sends, broadcast."""
    chaddr = bytes.fromhex(mac.replace(":", ""))
    four = socket.inet_aton
    bootp = struct.pack("!BBBBIHH", operation, 1, 6, 0, xid & 0xFFFFFFFF, 0, 0x8000)
    bootp += four("0.0.0.0") + four("10.1.0.77") + four("0.0.0.0") + four(relay) + chaddr.ljust(16, b"\0") + bytes(192)
    options = bytes((53, 1, kind))
    options += bytes((54, 4)) + four(server) if server else b""
    options += bytes((3, 4)) + four(router) if router else b""
    options += bytes((6, 4 * len(dns))) + b"".join(map(four, dns)) if dns else b""
    bootp += cookie + options + more + b"\xff"
    udp = struct.pack("!HHHH", 67, 68, 8 + len(bootp), 0)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(bootp), 0, 0, 64, 17, 0) + four("10.1.0.1") + b"\xff" * 4
    ip = ip[:10] + checksum(ip).to_bytes(2) + ip[12:]
    return b"\xff" * 6 + bytes.fromhex(SERVER_MAC.replace(":", "")) + b"\x08\x00" + ip + udp + bootp


def heard(interface: str) -> Iterator[tuple[socket.socket, bytes]]:
    """Give each frame from a DHCP client, for ever."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as wire:
        wire.bind((interface, 0x0003))
        print("ready", flush=True)
        while True:
            frame, where = wire.recvfrom(65535)
            if where[2] != socket.PACKET_OUTGOING and frame[12:14] == b"\x08\x00" and frame[36:38] == b"\0\x43":
                yield wire, frame


def rubbish(seen: dict[str, Any], server: str) -> Iterator[bytes]:
    """Everything a broken or hostile server might send to one question."""
    good = reply(xid=seen["xid"], mac=seen["mac"], server=server, router=server)
    yield reply(xid=seen["xid"] ^ 1, mac=seen["mac"], server="10.66.0.1")
    yield reply(xid=seen["xid"], mac="02:00:00:00:00:99", server="10.66.0.2")
    yield reply(xid=seen["xid"], mac=seen["mac"], server="10.66.0.3", kind=5)
    yield reply(xid=seen["xid"], mac=seen["mac"], server="")
    yield good[:200]
    yield good[:283] + b"\x36\xff"  # an option longer than the packet
    yield good[:42] + b"\xff" * 1400
    yield good + bytes(65000 - len(good))  # one frame of 64 kB, padding behind the end of the datagram


def hostile(interface: str, server: str) -> None:
    for wire, frame in heard(interface):
        seen = read(frame)
        for bad in rubbish(seen, server):
            try:
                wire.send(bad)
            except OSError as error:  # this cable carries no frame of that size
                print(json.dumps({"not sent": len(bad), "why": str(error)}), flush=True)
        wire.send(reply(xid=seen["xid"], mac=seen["mac"], server=server, router=server))
        for number in range(FLOOD):
            wire.send(reply(xid=seen["xid"], mac=seen["mac"], server=f"10.77.{number // 250}.{number % 250 + 1}"))


if __name__ == "__main__":
    if sys.argv[1] == "hostile":
        hostile(*sys.argv[2:4])
    for _, found in heard(sys.argv[2]):
        print(json.dumps(read(found)), flush=True)

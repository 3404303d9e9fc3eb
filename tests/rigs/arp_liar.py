"""Answers every who-has on an interface in a way that depends on argv: `arp_liar.py INTERFACE MODE ADDRESS`.

Modes: a MAC (a right answer with it), malformed (answers that no machine may send, then a right one), late
(after 0.2 s), flood (20,000 right answers with ever new MACs), storm (nothing but who-has of its own, as fast as
it can, for SECONDS given in place of the address; prints how many).
Made for a namespace; the standard library alone, so it starts fast.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

ETH_P_ARP = 0x0806
ARP = struct.Struct("!HHBBH6s4s6s4s")
LIAR = bytes.fromhex("020000bad001")


def answers(mode: str, address: bytes, asker: bytes, asker_address: bytes) -> list[bytes]:
    def reply(mac: bytes, hardware: int = 1, mac_bytes: int = 6, operation: int = 2) -> bytes:
        return ARP.pack(hardware, 0x0800, mac_bytes, 4, operation, mac, address, asker, asker_address)

    if mode == "malformed":
        cut = [reply(LIAR)[:length] for length in (1, 8, 20)]
        wrong = [reply(LIAR, hardware=6), reply(LIAR, mac_bytes=8), reply(b"\xff" * 6), reply(b"\0" * 6)]
        return [*cut, *wrong, reply(LIAR)]
    if mode == "flood":
        return [reply(b"\x02\x00" + number.to_bytes(4)) for number in range(20_000)]
    return [reply(LIAR if mode == "late" else bytes.fromhex(mode.replace(":", "")))]


def lie(wire: socket.socket, interface: str, mode: str, address: bytes) -> None:
    while True:
        packet = wire.recv(64)
        _, _, _, _, operation, asker, asker_address, _, wanted = ARP.unpack_from(packet)
        if operation == 1 and wanted == address:
            time.sleep(0.2 if mode == "late" else 0)
            for answer in answers(mode, address, asker, asker_address):
                wire.sendto(answer, (interface, ETH_P_ARP, 0, 0, asker))


def storm(wire: socket.socket, interface: str, seconds: float) -> None:
    asks = [
        ARP.pack(1, 0x0800, 6, 4, 1, LIAR, bytes((10, 1, 9, n)), b"\0" * 6, bytes((10, 1, 0, n))) for n in range(256)
    ]
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for ask in asks:
            wire.sendto(ask, (interface, ETH_P_ARP, 0, 0, b"\xff" * 6))
        sent += len(asks)
    print(sent, flush=True)


if __name__ == "__main__":
    _, device, how, what = sys.argv
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ARP)) as open_wire:
        open_wire.bind((device, ETH_P_ARP))
        print("ready", flush=True)
        if how == "storm":
            storm(open_wire, device, float(what))
        else:
            lie(open_wire, device, how, socket.inet_aton(what))

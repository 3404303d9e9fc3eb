"""Prints every ARP packet that arrives at an interface, one line of JSON each: `arp_sniffer.py INTERFACE`.

Prints `ready` once it listens. Run inside a namespace, at the other end of the cable.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

ETH_P_ARP = 0x0806
FRAME = struct.Struct("!6s6sH HHBBH6s4s6s4s")  # Ethernet header and ARP (RFC 826)

if __name__ == "__main__":
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as wire:
        wire.bind((sys.argv[1], ETH_P_ARP))
        print("ready", flush=True)
        while True:
            packet = wire.recv(2048)
            to, frame_sender, _, hardware, protocol, sizes, size, operation, mac, sender, asked_mac, asked = (
                FRAME.unpack_from(packet)
            )
            heard = {
                "at": time.monotonic(),
                "shape": [hardware, protocol, sizes, size, operation],
                "to": to.hex(":"),
                "frame_sender": frame_sender.hex(":"),
                "mac": mac.hex(":"),
                "sender": socket.inet_ntoa(sender),
                "asked_mac": asked_mac.hex(":"),
                "asked": socket.inet_ntoa(asked),
            }
            print(json.dumps(heard), flush=True)

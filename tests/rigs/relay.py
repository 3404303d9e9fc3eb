"""A cable with delay, jitter and reordering: carries whole frames between two interfaces of its namespace.

python -m tests.rigs.relay ONE OTHER --delay 0.25 [--jitter 0.02] [--reorder 0.1 --hold 0.05] [--seed 1]

For kernels without netem. Each frame is held for `delay` seconds, more or less by up to `jitter` (even
spread); frames keep their order, but the share `reorder` of them is held `hold` seconds longer and is
overtaken meanwhile. Prints `ready`, and at SIGTERM one line of JSON, as `summary` makes it.
`insert` builds it into a network of tests.rigs.netns.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field

from tests.rigs.netns import Net

ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23  # linux/if_packet.h
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
LARGEST = 70_000  # a frame before segmentation, and its virtio header


def insert(
    net: Net, one: str, device: str, other: str, other_device: str, *options: str, name: str = "relay"
) -> subprocess.Popen[str]:
    """Lay a cable between two namespaces with a relay in the middle; `options` as on the command line."""
    middle = net.add(name)
    net.sysctl(middle, "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1")
    net.wire(one, device, middle, "one")
    net.wire(middle, "other", other, other_device)
    return net.start(middle, sys.executable, "-m", "tests.rigs.relay", "one", "other", *options)


def opened(interface: str) -> socket.socket:
    """Open a socket that is given every frame that arrives at the interface.

    With PACKET_VNET_HDR each comes with its virtio header, which goes back with it: so checksums and
    segments that the sender's kernel left to its "hardware" are still made.
    """
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind((interface, ETH_P_ALL))
    sock.setblocking(False)
    return sock


def taken(sock: socket.socket) -> tuple[bytes, float]:
    """Read a frame, and when it came in: a busy machine then delays it no more than it was told to."""
    frame, ancillary, _, _ = sock.recvmsg(LARGEST, 128)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("@ll", data)
            return frame, seconds + nanoseconds / 1e9
    return frame, time.time()


@dataclass
class Line:
    """One direction: when each frame leaves. Times in seconds since 1970, as the kernel stamps what arrives."""

    delay_s: float
    jitter_s: float
    reorder: float
    hold_s: float
    chance: random.Random
    queue: list[tuple[float, int, float, bytes]] = field(default_factory=list)
    count: int = 0
    carried: int = 0
    total_s: float = 0.0
    held: int = 0
    overtaken: int = 0
    latest_s: float = 0.0
    newest: int = 0

    def put(self, frame: bytes, came: float) -> None:
        """Take in a frame that came at this time."""
        due = came + self.delay_s + self.chance.uniform(-self.jitter_s, self.jitter_s)
        self.latest_s = due = max(due, self.latest_s)
        if self.chance.random() < self.reorder:
            self.held += 1
            due += self.hold_s
        self.count += 1
        heapq.heappush(self.queue, (due, self.count, came, frame))

    def due(self, now: float) -> list[bytes]:
        """Give the frames whose time has come."""
        found = []
        while self.queue and self.queue[0][0] <= now:
            _, number, came, frame = heapq.heappop(self.queue)
            self.carried += 1
            self.total_s += time.time() - came
            self.overtaken += number < self.newest
            self.newest = max(self.newest, number)
            found.append(frame)
        return found


def carry(one: socket.socket, other: socket.socket, there: Line, back: Line) -> None:
    """Carry frames both ways until SIGTERM."""
    ways = {one: (there, other), other: (back, one)}
    while True:
        times = [line.queue[0][0] for line, _ in ways.values() if line.queue]
        wait_s = max(min(times) - time.time(), 0.0) if times else None
        for sock in select.select([one, other], [], [], wait_s)[0]:
            ways[sock][0].put(*taken(sock))
        for line, out in ways.values():
            for frame in line.due(time.time()):
                out.send(frame)


def main() -> None:
    """Read the options and carry."""
    parser = argparse.ArgumentParser()
    parser.add_argument("one")
    parser.add_argument("other")
    for option, default in (("delay", 0.02), ("jitter", 0.0), ("reorder", 0.0), ("hold", 0.05)):
        parser.add_argument(f"--{option}", type=float, default=default)
    parser.add_argument("--seed", type=int, default=1)
    words = parser.parse_args()
    chance = random.Random(words.seed)
    there, back = (Line(words.delay, words.jitter, words.reorder, words.hold, chance) for _ in range(2))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with opened(words.one) as one, opened(words.other) as other:
            print("ready", flush=True)
            carry(one, other, there, back)
    finally:
        print(json.dumps(summary(there, back)), flush=True)


def summary(there: Line, back: Line) -> dict[str, float]:
    """Sum up what the line did to the frames; `round_trip_s` is what it cost a question and its answer in the mean."""
    return {
        "carried": there.carried + back.carried,
        "held": there.held + back.held,
        "overtaken": there.overtaken + back.overtaken,
        "round_trip_s": sum(line.total_s / max(line.carried, 1) for line in (there, back)),
    }


if __name__ == "__main__":
    main()

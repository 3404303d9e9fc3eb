"""Two namespaces with a cable between them, what tcpdump saw in one, and a machine kept busy."""

from __future__ import annotations

import os
import secrets
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.broker import BenchError, Missing, tool, wait_for

PROBE, HOST = "10.77.0.1", "10.77.0.2"
PCAP_NANOSECONDS = 0xA1B23C4D  # magic number of a pcap file with nanoseconds (pcap-savefile(5))
HEADER_BYTES, PACKET = 24, struct.Struct("=IIII")
ETHERNET_BYTES = 14
ECHO, ECHO_REPLY = 8, 0
BUSY = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"
BUSY_PER_CORE = 4
LONGEST_S = 120


@dataclass(frozen=True)
class Pair:
    """The name of the probe's namespace; the host is HOST."""

    probe: str

    def run(self, *command: str) -> str:
        """Run a command beside the probe's end of the cable, and give all that it wrote. Raises BenchError."""
        inside = [tool("ip"), "netns", "exec", self.probe, *command]
        done = subprocess.run(inside, check=False, capture_output=True, text=True, timeout=LONGEST_S)
        if done.returncode:
            raise BenchError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
        return done.stdout + done.stderr

    @contextmanager
    def captured(self, file: Path) -> Iterator[None]:
        """Let tcpdump write all ICMP into a file. Raises Missing."""
        options = ["-i", "eth0", "-n", "-U", "-B", "8192", "-s", "96", "--time-stamp-precision", "nano", "-Z", "root"]
        command = [tool("ip"), "netns", "exec", self.probe, tool("tcpdump"), *options, "-w", str(file), "icmp"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: file.exists() and file.stat().st_size >= HEADER_BYTES, 10, "tcpdump did not start")
            yield
            time.sleep(0.5)  # what came last is on its way to the file
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def pair() -> Iterator[Pair]:
    """Make the namespaces, the cable inside them. Raises Missing."""
    if os.geteuid() != 0:
        raise Missing("only root may make a network namespace")
    name = f"bench{secrets.token_hex(3)}"
    probe, host = f"{name}-p", f"{name}-h"
    for namespace in (probe, host):
        _ip("netns", "add", namespace)
    try:
        _ip("-n", probe, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", host)
        for namespace, address in ((probe, PROBE), (host, HOST)):
            _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", namespace, "link", "set", device, "up")
        yield Pair(probe)
    finally:
        for namespace in (probe, host):
            _ip("netns", "del", namespace)


def _ip(*words: str) -> None:
    done = subprocess.run([tool("ip"), *words], check=False, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise Missing(f"no network namespace: {done.stderr.strip()}")


def round_trips(file: Path) -> dict[tuple[int, int], float]:
    """Read from a capture how long each echo took, in seconds, by (identifier, sequence): first reply - request."""
    data = file.read_bytes()
    if len(data) < HEADER_BYTES or struct.unpack_from("=I", data)[0] != PCAP_NANOSECONDS:
        raise BenchError("the capture is not one with nanoseconds")
    began: dict[tuple[int, int], int] = {}
    found: dict[tuple[int, int], float] = {}
    at = HEADER_BYTES
    while at + PACKET.size <= len(data):
        seconds, nanoseconds, length, _ = PACKET.unpack_from(data, at)
        packet = data[at + PACKET.size + ETHERNET_BYTES : at + PACKET.size + length]
        at += PACKET.size + length
        if at > len(data):  # tcpdump was still writing it
            break
        kind, _, _, identifier, sequence = struct.unpack_from("!BBHHH", packet, (packet[0] & 15) * 4)
        key, when = (identifier, sequence), seconds * 10**9 + nanoseconds
        if kind == ECHO:
            began[key] = when
        elif kind == ECHO_REPLY and key in began and key not in found:
            found[key] = (when - began[key]) / 1e9
    return found


@contextmanager
def busy(seconds: float) -> Iterator[None]:
    """Keep every core busy with four processes, which end by themselves after so many seconds."""
    count = BUSY_PER_CORE * (os.cpu_count() or 1)
    started = [subprocess.Popen([sys.executable, "-c", BUSY, str(seconds)]) for _ in range(count)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in started:
            process.terminate()
            process.wait(10)

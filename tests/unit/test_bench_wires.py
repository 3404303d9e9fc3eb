"""What the bench reads out of a capture."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bench.broker import BenchError
from bench.echoes import percentile_99
from bench.wires import PACKET, PCAP_NANOSECONDS, round_trips


def packet(at_ns: int, kind: int, identifier: int, sequence: int) -> bytes:
    data = bytes(14) + b"\x45" + bytes(19) + struct.pack("!BBHHH", kind, 0, 0, identifier, sequence)
    return PACKET.pack(at_ns // 10**9, at_ns % 10**9, len(data), len(data)) + data


def test_a_round_trip_is_from_the_request_to_its_first_reply(tmp_path: Path) -> None:
    file = tmp_path / "a.pcap"
    second = 10**9
    file.write_bytes(
        struct.pack("=I20x", PCAP_NANOSECONDS)
        + packet(second - 1000, 8, 7, 1)
        + packet(second, 8, 7, 2)
        + packet(second + 500, 0, 7, 1)
        + packet(second + 900, 0, 7, 1)  # a double
        + packet(second + 950, 0, 8, 2)  # somebody else's
        + packet(second + 990, 0, 7, 2)[:-3]  # tcpdump was still writing
    )
    assert round_trips(file) == {(7, 1): pytest.approx(1.5e-6)}


def test_a_capture_without_nanoseconds_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.pcap"
    file.write_bytes(struct.pack("=I20x", 0xA1B2C3D4))
    with pytest.raises(BenchError, match="nanoseconds"):
        round_trips(file)


def test_the_percentile_is_that_of_the_nearest_rank() -> None:
    assert percentile_99([float(n) for n in range(1, 101)]) == 99.0
    assert percentile_99([5.0]) == 5.0

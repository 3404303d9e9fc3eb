"""Packets that trace a way: well-formed, one flow from hop to hop and run to run, and told apart by what is quoted."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Failed, Failure
from agent.net.icmp_wire import checksum
from agent.net.trace import _reserved_port
from agent.net.trace_packets import MOST_HOPS, IcmpShape, Shape, TcpShape, UdpShape
from agent.safety import Permit

HERE, THERE = "10.1.0.2", "198.51.100.20"
HOPS = range(1, MOST_HOPS + 1)


def icmp(version: int = 4, start: int = 65530) -> IcmpShape:
    return IcmpShape(version, 0x1234, start)


def udp() -> UdpShape:
    return UdpShape(4, HERE, THERE, 40000, 33434)


def tcp(start: int = 2**32 - 5) -> TcpShape:
    return TcpShape(4, HERE, THERE, 40000, 443, start)


def shapes() -> list[Shape]:
    return [icmp(), icmp(6), udp(), tcp()]


@pytest.mark.parametrize("version", [4, 6])
def test_every_echo_of_every_run_has_the_same_first_bytes_and_identifier(version: int) -> None:
    packets = [icmp(version, start).request(hops) for start in (0, 1, 999, 65530) for hops in HOPS]
    assert len({packet[:6] for packet in packets}) == 1, "type, code, checksum, identifier"
    assert len({packet[6:8] for packet in packets}) > MOST_HOPS
    assert len({len(packet) for packet in packets}) == 1
    if version == 4:
        assert all(checksum(packet) == 0 for packet in packets)
    else:  # the kernel adds the addresses, which do not change
        assert len({checksum(packet) for packet in packets}) == 1


@pytest.mark.parametrize(("shape", "protocol"), [(udp(), 17), (tcp(), 6)])
def test_ports_never_change_and_the_checksum_is_right(shape: Shape, protocol: int) -> None:
    for hops in HOPS:
        packet = shape.request(hops)
        assert packet[:4] == shape.request(1)[:4]
        pseudo = socket.inet_aton(HERE) + socket.inet_aton(THERE) + struct.pack("!BBH", 0, protocol, len(packet))
        assert checksum(pseudo + packet) == 0
    assert b"siteprobe path" in udp().request(3), "a defender can see whose it is"


def test_a_syn_is_nothing_but_a_syn() -> None:
    packet = tcp().request(3)
    assert (packet[12] >> 4) * 4 == len(packet) == 24
    assert packet[13] == 0x02


@pytest.mark.parametrize("shape", shapes())
def test_eight_quoted_bytes_tell_the_hop(shape: Shape) -> None:
    assert [shape.quoted(shape.request(hops)[:8]) for hops in HOPS] == list(HOPS)


@pytest.mark.parametrize("shape", shapes())
@given(data=st.binary(max_size=60))
def test_noise_is_neither_a_quotation_nor_an_answer(shape: Shape, data: bytes) -> None:
    assert shape.quoted(data) is None
    assert shape.answered(data) is None


def test_of_another_program_nothing_is_ours() -> None:
    others: list[tuple[Shape, bytes]] = [
        (icmp(), IcmpShape(4, 0x1235, 65530).request(3)),
        (icmp(), IcmpShape(4, 0x1234, 20000).request(3)),
        (udp(), UdpShape(4, HERE, THERE, 40001, 33434).request(3)),
        (udp(), UdpShape(4, HERE, THERE, 40000, 33435).request(3)),
        (tcp(), TcpShape(4, HERE, THERE, 40000, 443, 77).request(3)),
    ]
    assert [shape.quoted(packet) for shape, packet in others] == [None] * len(others)


def test_an_echo_reply_counts_with_our_token_only() -> None:
    shape = icmp()
    request = shape.request(5)
    assert shape.answered(b"\0" + request[1:]) == 5
    assert shape.answered(request) is None, "a request is no reply"
    assert IcmpShape(4, 0x1234, 65530).answered(b"\0" + request[1:]) is None, "that of another run"
    assert shape.answered(b"\0" + request[1:20]) is None


@pytest.mark.parametrize(("flags", "hops"), [(0x12, 7), (0x14, 7), (0x10, None), (0x04, None)])
def test_a_target_answers_a_syn_by_taking_or_refusing_it(flags: int, hops: int | None) -> None:
    shape = tcp()
    acknowledged = (shape.start + 7 + 1) & 0xFFFFFFFF
    answer = struct.pack("!HHIIBBHHH", 443, 40000, 99, acknowledged, 5 << 4, flags, 0, 0, 0)
    assert shape.answered(answer) == hops
    wrong = struct.pack("!HHIIBBHHH", 443, 40000, 99, acknowledged + 100, 5 << 4, flags, 0, 0, 0)
    assert shape.answered(wrong) is None


def test_a_datagram_from_the_port_that_was_asked_is_an_answer_of_unknown_hop() -> None:
    assert udp().answered(struct.pack("!HHHH", 33434, 40000, 8, 0)) == 0
    assert udp().answered(struct.pack("!HHHH", 53, 40000, 8, 0)) is None


def test_a_trace_without_a_descriptor_left_is_an_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", full)
    with ExitStack() as opening, pytest.raises(Failed) as raised:
        _reserved_port(opening, Permit("127.0.0.1", 80, "tcp"), 7)
    assert raised.value.failure is Failure.OVERLOAD

"""The neighbour question as bytes, the kernel filter in front of the answers, and what no neighbour may send."""

from __future__ import annotations

import socket
import time
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.net import arp_wire
from agent.net.arp import Question, elapsed_s
from agent.net.arp_wire import ETH_P_ARP, ETH_P_IPV6, Claim, answers_about, question, read_advertisement, read_arp
from agent.net.icmp_wire import attach, checksum
from agent.net.neighbours import Way

OURS, THEIRS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
OWN, PEER = IPv4Address("10.1.0.2"), IPv4Address("10.1.0.9")
OWN6, PEER6 = IPv6Address("fd01::2"), IPv6Address("fd01::1234:5678")
# Heard from a Linux 6.18 kernel in a namespace: its answers to our questions for PEER and PEER6.
ARP_ANSWER = bytes.fromhex("00010800060400020200000000020a0100090200000000010a010002")
ADVERTISEMENT = bytes.fromhex(
    "6000000000203afffd010000000000000000000012345678fd010000000000000000000000000002"
    "88004b4160000000fd0100000000000000000000123456780201020000000002"
)


def arp_reply(address: IPv4Address = PEER, mac: bytes = THEIRS, to: bytes = OURS, **fields: int) -> bytes:
    shape = {"hardware": 1, "protocol": 0x0800, "mac_bytes": 6, "address_bytes": 4, "operation": 2} | fields
    return arp_wire.ARP.pack(*shape.values(), mac, address.packed, to, OWN.packed)


def advertisement(
    target: IPv6Address = PEER6, mac: bytes | None = THEIRS, hops: int = 255, code: int = 0, flags: int = 0x6000_0000
) -> bytes:
    body = arp_wire.ND.pack(136, code, 0, flags, target.packed) + (b"\x02\x01" + mac if mac else b"")
    ends = target.packed + OWN6.packed
    total = checksum(ends + len(body).to_bytes(4) + (58).to_bytes(4) + body)
    body = body[:2] + total.to_bytes(2) + body[4:]
    return arp_wire.IPV6.pack(6 << 28, len(body), 58, hops, target.packed, OWN6.packed) + body


def test_who_has_is_what_rfc_826_says() -> None:
    packet, to = question(OURS, OWN, PEER)
    assert packet.hex() == "00010800060400010200000000010a0100020000000000000a010009"
    assert to == b"\xff" * 6


def test_a_probe_has_an_empty_sender_address() -> None:
    packet, _ = question(OURS, None, OWN)
    assert packet.hex() == "0001080006040001020000000001000000000000000000000a010002"


def test_a_solicitation_goes_to_the_group_of_its_target_and_names_our_mac() -> None:
    packet, to = question(OURS, OWN6, PEER6)
    assert to.hex(":") == "33:33:ff:34:56:78"
    _, length, following, hops, sender, group = arp_wire.IPV6.unpack_from(packet)
    assert (following, hops, IPv6Address(sender), IPv6Address(group)) == (
        58,
        255,
        OWN6,
        ip_address("ff02::1:ff34:5678"),
    )
    body = packet[40:]
    assert len(body) == length == 32 and body[24:] == b"\x01\x01" + OURS
    assert checksum(sender + group + length.to_bytes(4) + (58).to_bytes(4) + body) == 0


def test_a_solicitation_without_sender_names_no_mac() -> None:
    packet, _ = question(OURS, None, OWN6)
    assert IPv6Address(packet[8:24]) == ip_address("::") and len(packet) == 40 + 24


def test_right_answers() -> None:
    assert read_arp(arp_reply(), OURS) == Claim(PEER, "02:00:00:00:00:02", True)
    assert read_advertisement(advertisement(), b"") == Claim(PEER6, "02:00:00:00:00:02", True)
    unnamed = read_advertisement(advertisement(mac=None), THEIRS)
    assert unnamed == Claim(PEER6, "02:00:00:00:00:02", True), "then the frame's sender is the one"


def test_the_answers_of_a_real_kernel() -> None:
    assert read_arp(ARP_ANSWER, OURS) == Claim(PEER, "02:00:00:00:00:02", True)
    assert read_advertisement(ADVERTISEMENT, b"") == Claim(PEER6, "02:00:00:00:00:02", True)
    spoilt = ADVERTISEMENT[:42] + b"\0\0" + ADVERTISEMENT[44:]
    assert read_advertisement(spoilt, THEIRS) == Claim(PEER6, "02:00:00:00:00:02", False), "its checksum is wrong"


def test_an_answer_to_somebody_else_is_none() -> None:
    assert read_arp(arp_reply(to=THEIRS), OURS) is None


@pytest.mark.parametrize(
    "packet",
    [
        arp_reply(hardware=6),
        arp_reply(protocol=0x86DD),
        arp_reply(mac_bytes=8),
        arp_reply(address_bytes=16),
        arp_reply(operation=4),
        arp_reply(mac=b"\xff" * 6),
        arp_reply(mac=b"\0" * 6),
        arp_reply(mac=bytes.fromhex("01005e000001")),
    ],
)
def test_malformed_arp_is_told_apart(packet: bytes) -> None:
    claim = read_arp(packet, OURS)
    assert claim is not None and claim.address == PEER and not claim.well_formed


@pytest.mark.parametrize(
    "packet",
    [
        advertisement(hops=64),
        advertisement(code=1),
        advertisement(mac=b"\xff" * 6),
        advertisement()[:-1],
        advertisement(mac=None)[:-24] + advertisement()[40:64],
        advertisement()[:64] + b"\x02\x00" + THEIRS,
    ],
    ids=["through a router", "code", "group", "cut", "length", "option of no length"],
)
def test_malformed_advertisements_are_told_apart(packet: bytes) -> None:
    claim = read_advertisement(packet, THEIRS)
    assert claim is None or not claim.well_formed


@given(st.binary(max_size=120), st.integers(0, 60), st.integers(0, 255))
def test_nothing_that_may_arrive_breaks_a_reader(junk: bytes, at: int, value: int) -> None:
    for good in (arp_reply(), advertisement()):
        spoilt = good[:at] + bytes([value]) + good[at + 1 :]
        for packet in (junk, good[:at], spoilt, good + junk):
            read_arp(packet, OURS)
            read_advertisement(packet, THEIRS)


def through(kind: int, asked: list[str], packets: list[bytes]) -> list[bytes]:
    """Send packets through the filter in the kernel; gives those that pass."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        attach(other, answers_about(kind, [ip_address(address) for address in asked]))
        other.settimeout(0)
        passed = []
        for packet in packets:
            one.send(packet)
            try:
                passed.append(other.recv(2048))
            except BlockingIOError:
                continue
        return passed


def test_the_filter_lets_only_answers_through_that_somebody_waits_for() -> None:
    asked = [str(PEER), "10.1.0.1", "10.1.0.77", "10.1.0.78"]
    who_has, _ = question(THEIRS, PEER, OWN)
    others = [arp_reply(IPv4Address(f"10.1.0.{n}")) for n in range(200, 220)]
    right = [arp_reply(IPv4Address(address)) for address in asked]
    assert through(ETH_P_ARP, asked, [who_has, *others, *right, b"", b"\0" * 8, right[0][:16]]) == right


def test_the_filter_of_ipv6() -> None:
    solicitation, _ = question(THEIRS, PEER6, OWN6)
    wrong = [solicitation, advertisement(OWN6), b"\x60" + bytes(39), arp_reply()]
    assert through(ETH_P_IPV6, [str(PEER6)], [*wrong, advertisement()]) == [advertisement()]


def test_nothing_passes_while_nothing_is_asked() -> None:
    assert through(ETH_P_ARP, [], [arp_reply(), b"x" * 100]) == []
    assert through(ETH_P_IPV6, [], [advertisement()]) == []


def test_a_hundred_addresses_fit_into_the_filter() -> None:
    asked = [f"10.1.0.{n}" for n in range(100, 200)]
    wanted = [arp_reply(IPv4Address(address)) for address in asked]
    assert through(ETH_P_ARP, asked, [*wanted, arp_reply(IPv4Address("10.1.0.99"))]) == wanted


def test_what_was_heard_is_counted_each_mac_once() -> None:
    asked = Question(PEER, Way("eth0", OURS, OWN), 0.0, time.time_ns())
    asked.take(Claim(PEER, "02:00:00:00:00:02", True), None, 0.25)
    asked.take(Claim(PEER, "02:00:00:00:00:02", True), None, 0.5)
    asked.take(Claim(PEER, "ff:ff:ff:ff:ff:ff", False), None, 0.6)
    assert (asked.heard, asked.answers, asked.ignored) == ({"02:00:00:00:00:02": 0.25}, 3, 1)


def test_the_kernels_stamp_is_used_unless_the_clock_was_set_meanwhile() -> None:
    assert elapsed_s(10**18, 10**18 + 300_000, 0.02) == 0.0003
    assert elapsed_s(10**18, 10**18 + 3600 * 10**9, 0.02) == 0.02
    assert elapsed_s(10**18, 10**18 - 5, 0.02) == 0.02
    assert elapsed_s(10**18, None, 0.02) == 0.02


@pytest.mark.parametrize(
    ("mac", "words"),
    [
        ("00:00:5e:00:01:07", "VRRP group 7"),
        ("00:00:5e:00:02:ff", "VRRP group 255"),
        ("00:00:0c:07:ac:0a", "HSRP group 10"),
        ("00:00:0c:9f:f1:02", "HSRP version 2 group 258"),
        ("00:05:73:a0:00:01", "HSRP version 2 group 1"),
        ("02:00:00:00:00:01", ""),
    ],
)
def test_virtual_routers_are_named(mac: str, words: str) -> None:
    assert arp_wire.virtual_router(mac) == words

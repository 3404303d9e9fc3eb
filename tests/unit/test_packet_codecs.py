"""What the packet child reads from the wire: real frames, malformed ones, and any bytes at all."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.packets import dhcp, neighbour
from agent.packets.wire import Ear
from tests.rigs import dhcp_wire
from tests.rigs.switch_frames import cdp_frame, lldp_frame

MAC, XID = "02:00:00:00:00:01", 0x12345678


def offer(**changes: Any) -> bytes:
    return dhcp_wire.reply(**{"xid": XID, "mac": MAC, "server": "10.1.0.1", "router": "10.1.0.1", **changes})


def test_the_question_is_a_discover_of_our_own_mac_and_nothing_else() -> None:
    seen = dhcp_wire.read(dhcp.discover_frame(MAC, XID, True, "255.255.255.255", 67))
    assert seen == {
        "from": "0.0.0.0",
        "to": "255.255.255.255",
        "source_mac": MAC,
        "mac": MAC,
        "xid": XID,
        "broadcast": True,
        "kind": "discover",
        "vendor_class": "siteprobe",
        "options": [53, 60, 55],
        "checksums": True,
        "bootp_bytes": 300,
    }


def test_an_offer_to_our_question_is_read() -> None:
    found = dhcp.read_offer(offer(dns=("10.1.0.53", "10.1.0.54"), relay="10.9.0.1"), XID, MAC)
    assert found == {
        "server": "10.1.0.1",
        "router": ["10.1.0.1"],
        "dns": ["10.1.0.53", "10.1.0.54"],
        "relay": "10.9.0.1",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"xid": XID + 1},
        {"mac": "02:00:00:00:00:02"},
        {"kind": 5},  # ACK
        {"kind": 6},  # NAK
        {"server": ""},
        {"server": "0.0.0.0"},
        {"operation": 1},
        {"cookie": b"\0\0\0\0"},
    ],
)
def test_what_is_no_offer_to_our_question_is_none(changes: dict[str, Any]) -> None:
    assert dhcp.read_offer(offer(**changes), XID, MAC) is None


def test_an_offer_cut_anywhere_raises_nothing() -> None:
    whole = offer(dns=("10.1.0.53",))
    found = [dhcp.read_offer(whole[:length], XID, MAC) for length in range(len(whole))]
    assert found[:282] == [None] * 282, "cut before the options there is no offer"


def test_an_address_that_no_server_can_have_is_none() -> None:
    assert dhcp.read_offer(offer(server="255.255.255.255"), XID, MAC) is None


def test_odd_lengths_of_addresses_are_left_out() -> None:
    raw = offer(more=bytes((6, 3, 1, 2, 3)))
    found = dhcp.read_offer(raw, XID, MAC)
    assert found is None or found["dns"] == []


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 330))
def test_any_bytes_in_an_offer_are_survived(noise: bytes, at: int) -> None:
    frame = bytearray(offer())
    frame[at : at + len(noise)] = noise
    found = dhcp.read_offer(bytes(frame), XID, MAC)
    assert found is None or set(found) == {"server", "router", "dns", "relay"}


def test_a_flood_ends_at_a_bound() -> None:
    found = dhcp.Collected(XID, MAC)
    taken = 0
    while found.take(offer(server=f"10.1.{taken // 250}.{taken % 250 + 1}")):
        taken += 1
    assert taken < dhcp.MOST_READ and len(found.offers) == dhcp.MOST_SERVERS


def test_lldp_tells_switch_port_and_vlan() -> None:
    frame = lldp_frame(name="sw-ward-3", port="GigabitEthernet1/0/17", vlan=210)
    assert neighbour.read_frame(frame) == {
        "protocol": "lldp",
        "switch": "sw-ward-3",
        "port": "GigabitEthernet1/0/17",
        "vlan": 210,
        "chassis": "02:00:00:00:0a:01",
    }


def test_cdp_tells_switch_port_and_vlan() -> None:
    assert neighbour.read_frame(cdp_frame(name="sw-old", port="FastEthernet0/9", vlan=12)) == {
        "protocol": "cdp",
        "switch": "sw-old",
        "port": "FastEthernet0/9",
        "vlan": 12,
        "chassis": "sw-old",
    }


def test_a_workstation_is_not_told_and_neither_is_a_farewell() -> None:
    assert neighbour.read_frame(lldp_frame(name="pc-of-jane", capabilities=0x80)) is None
    assert neighbour.read_frame(cdp_frame(name="phone", capabilities=0x90)) is None
    assert neighbour.read_frame(lldp_frame(life=0)) is None


def test_texts_are_bounded_and_printable() -> None:
    found = neighbour.read_frame(lldp_frame(name="a\nb" + "x" * 200))
    assert found is not None and found["switch"].startswith("a?bx") and len(found["switch"]) == neighbour.TEXT


@pytest.mark.parametrize("whole", [lldp_frame(vlan=7), cdp_frame(vlan=7)])
def test_a_frame_cut_anywhere_raises_nothing(whole: bytes) -> None:
    for length in range(len(whole)):
        found = neighbour.read_frame(whole[:length])
        assert found is None or found["switch"] in ("sw", "sw1", "02:00:00:00:0a:01")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([lldp_frame(), cdp_frame(), b""]), st.integers(12, 120))
def test_any_bytes_in_such_a_frame_are_survived(noise: bytes, frame: bytes, at: int) -> None:
    found = neighbour.read_frame(frame[:at] + noise)
    assert found is None or len(found["switch"]) <= neighbour.TEXT


def test_a_frame_that_comes_as_the_wait_ends_is_not_lost() -> None:
    async def scene() -> bytes | None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        with theirs, Ear(ours, 100) as ear:
            loop = asyncio.get_running_loop()
            until = loop.time() + 0.05
            loop.call_at(until, theirs.send, b"offer")
            return await ear.hear(until) or await ear.hear(until + 20)

    assert asyncio.run(scene()) == b"offer"

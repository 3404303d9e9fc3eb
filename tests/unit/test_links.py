"""What is told of a change of our own connection, and which checks are asked at once for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from agent.check import CheckOptions
from agent.checks.arp import Arp
from agent.checks.icmp import Icmp
from agent.checks.link import Link
from agent.links import LinkWatch, Picture, changes, picture, to_ask
from agent.messages import EVENT_KINDS
from agent.model import Record
from agent.net import kernel, watch
from agent.net.kernel import Gateway, Interface
from tests.rigs import virtual_time
from tests.rigs.stories import moment
from tests.unit.test_check_link import BRIDGE, ETH0, LO, VETH, WAY

CUT = replace(ETH0, carrier=False, carrier_changes=ETH0.carrier_changes + 1)
OFF = replace(CUT, admin_up=False)
CHECKS: tuple[CheckOptions, ...] = (
    Link(name="link"),
    Arp(name="own-address", target="self"),
    Icmp(name="gateway", target="gateway"),
    Icmp(name="far", target="198.51.100.1"),
)


def shot(*interfaces: Interface, ways: Iterable[Gateway] = (WAY,)) -> Picture:
    return picture(interfaces, ways, ())


@pytest.mark.parametrize(
    ("before", "after", "kinds", "words"),
    [
        (shot(ETH0), shot(ETH0), [], ""),
        (shot(ETH0), shot(replace(ETH0, rx_errors=9, rx_dropped=9)), [], ""),
        (shot(ETH0), shot(CUT), ["link_down"], "eth0 has lost its carrier"),
        (shot(ETH0), shot(OFF), ["link_down"], "eth0 was switched off"),
        (shot(CUT), shot(ETH0), ["link_up"], "eth0 has a carrier again"),
        (shot(CUT), shot(OFF), [], ""),
        (shot(ETH0), shot(replace(ETH0, carrier_changes=99)), ["link_down", "link_up"], "for a moment"),
        (shot(ETH0), shot(replace(ETH0, name="lan0")), ["link_renamed"], "eth0 is now called lan0"),
        (shot(ETH0), shot(), ["link_down"], "eth0 is gone"),
        (shot(), shot(ETH0), ["link_up"], "eth0 has appeared"),
        (shot(), shot(CUT), [], ""),
        (
            shot(ETH0),
            shot(replace(ETH0, speed_bits_per_s=10**8, duplex="half")),
            ["link_speed_changed"],
            "eth0 runs at 100 Mbit/s, half duplex; before: 1000 Mbit/s, full duplex",
        ),
        (shot(ETH0), shot(replace(ETH0, speed_bits_per_s=None, duplex="")), [], ""),
        (
            shot(ETH0),
            shot(replace(ETH0, usable=("10.1.0.3/24",))),
            ["own_address_changed"],
            "addresses of eth0: 10.1.0.3/24; before: 10.1.0.2/24",
        ),
        (
            shot(ETH0),
            shot(ETH0, ways=(Gateway("10.1.0.7", "eth0", 0),)),
            ["default_route_changed"],
            "default route: 10.1.0.7 over eth0; before: 10.1.0.1 over eth0",
        ),
        (shot(ETH0), shot(ETH0, ways=()), ["default_route_changed"], "default route: none; before"),
    ],
)
def test_a_change_is_told_in_a_sentence(before: Picture, after: Picture, kinds: list[str], words: str) -> None:
    found = list(changes(before, after))
    assert [kind for kind, _ in found] == kinds and set(kinds) <= set(EVENT_KINDS)
    assert words in "; ".join(detail for _, detail in found)


def test_a_speed_that_changed_while_the_cable_was_out_is_told() -> None:
    before = shot(ETH0)
    cut = picture([replace(CUT, speed_bits_per_s=None, duplex="")], [WAY], (), before)
    slow = picture([replace(ETH0, speed_bits_per_s=10**8)], [WAY], (), cut)
    assert [kind for kind, _ in changes(before, cut)] == ["link_down"]
    assert list(changes(cut, slow)) == [
        ("link_up", "eth0 has a carrier again"),
        ("link_speed_changed", "eth0 runs at 100 Mbit/s, full duplex; before: 1000 Mbit/s, full duplex"),
    ]


def test_only_what_matters_is_in_the_picture() -> None:
    bridge, veth = replace(BRIDGE, index=3), replace(VETH, index=4)
    everything = (LO, ETH0, bridge, veth)
    assert set(picture(everything, (), ()).interfaces) == {2}
    assert set(picture(everything, (Gateway("10.1.0.1", "docker0", 0),), ()).interfaces) == {2, 3}
    named = picture(everything, (), ("veth9",))
    assert set(named.interfaces) == {2, 4}
    assert set(picture(everything, (), (), named).interfaces) == {2, 4}, "it mattered a moment ago"


@pytest.mark.parametrize(
    ("kinds", "asked"),
    [
        (["link_down"], ["link"]),
        (["link_speed_changed"], ["link"]),
        (["link_up"], ["link", "own-address", "gateway"]),
        (["own_address_changed"], ["link", "own-address", "gateway"]),
        (["link_down", "default_route_changed"], ["link", "own-address", "gateway"]),
    ],
)
def test_what_a_change_concerns_is_asked_at_once(kinds: list[str], asked: list[str]) -> None:
    assert to_ask(kinds, CHECKS) == asked


class Rounds:
    """Ten lines of rounds: remembers what was to be asked."""

    def __init__(self) -> None:
        self.checks: Mapping[str, CheckOptions] = {check.name: check for check in CHECKS}
        self.asked: list[str] = []

    def at_once(self, names: Iterable[str]) -> None:
        self.asked += names


def test_the_kernels_word_wakes_it_and_a_slow_look_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [ETH0]
    woken: list[Any] = []
    monkeypatch.setattr(kernel, "interfaces", lambda: tuple(now))
    monkeypatch.setattr(kernel, "default_gateways", lambda: (WAY,))

    class Listener:
        def __init__(self, changed: Any) -> None:
            woken.append(changed)

        def close(self) -> None:
            woken.append("closed")

    monkeypatch.setattr("agent.links.ChangeListener", Listener)

    async def scene() -> tuple[list[str], list[str]]:
        rounds, kept = Rounds(), list[Record]()
        links = LinkWatch(rounds, lambda record, urgent: kept.append(record), lambda: moment(0))
        task = asyncio.create_task(links.run())
        await asyncio.sleep(1)
        now[0] = CUT
        woken[0]()
        await asyncio.sleep(0.2)
        assert [record.fields["kind"] for record in kept] == ["link_down"]
        now[0] = ETH0
        await asyncio.sleep(31)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [str(record.fields["kind"]) for record in kept], rounds.asked

    kinds, asked = virtual_time.run(scene())
    assert kinds == ["link_down", "link_up"]
    assert asked == ["link", "link", "own-address", "gateway"]
    assert woken[-1] == "closed"


def test_a_kernel_that_says_nothing_is_looked_at_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no netlink here")

    monkeypatch.setattr("agent.links.ChangeListener", refuse)
    monkeypatch.setattr(kernel, "interfaces", refuse)

    async def scene() -> None:
        links = LinkWatch(Rounds(), lambda record, urgent: None, lambda: moment(0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(90):
                await links.run()

    virtual_time.run(scene())
    said = [record.getMessage() for record in caplog.records]
    assert "changes of links are noticed every 30 s only" in said[0]
    assert len([line for line in said if "does not tell" in line]) == 3


def test_the_listener_calls_once_for_many_messages_and_survives_lost_ones() -> None:
    async def scene() -> int:
        calls: list[int] = []
        listener = watch.ChangeListener(lambda: calls.append(1))
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        real = listener._sock
        asyncio.get_running_loop().remove_reader(real)
        listener._sock = other
        other.setblocking(False)
        asyncio.get_running_loop().add_reader(other, listener._read)
        for _ in range(5):
            one.send(b"news")
        await asyncio.sleep(0.05)
        listener.close()
        real.close()
        one.close()
        return len(calls)

    assert asyncio.run(scene()) == 1

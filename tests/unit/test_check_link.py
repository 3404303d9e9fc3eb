"""The link check judges what the kernel says."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.check import CheckOptions
from agent.checks import Context, Toolbox
from agent.checks.link import Link, chosen, judged, measured
from agent.model import Facts, Failed, Failure
from agent.net import kernel
from agent.net.kernel import Gateway, Interface
from agent.net.resolve import Resolver
from agent.policy import Policy
from agent.safety import Gate
from tests.rigs.ask import ask

ETH0 = Interface(
    name="eth0",
    index=2,
    kind="",
    ethernet=True,
    loopback=False,
    wireless=False,
    admin_up=True,
    carrier=True,
    mac="02:00:00:00:00:01",
    mtu=1500,
    speed_bits_per_s=10**9,
    duplex="full",
    addresses=("10.1.0.2/24", "fe80::1/64"),
    usable=("10.1.0.2/24",),
    rx_errors=3,
    tx_errors=4,
    rx_dropped=5,
    tx_dropped=6,
    carrier_changes=7,
)
LO = replace(ETH0, name="lo", index=1, ethernet=False, loopback=True)
BRIDGE = replace(ETH0, name="docker0", index=3, kind="bridge")
VETH = replace(ETH0, name="veth9", index=4, kind="veth")
WAY = Gateway("10.1.0.1", "eth0", 100)


def answer(monkeypatch: pytest.MonkeyPatch, check: Link, interface: Interface, *gateways: Gateway) -> Facts | Failed:
    monkeypatch.setattr(kernel, "interfaces", lambda: (LO, interface))
    monkeypatch.setattr(kernel, "default_gateways", lambda: gateways)
    return ask(check)


def test_a_whole_connection_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = answer(monkeypatch, Link(name="link"), ETH0, WAY, Gateway("fe80::9%eth0", "eth0", 1024))
    assert isinstance(found, Facts) and found.failure is None
    assert dict(found.fields) == {
        "interface": "eth0",
        "link_up": True,
        "admin_up": True,
        "speed_bits_per_s": 10**9,
        "duplex": "full",
        "addresses": "10.1.0.2/24,fe80::1/64",
        "default_route": "10.1.0.1,fe80::9%eth0",
        "rx_errors": 3,
        "tx_errors": 4,
        "rx_dropped": 5,
        "tx_dropped": 6,
        "carrier_changes": 7,
        "signal_dbm": None,
        "others": None,
    }


@pytest.mark.parametrize(
    ("interface", "gateways", "failure", "word"),
    [
        (replace(ETH0, admin_up=False, carrier=False, usable=()), (), Failure.LOCAL_LINK, "switched off"),
        (replace(ETH0, carrier=False, usable=()), (), Failure.LOCAL_LINK, "no carrier"),
        (replace(ETH0, usable=()), (WAY,), Failure.LOCAL_ADDRESS, "address"),
        (ETH0, (), Failure.LOCAL_ROUTE, "default route"),
    ],
)
def test_the_first_fault_is_the_one_told(
    interface: Interface, gateways: tuple[Gateway, ...], failure: Failure, word: str
) -> None:
    failed = judged(interface, gateways)
    assert failed is not None and failed.failure is failure and word in failed.detail


def test_link_up_needs_both_the_switch_and_the_carrier() -> None:
    assert measured(replace(ETH0, admin_up=False), ())["link_up"] is False
    assert measured(replace(ETH0, carrier=False), ())["link_up"] is False
    assert measured(replace(ETH0, duplex="", speed_bits_per_s=None), ())["duplex"] is None
    assert measured(ETH0, (Gateway("", "ppp0", 0),))["default_route"] == "direct"


def test_which_interface() -> None:
    found = (LO, replace(VETH, index=2), replace(BRIDGE, index=3), replace(ETH0, index=9))
    assert chosen("docker0", found, ()) == found[2]
    assert chosen("", found, (Gateway("10.0.0.1", "docker0", 0),)) == found[2]
    assert chosen("", found, ()) == found[3]
    assert chosen("", found[:3], ()) == found[1]
    assert chosen("", (LO,), ()) is None
    assert chosen("eth5", found, (WAY,)) is None
    assert chosen("", found, (), "docker0") == found[2], "the one that had the default route last"
    assert chosen("", found, (), "gone") == found[3]


def test_the_one_that_had_the_default_route_is_the_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    spare, used = replace(ETH0, name="spare0", index=1, carrier=False), replace(ETH0, name="used0", usable=())
    off = replace(used, admin_up=False)
    routes = [(Gateway("10.1.0.1", "used0", 0),), ()]
    monkeypatch.setattr(kernel, "interfaces", lambda: (spare, used if len(routes) == 2 else off))
    monkeypatch.setattr(kernel, "default_gateways", lambda: routes[0])
    ctx = Context(Gate(Policy()), Toolbox(), Resolver(Gate(Policy())), 0.0)
    link = Link(name="link")
    assert asyncio.run(link.run(ctx)).fields["others"] == "spare0 down"
    routes.pop(0)
    found = asyncio.run(link.run(ctx))
    assert (found.fields["interface"], found.fields["admin_up"]) == ("used0", False)


def test_a_missing_interface_is_told_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = answer(monkeypatch, Link(name="link", interface="eth5"), ETH0, WAY)
    assert isinstance(found, Facts) and found.failure is Failure.LOCAL_LINK
    assert "eth5" in found.detail and "eth0" in found.detail
    assert found.fields["link_up"] is False and "admin_up" not in found.fields  # it is not switched off


def test_a_kernel_that_does_not_answer_is_our_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[Interface, ...]:
        raise PermissionError(1, "no netlink here")

    monkeypatch.setattr(kernel, "interfaces", refuse)
    found = ask(Link(name="link"))
    assert isinstance(found, Failed) and found.failure is Failure.LOCAL_PERMISSION


def test_it_sends_nothing() -> None:
    check: CheckOptions = Link(name="link")
    assert check.sends() == () and check.asked == "" and check.layer_or_default == "link"

"""The arp check: which answers pass, over which interface a neighbour is asked, and what is said otherwise."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.checks import Context, Toolbox
from agent.checks.arp import Arp, judged, probed, remembered
from agent.config import ConfigError
from agent.model import Failed, Failure
from agent.net.arp import Question
from agent.net.kernel import Gateway, Interface
from agent.net.neighbours import Own, Way, own_address, way_to
from agent.policy import Policy
from agent.safety import Gate
from tests.unit.test_check_link import ETH0, WAY
from tests.unit.test_check_link import LO as LOOP
from tests.unit.test_config import BROKER, HEAD, by_name, config

A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "00:00:5e:00:01:07"
LO = replace(LOOP, addresses=("127.0.0.1/8",), usable=(), mac="")
OWN = Own((LO, ETH0), (WAY,))


@pytest.mark.parametrize(
    ("macs", "expected", "failure", "words"),
    [
        ((A,), (), None, ""),
        ((A,), (A,), None, ""),
        ((C,), (A, C), None, ""),
        ((A, C), (A, C), None, ""),
        ((), (), Failure.TIMEOUT, "nobody has 10.1.0.9"),
        ((), (A,), Failure.TIMEOUT, "nobody has 10.1.0.9"),
        ((A, B), (), Failure.DUPLICATE_ADDRESS, f"2 machines answer for 10.1.0.9: {A} and {B}"),
        ((A, B), (A,), Failure.DUPLICATE_ADDRESS, f"{A} and {B}"),
        ((B,), (A,), Failure.MISMATCH, f"answered by {B}, expected {A}"),
        ((B,), (A, C), Failure.MISMATCH, f"expected {A} or {C}"),
        ((C, B), (), Failure.DUPLICATE_ADDRESS, "(VRRP group 7)"),
    ],
)
def test_which_answers_pass(
    macs: tuple[str, ...], expected: tuple[str, ...], failure: Failure | None, words: str
) -> None:
    found = judged("10.1.0.9", macs, expected)
    assert (found.failure if found else None) is failure
    assert found is None or words in found.detail


def test_a_probe_of_our_own_address_passes_in_silence_and_hears_only_others() -> None:
    asked = Question(ip_address("10.1.0.2"), Way("eth0", b"", None), 0.0, 0)
    assert probed(asked, OWN, "10.1.0.2").failure is None
    asked.heard[ETH0.mac] = 0.001
    assert probed(asked, OWN, "10.1.0.2").failure is None, "our own other cable in the same network"
    asked.heard[B] = 0.002
    found = probed(asked, OWN, "10.1.0.2")
    assert found.failure is Failure.DUPLICATE_ADDRESS and B in found.detail and "10.1.0.2" in found.detail
    assert (found.fields["macs"], found.fields["rtt_s"]) == (B, 0.002)


async def nowhere(target: str, deadline: float) -> str:
    raise AssertionError(target)


def test_another_mac_than_last_time_is_an_event() -> None:
    ctx = Context(Gate(Policy()), Toolbox(), nowhere, 0.0)
    assert remembered(ctx, "peer", "10.1.0.9", A) == ()
    assert remembered(ctx, "peer", "10.1.0.9", A) == ()
    ((kind, fields),) = remembered(ctx, "peer", "10.1.0.9", B)
    assert kind == "event" and fields["kind"] == "address_moved"
    assert A in str(fields["detail"]) and B in str(fields["detail"])
    assert remembered(ctx, "peer", "10.1.0.1", A) == (), "another address is another machine"


ETH1 = replace(ETH0, name="eth1", index=5, mac="02:00:00:00:00:05", addresses=("10.1.0.130/25", "fe80::5/64"))
ETH1 = replace(ETH1, usable=("10.1.0.130/25",))
PPP0 = replace(ETH0, name="ppp0", index=9, ethernet=False, mac="", addresses=("10.9.0.2/24",), usable=("10.9.0.2/24",))
SIX = replace(ETH0, addresses=("fd01::2/64", "fe80::1/64"), usable=("fd01::2/64",))
MAC0, MAC1 = bytes.fromhex("020000000001"), bytes.fromhex("020000000005")


@pytest.mark.parametrize(
    ("target", "interfaces", "gateways", "way"),
    [
        ("10.1.0.9", (ETH0,), (), Way("eth0", MAC0, ip_address("10.1.0.2"))),
        ("10.1.0.2", (ETH0,), (), Way("eth0", MAC0, None)),
        ("10.1.0.200", (ETH0, ETH1), (), Way("eth1", MAC1, ip_address("10.1.0.130"))),
        ("192.0.2.1", (ETH0,), (Gateway("192.0.2.1", "eth0", 0),), Way("eth0", MAC0, ip_address("10.1.0.2"))),
        ("fd01::9", (SIX,), (), Way("eth0", MAC0, ip_address("fd01::2"))),
        ("fe80::9%eth1", (SIX, ETH1), (), Way("eth1", MAC1, ip_address("fe80::5"))),
        ("fe80::9", (SIX, ETH1), (Gateway("fe80::9%eth1", "eth1", 0),), Way("eth1", MAC1, ip_address("fe80::5"))),
    ],
)
def test_the_way_to_a_neighbour(
    target: str, interfaces: tuple[Interface, ...], gateways: tuple[Gateway, ...], way: Way
) -> None:
    assert way_to(target, Own((LO, *interfaces), gateways)) == way


@pytest.mark.parametrize(
    ("target", "interface", "failure", "words"),
    [
        ("198.51.100.1", ETH0, Failure.LOCAL_ROUTE, "no neighbour: it is in none of our own networks (10.1.0.0/24)"),
        ("10.9.0.1", PPP0, Failure.LOCAL_ROUTE, "ppp0, which is no Ethernet"),
        ("10.1.0.9", replace(ETH0, admin_up=False), Failure.LOCAL_LINK, "switched off"),
        ("10.1.0.9", replace(ETH0, carrier=False), Failure.LOCAL_LINK, "no carrier"),
        ("fe80::9%eth7", ETH0, Failure.LOCAL_ROUTE, "no neighbour"),
        ("fd01::9", replace(ETH0, addresses=("10.1.0.2/24",)), Failure.LOCAL_ROUTE, "no neighbour"),
        ("fe80::9%eth0", replace(ETH0, addresses=("10.1.0.2/24",)), Failure.LOCAL_ADDRESS, "no IPv6 address"),
    ],
)
def test_what_is_said_where_there_is_no_way(target: str, interface: Interface, failure: Failure, words: str) -> None:
    with pytest.raises(Failed) as refused:
        way_to(target, Own((interface,), ()))
    assert refused.value.failure is failure and words in refused.value.detail


def test_our_own_address_is_that_of_the_default_route_ipv4_first() -> None:
    assert own_address(Own((LO, ETH0, ETH1), ())) == "10.1.0.2"
    assert own_address(Own((LO, ETH0, ETH1), (Gateway("10.1.0.129", "eth1", 0),))) == "10.1.0.130"
    both = replace(ETH0, usable=("fd01::2/64", "10.1.0.2/24"))
    assert own_address(Own((both,), ())) == "10.1.0.2"
    assert own_address(Own((SIX,), ())) == "fd01::2"


@pytest.mark.parametrize(
    ("interfaces", "failure"),
    [
        ((LO,), Failure.LOCAL_LINK),
        ((replace(ETH0, carrier=False, usable=()),), Failure.LOCAL_LINK),
        ((replace(ETH0, usable=()),), Failure.LOCAL_ADDRESS),
    ],
)
def test_without_an_own_address_it_says_which_part_is_missing(
    interfaces: tuple[Interface, ...], failure: Failure
) -> None:
    with pytest.raises(Failed) as refused:
        own_address(Own(interfaces, ()))
    assert refused.value.failure is failure


@pytest.mark.parametrize(
    "written", ["00:00:5E:00:01:07", '["00:00:5e:00:01:07", 00-00-5e-00-01-08]', '"00:00:5e:00:01:07"']
)
def test_macs_may_be_written_as_people_do(tmp_path: Path, written: str) -> None:
    text = f"checks:\n  - {{name: gw, type: arp, target: gateway, expect_mac: {written}}}\n"
    check = by_name(config(tmp_path, HEAD + BROKER + text))["gw"]
    assert isinstance(check, Arp) and judged("10.1.0.1", (C,), tuple(m.lower() for m in check.expect_mac)) is None
    assert (check.asked, check.layer, check.interval_s, check.timeout_s) == ("gateway", "lan", 30.0, 2.0)
    assert check.sends()[0].protocol == "arp"


@pytest.mark.parametrize("written", ["00:00:5e:00:01", "nonsense", "00:00:5e:00:01:0g", "123456789012"])
def test_what_is_no_mac_is_refused(tmp_path: Path, written: str) -> None:
    text = f"checks:\n  - {{name: gw, type: arp, target: gateway, expect_mac: {written}}}\n"
    with pytest.raises(ConfigError, match="a MAC address such as"):
        config(tmp_path, HEAD + BROKER + text)


def test_nobody_is_expected_to_answer_for_our_own_address(tmp_path: Path) -> None:
    text = "checks:\n  - {name: own-address, type: arp, target: self, expect_mac: '02:00:00:00:00:01'}\n"
    with pytest.raises(ConfigError, match=r"expect_mac: our own address is to be answered by nobody"):
        config(tmp_path, HEAD + BROKER + text)

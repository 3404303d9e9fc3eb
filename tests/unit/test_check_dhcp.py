"""The dhcp check's judgement of offers, and that the network is never asked too often."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from agent.check import CheckOptions
from agent.checks import Context, Toolbox, dhcp
from agent.checks.dhcp import Dhcp, measured
from agent.config.rules import check_problems
from agent.model import Facts, Failed, Failure
from agent.net import kernel
from agent.net.kernel import Gateway
from agent.net.resolve import Resolver
from agent.packets import Offer, Offers, PacketChild, discover
from agent.policy import EVERYONE, Policy, forbidden_address
from agent.rounds import Rounds
from agent.safety import Gate, Permit
from tests.rigs import virtual_time
from tests.unit.test_check_link import ETH0, LO

GOOD = Offer("10.1.0.1", ("10.1.0.1",), ("10.1.0.53",), "")
ROGUE = Offer("10.1.0.66", ("10.1.0.66",), ("10.1.0.66",), "")


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "interfaces", lambda: (LO, ETH0))
    monkeypatch.setattr(kernel, "default_gateways", lambda: (Gateway("10.1.0.1", "eth0", 100),))
    monkeypatch.setattr(kernel, "name_servers", lambda: ("10.1.0.53",))


class Asked:
    """Stands in for the packet child: remembers what it was asked and gives these offers."""

    def __init__(self, *offers: Offer) -> None:
        self.permits: list[Permit] = []
        self.given: list[dict[str, Any]] = []
        self._offers = offers

    async def __call__(self, child: object, permit: Permit, *words: Any, **given: Any) -> Offers:
        self.permits.append(permit)
        self.given.append({"words": words[:2], **given})
        return Offers(self._offers, len(self._offers), 0)


def context(memory: dict[str, Any], policy: Policy | None = None, seconds: float = 5.0) -> Context:
    gate = Gate(policy or Policy())
    deadline = asyncio.get_running_loop().time() + seconds
    return Context(gate, Toolbox(), Resolver(gate), deadline, check_type="dhcp", memory=memory)


def run(check: Dhcp, policy: Policy | None = None, seconds: float = 5.0) -> Facts:
    async def scene() -> Facts:
        return await check.run(context({}, policy, seconds))

    return asyncio.run(scene())


def check(**changes: Any) -> Dhcp:
    return replace(Dhcp(name="a", interval_s=1800.0, timeout_s=5.0, layer="dhcp"), **changes)


@pytest.mark.parametrize(
    ("offers", "expect", "failure", "address"),
    [
        ((GOOD,), (), None, "10.1.0.1"),
        ((GOOD,), ("10.1.0.1", "10.1.0.2"), None, "10.1.0.1"),
        ((GOOD, ROGUE), (), None, "10.1.0.1"),
        ((GOOD, ROGUE), ("10.1.0.1",), Failure.ROGUE, "10.1.0.66"),
        ((), (), Failure.NO_ANSWER, EVERYONE),
    ],
)
def test_offers_are_judged_by_the_list(
    around: None,
    monkeypatch: pytest.MonkeyPatch,
    offers: tuple[Offer, ...],
    expect: tuple[str, ...],
    failure: Failure | None,
    address: str,
) -> None:
    monkeypatch.setattr(dhcp, "discover", Asked(*offers))
    found = run(check(expect_servers=expect))
    assert (found.failure, found.address) == (failure, address)


def test_what_is_offered_is_compared_with_what_is_used() -> None:
    fields, sentence = measured(Offers((GOOD, ROGUE), 2, 3), {"10.1.0.1", "fe80::1%eth0"}, {"10.1.0.53"})
    assert (fields["differences"], fields["ignored"], fields["offers"]) == (2, 3, 2)
    assert sentence == "offered, but not used by this probe: router 10.1.0.66; name server 10.1.0.66"
    assert measured(Offers((GOOD,), 1, 0), {"10.1.0.1"}, {"127.0.0.53"})[0]["differences"] == 0
    assert measured(Offers((GOOD,), 1, 0), set(), set())[1] == "", "nothing of our own to compare with"
    assert "differences" in Dhcp.numbers(), "degraded: {differences: 0} is a config that can be written"


def test_the_child_is_asked_with_the_permit_our_own_mac_and_time_to_listen(
    around: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(GOOD)
    monkeypatch.setattr(dhcp, "discover", asked)
    run(check())
    assert asked.permits == [Permit(EVERYONE, 67, "dhcp")]
    (given,) = asked.given
    assert given["words"] == ("eth0", ETH0.mac) and given["broadcast"] is True
    assert given["seconds"] == 3.0


def test_without_an_address_offers_need_not_be_broadcast(around: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(GOOD)
    monkeypatch.setattr(dhcp, "discover", asked)
    monkeypatch.setattr(kernel, "interfaces", lambda: (LO, replace(ETH0, addresses=("fe80::1/64",), usable=())))
    run(check())
    assert asked.given[0]["broadcast"] is False


@pytest.mark.parametrize(
    ("policy", "failure"),
    [
        (Policy(deny=(IPv4Network("255.255.255.255/32"),)), Failure.LOCAL_POLICY),
        (Policy(deny=(IPv4Network("0.0.0.0/0"),)), Failure.LOCAL_POLICY),
    ],
)
def test_the_gate_has_the_last_word(
    around: None, monkeypatch: pytest.MonkeyPatch, policy: Policy, failure: Failure
) -> None:
    asked = Asked(GOOD)
    monkeypatch.setattr(dhcp, "discover", asked)
    with pytest.raises(Failed) as raised:
        run(check(), policy)
    assert (raised.value.failure, asked.permits) == (failure, [])


def test_a_fence_is_no_matter_for_dhcp_and_holds_for_everything_else() -> None:
    fence = Policy(allow=(IPv4Network("10.0.0.0/8"),))
    assert forbidden_address(fence, EVERYONE, "dhcp") is None
    assert forbidden_address(fence, EVERYONE, "udp") and forbidden_address(Policy(), EVERYONE, "icmp")
    assert forbidden_address(fence, "192.0.2.1", "dhcp")


def test_it_is_never_asked_twice_within_ten_minutes(around: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    monkeypatch.setattr(dhcp, "discover", asked)

    async def scene() -> list[str]:
        memory: dict[str, Any] = {}
        said = []
        for wait_s in (0, 1, 590, 5, 600):
            await asyncio.sleep(wait_s)
            try:
                said.append(str((await check().run(context(memory))).failure))
            except Failed as failed:
                said.append(failed.failure)
        return said

    policy = "local_policy"
    assert virtual_time.run(scene()) == ["no_answer", policy, policy, "no_answer", "no_answer"]
    assert len(asked.permits) == 3


def test_a_fault_is_confirmed_after_ten_minutes_not_after_a_second() -> None:
    async def scene() -> float:
        loop = asyncio.get_running_loop()
        rounds = Rounds(None, "n", lambda check, run: ("e", 1), lambda late_s: None)  # type: ignore[arg-type]
        rounds.plan([check()])
        rounds.schedule.due(loop.time() + 5)
        rounds._began["a"] = loop.time()
        rounds.schedule.finished("a", loop.time(), loop.time())
        rounds.schedule._planned["a"] = loop.time() + 1700.0
        rounds.confirm(["a"])
        return rounds.schedule.next_at() - loop.time()

    assert 600.0 <= virtual_time.run(scene()) <= 601.0


def test_too_little_time_to_listen_is_refused_in_the_config_and_told_at_run_time(around: None) -> None:
    assert dict(check_problems(check(timeout_s=3.5), Policy()))["timeout"].startswith("offers are collected for 3 s")
    assert dict(check_problems(check(interval_s=300.0), Policy()))["interval"]
    assert dict(check_problems(check(expect_servers=("dhcp.example.org",)), Policy()))["expect_servers"]
    assert not list(check_problems(check(), Policy(allow=(IPv4Network("10.0.0.0/8"),))))
    with pytest.raises(Failed) as raised:
        run(check(), seconds=2.0)
    assert raised.value.failure is Failure.OVERLOAD


def test_a_permit_for_something_else_is_a_mistake() -> None:
    async def scene() -> None:
        permit = Permit("10.1.0.1", 67, "udp")
        await discover(PacketChild(), permit, "eth0", ETH0.mac, 1.0, seconds=3.0, broadcast=True)

    with pytest.raises(ValueError, match="permit for dhcp"):
        asyncio.run(scene())


def test_no_interface_to_ask_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "default_gateways", tuple)
    for found, name, word in (
        ((LO,), "", "no Ethernet interface"),
        ((LO, ETH0), "eth7", "no interface eth7"),
        ((LO, replace(ETH0, carrier=False)), "eth0", "eth0 is down"),
        ((replace(LO, ethernet=True), ETH0), "lo", "lo is no Ethernet"),
    ):
        monkeypatch.setattr(kernel, "interfaces", lambda found=found: found)
        with pytest.raises(Failed, match=word) as raised:
            run(check(interface=name))
        assert raised.value.failure is Failure.LOCAL_LINK


def test_what_it_declares_to_send() -> None:
    one: CheckOptions = check()
    (traffic,) = one.sends()
    assert (traffic.destination, traffic.protocol, traffic.port, traffic.requests) == (EVERYONE, "dhcp", 67, 1)
    assert Path(dhcp.__file__).name == "dhcp.py" and one.layer_or_default == "dhcp" and not one.asked_again


def test_many_strangers_are_counted_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = [replace(ROGUE, server=f"10.1.0.{last}") for last in range(60, 76)]
    monkeypatch.setattr(dhcp, "discover", Asked(GOOD, *strangers))
    told = "10.1.0.60, 10.1.0.61, 10.1.0.62, 10.1.0.63 and 12 more are not listed and offered addresses"
    assert run(check(expect_servers=("10.1.0.1",))).detail == told

"""The ARP budget of the whole agent: 1 a second in the mean, 5 in any second, whatever else is allowed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.advise import warnings
from agent.model import Failed, Failure
from agent.policy import Policy
from agent.safety import Gate
from tests.rigs.virtual_time import run
from tests.unit.test_config import BROKER, HEAD, config

LIFTED = Policy(packets_per_second=0, target_per_second=0)
FIVE_A_SECOND, ONE_A_SECOND = 5, 1.0


def leaving(policy: Policy, asked: list[tuple[float, str, str]], patience_s: float = 1e6) -> list[float]:
    """Ask for permits as (second, address, protocol); gives when those of ARP leave, in order."""

    async def one(gate: Gate, at: float, address: str, protocol: str, left: list[float]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(at)
        try:
            await gate.permit(address, None, protocol, loop.time() + patience_s)
        except Failed as refused:
            assert refused.failure is Failure.OVERLOAD
            return
        if protocol == "arp":
            left.append(loop.time() - began)

    async def all_of_them() -> list[float]:
        gate, left = Gate(policy), list[float]()
        await asyncio.gather(*(one(gate, *request, left) for request in asked))
        return left

    return run(all_of_them())


def most_within(times: list[float], seconds: float) -> int:
    return max((sum(at <= other < at + seconds for other in times) for at in times), default=0)


@settings(max_examples=40, deadline=None)
@given(
    gaps=st.lists(st.floats(0, 1.5), min_size=1, max_size=40),
    policy=st.sampled_from([LIFTED, Policy(), Policy(packets_per_second=2, burst=1, target_per_second=0)]),
)
def test_no_second_holds_more_than_five_and_the_mean_is_one(gaps: list[float], policy: Policy) -> None:
    asked, at = [], 0.0
    for number, gap in enumerate(gaps):
        at += gap
        asked.append((at, f"10.0.0.{number % 7 + 1}", "arp"))
    times = leaving(policy, asked)
    assert len(times) == len(gaps), "who waits long enough is served"
    assert most_within(times, 1.0) <= FIVE_A_SECOND
    for seconds in (5.0, 20.0):
        assert most_within(times, seconds) <= FIVE_A_SECOND - 1 + ONE_A_SECOND * seconds


def test_a_crowd_of_a_thousand_waits_or_is_told_so() -> None:
    times = leaving(LIFTED, [(0.0, f"10.0.{n // 250}.{n % 250}", "arp") for n in range(1000)], patience_s=30.0)
    assert [round(at, 3) for at in times] == [0.0, 0.0, 0.0, 0.0, *(float(s) for s in range(1, 31))]


def test_echoes_are_not_held_up_by_arp_that_waits() -> None:
    async def scene() -> float:
        loop, gate = asyncio.get_running_loop(), Gate(Policy())
        waiting = [asyncio.create_task(gate.permit(f"10.0.0.{n}", None, "arp", loop.time() + 60)) for n in range(1, 20)]
        await asyncio.sleep(0)
        began = loop.time()
        await gate.permit("10.0.0.99", None, "icmp", loop.time() + 1)
        took = loop.time() - began
        await asyncio.gather(*waiting)
        return took

    assert run(scene()) == 0.0


def test_arp_spends_the_normal_budgets_too() -> None:
    tight = Policy(packets_per_second=0, target_per_second=0.1, target_burst=1)
    times = leaving(tight, [(0.0, "10.0.0.1", "arp"), (0.0, "10.0.0.1", "arp"), (0.0, "10.0.0.2", "arp")])
    assert sorted(round(at) for at in times) == [0, 0, 10]


@pytest.mark.parametrize(("interval", "warned"), [("30s", False), ("5s", True)])
def test_a_config_that_cannot_afford_its_arp_is_told_so(tmp_path: Path, interval: str, warned: bool) -> None:
    checks = "".join(
        f"  - {{name: peer-{n}, type: arp, target: 10.0.0.{n}, interval: {interval}}}\n" for n in range(1, 11)
    )
    found = warnings(config(tmp_path, HEAD + BROKER + "standard: false\nchecks:\n" + checks))
    assert any("all arp checks need 2 requests/s" in str(problem) for problem in found) is warned

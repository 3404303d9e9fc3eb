"""The gate: what may be asked, and how fast. Budgets are checked against every one-second window."""

from __future__ import annotations

import asyncio
import itertools
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Failed, Failure
from agent.policy import Policy, forbidden_address, forbidden_port
from agent.safety import TICK_S, Budget, Gate
from tests.rigs.virtual_time import JumpingLoop, run

DENY = Policy(deny=(ip_network("10.20.99.0/24"),))
FENCE = Policy(allow=(ip_network("10.20.0.0/16"),), deny=(ip_network("10.20.99.0/24"),))


@pytest.mark.parametrize(
    ("policy", "address", "allowed"),
    [
        (Policy(), "192.0.2.1", True),
        (DENY, "10.20.99.7", False),
        (DENY, "::ffff:10.20.99.7", False),
        (DENY, "10.20.98.7", True),
        (FENCE, "10.20.1.1", True),
        (FENCE, "10.20.99.1", False),
        (FENCE, "192.0.2.1", False),
        (FENCE, "127.0.0.1", False),
        (Policy(), "224.0.0.1", False),
        (Policy(), "255.255.255.255", False),
        (Policy(), "0.0.0.0", False),
        (Policy(), "ff02::1", False),
        (Policy(), "fe80::1%eth0", True),
    ],
)
def test_an_address_is_judged(policy: Policy, address: str, allowed: bool) -> None:
    assert (forbidden_address(policy, address) is None) is allowed


@pytest.mark.parametrize("port", [9100, 515, 631, 102, 502, 2575])
def test_ports_that_are_never_asked(port: int) -> None:
    assert forbidden_port("tcp", port, "tcp")
    assert forbidden_port("udp", port, "dns") is None
    assert (forbidden_port("tcp", port, "mllp") is None) is (port == 2575)


def test_a_denied_address_costs_no_budget_and_says_why() -> None:
    gate = Gate(DENY)
    with pytest.raises(Failed, match=r"10\.20\.99\.7 is in safety\.deny") as refused:
        asyncio.run(gate.permit("10.20.99.7", None, "icmp", deadline=1e9))
    assert refused.value.failure is Failure.LOCAL_POLICY


def test_a_suppressed_gate_lets_nothing_through() -> None:
    gate = Gate(Policy())
    gate.suppressed = True
    with pytest.raises(Failed, match="suppressed"):
        asyncio.run(gate.permit("192.0.2.1", None, "icmp", deadline=1e9))


def leaving(
    policy: Policy, *requests: str, deadline_s: float = 1e6, whole_agent_only: bool = False
) -> list[float | None]:
    """Ask for all requests (addresses) at once; give when each leaves in seconds, None for `overload`."""

    async def one(gate: Gate, address: str, began: float) -> float | None:
        loop = asyncio.get_running_loop()
        try:
            await gate.permit(address, None, "icmp", began + deadline_s, whole_agent_only=whole_agent_only)
        except Failed as refused:
            assert refused.failure is Failure.OVERLOAD
            return None
        return round(loop.time() - began, 3)

    async def all_at_once() -> list[float | None]:
        gate, began = Gate(policy), asyncio.get_running_loop().time()
        return list(await asyncio.gather(*(one(gate, address, began) for address in requests)))

    return run(all_at_once())


A, B = "192.0.2.1", "192.0.2.2"


def test_loopback_is_not_rated() -> None:
    tight = Policy(packets_per_second=1, burst=1, target_per_second=1, target_burst=1)
    assert leaving(tight, *["127.0.0.1"] * 1000) == [0.0] * 1000


def test_past_the_deadline_it_is_overload_and_nothing_is_spent() -> None:
    found = leaving(Policy(packets_per_second=1, burst=1, target_per_second=0), *[A] * 6, deadline_s=2.0)
    assert found == [0.0, 1.0, 2.0, None, None, None]


def test_a_crowd_at_one_target_leaves_the_others_alone() -> None:
    policy = Policy(packets_per_second=20, burst=40, target_per_second=1, target_burst=20)
    found = leaving(policy, *[A] * 60, *[B] * 5, deadline_s=30.0)
    assert found[60:] == [0.0] * 5
    assert found[:20] == [0.0] * 20
    assert sorted(at for at in found[20:60] if at is not None) == [float(s) for s in range(1, 31)]
    assert found.count(None) == 10


def test_who_waits_for_a_target_is_served_in_order_and_never_passed_over() -> None:
    async def one(gate: Gate, number: int, deadline_s: float, left: list[int]) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(number * 0.25)
        try:
            await gate.permit(A, None, "icmp", loop.time() + deadline_s)
            left.append(number)
        except Failed as refused:
            assert refused.failure is Failure.OVERLOAD

    async def scene() -> list[int]:
        gate, left = Gate(Policy(target_per_second=1, target_burst=1)), list[int]()
        # Four requests come a second where one is allowed; every tenth is patient, the others wait two seconds.
        await asyncio.gather(*(one(gate, n, 2.0 if n % 10 else 60.0, left) for n in range(80)))
        return left

    left = run(scene())
    assert left == sorted(left)
    assert set(range(0, 80, 10)) <= set(left), "a patient one was passed over"


def test_whole_agent_only_leaves_the_targets_share_alone() -> None:
    policy = Policy(packets_per_second=0, target_per_second=1, target_burst=1)
    assert leaving(policy, *[A] * 9, whole_agent_only=True) == [0.0] * 9


def test_waiting_sends_leave_together_on_a_tick() -> None:
    found = leaving(Policy(packets_per_second=7, burst=1, target_per_second=0), *[A] * 20)
    assert found[0] == 0.0
    assert all(at is not None and abs(at * 10 - round(at * 10)) < 1e-6 for at in found)


def test_what_was_held_up_by_a_stall_does_not_leave_in_one_bunch() -> None:
    async def one(gate: Gate, left: list[float]) -> None:
        loop = asyncio.get_running_loop()
        await gate.permit(A, None, "icmp", loop.time() + 100)
        left.append(loop.time())

    async def scene() -> list[float]:
        gate, left = Gate(Policy(packets_per_second=4, burst=6, target_per_second=0)), list[float]()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        loop.call_later(2.05, loop.stand_still, 3.0)
        await asyncio.gather(*(one(gate, left) for _ in range(60)))
        return left

    left = run(scene())
    assert len(left) == 60
    for first, at in enumerate(left):
        for last in range(first, len(left)):
            assert last - first + 1 <= 6 + 4 * (left[last] - at + TICK_S) + 1e-6, (at, left[last])


def test_a_changed_policy_holds_at_once_and_forgives_nothing() -> None:
    async def scene() -> list[float]:
        loop, gate = asyncio.get_running_loop(), Gate(Policy(packets_per_second=10, burst=10, target_per_second=0))
        times = []
        for number in range(13):
            if number == 10:
                gate.use(Policy(packets_per_second=1, burst=1, target_per_second=0))
            await gate.permit(A, None, "icmp", loop.time() + 100)
            times.append(round(loop.time(), 1))
        return [round(b - a, 1) for a, b in itertools.pairwise(times)]

    gaps = run(scene())
    assert gaps[:9] == [0.0] * 9
    assert gaps[9] >= 0.9, "the burst that was spent stays spent"
    assert gaps[10:] == [1.0, 1.0]


def test_the_same_request_is_refused_while_a_new_policy_denies_it() -> None:
    gate = Gate(Policy())
    gate.use(DENY)
    with pytest.raises(Failed, match="in safety"):
        asyncio.run(gate.permit("10.20.99.7", None, "icmp", deadline=1e9))


def test_permit_waits_for_its_turn() -> None:
    async def ask_three() -> list[float]:
        loop, gate = asyncio.get_running_loop(), Gate(Policy(target_per_second=1, target_burst=1))
        began, times = loop.time(), []
        for _ in range(3):
            permit = await gate.permit("192.0.2.1", 53, "udp", deadline=began + 10)
            assert (permit.address, permit.port, permit.protocol) == ("192.0.2.1", 53, "udp")
            times.append(round(loop.time() - began, 3))
        return times

    assert run(ask_three()) == [0.0, 1.0, 2.0]


def test_0_is_no_limit_for_each_of_the_four() -> None:
    for lifted in ({"packets_per_second": 0}, {"burst": 0}):
        policy = Policy(**{"packets_per_second": 1, "burst": 1, "target_per_second": 0, **lifted})  # type: ignore[arg-type]
        assert leaving(policy, *[A] * 30) == [0.0] * 30
    for lifted in ({"target_per_second": 0}, {"target_burst": 0}):
        policy = Policy(**{"packets_per_second": 0, "target_per_second": 1, "target_burst": 1, **lifted})  # type: ignore[arg-type]
        assert leaving(policy, *[A] * 30) == [0.0] * 30


@given(
    rate=st.sampled_from([0.5, 1, 5, 20, 1000]),
    burst=st.integers(1, 60),
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_no_window_ever_holds_more_than_its_rate_and_the_burst(rate: float, burst: int, gaps: list[float]) -> None:
    budget, now, sent = Budget(rate, burst), 0.0, []
    for gap in gaps:
        now += gap
        sent.append(budget.earliest(now))
        budget.spend(sent[-1])
    for index, start in enumerate(sent):
        for width in (1.0, 10.0):
            inside = sum(1 for at in sent[index:] if at < start + width)
            assert inside <= burst + rate * width + 1e-6

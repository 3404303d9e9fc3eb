"""When the publisher connects again, and how it knows another agent with its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest

from agent.publisher import Closed, NotConnected
from agent.publisher.backoff import Backoff
from tests.rigs.publishing import FakeNetwork, FakeStore, pace, publishing
from tests.rigs.virtual_time import run


class Highest(Random):
    """Always draws the ceiling."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_ceiling_doubles_to_its_maximum_and_is_reset_by_a_good_connection() -> None:
    backoff = Backoff(15, 100, Highest())
    assert [backoff.failed("network") for _ in range(5)] == [15, 30, 60, 100, 100]
    assert backoff.lost("server", up_s=59, acknowledged=True) == 100
    assert backoff.lost("server", up_s=61, acknowledged=False) == 100
    assert backoff.lost("server", up_s=61, acknowledged=True) == 15


def test_jitter_is_full() -> None:
    waits = [Backoff(10, 300, Random(seed)).failed("network") for seed in range(300)]
    assert min(waits) < 1 and max(waits) > 9 and max(waits) <= 10


@pytest.mark.parametrize(("kind", "low", "high"), [("refused", 270, 300), ("certificate", 0, 60), ("tls", 0, 60)])
def test_the_kind_of_failure_sets_the_pace(kind: str, low: float, high: float) -> None:
    backoff = Backoff(15, 300, Random(1))
    waits = [backoff.failed(kind) for _ in range(50)]
    assert low <= min(waits) and max(waits) <= high


def attempts_in(
    seconds: float, prepare: Callable[[FakeNetwork], None], closed: Closed | None
) -> tuple[FakeNetwork, str]:
    """Run with a network that ends each connection after 1 s; give it, and the last reason."""

    async def scene() -> tuple[FakeNetwork, str]:
        store, net = FakeStore(), FakeNetwork()
        prepare(net)
        async with publishing(store, net.open_wire, pace(spread_s=15)) as publisher:
            for _ in range(int(seconds)):
                await asyncio.sleep(1)
                if closed and net.wires:
                    net.wires[-1].end(closed)
            await asyncio.sleep(0.1)
            kinds = {record.fields["kind"] for record in store.appended}
            assert kinds <= {"duplicate_identity"} and bool(kinds) == (
                "duplicate_identity" in publisher.delivery.reason
            )
            return net, publisher.delivery.reason

    return run(scene())


def test_accept_then_close_is_not_hammered() -> None:
    net, reason = attempts_in(300, lambda net: None, Closed("the broker closed the connection"))
    assert 3 <= len(net.attempts) <= 12
    assert reason.startswith("duplicate_identity: ")


def test_session_taken_over_waits_a_minute_at_once() -> None:
    net, reason = attempts_in(100, lambda net: None, Closed("session taken over", "taken_over"))
    gaps = [later - earlier for earlier, later in zip(net.attempts, net.attempts[1:], strict=False)]
    assert gaps and min(gaps) >= 60
    assert "duplicate_identity" in reason and "session taken over" in reason


def test_a_restarting_broker_is_no_duplicate() -> None:
    net, reason = attempts_in(600, lambda net: None, Closed("server shutting down", "server"))
    assert "duplicate_identity" not in reason


def test_refused_credentials_are_tried_at_the_slowest_pace() -> None:
    def refuse(net: FakeNetwork) -> None:
        net.reachable, net.failure = False, NotConnected("the broker refused the connection", "refused")

    net, _ = attempts_in(900, refuse, None)
    assert 3 <= len(net.attempts) <= 4


def test_the_first_attempt_is_at_once() -> None:
    net, _ = attempts_in(1, lambda net: None, None)
    assert net.attempts[0] < 1000.1


def test_five_hundred_agents_that_lost_one_broker_come_back_spread() -> None:
    """A model: the broker is away for ten minutes, takes 20 connections a second after that, drops the rest."""
    agents = [Backoff(15, 300, Random(seed)) for seed in range(500)]
    due = [(agent.lost("network", up_s=3600, acknowledged=True), agent) for agent in agents]
    first = sorted(at for at, _ in due)
    assert first[-1] <= 15 and most_in_a_second(first) < 60, "33 a second are even; more than twice that is a crowd"
    tried: list[float] = []
    taken: dict[int, int] = {}
    while due:
        at, agent = due.pop(due.index(min(due, key=lambda entry: entry[0])))
        tried.append(at)
        if at > 600 and taken.get(int(at), 0) < 20:
            taken[int(at)] = taken.get(int(at), 0) + 1
        else:
            due.append((at + max(agent.failed("network"), 0.01), agent))
    assert max(tried) < 600 + 2 * 300, "each is back within two of the longest waits"
    assert most_in_a_second([at for at in tried if at > 120]) < 20


def most_in_a_second(times: list[float]) -> int:
    seconds = [int(at) for at in times]
    return max(seconds.count(second) for second in set(seconds))

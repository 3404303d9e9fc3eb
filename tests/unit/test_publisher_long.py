"""A long time in a short one: a day without a broker, and a drain beside fresh records."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import Any

import pytest

from agent.publisher import Card
from agent.publisher.lanes import MOST_LIVE
from tests.rigs.publishing import FakeLine, FakeNetwork, FakeStore, loop_now, pace, publishing
from tests.rigs.virtual_time import run

DAY_S = 86_400
GROWTH_BYTES = 256 * 1024


class Forgetful(FakeStore):
    """Keeps no line, so that what grows is the publisher's."""

    def make(self) -> FakeLine:
        now = loop_now()
        self.committed_seq += 1
        return FakeLine("e1", self.committed_seq, "icmp", "gw", now.ts, now.mono_ms, f'{{"seq":{self.committed_seq}}}')


@pytest.mark.parametrize("reachable", [False, True], ids=["nobody-listens", "nothing-acknowledged"])
def test_a_day_without_delivery_takes_no_more_memory_than_an_hour(reachable: bool) -> None:
    async def scene() -> int:
        store, net = Forgetful(), FakeNetwork()
        net.reachable = reachable
        net.code = lambda message: None
        sizes = []
        async with publishing(store, net.open_wire, pace(spread_s=15)) as publisher:
            for hour in range(24):
                for _ in range(360):
                    publisher.committed([store.make()])
                    publisher.post(Card("state/gw", {"seq": store.committed_seq}))
                    publisher.respond("response", {"id": store.committed_seq})
                    await asyncio.sleep(10)
                assert len(publisher._lanes.live) <= MOST_LIVE and len(publisher._lanes.trials.suspects()) < 100
                for kept in (net.attempts, net.wills, net.wires[:-1]):  # the rig's own memory
                    kept.clear()
                del net.wires[:-1]
                for wire in net.wires:
                    wire.sent.clear()
                if hour in (1, 23):
                    gc.collect()
                    sizes.append(tracemalloc.get_traced_memory()[0])
        return sizes[1] - sizes[0]

    tracemalloc.start()
    try:
        assert run(scene()) < GROWTH_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rate", [20.0, 200.0])
def test_live_p99_during_a_drain_whose_rate_is_kept(rate: float) -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork(delay_s=0.6)  # a satellite link
        store.add(int(rate * 200), age_s=100)
        async with publishing(store, net.open_wire, pace(late_rate=rate)) as publisher:
            await asyncio.sleep(1)
            taken: dict[int, float] = {}
            for _ in range(480):
                line = store.add(1)
                taken[line[0].seq] = asyncio.get_running_loop().time()
                publisher.committed(line)
                await asyncio.sleep(0.25)
            drained = len(net.late_seqs())
        waits = sorted(at - taken[seq] for at, seq in live_times(net) if seq in taken)
        assert len(waits) >= 478 and waits[int(len(waits) * 0.99)] <= 2
        assert drained == pytest.approx(rate * 121, rel=0.1)

    run(scene())


def live_times(net: FakeNetwork) -> list[tuple[float, int]]:
    """When each live record was put on the wire."""
    found: list[Any] = [(at, message) for at, message in net.messages() if "/live/" in message.topic]
    return [(at, seq) for (at, _), seq in zip(found, net.live_seqs(), strict=True)]


def test_seven_days_offline_then_live_first_and_the_backlog_whole_in_order() -> None:
    minutes = 7 * 24 * 60
    kinds = ("icmp", "http", "transition")

    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.reachable = False
        async with publishing(store, net.open_wire, pace(late_rate=20, spread_s=15)) as publisher:
            for minute in range(minutes):
                publisher.committed(store.add(type=kinds[minute % 3]))
                await asyncio.sleep(60)
            net.reachable = True
            began, taken = asyncio.get_running_loop().time(), dict[int, float]()
            while len(store.sent) < len(store.lines) and len(taken) < 300:
                line = store.add(1)
                taken[line[0].seq] = asyncio.get_running_loop().time()
                publisher.committed(line)
                await asyncio.sleep(10)
            took_s = asyncio.get_running_loop().time() - began
        assert store.sent >= set(range(1, minutes + 1)), "not everything arrived"
        assert minutes / 20 <= took_s + 1, "faster than the limit"
        connected = net.wires[0].sent[0][0]
        waits = [at - taken[seq] for at, seq in live_times(net) if taken.get(seq, 0) > connected]
        assert waits and max(waits) <= 2
        for kind in kinds:
            found = [record for array in net.payloads(f"late/{kind}") for record in array]
            numbers = [record["seq"] for record in found]
            assert len(numbers) >= minutes // 3 and numbers == sorted(set(numbers)) and all(r["late"] for r in found)

    run(scene())

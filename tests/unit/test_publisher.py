"""Lanes, window and answers of the publisher, on a ten-line wire in virtual time."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest

from agent.publisher import Card, Closed, Limits, Message, Received
from agent.publisher.lanes import MOST_LIVE
from tests.rigs.journals import Bench
from tests.rigs.publishing import FakeLine, FakeNetwork, FakeStore, pace, publishing
from tests.rigs.virtual_time import run

FIRST_TOPICS = ["status", "about", "heartbeat", "verdict", "state/gw"]


def is_record(message: Message) -> bool:
    return "/live/" in message.topic or "/late/" in message.topic


def test_order_after_connect_is_cards_then_live_then_late() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        store.add(3, age_s=100)
        async with publishing(store, net.open_wire) as publisher:
            publisher.committed(store.add(2))
            await asyncio.sleep(5)
        assert net.topics()[:5] == FIRST_TOPICS
        assert net.topics()[5:] == ["live/icmp/gw", "live/icmp/gw", "late/icmp", "status"]
        assert net.live_seqs() == [4, 5]
        assert net.late_seqs() == [1, 2, 3]
        assert all(record["late"] is True for array in net.payloads("late/") for record in array)
        assert store.sent == {1, 2, 3, 4, 5}

    run(scene())


def test_status_will_conn_and_clean_end() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        store.values["conn"] = "41"
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(1)
            assert publisher.delivery.connected and publisher.delivery.address == "192.0.2.1"
            net.wires[0].end(Closed("the broker closed the connection"))
            await asyncio.sleep(1.5)
        wills = [json.loads(will.payload) for will in net.wills]
        assert [(w["state"], w["conn"]) for w in wills] == [("lost", 42), ("lost", 43)]
        assert net.wills[0].retain and net.wills[0].topic == "siteprobe/v1/o/s/n/status"
        states = [(p["state"], p["conn"], p["node"], p["ep"], p["v"]) for p in net.payloads("status")]
        assert states == [("online", 42, "n", "e1", 1), ("online", 43, "n", "e1", 1), ("stopped", 43, "n", "e1", 1)]
        assert net.wires[1].clean and net.topics()[-1] == "status"
        assert store.values["conn"] == "43"

    run(scene())


def test_the_connection_number_is_on_disk_before_it_is_told(tmp_path: Path) -> None:
    """Else a crash within `commit` of a connect would give one number to two connections."""

    async def told(bench: Bench) -> int:
        async with bench.open() as journal:
            network = FakeNetwork()
            async with publishing(journal, network.open_wire, cards=tuple):
                while not network.payloads("status"):
                    await asyncio.sleep(0.01)
                shutil.copytree(bench.directory, tmp_path / f"crashed-{bench.directory.name}")
                return int(network.payloads("status")[0]["conn"])

    first = asyncio.run(told(Bench(tmp_path / "a", commit_s=1.0)))
    assert asyncio.run(told(Bench(tmp_path / "crashed-a", commit_s=1.0))) == first + 1


def test_a_failed_attempt_does_not_raise_the_connection_number() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.reachable = False
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(20)
            assert publisher.delivery.reason == "nobody listens" and not publisher.delivery.connected
            net.reachable = True
            await asyncio.sleep(60)
            assert publisher.delivery.reason == ""
        assert net.payloads("status")[0]["conn"] == 1
        assert len({will.payload for will in net.wills}) == len(net.wills) > 2

    run(scene())


def test_a_card_waits_for_its_record_and_only_the_newest_is_sent() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        async with publishing(store, net.open_wire, cards=lambda: ()) as publisher:
            await asyncio.sleep(1)
            publisher.post(Card("state/a", {"n": 1}, after_seq=1))
            publisher.post(Card("state/b", {"n": 2}))
            await asyncio.sleep(1)
            assert net.topics() == ["status", "state/b"]
            publisher.post(Card("state/a", {"n": 3}, after_seq=1))
            publisher.committed(store.add(1))
            await asyncio.sleep(1)
            assert net.topics()[2:] == ["state/a", "live/icmp/gw"]
        assert net.payloads("state/a") == [{"n": 3}]

    run(scene())


def test_the_state_of_a_removed_check_is_cleared_after_a_restart() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        async with publishing(store, net.open_wire, cards=lambda: (Card("state/a", {}), Card("state/b", {}))):
            await asyncio.sleep(1)
        assert json.loads(store.values["retained"]) == ["state/a", "state/b"]
        again = FakeNetwork()
        async with publishing(store, again.open_wire, cards=lambda: (Card("state/b", {}),)):
            await asyncio.sleep(1)
        empty = [m for _, m in again.messages() if not m.payload]
        assert [(m.topic.rpartition("/")[2], m.retain) for m in empty] == [("a", True)]
        assert json.loads(store.values["retained"]) == ["state/b"]

    run(scene())


def test_records_committed_while_away_go_late_once_they_are_old() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.reachable = False
        async with publishing(store, net.open_wire, pace(spread_s=60, retry_max_s=60)) as publisher:
            for _ in range(120):
                publisher.committed(store.add(1))
                await asyncio.sleep(1)
            net.reachable = True
            await asyncio.sleep(61)
        first_live = net.live_seqs()[0] if net.live_seqs() else 121
        for at, message in net.messages():
            if "/live/" in message.topic:
                assert at * 1000 - store.lines[json.loads(message.payload)["seq"]].mono_ms < 30_000
        assert net.late_seqs() == list(range(1, first_live))
        assert net.live_seqs() == list(range(first_live, 121))
        assert store.sent == set(range(1, 121))

    run(scene())


def test_in_flight_at_a_loss_goes_late_and_again_with_the_same_content() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.code = lambda message: None if is_record(message) else 0
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(0.5)
            publisher.committed(store.add(3))
            await asyncio.sleep(0.5)
            assert not store.sent
            net.code = lambda message: 0
            net.wires[0].end(Closed("gone"))
            await asyncio.sleep(5)
        assert net.live_seqs() == [1, 2, 3] == net.late_seqs()
        live, late = net.payloads("live/"), net.payloads("late/")[0]
        assert [record | {"late": True} for record in live] == late
        assert store.sent == {1, 2, 3}

    run(scene())


@pytest.mark.parametrize(("receive_maximum", "size"), [(65535, 10), (5, 5), (2, 2), (1, 1)])
def test_the_window_is_never_exceeded_and_live_goes_between(receive_maximum: int, size: int) -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork(Limits(receive_maximum=receive_maximum), delay_s=0.1)
        store.add(9000, age_s=100)
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(1.05)
            publisher.committed(store.add(20))
            await asyncio.sleep(4)
            for _ in range(20):
                publisher.committed(store.add(1))
                began = asyncio.get_running_loop().time()
                await asyncio.sleep(0.15)
                live_at = [at for at, m in net.messages() if "/live/" in m.topic][-1]
                assert live_at - began < 0.25
            assert size > 1 or len(net.late_seqs()) < 9000  # the backlog was still there
            await asyncio.sleep(40)
        assert net.wires[0].most_in_flight == size
        assert net.late_seqs() == list(range(1, 9001))
        assert len(store.sent) == 9040

    run(scene())


def test_the_backlog_takes_two_slots_at_most() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        store.add(3000, age_s=100)
        net.code = lambda message: None if "/late/" in message.topic else 0
        async with publishing(store, net.open_wire):
            await asyncio.sleep(5)
            assert net.topics().count("late/icmp") == 2

    run(scene())


@pytest.mark.parametrize("rate", [5, 20, 200])
def test_the_backlog_keeps_its_rate(rate: float) -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        store.add(int(40 * rate), age_s=100)
        async with publishing(store, net.open_wire, pace(late_rate=rate)):
            await asyncio.sleep(20)
            assert len(net.late_seqs()) == pytest.approx(20 * rate, rel=0.1)
            await asyncio.sleep(25)
            assert len(net.late_seqs()) == 40 * rate

    run(scene())


def test_arrays_are_of_one_type_ascending_and_bounded() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        for _ in range(300):
            store.add(1, "icmp", age_s=100)
            store.add(1, "tcp", age_s=100, pad=700)
        async with publishing(store, net.open_wire):
            await asyncio.sleep(5)
        arrays = net.payloads("late/")
        assert max(len(array) for array in arrays) == 100
        assert max(len(m.payload) for _, m in net.messages()) <= 32 * 1024
        for kind in ("icmp", "tcp"):
            seqs = [r["seq"] for array in net.payloads(f"late/{kind}") for r in array]
            assert seqs == sorted(seqs) and len(seqs) == 300

    run(scene())


def test_arrays_shrink_to_the_brokers_packet_and_one_that_cannot_is_quarantined() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork(Limits(packet_bytes=300))
        store.add(20, age_s=100)
        store.add(1, age_s=100, pad=400)
        store.add(20, age_s=100)
        async with publishing(store, net.open_wire) as publisher:
            publisher.committed(store.add(1, pad=400))
            await asyncio.sleep(5)
            assert "300 bytes" in publisher.delivery.reason
        overhead = max(len(m.topic) + len(m.payload) + 10 for _, m in net.messages())
        assert overhead <= 300
        assert sorted(store.lost) == [("e1", 21, "quarantined"), ("e1", 42, "quarantined")]
        assert store.sent == set(range(1, 43))
        assert [r.fields["kind"] for r in store.appended] == ["record_quarantined"]

    run(scene())


def test_nobody_subscribed_pauses_the_backlog_and_counts() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        store.add(50, age_s=100)
        net.code = lambda message: 0x10
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(0.5)
            publisher.committed(store.add(3))
            await asyncio.sleep(60)
            tries = [len(array) for array in net.payloads("late/")]
            assert 5 <= len(tries) <= 9 and tries[2:] == [1] * len(tries[2:])
            assert publisher.delivery.unheard == 53 and "subscribed" in publisher.delivery.reason
            assert not store.sent and net.live_seqs() == [51, 52, 53]
            net.code = lambda message: 0
            await asyncio.sleep(15)
            assert store.sent == set(range(1, 54))
            assert publisher.delivery.unheard == 0 and publisher.delivery.reason == ""
        assert net.late_seqs()[-53:] == list(range(1, 54))

    run(scene())


def test_not_authorised_keeps_all_tells_once_and_tries_every_five_minutes() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.code = lambda message: 0x87 if is_record(message) else 0
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(0.5)
            publisher.committed(store.add(5))
            await asyncio.sleep(899)
            assert "not authorised (0x87)" in publisher.delivery.reason
            assert len([t for t in net.topics() if t.startswith("late/")]) == 3
            assert [r.fields["kind"] for r in store.appended] == ["delivery_refused"] * 2
            assert not store.sent
            net.code = lambda message: 0
            await asyncio.sleep(301)
            assert store.sent == {1, 2, 3, 4, 5} and publisher.delivery.connected

    run(scene())


@pytest.mark.parametrize("code", [0x80, 0x83, 0x97, 0xFF])
def test_other_refusals_back_off_and_lose_nothing(code: int) -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        store.add(500, age_s=100)
        net.code = lambda message: code
        async with publishing(store, net.open_wire):
            await asyncio.sleep(120)
            refused = len(net.topics())
            assert refused < 40
            net.code = lambda message: 0
            await asyncio.sleep(200)
            assert store.sent == set(range(1, 501))
            # Each card that was refused comes, in whatever order: none stands in the way of the others.
            assert sorted(t for t in net.topics()[refused:] if not t.startswith("late/")) == sorted(FIRST_TOPICS)

    run(scene())


def test_a_withheld_puback_drops_the_connection() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.code = lambda message: None if is_record(message) else 0
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(1)
            publisher.committed(store.add(1))
            await asyncio.sleep(29)
            assert not net.wires[0].over
            net.code = lambda message: 0
            await asyncio.sleep(1.5)
            assert net.wires[0].over and not net.wires[0].clean
            await asyncio.sleep(2)
            assert store.sent == {1}

    run(scene())


def test_an_uninvited_message_drops_the_connection() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        async with publishing(store, net.open_wire, pace(spread_s=50)) as publisher:
            await asyncio.sleep(1)
            net.wires[0]._events.put_nowait(Received(Message("x", b"")))
            await asyncio.sleep(0.1)
            assert net.wires[0].over and "nothing is subscribed" in publisher.delivery.reason

    run(scene())


def test_the_end_sends_what_is_fresh_before_stopped_within_two_seconds() -> None:
    async def scene(code: int | None) -> tuple[FakeNetwork, float]:
        store, net = FakeStore(), FakeNetwork()
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(1)
            net.code = lambda message: code
            publisher.committed(store.add(20))
            began = asyncio.get_running_loop().time()
        return net, asyncio.get_running_loop().time() - began

    net, took_s = run(scene(0))
    assert net.live_seqs() == list(range(1, 21)) and net.topics()[-1] == "status" and net.wires[0].clean
    assert took_s < 2
    net, took_s = run(scene(None))
    assert took_s <= 2.01 and not net.wires[0].clean
    assert net.payloads("status")[-1]["state"] == "online"


def test_a_new_epoch_is_told_and_holds_back_no_card() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        async with publishing(store, net.open_wire) as publisher:
            publisher.committed(store.add(5))
            await asyncio.sleep(1)
            store.ep, store.committed_seq = "e2", 0
            store.lines.clear()
            store.sent.clear()
            publisher.committed(store.add(2))
            publisher.post(Card("state/gw", {"state": "down"}, after_seq=9_999))
            await asyncio.sleep(1)
            assert [p["ep"] for p in net.payloads("status")] == ["e1", "e2"]
        assert [(p["ep"], p["seq"]) for p in net.payloads("live/")][5:] == [("e2", 1), ("e2", 2)]

    run(scene())


def test_memory_stays_bounded_with_a_dead_broker_and_nothing_is_lost() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.reachable = False
        async with publishing(store, net.open_wire, pace(spread_s=20, retry_max_s=20)) as publisher:
            publisher.committed(store.add(MOST_LIVE + 1000))
            assert len(publisher._lanes.live) == MOST_LIVE
            net.reachable = True
            await asyncio.sleep(60)
        assert len(store.sent) == MOST_LIVE + 1000

    run(scene())


def test_measuring_never_waits() -> None:
    async def never(will: Message) -> Any:
        await asyncio.Event().wait()

    async def scene() -> None:
        store = FakeStore()
        async with publishing(store, never) as publisher:
            await asyncio.sleep(10)
            publisher.committed(store.add(10))
            publisher.post(Card("state/gw", {}))
            assert not publisher.delivery.connected and "not connected yet" in publisher.delivery.reason

    coroutine: Coroutine[Any, Any, None] = scene()
    run(coroutine)


class TwoEpochs(FakeStore):
    """As the journal after a full disk: what the epoch in memory left comes first, then the disk's own."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: dict[int, FakeLine] = {}

    async def unsent(self, after: int, limit: int) -> list[FakeLine]:
        await asyncio.sleep(0.001)
        left = [line for seq, line in self.memory.items() if seq > after]
        return left[:limit] or await super().unsent(after, limit)

    def mark_sent(self, ep: str, seqs: Iterable[int]) -> None:
        if ep == "mem":
            for seq in seqs:
                del self.memory[seq]
        else:
            super().mark_sent(ep, seqs)


def test_two_epochs_are_sent_one_after_the_other_each_ascending() -> None:
    async def scene() -> None:
        store, net = TwoEpochs(), FakeNetwork()
        store.ep = "mem"
        store.add(700, age_s=100)
        store.memory, store.lines = store.lines, {}
        store.ep, store.committed_seq = "e1", 0
        store.add(900, age_s=100)
        async with publishing(store, net.open_wire):
            await asyncio.sleep(30)
        sent = [(record["ep"], record["seq"]) for array in net.payloads("late/") for record in array]
        assert sent == [("mem", n) for n in range(1, 701)] + [("e1", n) for n in range(1, 901)]

    run(scene())

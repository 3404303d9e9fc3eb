"""What the centre asks of a publisher: subscriptions, answers, pace, replay; and files renewed under its feet."""

from __future__ import annotations

import asyncio

import pytest

from agent.clock import Instant
from agent.publisher import Closed, Message, Papers
from tests.rigs.publishing import START_TS, FakeNetwork, FakeStore, pace, publishing
from tests.rigs.virtual_time import run

COMMANDS = "siteprobe/v1/o/s/n/command/+"
DAY_S = 86400.0


def test_subscriptions_at_each_connect_and_their_messages() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        got: list[Message] = []
        async with publishing(store, net.open_wire, subscriptions=lambda: [COMMANDS], on_message=got.append):
            await asyncio.sleep(1)
            net.wires[0].deliver(Message("t", b"1", retain=True))
            await asyncio.sleep(1)
            net.wires[0].end(Closed("gone"))
            await asyncio.sleep(2)
            net.wires[1].deliver(Message("t", b"2"))
            await asyncio.sleep(1)
        assert [wire.filters for wire in net.wires] == [[COMMANDS], [COMMANDS]]
        assert got == [Message("t", b"1", retain=True), Message("t", b"2")]

    run(scene())


def test_a_refused_subscription_is_told() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        async with publishing(store, net.open_wire, subscriptions=lambda: [COMMANDS]) as publisher:
            await asyncio.sleep(0.001)
            while not net.wires:
                await asyncio.sleep(0.001)
            net.wires[0].refused = "the broker refused our subscription to x"
            await asyncio.sleep(1)
            net.wires[0].subscribe(["again"])
            await asyncio.sleep(1)
            assert "refused our subscription" in publisher.delivery.reason and publisher.delivery.connected
        assert [record.fields["kind"] for record in store.appended] == ["delivery_refused"]

    run(scene())


def test_answers_are_counted_in_the_window_and_not_retained() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(1)
            for number in range(30):
                publisher.respond("response", {"id": number})
            await asyncio.sleep(1)
        assert [payload["id"] for payload in net.payloads("response")] == list(range(30))
        assert not any(message.retain for _, message in net.messages() if message.topic.endswith("response"))
        assert net.wires[0].most_in_flight <= 10

    run(scene())


def test_an_answer_waits_a_minute_for_a_connection_and_no_longer() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.reachable = False
        async with publishing(store, net.open_wire, pace(spread_s=1, retry_max_s=1)) as publisher:
            publisher.respond("response", {"id": "old"})
            await asyncio.sleep(30)
            publisher.respond("response", {"id": "new"})
            await asyncio.sleep(31)
            net.reachable = True
            await asyncio.sleep(2)
        assert net.payloads("response") == [{"id": "new"}]

    run(scene())


def test_an_answer_in_flight_at_a_loss_comes_again() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.code = lambda message: None if message.topic.endswith("response") else 0
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(1)
            publisher.respond("response", {"id": 1})
            await asyncio.sleep(1)
            net.code = lambda message: 0
            net.wires[0].end(Closed("gone"))
            await asyncio.sleep(70)
        assert net.payloads("response") == [{"id": 1}, {"id": 1}]

    run(scene())


def test_pace_acts_at_once_and_the_smaller_rate_wins() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        store.add(5000, age_s=100)
        async with publishing(store, net.open_wire, pace(late_rate=20)) as publisher:
            publisher.pace(True, None, None)
            await asyncio.sleep(10)
            publisher.committed(store.add(1))
            await asyncio.sleep(1)
            assert net.late_seqs() == [] and net.live_seqs() == [5001]  # hold holds the backlog only
            publisher.pace(False, 5.0, None)
            await asyncio.sleep(20)
            assert len(net.late_seqs()) == pytest.approx(100, rel=0.1)
            publisher.pace(False, 500.0, None)
            before = len(net.late_seqs())
            await asyncio.sleep(20)
            assert len(net.late_seqs()) - before == pytest.approx(400, rel=0.1)
            publisher.pace(False, None, None)
            before = len(net.late_seqs())
            await asyncio.sleep(20)
            assert len(net.late_seqs()) - before == pytest.approx(400, rel=0.1)

    run(scene())


def test_the_centres_spread_is_the_first_ceiling_of_the_back_off() -> None:
    async def waits(spread_s: float | None) -> float:
        store, net = FakeStore(), FakeNetwork()
        total_s = 0.0
        async with publishing(store, net.open_wire, pace(spread_s=1, retry_max_s=3600)) as publisher:
            publisher.pace(False, None, spread_s)
            for number in range(10):
                await asyncio.sleep(100)  # a good connection, so that the next wait is short again
                net.wires[-1].end(Closed("gone"))
                while len(net.wires) == number + 1:
                    await asyncio.sleep(0.1)
                    total_s += 0.1
        return total_s

    assert run(waits(None)) < 15 and run(waits(300.0)) > 500


def test_replay_sends_again_what_is_marked_sent_ascending_and_live_goes_first() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        for _ in range(200):
            store.add(1, "icmp", age_s=100)
            store.add(1, "tcp", age_s=100)
        store.sent.update(range(1, 401))
        del store.lines[60]  # not held any more
        async with publishing(store, net.open_wire, pace(late_rate=20)) as publisher:
            await asyncio.sleep(1)
            publisher.replay([(300, 350), (50, 149), (399, 5000)])
            for _ in range(12):
                publisher.committed(store.add(1))
                at = asyncio.get_running_loop().time()
                await asyncio.sleep(0.5)
                assert net.live_seqs()[-1] == store.committed_seq
                assert [sent for sent, m in net.messages() if "/live/" in m.topic][-1] - at < 0.1
            assert len(net.late_seqs()) == pytest.approx(20 * 6, rel=0.2)
            await asyncio.sleep(10)
            wanted = {*range(50, 150), *range(300, 351), 399, 400} - {60}
            assert sorted(net.late_seqs()) == sorted(wanted)
            assert all(record["late"] is True for array in net.payloads("late/") for record in array)
            for kind in ("icmp", "tcp"):
                seqs = [r["seq"] for array in net.payloads(f"late/{kind}") for r in array]
                assert seqs == sorted(seqs)
            assert len(publisher._lanes.replay) == 0

    run(scene())


def test_replay_survives_a_lost_connection_and_is_of_the_present_epoch_only() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        store.add(100, age_s=100)
        store.sent.update(range(1, 101))
        async with publishing(store, net.open_wire, pace(late_rate=50)) as publisher:
            await asyncio.sleep(1)
            publisher.replay([(1, 100)])
            await asyncio.sleep(0.5)
            net.wires[0].end(Closed("gone"))
            await asyncio.sleep(10)
            assert set(net.late_seqs()) == set(range(1, 101))
            publisher.replay([(1, 100)])
            store.ep = "e2"
            before = len(net.late_seqs())
            await asyncio.sleep(40)
            assert len(net.late_seqs()) == before

    run(scene())


def test_renewed_files_end_the_connection_gently_and_the_next_comes_at_once() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        async with publishing(store, net.open_wire, pace(spread_s=60)) as publisher:
            await asyncio.sleep(1)
            net.delay_s = 1.0
            net.wires[0]._delay_s = 2.0
            await asyncio.sleep(13)
            publisher.committed(store.add(3))
            net.wires[0].files = Papers(renewed=True)
            await asyncio.sleep(5)
            assert net.wires[0].clean and len(net.wires) == 2 and store.sent == {1, 2, 3}
            assert net.live_seqs() == [1, 2, 3] and net.late_seqs() == []
        assert [payload["state"] for payload in net.payloads("status")] == ["online", "online", "stopped"]

    run(scene())


def test_files_that_cannot_be_used_are_told_and_the_connection_stays() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(1)
            net.wires[0].files = Papers(trouble="changed, but not used: no key")
            await asyncio.sleep(20)
            assert publisher.delivery.reason == "changed, but not used: no key" and len(net.wires) == 1
            net.wires[0].files = Papers()
            await asyncio.sleep(20)
            assert publisher.delivery.reason == ""

    run(scene())


def test_the_end_of_our_certificate_is_told_once_at_30_14_3_and_0_days() -> None:
    async def scene() -> None:
        store = FakeStore()
        ends_ts = START_TS + 1000 + 40 * DAY_S
        for day in range(0, 42):
            net = FakeNetwork()

            def now(day: int = day) -> Instant:
                return Instant(START_TS + 1000 + day * DAY_S, 0, "synced", "b")

            async with publishing(store, net.open_wire, now=now) as publisher:
                await asyncio.sleep(0.1)
                net.wires[0].files = Papers(certificate_ends_ts=ends_ts)
                await asyncio.sleep(50)
                assert ("renew mqtt.cert_file" in publisher.delivery.reason) == (day >= 10)
        details = [str(record.fields["detail"]) for record in store.appended]
        assert [detail.split(" (")[0] for detail in details] == [
            "our certificate ends in 30.0 days",
            "our certificate ends in 14.0 days",
            "our certificate ends in 3.0 days",
            "our certificate has ended",
        ]
        assert {record.fields["kind"] for record in store.appended} == {"certificate_expiring"}

    run(scene())

"""Rule 5: what cannot be delivered is given up, declared, and never stands in the way; innocents stay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from agent.publisher import Closed, Message
from agent.publisher.backlog import Backlog, late_array
from agent.publisher.backoff import Backoff
from agent.publisher.trials import Trials
from tests.rigs.publishing import FakeLine, FakeNetwork, FakeStore, FakeWire, pace, publishing
from tests.rigs.virtual_time import run

FAST = pace(spread_s=1, retry_max_s=2)


def seqs_of(message: Message) -> list[int]:
    """Numbers of the records in a message, none for a card."""
    if "/live/" not in message.topic and "/late/" not in message.topic:
        return []
    body = json.loads(message.payload)
    return [record["seq"] for record in body] if isinstance(body, list) else [body["seq"]]


def kinds(store: FakeStore) -> list[Any]:
    return [record.fields["kind"] for record in store.appended]


class DyingNetwork(FakeNetwork):
    """Its broker closes the connection, without PUBACK, at each message that `deadly(message, wire)`."""

    def __init__(self, deadly: Callable[[Message, FakeWire], bool], delay_s: float = 0.01) -> None:
        super().__init__(delay_s=delay_s)
        self.deadly = deadly

    def _answer(self, message: Message) -> int | None:
        wire = self.wires[-1]
        if not self.deadly(message, wire):
            return 0
        asyncio.get_running_loop().call_later(0.005, wire.end, Closed("the broker closed the connection"))
        return None


@pytest.mark.parametrize("code", [0x90, 0x95, 0x99])
def test_a_refused_array_is_split_and_only_the_bad_record_is_given_up(code: int) -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        store.add(150, age_s=100)
        net.code = lambda message: code if 77 in seqs_of(message) else 0
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(5)
            assert f"(0x{code:02X})" in publisher.delivery.reason and publisher.delivery.connected
        assert store.lost == [("e1", 77, "quarantined")]
        assert store.sent == set(range(1, 151))
        assert kinds(store) == ["record_quarantined"]
        assert "record 77 of epoch e1" in str(store.appended[0].fields["detail"])

    run(scene())


@pytest.mark.parametrize("code", [0x90, 0x95, 0x99])
def test_a_refused_live_record_is_given_up_at_once(code: int) -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.code = lambda message: code if 2 in seqs_of(message) else 0
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(1)
            publisher.committed(store.add(3))
            await asyncio.sleep(1)
        assert store.lost == [("e1", 2, "quarantined")] and store.sent == {1, 2, 3}
        assert net.live_seqs() == [1, 2, 3] and net.late_seqs() == []

    run(scene())


@pytest.mark.parametrize("code", [0x90, 0x95, 0x99])
def test_a_broker_that_refuses_all_makes_no_endless_chain_of_loss_records(code: int) -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.code = lambda message: code if seqs_of(message) else 0
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(1)
            publisher.committed(store.add(1))
            publisher.committed(store.add(1, "loss", "site"))
            await asyncio.sleep(600)
            assert store.lost == [("e1", 1, "quarantined")] and store.sent == {1}
            assert len(net.topics()) < 20
            net.code = lambda message: 0
            await asyncio.sleep(3600)
            assert store.sent == {1, 2}

    run(scene())


@pytest.mark.parametrize("code", [0x87, 0x95])
def test_one_card_that_is_refused_holds_up_no_other(code: int) -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        net.code = lambda message: code if message.topic.endswith("/about") else 0
        async with publishing(store, net.open_wire):
            await asyncio.sleep(1)
            assert net.topics() == ["status", "about", "heartbeat", "verdict", "state/gw"]
            await asyncio.sleep(3000)
            assert net.topics().count("about") == 10  # every five minutes
            assert kinds(store) == ["delivery_refused"] and len(net.wires) == 1

    run(scene())


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("others", [0, 400])
def test_a_poison_record_is_found_declared_and_blocks_nothing(fresh: bool, others: int) -> None:
    async def scene() -> None:
        store = FakeStore()
        net = DyingNetwork(lambda message, wire: 5 in seqs_of(message))
        if not fresh:
            store.add(5 + others, age_s=100)
        async with publishing(store, net.open_wire, FAST) as publisher:
            if fresh:
                publisher.committed(store.add(5 + others))
            for _ in range(120):
                await asyncio.sleep(1)
                publisher.committed(store.add(1))
            await asyncio.sleep(1)
            assert store.lost == [("e1", 5, "quarantined")]
            assert store.sent == set(range(1, store.committed_seq + 1))
        assert kinds(store).count("record_quarantined") == 1

    run(scene())


def test_two_poison_records_are_both_found() -> None:
    async def scene() -> None:
        store = FakeStore()
        bad = {50, 51}
        net = DyingNetwork(lambda message, wire: bool(bad & set(seqs_of(message))))
        store.add(300, age_s=100)
        async with publishing(store, net.open_wire, FAST):
            await asyncio.sleep(300)
        assert sorted(store.lost) == [("e1", 50, "quarantined"), ("e1", 51, "quarantined")]
        assert store.sent == set(range(1, 301))

    run(scene())


def test_a_poison_record_that_is_alone_in_the_world_is_not_convicted_without_proof() -> None:
    async def scene() -> None:
        store = FakeStore()
        net = DyingNetwork(lambda message, wire: bool(seqs_of(message)))
        store.add(1, age_s=100)
        async with publishing(store, net.open_wire, FAST):
            await asyncio.sleep(600)
            assert store.lost == []
            net.deadly = lambda message, wire: False
            await asyncio.sleep(120)
            assert store.sent == {1}

    run(scene())


def after_messages(count: int) -> Callable[[Message, FakeWire], bool]:
    return lambda message, wire: len(wire.sent) >= count


def at_random(ratio: float, seed: int) -> Callable[[Message, FakeWire], bool]:
    random = Random(seed)
    return lambda message, wire: bool(seqs_of(message)) and random.random() < ratio


def flapping() -> Iterator[Any]:
    for count in range(6, 16):
        yield pytest.param(after_messages(count), id=f"after-{count}")
    for seed in range(6):
        yield pytest.param(at_random(0.2, seed), id=f"random-{seed}")
    yield pytest.param(lambda message, wire: bool(seqs_of(message)), id="every-record")
    yield pytest.param(lambda message, wire: "/late/" in message.topic, id="every-late")


@pytest.mark.parametrize("deadly", list(flapping()))
def test_a_flapping_broker_makes_no_innocent_guilty(deadly: Callable[[Message, FakeWire], bool]) -> None:
    async def scene() -> None:
        store, net = FakeStore(), DyingNetwork(lambda message, wire: False)
        async with publishing(store, net.open_wire, FAST) as publisher:
            await asyncio.sleep(1)
            publisher.committed(store.add(20))  # something has arrived before, so there is proof to be had
            await asyncio.sleep(1)
            net.deadly = deadly
            store.add(200, age_s=100)
            for _ in range(900):
                await asyncio.sleep(1)
                publisher.committed(store.add(1))
            assert store.lost == []
            net.deadly = lambda message, wire: False
            await asyncio.sleep(400)
            assert store.sent == set(range(1, store.committed_seq + 1))
            assert store.lost == []

    run(scene())


class AfterMemory(FakeStore):
    """What an epoch in memory left comes first; only `mark_sent` settles a number there."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: dict[int, FakeLine] = {}

    async def unsent(self, after: int, limit: int) -> list[FakeLine]:
        await asyncio.sleep(0.001)
        left = [line for seq, line in self.memory.items() if seq > after]
        return left[:limit] or await super().unsent(after, limit)

    def mark_sent(self, ep: str, seqs: Any) -> None:
        if ep == "mem":
            for seq in seqs:
                self.memory.pop(seq, None)
        else:
            super().mark_sent(ep, seqs)


def test_a_refused_record_of_an_epoch_in_memory_does_not_block_the_present_one() -> None:
    async def scene() -> None:
        store, net = AfterMemory(), FakeNetwork()
        store.ep = "mem"
        store.add(3, age_s=100)
        store.memory, store.lines = store.lines, {}
        store.ep, store.committed_seq = "e1", 0
        store.add(10, age_s=100)
        net.code = lambda message: 0x99 if b'"ep": "mem", "seq": 2,' in message.payload else 0
        async with publishing(store, net.open_wire):
            await asyncio.sleep(30)
        assert store.memory == {} and store.sent == set(range(1, 11))

    run(scene())


def line(seq: int) -> FakeLine:
    return FakeLine("e1", seq, "icmp", "gw", 0.0, 0, f'{{"seq":{seq}}}')


def test_three_in_a_row_means_that_no_other_disconnect_came_between() -> None:
    trials, suspect, other = Trials(), late_array([line(1)]), late_array([line(2), line(3)])
    trials.answered(late_array([line(9)]), True, 0.0)
    assert trials.ended([suspect]) is None and trials.ended([suspect]) is None

    def die() -> object:
        for proofs in (0, 1, 5):
            trials.next(proofs, 0.0)
        return trials.ended([suspect])

    assert (die(), die()) == (None, None)
    assert trials.ended([other]) is None
    assert (die(), die()) == (None, None)
    assert die() == line(1) and trials.suspects() == set()


def test_a_record_split_off_shares_its_message_with_none() -> None:
    backlog = Backlog()
    backlog.split(late_array([line(1), line(2)]))
    backlog.take_place()
    assert backlog.feed([line(seq) for seq in (1, 2, 3, 4)], set(), ("e1", 4))
    sent = [backlog.next(0.0, 0.0, 100, 9999) for _ in range(3)]
    assert [outgoing and outgoing.seqs for outgoing in sent] == [(1,), (2,), (3, 4)]


def test_the_end_of_a_trial_is_no_sign_of_a_second_agent() -> None:
    backoff = Backoff(1, 10, Random(1))
    assert all(backoff.lost("suspect", 1.0, True) <= 10 for _ in range(9)) and not backoff.duplicate
    for kind in ("closed", "closed", "suspect", "closed"):  # nor does it hide one
        assert not backoff.duplicate
        backoff.lost(kind, 1.0, True)
    assert backoff.duplicate

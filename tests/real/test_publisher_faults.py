"""The publisher and its wire against real daemons and a real path that goes silent."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.model import Record
from tests.real.test_publisher_mosquitto import CLOCK, Scene, late_seqs, live_seqs, scene, settings, wait_for
from tests.rigs import need
from tests.rigs.mosquitto import Mosquitto, Reader
from tests.rigs.netns import Net
from tests.rigs.publishing import BASE


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_path_that_goes_silent_is_noticed(tmp_path: Path, protocol: str) -> None:
    """With a keep-alive of 5 s after 10 s at most, and a little: with the default of 30 s that is within 60."""
    program = need.tool("mosquitto")
    with Net() as net:
        probe, broker = net.add("probe"), net.add("broker")
        net.wire(probe, "eth0", broker, "eth0")
        net.address(probe, "eth0", "10.77.0.1/24")
        net.address(broker, "eth0", "10.77.0.2/24")
        config = tmp_path / "mosquitto.conf"
        config.write_text("user root\nlistener 1883 10.77.0.2\nallow_anonymous true\nlog_dest none\n")
        net.start(broker, "sh", "-c", f"echo started; exec {program} -c {config}")
        python = [sys.executable, "-m", "tests.rigs.wire_in_namespace"]
        agent = net.start(probe, *python, "10.77.0.2", "1883", protocol)
        net.nft(broker, "input", "tcp dport 1883 drop")
        assert agent.stdout is not None
        took_s, kind, reason = agent.stdout.readline().split(" ", 2)
        assert float(took_s) <= 13 and kind == "stalled", (took_s, kind, reason)


def test_live_p99_within_two_seconds_during_a_drain_at_its_rate(tmp_path: Path) -> None:
    rate, drain_s = 400.0, 8.0
    waits: list[float] = []

    async def play(broker: Mosquitto, reader: Reader) -> None:
        async with scene(tmp_path, settings(broker, late_rate=rate)) as made:
            made.take(int(rate * 20), age_s=100)
            await made.journal.flush()
            await wait_for(reader, lambda _: late_seqs(reader))
            loop = asyncio.get_running_loop()
            first, began = len(late_seqs(reader)), loop.time()
            while loop.time() - began < drain_s:
                waits.append(await fresh_record(made, reader))
            drained = (len(late_seqs(reader)) - first) / (loop.time() - began)
            assert drained == pytest.approx(rate, rel=0.1)

    with Mosquitto(tmp_path) as broker, Reader(broker.port) as reader:
        asyncio.run(play(broker, reader))
    assert len(waits) > 20 and sorted(waits)[int(len(waits) * 0.99)] <= 2


async def fresh_record(made: Scene, reader: Reader) -> float:
    """Take one record and wait until the reader has it; gives the seconds."""
    loop = asyncio.get_running_loop()
    began, seq = loop.time(), made.journal.next_seq
    made.take(1)
    for _ in range(500):
        if seq in live_seqs(reader):
            return loop.time() - began
        await asyncio.sleep(0.01)
    raise AssertionError("the fresh record did not arrive within 5 s")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_commands_arrive_and_are_answered_retained_ones_marked(tmp_path: Path, protocol: str) -> None:
    got: list[Any] = []

    async def play(broker: Mosquitto, reader: Reader) -> None:
        reader._client.publish(f"{BASE}/command/old", b"{}", qos=1, retain=True).wait_for_publish(5)
        inbox: Any = {"subscriptions": lambda: [f"{BASE}/command/+"], "on_message": got.append}
        async with scene(tmp_path, settings(broker, protocol=protocol), **inbox) as made:
            await wait_for(reader, lambda _: got)
            reader._client.publish(f"{BASE}/command/new", b"{}", qos=1)
            await wait_for(reader, lambda _: len(got) == 2)
            assert made.publisher
            made.publisher.respond("response", {"id": "x", "ok": True})
            await wait_for(reader, lambda _: reader.under("response"))

    with Mosquitto(tmp_path) as broker, Reader(broker.port) as reader:
        asyncio.run(play(broker, reader))
        answer = reader.under("response")[0]
    assert [(m.topic.rpartition("/")[2], m.retain) for m in got] == [("old", True), ("new", False)]
    assert json.loads(answer.payload) == {"id": "x", "ok": True} and not answer.retain


def test_replay_from_the_real_journal(tmp_path: Path) -> None:
    async def play(broker: Mosquitto, reader: Reader) -> None:
        async with scene(tmp_path, settings(broker)) as made:
            made.take(300)
            await wait_for(reader, lambda _: len(set(live_seqs(reader) + late_seqs(reader))) == 300)
            await asyncio.sleep(0.2)
            assert made.journal.pending == 0 and made.publisher
            reader.messages.clear()
            made.publisher.replay([(10, 20), (250, 900)])
            wanted = [*range(10, 21), *range(250, 301)]
            await wait_for(reader, lambda _: len(late_seqs(reader)) == len(wanted))
            assert late_seqs(reader) == wanted

    with Mosquitto(tmp_path) as broker, Reader(broker.port) as reader:
        asyncio.run(play(broker, reader))


def test_a_message_over_the_brokers_size_limit_is_given_up_and_blocks_nothing(tmp_path: Path) -> None:
    async def play(broker: Mosquitto, reader: Reader) -> None:
        async with scene(tmp_path, settings(broker), cards=lambda: ()) as made:
            made.take(20, age_s=100)
            made.journal.append(Record("icmp", CLOCK.now(), {"check": "gw", "outcome": "fail", "detail": "x" * 900}))
            made.take(20, age_s=100)
            await wait_for(reader, lambda _: len(set(late_seqs(reader) + live_seqs(reader))) >= 42)
            lost = [m.json for m in reader.under("live/loss")]
            assert [(m["from_seq"], m["to_seq"], m["reason"]) for m in lost] == [(21, 21, "quarantined")]
            assert made.journal.lost_total == 1

    with Mosquitto(tmp_path, ["max_packet_size 700"]) as broker, Reader(broker.port) as reader:
        asyncio.run(play(broker, reader))

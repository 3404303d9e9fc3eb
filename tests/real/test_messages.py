"""Every message of the whole agent, on any topic, is as described; and the reference reader finds it complete."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers import Peers, peers
from tests.rigs import need
from tests.rigs.agent import RunningAgent, config_text
from tests.rigs.message_judge import MessageJudge, Misfit
from tests.rigs.mosquitto import Arrived, Mosquitto, Reader
from tests.rigs.reader import CentralReader, Ledger
from tests.rigs.servers import closed_port

WANTED = {
    *(f"record-{name}" for name in ("icmp", "tcp", "http", "dns", "link", "snmp", "transition", "verdict", "event")),
    *(f"record-{name}" for name in ("path", "mtu", "train")),
    *("live", "late", "status", "about", "heartbeat", "verdict", "state"),
}


@pytest.fixture
def targets() -> Iterator[Peers]:
    need.root()  # a name server is asked at port 53
    with peers() as found:
        yield found


def all_types(targets: Peers, closed: int) -> list[str]:
    """One check of each type that passes, and some that fail in different ways."""
    common = "interval: 5s, timeout: 1s"
    return [
        "{name: echo, type: icmp, target: 127.0.0.1, interval: 1s, count: 20, timeout: 2s}",
        f"{{name: port, type: tcp, target: 127.0.0.1, port: {targets.tcp}, {common}}}",
        f"{{name: shut, type: tcp, target: 127.0.0.1, port: {closed}, interval: 1s, timeout: 1s, group: dc-a}}",
        f'{{name: page, type: http, url: "http://127.0.0.1:{targets.http}/", {common}, degraded: {{total_s: 0}}}}',
        f'{{name: no-page, type: http, url: "http://127.0.0.1:{targets.http}/", {common}, expect_text: moon}}',
        f"{{name: name, type: dns, server: {targets.dns}, query: a.example.org, {common}}}",
        f"{{name: wrong-name, type: dns, server: {targets.dns}, query: a.example.org, expect: 192.0.2.9, {common}}}",
        "{name: cable, type: link, interface: lo, interval: 5s}",
        "{name: no-cable, type: link, interface: eth99, interval: 5s}",
        "{name: way, type: path, target: 127.0.0.1, interval: 20s}",
        "{name: size, type: mtu, target: 127.0.0.1, interval: 20s}",
        "{name: speed, type: train, target: 127.0.0.1, interval: 20s, minimum_bits_per_s: 1}",
        f"{{name: switch, type: snmp, target: 127.0.0.1, port: {closed}, community: public, {common}}}",
    ]


def said(arrived: list[Arrived], state: str) -> int:
    """Count the `status` messages with this state."""
    return sum(m.json["state"] == state for m in arrived if m.topic.endswith("/status"))


def records_of(arrived: list[Arrived], kind: str) -> set[str]:
    return {m.topic.rpartition("/")[2] for m in arrived if f"/{kind}/" in m.topic}


def test_every_message_fits_its_description_and_nothing_is_missing(tmp_path: Path, targets: Peers) -> None:
    ledger, judge = Ledger(), MessageJudge()
    with closed_port() as closed, Mosquitto(tmp_path) as broker:
        checks = all_types(targets, closed)
        names = {check.split(",")[0].removeprefix("{name: ") for check in checks}
        with (
            Reader(broker.port) as reader,
            CentralReader(broker.port, ledger) as central,
            RunningAgent(tmp_path, config_text(tmp_path, broker.port, checks)) as agent,
        ):
            reader.wait_for(lambda arrived: records_of(arrived, "live") >= names, 20)
            agent.reload(config_text(tmp_path, broker.port, checks[1:]))
            reader.wait_for(lambda arrived: any(not m.payload for m in arrived), 10)
            outage(broker, reader, agent)
            reader.wait_for(lambda arrived: any("/late/" in m.topic for m in arrived), 20)
            agent.stop()
            reader.wait_for(lambda arrived: said(arrived, "stopped"), 10)
            agent.start()
            reader.wait_for(lambda arrived: said(arrived, "online") >= 3, 20)
            central.wait_until_whole(least=50)
            agent.kill()
            reader.wait_for(lambda arrived: said(arrived, "lost"), 10)
    for message in reader.messages:
        judge.see(message.topic, message.payload, message.retain)
    assert WANTED - judge.seen.keys() == set()
    assert judge.removed["state"] == 1
    assert ledger.gaps() == {}
    ledger.close()


def test_a_reader_that_comes_later_gets_the_rest_by_replay(tmp_path: Path, targets: Peers) -> None:
    """It knows from the retained heartbeat and from the numbers of fresh records what it has missed."""
    ledger, judge = Ledger(), MessageJudge()
    check = f"{{name: port, type: tcp, target: 127.0.0.1, port: {targets.tcp}, interval: 100ms}}"
    with (
        Mosquitto(tmp_path) as broker,
        Reader(broker.port) as first,
        RunningAgent(tmp_path, config_text(tmp_path, broker.port, [check])) as agent,
    ):
        first.wait_for(lambda arrived: sum("/live/tcp/" in m.topic for m in arrived) >= 20)
        with CentralReader(broker.port, ledger) as central:
            central.wait_until_whole(least=40)
            assert ledger.records()[0]["seq"] == 1
            assert [answer["code"] for answer in central.responses] == ["ok"] * len(central.responses)
            assert central.responses[0]["result"]["queued"] >= 20
            assert central.responses[0]["result"]["gone"] == []
        agent.stop()
        for message in first.messages:
            judge.see(message.topic, message.payload, message.retain)
    assert {"command-replay", "response", "late"} <= judge.seen.keys()
    ledger.close()


def outage(broker: Mosquitto, reader: Reader, agent: RunningAgent) -> None:
    """Take the broker away for two seconds, restart the agent meanwhile: what it took then is backlog."""
    reader.forget_subscription()
    broker.kill()
    time.sleep(2)
    agent.stop()
    broker.start()
    reader.wait_subscribed()
    agent.start()


GOOD = {"v": 1, "node": "n", "state": "online", "ep": "e1", "conn": 1, "ts": "2026-11-22T14:03:22.123Z"}


@pytest.mark.parametrize(
    ("topic", "content", "retain", "reason"),
    [
        ("siteprobe/v1/o/s/n/status", GOOD | {"mood": "fine"}, True, "Additional properties"),
        ("siteprobe/v1/o/s/n/status", GOOD | {"conn": "1"}, True, "not of type 'integer'"),
        ("siteprobe/v1/o/s/n/status", GOOD | {"state": "away"}, True, "not one of"),
        ("siteprobe/v1/o/s/n/status", GOOD | {"ts": "2026-11-22"}, True, "does not match"),
        ("siteprobe/v1/o/s/n/status", {k: GOOD[k] for k in list(GOOD)[:-1]}, True, "required"),
        ("siteprobe/v1/o/s/n/status", GOOD, False, "retain"),
        ("siteprobe/v1/o/s/n/mood", GOOD, True, "0 described topics"),
        ("siteprobe/v1/o/s/n/live/mood/gw", GOOD, False, "no schema"),
        ("siteprobe/v1/o/s/n/late/icmp", [], False, "[]"),
    ],
)
def test_the_judge_notices_what_is_not_described(topic: str, content: object, retain: bool, reason: str) -> None:
    with pytest.raises(Misfit, match=reason.replace("[", r"\[")):
        MessageJudge().see(topic, json.dumps(content, separators=(",", ":")).encode(), retain)


def test_the_judge_passes_what_is_described() -> None:
    judge = MessageJudge()
    judge.see("siteprobe/v1/o/s/n/status", json.dumps(GOOD, separators=(",", ":")).encode(), True)
    assert judge.seen["status"] == 1

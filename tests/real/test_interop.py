"""The whole agent against real brokers: connect, complete backlog, retained, Will, a restart in the middle."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.web.socket import ask_status
from bench.peers import peers
from tests.rigs.agent import RunningAgent, config_text
from tests.rigs.brokers import Aedes, Nats, RabbitMq
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.reader import CentralReader, Ledger

BASE = "siteprobe/v1/o/s/n"
CHECKS = 5
BACKLOG, BACKLOG_WITHIN_S = 40, 60.0


class AnyBroker(Protocol):
    """What this test does with a broker."""

    port: int

    def start(self) -> None:
        """Start it, or start it again."""

    def stop(self) -> None:
        """End it in an orderly way."""

    def __exit__(self, *_: object) -> None:
        """End it for good."""


@dataclass(frozen=True)
class Kind:
    """A broker, and what it is known not to do (docs of each)."""

    make: Callable[[Path], AnyBroker]
    protocol: str = "3.1.1"
    retained_by_wildcard: bool = True


KINDS = {
    "mosquitto-5": Kind(Mosquitto, "5"),
    "mosquitto-3.1.1": Kind(Mosquitto),
    "rabbitmq-3.1.1": Kind(RabbitMq, retained_by_wildcard=False),
    "nats-3.1.1": Kind(Nats),
    "aedes-3.1.1": Kind(Aedes),
}


def retained(port: int, topic: str, seconds: float = 5.0) -> set[str]:
    """Give the topics of the retained messages that a new subscriber gets."""
    found: queue.Queue[str] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2, "retained-reader", protocol=paho.MQTTv311)
    client.on_connect = lambda c, *_: c.subscribe(topic, qos=1)
    client.on_message = lambda _c, _d, message: found.put(message.topic) if message.retain else None
    client.connect("127.0.0.1", port)
    client.loop_start()
    topics = set()
    try:
        topics.add(found.get(timeout=seconds))
        while True:
            topics.add(found.get(timeout=0.5))
    except queue.Empty:
        return topics
    finally:
        client.disconnect()
        client.loop_stop()


def config(folder: Path, port: int, protocol: str, target: int) -> str:
    check = f"type: tcp, target: 127.0.0.1, port: {target}, interval: 200ms, timeout: 1s"
    return config_text(folder, port, [f"{{name: port-{n}, {check}}}" for n in range(CHECKS)], protocol=protocol)


@pytest.mark.timeout(180)  # RabbitMQ takes its 15 s to start, and 10 to start again
@pytest.mark.parametrize("name", KINDS)
def test_a_real_broker(name: str, tmp_path: Path) -> None:
    kind, ledger = KINDS[name], Ledger()
    broker = kind.make(tmp_path)
    try:
        with peers() as targets:
            agent = RunningAgent(tmp_path, config(tmp_path, broker.port, kind.protocol, targets.tcp))
            with agent:
                wait_for_backlog(tmp_path / "store")
                agent.stop()
                broker.start()
                whole_story(kind, broker, agent, ledger)
    finally:
        broker.__exit__()
        ledger.close()


def wait_for_backlog(store: Path) -> None:
    """Let the agent measure without a broker until so many records wait."""
    end = time.monotonic() + BACKLOG_WITHIN_S
    while not (found := ask_status([store])) or found["buffer"]["pending"] < BACKLOG + 10:
        assert time.monotonic() < end, f"no backlog: {found and found['buffer']}"
        time.sleep(0.1)


def whole_story(kind: Kind, broker: AnyBroker, agent: RunningAgent, ledger: Ledger) -> None:
    """Connect with a backlog, look at what is retained, restart the broker, kill the agent."""
    with CentralReader(broker.port, ledger) as reader:
        agent.start()
        reader.wait_for_state("online")
        reader.wait_until_whole(least=BACKLOG)
        assert ledger.came_late >= BACKLOG
        assert ledger.records()[0]["seq"] == 1
        look_at_retained(kind, broker)
        broker.stop()
        time.sleep(1)
        broker.start()
        reader.wait_for_state("online", 40)
        reader.wait_until_whole(40, least=len(ledger.records()) + 25 * CHECKS)
        agent.kill()
        reader.wait_for_state("lost")
        agent.start()
        reader.wait_for_state("online")
        agent.stop()
        reader.wait_for_state("stopped")
    assert {record["type"] for record in ledger.records()} >= {"tcp", "event", "transition", "verdict"}


def look_at_retained(kind: Kind, broker: AnyBroker) -> None:
    """A new subscriber finds the present state of everything, by wildcard where the broker has that."""
    wanted = {f"{BASE}/{suffix}" for suffix in ("status", "about", "heartbeat", "verdict")}
    wanted |= {f"{BASE}/state/port-{n}" for n in range(CHECKS)}
    if kind.retained_by_wildcard:
        assert retained(broker.port, "siteprobe/v1/#") >= wanted
    else:
        for topic in wanted:
            assert retained(broker.port, topic) == {topic}

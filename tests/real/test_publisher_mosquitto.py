"""The publisher, with the real journal, against the real mosquitto."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

from agent.clock import Clock, Instant
from agent.config.sections import Mqtt
from agent.journal import Journal, Line
from agent.model import Failed, Failure, Record
from agent.mqtt import wire_factory
from agent.publisher import Card, Publisher
from tests.rigs.mosquitto import Mosquitto, Reader, retained
from tests.rigs.publishing import BASE, CARDS, IDENTITY, publishing

CLOCK = Clock("trusted")


class Scene:
    """A journal and a publisher on it, as the app joins them."""

    def __init__(self, folder: Path, mqtt: Mqtt, cards: Callable[[], Sequence[Card]] = lambda: CARDS) -> None:
        buffer = SimpleNamespace(directory=str(folder), max_bytes=2**24, max_age_s=1e6, commit_s=0.05)
        self.journal = Journal(buffer, "n", "machine", self._committed, CLOCK.now)
        self.mqtt, self.cards = mqtt, cards
        self.publisher: Publisher | None = None
        self.resolvable = True

    def _committed(self, lines: Sequence[Line]) -> None:
        if self.publisher:
            self.publisher.committed(lines)

    async def resolve(self, host: str, deadline: float) -> str:
        if not self.resolvable:
            raise Failed(Failure.DNS_TIMEOUT, "not yet")
        return "127.0.0.1"

    def take(self, count: int, type: str = "icmp", age_s: float = 0) -> None:
        now = CLOCK.now()
        taken = Instant(now.ts - age_s, now.mono_ms - int(age_s * 1000), now.clock, now.boot)
        for _ in range(count):
            self.journal.append(Record(type, taken, {"check": "gw", "outcome": "pass", "duration_s": 0.4}))


@asynccontextmanager
async def scene(
    folder: Path, mqtt: Mqtt, cards: Callable[[], Sequence[Card]] = lambda: CARDS, **inbox: Any
) -> AsyncIterator[Scene]:
    made = Scene(folder / "store", mqtt, cards)
    (folder / "store").mkdir(exist_ok=True)
    await made.journal.open()
    open_wire = wire_factory(mqtt, "n", made.resolve, lambda address: None, lambda: True)
    try:
        async with publishing(
            made.journal, open_wire, mqtt, made.cards, CLOCK.now, IDENTITY, **inbox
        ) as made.publisher:
            yield made
    finally:
        await made.journal.close()


def settings(broker: Mosquitto, scheme: str = "mqtt", **more: Any) -> Mqtt:
    fast: dict[str, Any] = {"spread_s": 0.2, "retry_max_s": 1.0, "late_rate": 0}
    return Mqtt(**({"url": f"{scheme}://broker.test:{broker.port}"} | fast | more))


async def wait_for(reader: Reader, condition: Callable[[Any], Any], seconds: float = 15) -> None:
    await asyncio.to_thread(reader.wait_for, condition, seconds)


def live_seqs(reader: Reader) -> list[int]:
    return [m.json["seq"] for m in reader.under("live/")]


def late_seqs(reader: Reader) -> list[int]:
    return [record["seq"] for m in reader.under("late/") for record in m.json]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_every_topic_arrives(tmp_path: Path, protocol: str) -> None:
    async def play(broker: Mosquitto, reader: Reader) -> None:
        async with scene(tmp_path, settings(broker, protocol=protocol)) as made:
            made.take(3, age_s=100)
            await wait_for(reader, lambda _: len(late_seqs(reader)) == 3)
            made.take(3)
            await wait_for(reader, lambda _: len(live_seqs(reader)) == 3)
        await wait_for(reader, lambda messages: messages[-1].topic.endswith("/status"))

    with Mosquitto(tmp_path) as broker, Reader(broker.port) as reader:
        asyncio.run(play(broker, reader))
        kept = retained(broker.port)
    topics = [m.topic.removeprefix(f"{BASE}/") for m in reader.messages]
    assert topics[:5] == ["status", "about", "heartbeat", "verdict", "state/gw"]
    assert set(topics[5:]) == {"live/icmp/gw", "late/icmp", "status"}
    assert sorted(late_seqs(reader) + live_seqs(reader)) == [1, 2, 3, 4, 5, 6]
    assert [m.json["state"] for m in reader.under("status")] == ["online", "stopped"]
    assert {m.retain for m in reader.under("live/") + reader.under("late/")} == {False}
    assert {t.removeprefix(f"{BASE}/") for t in kept} == {"status", "about", "heartbeat", "verdict", "state/gw"}
    assert kept[f"{BASE}/status"].json["state"] == "stopped"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_an_abrupt_end_leaves_the_will(tmp_path: Path, protocol: str) -> None:
    async def play(broker: Mosquitto, reader: Reader) -> None:
        async with scene(tmp_path, settings(broker, protocol=protocol, spread_s=1.0)) as made:
            await wait_for(reader, lambda _: len(reader.under("state/")) == 1)
            assert made.publisher and made.publisher._session
            made.publisher._session.wire.abort()
            await wait_for(reader, lambda _: len(reader.under("status")) == 3)

    with Mosquitto(tmp_path) as broker, Reader(broker.port) as reader:
        asyncio.run(play(broker, reader))
    said = [(m.json["state"], m.json["conn"]) for m in reader.under("status")][:3]
    assert said == [("online", 1), ("lost", 1), ("online", 2)]
    assert all(m.retain for m in reader.under("status"))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_broker_away_then_back_everything_arrives_live_first(tmp_path: Path, protocol: str) -> None:
    async def play(broker: Mosquitto, reader: Reader) -> None:
        async with scene(tmp_path, settings(broker, protocol=protocol, late_rate=400)) as made:
            made.take(10)
            await wait_for(reader, lambda _: len(live_seqs(reader)) == 10)
            # The reader is to be back first: 3.1.1 cannot tell that nobody heard (there is a test of its own for 5).
            made.resolvable = False
            reader.forget_subscription()
            await asyncio.to_thread(broker.kill)
            for _ in range(12):
                made.take(50, age_s=31)
                made.take(50, "tcp", age_s=31)
                await asyncio.sleep(0.1)
            made.take(5)
            await made.journal.flush()
            assert made.publisher and not made.publisher.delivery.connected
            reader.messages.clear()
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(reader.wait_subscribed)
            made.resolvable = True
            await wait_for(reader, lambda _: late_seqs(reader))
            made.take(1)
            everything = set(range(11, 1217))
            await wait_for(reader, lambda _: everything <= {*late_seqs(reader), *live_seqs(reader)})
            await asyncio.sleep(0.1)
            assert made.journal.pending == 0

    with Mosquitto(tmp_path) as broker, Reader(broker.port) as reader:
        asyncio.run(play(broker, reader))
    assert sorted(late_seqs(reader) + live_seqs(reader)) == list(range(11, 1217))
    first_records = [m.topic for m in reader.messages if "/live/" in m.topic or "/late/" in m.topic][:5]
    assert [("/live/" in topic) for topic in first_records] == [True] * 5
    for kind in ("icmp", "tcp"):
        seqs = [record["seq"] for m in reader.under(f"late/{kind}") for record in m.json]
        assert seqs == sorted(seqs)
    places = {m.json["seq"]: place for place, m in enumerate(reader.messages) if "/live/" in m.topic}
    last_late = max(place for place, m in enumerate(reader.messages) if "/late/" in m.topic)
    assert places[1216] < last_late
    assert live_seqs(reader) == sorted(live_seqs(reader))


def test_after_a_restart_numbers_go_on_and_removed_checks_are_cleared(tmp_path: Path) -> None:
    async def play(broker: Mosquitto, reader: Reader) -> None:
        async with scene(tmp_path, settings(broker), cards=lambda: (Card("state/a", {"n": 1}), Card("state/b", {}))):
            await wait_for(reader, lambda _: len(reader.under("state/")) == 2)
        async with scene(tmp_path, settings(broker), cards=lambda: (Card("state/b", {}),)):
            await wait_for(reader, lambda _: len(reader.under("state/")) == 4)

    with Mosquitto(tmp_path) as broker, Reader(broker.port) as reader:
        asyncio.run(play(broker, reader))
        assert {t.removeprefix(f"{BASE}/") for t in retained(broker.port)} == {"status", "state/b"}
    assert [m.json["conn"] for m in reader.under("status")] == [1, 1, 2, 2]


def test_nobody_subscribed_keeps_everything_until_somebody_is(tmp_path: Path) -> None:
    async def play(broker: Mosquitto) -> None:
        async with scene(tmp_path, settings(broker)) as made:
            made.take(5)
            await made.journal.flush()
            assert made.publisher
            for _ in range(200):
                if made.publisher.delivery.unheard == 5:
                    break
                await asyncio.sleep(0.05)
            assert made.publisher.delivery.unheard == 5 and made.journal.pending == 5
            with Reader(broker.port) as reader:
                await wait_for(reader, lambda _: sorted(late_seqs(reader)) == [1, 2, 3, 4, 5], 25)
                await asyncio.sleep(0.2)
                assert made.publisher.delivery.unheard == 0 and made.journal.pending == 0

    with Mosquitto(tmp_path) as broker:
        asyncio.run(play(broker))


# TLS ------------------------------------------------------------------------------------------------------


def tls_lines(folder: Path, ca: trustme.CA, name: str, **dates: Any) -> list[str]:
    issued = ca.issue_cert(name, **dates)
    issued.private_key_pem.write_to_path(folder / "server.key")
    (folder / "server.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    ca.cert_pem.write_to_path(folder / "ca.pem")
    return [f"cafile {folder}/ca.pem", f"certfile {folder}/server.pem", f"keyfile {folder}/server.key"]


def reason_of(folder: Path, broker: Mosquitto, **files: str) -> str:
    """Give the publisher's reason once it has one beyond "not connected yet", "" when it connects."""

    async def play() -> str:
        async with scene(folder, settings(broker, "mqtts", **files)) as made:
            for _ in range(300):
                assert made.publisher
                now = made.publisher.delivery
                if now.connected or now.reason != "not connected yet":
                    return now.reason
                await asyncio.sleep(0.02)
        return "nothing happened"

    return asyncio.run(play())


LONG_AGO = {"not_before": datetime(2020, 1, 1, tzinfo=UTC), "not_after": datetime(2021, 1, 1, tzinfo=UTC)}
FAR_AHEAD = {"not_before": datetime.now(UTC) + timedelta(days=9), "not_after": datetime.now(UTC) + timedelta(days=99)}


@pytest.mark.parametrize(
    ("name", "dates", "ca_file", "words"),
    [
        ("broker.test", {}, "ca.pem", ""),
        ("broker.test", {}, "other.pem", "unknown CA"),
        ("other.test", {}, "ca.pem", "is not for broker.test"),
        ("broker.test", LONG_AGO, "ca.pem", "has expired"),
        ("broker.test", FAR_AHEAD, "ca.pem", "not valid yet"),
    ],
)
def test_tls(tmp_path: Path, name: str, dates: Any, ca_file: str, words: str) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    with Mosquitto(tmp_path, tls_lines(tmp_path, trustme.CA(), name, **dates)) as broker:
        reason = reason_of(tmp_path, broker, ca_file=str(tmp_path / ca_file))
    assert words in reason and bool(words) == bool(reason)


def test_mutual_tls(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.issue_cert("n").private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    trustme.CA().issue_cert("n").private_key_and_cert_chain_pem.write_to_path(tmp_path / "foreign.pem")
    lines = [*tls_lines(tmp_path, ca, "broker.test"), "require_certificate true"]
    ca_file = str(tmp_path / "ca.pem")
    with Mosquitto(tmp_path, lines) as broker:
        assert reason_of(tmp_path, broker, ca_file=ca_file, cert_file=str(tmp_path / "own.pem")) == ""
        assert "cert_file" in reason_of(tmp_path, broker, ca_file=ca_file)
        foreign = reason_of(tmp_path, broker, ca_file=ca_file, cert_file=str(tmp_path / "foreign.pem"))
        assert "refuses our certificate" in foreign or "mqtt.cert_file" in foreign
        gone = reason_of(tmp_path, broker, ca_file=ca_file, cert_file="/nonexistent/own.pem")
        assert "/nonexistent/own.pem cannot be read" in gone


def test_records_arrive_over_tls(tmp_path: Path) -> None:
    ca = trustme.CA()
    lines = tls_lines(tmp_path, ca, "broker.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    ca.configure_trust(context)

    async def play(broker: Mosquitto, reader: Reader) -> None:
        async with scene(tmp_path, settings(broker, "mqtts", ca_file=str(tmp_path / "ca.pem"))) as made:
            made.take(2000, age_s=100)
            made.take(20)
            await wait_for(reader, lambda _: len({*late_seqs(reader), *live_seqs(reader)}) == 2020)

    with Mosquitto(tmp_path, lines) as broker, Reader(broker.port, context=context) as reader:
        asyncio.run(play(broker, reader))

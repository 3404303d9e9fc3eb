"""The publisher on the paho wire against a broker that misbehaves, limits, stalls, or wants new certificates."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import trustme

import agent.mqtt.client
import agent.publisher.backoff
import agent.publisher.papers
from agent.config.secret import SecretSource
from agent.config.sections import Mqtt
from agent.mqtt import wire_factory
from agent.mqtt.files import certificate_ends_ts
from agent.publisher import Card, Closed, Message, NotConnected, Received, Subscribed, Wire
from tests.rigs.publishing import BASE, CARDS, FakeStore, pace, publishing
from tests.rigs.scripted_broker import (
    MAXIMUM_QOS_0,
    RETAIN_UNAVAILABLE,
    Publish,
    ScriptedBroker,
    disconnect,
    maximum_packet_size,
    message,
    receive_maximum,
    server_keep_alive,
)

WILL = Message(f"{BASE}/status", b'{"state":"lost"}', retain=True)
FIVE_AND_OLD = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


def settings(broker: ScriptedBroker, **more: Any) -> Mqtt:
    scheme = "mqtts" if broker.tls else "mqtt"
    fast: dict[str, Any] = {"spread_s": 0.05, "retry_max_s": 1.0, "late_rate": 0}
    return Mqtt(**({"url": f"{scheme}://broker.test:{broker.port}"} | fast | more))


def opener(broker: ScriptedBroker, **more: Any) -> Any:
    async def to_loopback(host: str, deadline: float) -> str:
        return "127.0.0.1"

    return wire_factory(settings(broker, **more), "n", to_loopback, lambda address: None, lambda: True)


async def connected(broker: ScriptedBroker, **more: Any) -> Wire:
    wire: Wire = await opener(broker, **more)(WILL)
    return wire


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("did not happen in time")


def seqs_of(publish: Publish) -> list[int]:
    if "/late/" in publish.topic:
        return [record["seq"] for record in publish.json]
    return [publish.json["seq"]] if "/live/" in publish.topic else []


# What the broker allows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced_s", [1, 0, 3600])
def test_the_servers_keep_alive_is_kept_and_silence_is_never_long(
    monkeypatch: pytest.MonkeyPatch, announced_s: int
) -> None:
    if announced_s != 1:
        monkeypatch.setattr(agent.mqtt.client, "LONGEST_PING_S", 1)

    async def scene() -> None:
        async with ScriptedBroker(properties=server_keep_alive(announced_s)) as broker:
            wire = await connected(broker, keepalive_s=30.0)
            await until(lambda: len(broker.pings) >= 2, 6)
            wire.abort()

    asyncio.run(scene())


def test_a_stalled_broker_is_noticed_by_its_missing_ping_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.mqtt.client, "LONGEST_PING_S", 1)

    async def scene() -> None:
        async with ScriptedBroker() as broker:
            wire = await connected(broker)
            broker.stalled = True
            async with asyncio.timeout(6):
                closed = await wire.event()
            assert isinstance(closed, Closed) and closed.kind == "stalled" and "ping" in closed.reason

    asyncio.run(scene())


@pytest.mark.parametrize("most", [1, 5])
def test_receive_maximum_with_1000_pending_at_each_reconnect(most: int) -> None:
    async def scene() -> None:
        store = FakeStore()
        store.add(1000, age_s=100, pad=400)
        async with (
            ScriptedBroker(properties=receive_maximum(most), end_at=9) as broker,
            publishing(store, opener(broker)) as publisher,
        ):
            await until(lambda: len(broker.connects) >= 2)
            broker.end_at = None
            publisher.committed(store.add(20))
            await until(lambda: len(store.sent) == 1020, 20)
            assert broker.most_in_flight <= most
            assert {s for p in broker.publishes for s in seqs_of(p)} == set(range(1, 1021))

    asyncio.run(scene())


def test_maximum_packet_size_300_sends_what_fits_and_declares_the_rest() -> None:
    async def scene() -> None:
        store = FakeStore()
        store.add(50, age_s=100)
        store.add(1, age_s=100, pad=300)
        store.add(50, age_s=100)
        async with (
            ScriptedBroker(properties=maximum_packet_size(300)) as broker,
            publishing(store, opener(broker)) as publisher,
        ):
            publisher.committed(store.add(10))
            publisher.committed(store.add(1, pad=300))
            await until(lambda: len(store.sent) == 112)
            assert max(p.size for p in broker.publishes) <= 300
            assert sorted(store.lost) == [("e1", 51, "quarantined"), ("e1", 112, "quarantined")]
            assert "300 bytes" in publisher.delivery.reason

    asyncio.run(scene())


@pytest.mark.parametrize(("size", "asked"), [(64, True), (63, False)])
def test_a_subscription_that_does_not_fit_the_brokers_packets_is_not_sent(size: int, asked: bool) -> None:
    async def scene() -> None:
        topics = (
            "siteprobe/v1/o/s/n/command/+",
            "siteprobe/v1/o/fleet/x",
        )  # 28 and 22 bytes
        broker = ScriptedBroker(properties=maximum_packet_size(size))
        async with broker, publishing(FakeStore(), opener(broker), subscriptions=lambda: topics) as publisher:
            await until(lambda: publisher.delivery.connected)
            await asyncio.sleep(0.2)
            assert bool(broker.subscriptions) is asked
            assert asked or "too small" in str(publisher._session.problems["subscriptions"])

    asyncio.run(scene())


def test_without_retain_cards_are_published_unretained_and_the_will_too() -> None:
    class Refusing(ScriptedBroker):
        def _connack_packet(self) -> bytes:
            self.connack = 0x9A if self.connects[-1].will_retain else 0
            return super()._connack_packet()

    async def scene() -> None:
        store = FakeStore()
        async with Refusing(properties=RETAIN_UNAVAILABLE) as broker, publishing(store, opener(broker)):
            await until(lambda: len(broker.publishes) == 1 + len(CARDS))
            assert [c.will_retain for c in broker.connects] == [True, False]
            assert not any(p.retain for p in broker.publishes)

    asyncio.run(scene())


@pytest.mark.parametrize(("code", "properties"), [(0, MAXIMUM_QOS_0), (0x9B, b"")])
def test_a_broker_of_qos_0_is_refused_with_the_reason(code: int, properties: bytes) -> None:
    async def scene() -> None:
        async with ScriptedBroker(connack=code, properties=properties) as broker:
            with pytest.raises(NotConnected, match="QoS 0 only and siteprobe needs QoS 1") as caught:
                await connected(broker)
            assert caught.value.kind == "refused"

    asyncio.run(scene())


def test_our_own_maximum_is_64_kib() -> None:
    async def scene() -> None:
        body = b"x" * 60_000
        async with ScriptedBroker(first=message("t", body)) as broker:
            wire = await connected(broker)
            assert await wire.event() == Received(Message("t", body))
            broker.send_all(message("t", b"x" * 66_000))
            closed = await wire.event()
            assert isinstance(closed, Closed) and closed.kind == "protocol" and "larger" in closed.reason

    asyncio.run(scene())


def test_a_giant_packet_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of a gigabyte that comes fast would be in memory before paho lets anybody look at it."""
    asked: list[int] = []
    receive = paho.Client._sock_recv

    def noting(client: paho.Client, size: int) -> bytes:
        asked.append(size)
        return receive(client, size)

    async def scene() -> None:
        monkeypatch.setattr(paho.Client, "_sock_recv", noting)
        async with ScriptedBroker(first=b"\x30\xff\xff\xff\x7f" + b"x" * 200_000) as broker:
            closed = await (await connected(broker)).event()
            assert isinstance(closed, Closed) and closed.kind == "protocol" and "larger" in closed.reason
            assert max(asked) <= 64 * 1024

    asyncio.run(scene())


# Messages of the broker ---------------------------------------------------------------------------------------


@FIVE_AND_OLD
def test_subscriptions_ask_for_qos_1_and_for_the_retain_flag(protocol: str) -> None:
    async def scene() -> None:
        five = protocol == "5"
        retained = message("a/b", b"1", retain=True, five=five)
        async with ScriptedBroker(subscribed=retained) as broker:
            wire = await connected(broker, protocol=protocol)
            wire.subscribe(["a/+", "c"])
            assert await wire.event() == Subscribed()
            assert await wire.event() == Received(Message("a/b", b"1", retain=True))
            # 5: QoS 1, retain as published, retained messages at each subscribing (MQTT 5.0, 3.8.3.1)
            assert broker.subscriptions == [("a/+", 0b1001 if five else 1), ("c", 0b1001 if five else 1)]
            wire.abort()
            with pytest.raises(ConnectionError):
                wire.subscribe(["a"])

    asyncio.run(scene())


@pytest.mark.parametrize(("protocol", "code"), [("5", 0x87), ("3.1.1", 0x80)])
def test_a_refused_subscription_is_one_sentence(protocol: str, code: int) -> None:
    async def scene() -> None:
        async with ScriptedBroker(suback=code) as broker:
            wire = await connected(broker, protocol=protocol)
            wire.subscribe(["a/+"])
            told = await wire.event()
            assert isinstance(told, Subscribed) and "our subscription to a/+" in told.refused
            wire.abort()

    asyncio.run(scene())


# PUBACKs and disconnects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0x10, 0x80, 0x83, 0x87, 0x97, 0xFF])
def test_a_puback_that_is_no_yes_loses_nothing(code: int) -> None:
    async def scene() -> None:
        store = FakeStore()
        store.add(20, age_s=100)
        async with ScriptedBroker(puback=lambda topic: code) as broker, publishing(store, opener(broker)) as publisher:
            await until(lambda: publisher.delivery.reason and any(seqs_of(p) for p in broker.publishes))
            publisher.committed(store.add(5))
            await asyncio.sleep(0.3)
            assert publisher.delivery.connected and store.lost == []
            assert not store.sent and len(broker.connects) == 1

    asyncio.run(scene())


@pytest.mark.parametrize("code", [0x90, 0x95, 0x99])
def test_a_puback_that_means_never_gives_up_that_record_only(code: int) -> None:
    async def scene() -> None:
        store = FakeStore()
        store.add(40, age_s=100)
        async with ScriptedBroker() as broker, publishing(store, opener(broker)):
            broker.puback = lambda topic: code if 7 in seqs_of(broker.publishes[-1]) else 0
            await until(lambda: len(store.sent) == 40)
            assert store.lost == [("e1", 7, "quarantined")] and len(broker.connects) == 1

    asyncio.run(scene())


def test_a_poison_record_on_the_wire() -> None:
    async def scene() -> None:
        store = FakeStore()
        store.add(300, age_s=100)
        quick = pace(spread_s=0.5, retry_max_s=0.5)
        async with (
            ScriptedBroker(deadly=lambda p: 123 in seqs_of(p)) as broker,
            publishing(store, opener(broker), quick),
        ):
            await until(lambda: len(store.sent) == 300, 20)
            assert store.lost == [("e1", 123, "quarantined")]

    asyncio.run(scene())


def test_a_card_that_the_broker_dies_of_does_not_keep_the_records_back() -> None:
    """RabbitMQ hangs up at a topic that it does not allow: one card would end every connection before any record."""

    async def scene() -> None:
        store = FakeStore()
        store.add(50, age_s=100)
        async with (
            ScriptedBroker(deadly=lambda publish: publish.topic.endswith("/about")) as broker,
            publishing(store, opener(broker), pace(spread_s=0.05, retry_max_s=0.5)) as publisher,
        ):
            await until(lambda: store.appended and publisher.delivery.connected)
            connects = len(broker.connects)
            publisher.committed(store.add(5))
            publisher.post(Card("about", {"a": 2}))
            publisher.post(Card("verdict", {"v": 2}))
            await until(lambda: any(p.topic.endswith("/verdict") and p.json == {"v": 2} for p in broker.publishes))
            await until(lambda: len(store.sent) == 55)
            assert len(broker.connects) == connects <= 6 and not store.lost
            assert {p.topic for p in broker.publishes} >= {f"{BASE}/{card.suffix}" for card in CARDS}
            kinds = [record.fields["kind"] for record in store.appended]
            assert kinds.count("delivery_refused") == 1 and "duplicate_identity" not in kinds

    asyncio.run(scene())


def test_a_flapping_broker_silences_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.publisher.backoff, "KICKED_S", 0.0)

    async def scene() -> None:
        store = FakeStore()
        async with (
            ScriptedBroker(end_at=1) as broker,
            publishing(store, opener(broker), pace(spread_s=0.05, retry_max_s=0.1)),
        ):
            await until(lambda: len(broker.connects) >= 6)
            broker.end_at = None
            await until(lambda: {p.topic for p in broker.publishes} >= {f"{BASE}/{c.suffix}" for c in CARDS})

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("code", "words"),
    [(0x8B, "shutting down"), (0x93, "receive maximum exceeded"), (0x95, "packet too large"), (0x98, "administrative")],
)
def test_the_brokers_reason_for_a_disconnect_is_told(code: int, words: str) -> None:
    async def scene() -> None:
        store = FakeStore()
        async with (
            ScriptedBroker() as broker,
            publishing(store, opener(broker, spread_s=60.0, retry_max_s=60.0)) as publisher,
        ):
            await until(lambda: publisher.delivery.connected)
            broker.send_all(disconnect(code))
            await until(lambda: not publisher.delivery.connected)
            assert words in publisher.delivery.reason

    asyncio.run(scene())


def test_a_taken_over_session_is_a_duplicate_identity() -> None:
    async def scene() -> None:
        store = FakeStore()
        async with ScriptedBroker() as broker, publishing(store, opener(broker)) as publisher:
            await until(lambda: publisher.delivery.connected)
            broker.send_all(disconnect(0x8E))
            await until(lambda: not publisher.delivery.connected)
            assert "duplicate_identity" in publisher.delivery.reason
            await asyncio.sleep(1.5)
            assert len(broker.connects) == 1  # not again within a minute
            assert [record.fields["kind"] for record in store.appended] == ["duplicate_identity"]

    asyncio.run(scene())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_death_of_pahos_thread_is_noticed_and_another_one_made() -> None:
    async def scene() -> None:
        store = FakeStore()
        async with ScriptedBroker() as broker, publishing(store, opener(broker)) as publisher:
            await until(lambda: publisher.delivery.connected)
            thread = next(t for t in threading.enumerate() if t.name.startswith("paho"))
            killed = ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
            )
            assert killed == 1
            await until(lambda: len(broker.connects) == 2)
            publisher.committed(store.add(1))
            await until(lambda: store.sent == {1})

    asyncio.run(scene())


# Certificates and passwords ---------------------------------------------------------------------------------------


def tls_server(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("broker.test").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def moment(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def issue(ca: trustme.CA, path: Path, days: float = 300) -> float:
    """Write a new certificate and key as a renewal does: a new file in place of the old one. Gives its end."""
    ends = moment(days).replace(microsecond=0)
    fresh = path.with_suffix(".new")
    ca.issue_cert("n", not_before=moment(-400), not_after=ends).private_key_and_cert_chain_pem.write_to_path(fresh)
    fresh.replace(path)
    return ends.timestamp()


def test_a_certificate_rotated_while_running_is_used_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(agent.publisher.papers, "PAPERS_S", 0.2)
    ca, own = trustme.CA(), tmp_path / "own.pem"
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    files = {"ca_file": str(tmp_path / "ca.pem"), "cert_file": str(own)}

    async def scene() -> None:
        store = FakeStore()
        issue(ca, own)
        async with (
            ScriptedBroker(tls=tls_server(ca)) as broker,
            publishing(store, opener(broker, spread_s=60.0, retry_max_s=60.0, **files)) as publisher,
        ):
            await until(lambda: publisher.delivery.connected)
            own.write_text("half written")
            await until(lambda: "changed, but not used" in publisher.delivery.reason)
            assert "PEM" in publisher.delivery.reason and publisher.delivery.connected
            issue(ca, own)
            for _ in range(20):
                publisher.committed(store.add(1))
                await asyncio.sleep(0.1)
            await until(lambda: len(broker.connects) == 2 and len(store.sent) == 20)
            first, second = (connect.certificate["serialNumber"] for connect in broker.connects)
            assert first != second and broker.ends == ["clean"]
            states = [p.json["state"] for p in broker.publishes if p.topic.endswith("/status")]
            assert states == ["online", "online"]  # neither stopped nor lost between them
            assert [s for p in broker.publishes for s in seqs_of(p)] == list(range(1, 21))

    asyncio.run(scene())


def test_a_certificate_of_ours_that_ends_soon_or_has_ended_is_told(tmp_path: Path) -> None:
    ca, own = trustme.CA(), tmp_path / "own.pem"
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    files = {"ca_file": str(tmp_path / "ca.pem"), "cert_file": str(own)}

    async def scene() -> None:
        store = FakeStore()
        async with ScriptedBroker(tls=tls_server(ca)) as broker:
            issue(ca, own, days=10)
            wire = await connected(broker, **files)
            assert (await wire.papers()).certificate_ends_ts == certificate_ends_ts(str(own))
            await wire.close()
            issue(ca, own, days=-1)
            async with publishing(store, opener(broker, **files)) as publisher:
                await until(lambda: "certificate" in publisher.delivery.reason)
                assert not publisher.delivery.connected

    asyncio.run(scene())


def test_the_end_of_a_certificate_is_read_and_rubbish_is_none(tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    for days in (5, 300, 365 * 40):  # the last is beyond 2050, written in four digits
        assert issue(trustme.CA(), own, days) == certificate_ends_ts(str(own))
    whole = own.read_text()
    for cut in range(0, len(whole), 37):
        own.write_text(whole[:cut])
        assert certificate_ends_ts(str(own)) in (None, certificate_ends_ts(str(own)))
    own.write_text("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----")
    assert certificate_ends_ts(str(own)) is None
    assert certificate_ends_ts("/nonexistent") is None


def test_a_mended_password_is_used_soon_after_a_refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(agent.publisher.core, "PAPERS_S", 0.2)
    secret = tmp_path / "password"
    secret.write_text("wrong")

    class Strict(ScriptedBroker):
        def _connack_packet(self) -> bytes:
            self.connack = 0 if self.connects[-1].password == "right" else 0x86
            return super()._connack_packet()

    async def scene() -> None:
        store = FakeStore()
        more: dict[str, Any] = {"username": "u", "password": SecretSource("file", str(secret)), "retry_max_s": 300.0}
        async with Strict() as broker, publishing(store, opener(broker, **more)) as publisher:
            await until(lambda: "bad user name or password" in publisher.delivery.reason)
            await asyncio.sleep(0.5)
            assert len(broker.connects) == 1
            secret.write_text("right")
            await until(lambda: publisher.delivery.connected, 3)
            assert json.dumps([c.password for c in broker.connects]) == '["wrong", "right"]'

    asyncio.run(scene())


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")]
)
def test_no_room_for_a_connection_is_tried_again_later_and_ends_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_client: object) -> None:
        raise error

    async def scene() -> None:
        async with ScriptedBroker() as broker:
            monkeypatch.setattr(agent.mqtt.client.PahoClient, "loop_start", full, raising=False)
            with pytest.raises(NotConnected, match="no connection can be begun"):
                await connected(broker)

    asyncio.run(scene())

"""The paho wire, and the publisher on it, against a broker that does as it is told."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

import agent.mqtt.wire
from agent.config.secret import SecretSource
from agent.config.sections import Mqtt
from agent.model import Failed, Failure
from agent.mqtt import wire_factory
from agent.mqtt.client import PahoClient
from agent.publisher import Acked, Closed, Message, NotConnected, Received, Wire, WireFactory
from tests.rigs.publishing import BASE, FakeStore, publishing
from tests.rigs.scripted_broker import (
    MAXIMUM_QOS_0,
    RETAIN_UNAVAILABLE,
    ScriptedBroker,
    maximum_packet_size,
    receive_maximum,
)

WILL = Message(f"{BASE}/status", b'{"state":"lost"}', retain=True)


def settings(broker: ScriptedBroker, **more: Any) -> Mqtt:
    scheme = "mqtts" if broker.tls else "mqtt"
    fast: dict[str, Any] = {"spread_s": 0.05, "late_rate": 0}
    return Mqtt(**({"url": f"{scheme}://broker.test:{broker.port}"} | fast | more))


async def to_loopback(host: str, deadline: float) -> str:
    assert host == "broker.test" and deadline > 0
    return "127.0.0.1"


def factory(mqtt: Mqtt, dates: bool = True, judge: Callable[[str], None] = lambda address: None) -> WireFactory:
    return wire_factory(mqtt, "n", to_loopback, judge, lambda: dates)


async def connected(broker: ScriptedBroker, **more: Any) -> Wire:
    return await factory(settings(broker, **more))(WILL)


async def refusal(open_wire: WireFactory) -> NotConnected:
    with pytest.raises(NotConnected) as caught:
        await open_wire(WILL)
    return caught.value


async def until(condition: Callable[[], Any], seconds: float = 5) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("did not happen in time")


@pytest.mark.parametrize(("protocol", "number"), [("5", 5), ("3.1.1", 4)])
def test_connect_says_who_we_are(protocol: str, number: int) -> None:
    async def scene() -> None:
        async with ScriptedBroker() as broker:
            secret = SecretSource("literal", "hush")
            wire = await connected(broker, protocol=protocol, username="u", password=secret, keepalive_s=30.0)
            said = broker.connects[0]
            assert (said.protocol, said.client_id, said.clean, said.keepalive_s) == (number, "n", True, 30)
            assert (said.will_topic, said.will, said.will_qos, said.will_retain) == (
                WILL.topic,
                {"state": "lost"},
                1,
                True,
            )
            assert (said.username, said.password) == ("u", "hush")
            assert said.properties == (maximum_packet_size(65536) if number == 5 else b"")
            assert wire.address == "127.0.0.1"
            await wire.close()
            await until(lambda: broker.ends == ["clean"])

    asyncio.run(scene())


def test_limits_and_acknowledgements_of_any_code() -> None:
    async def scene() -> None:
        properties = receive_maximum(3) + maximum_packet_size(999) + RETAIN_UNAVAILABLE
        codes = [0, 0x10, 0x80, 0x87, 0x95, 0xFF]
        given = iter(codes)
        async with ScriptedBroker(properties=properties, puback=lambda topic: next(given)) as broker:
            wire = await connected(broker)
            assert (wire.limits.receive_maximum, wire.limits.packet_bytes, wire.limits.retain) == (3, 999, False)
            for code in codes:
                mid = wire.publish(Message("t", b"x"))
                assert await wire.event() == Acked(mid, code)
            assert all(p.qos == 1 and not p.dup for p in broker.publishes)
            wire.abort()
            assert isinstance(await wire.event(), Closed)
            with pytest.raises(ConnectionError):
                wire.publish(Message("t", b"x"))
            await until(lambda: broker.ends == ["lost"])

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("protocol", "code", "kind", "words"),
    [
        ("5", 0x86, "refused", "bad user name or password"),
        ("5", 0x87, "refused", "not authorized"),
        ("5", 0x89, "busy", "server busy"),
        ("3.1.1", 4, "refused", "bad user name or password"),
        ("3.1.1", 5, "refused", "not authorized"),
        ("3.1.1", 3, "busy", "server unavailable"),
    ],
)
def test_refused_connections_say_why(protocol: str, code: int, kind: str, words: str) -> None:
    async def scene() -> None:
        async with ScriptedBroker(connack=code) as broker:
            secret = SecretSource("literal", "hush")
            failure = await refusal(factory(settings(broker, protocol=protocol, username="u", password=secret)))
            assert failure.kind == kind and words in failure.reason and "hush" not in failure.reason

    asyncio.run(scene())


def test_a_broker_of_qos_0_is_no_use() -> None:
    async def scene() -> None:
        async with ScriptedBroker(properties=MAXIMUM_QOS_0) as broker:
            failure = await refusal(factory(settings(broker)))
            assert failure.kind == "refused" and "QoS 1" in failure.reason

    asyncio.run(scene())


def test_nobody_listens_and_no_connack(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with ScriptedBroker(connack=None) as broker:
            monkeypatch.setattr(agent.mqtt.wire, "CONNACK_DEADLINE_S", 0.3)
            failure = await refusal(factory(settings(broker)))
            assert failure.kind == "network" and "did not answer" in failure.reason
            await until(lambda: broker.ends == ["lost"])
            mqtt = settings(broker)
        failure = await refusal(factory(mqtt))
        assert "nobody listens" in failure.reason and str(mqtt.port) in failure.reason

    asyncio.run(scene())


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), RuntimeError("can't start new thread")])
def test_without_descriptors_or_threads_there_is_no_connection_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhausted(client: PahoClient) -> None:
        raise error

    async def scene() -> None:
        async with ScriptedBroker() as broker:
            with monkeypatch.context() as limits:
                limits.setattr(PahoClient, "loop_start", exhausted)
                failure = await refusal(factory(settings(broker)))
            assert failure.kind == "network" and str(error) in failure.reason
            (await connected(broker)).abort()

    asyncio.run(scene())


def test_policy_resolution_and_missing_secret() -> None:
    def forbid(address: str) -> None:
        raise Failed(Failure.LOCAL_POLICY, f"{address} is in safety.deny")

    async def nowhere(host: str, deadline: float) -> str:
        raise Failed(Failure.DNS_NXDOMAIN, "no such name")

    async def elsewhere(host: str, deadline: float) -> str:
        return "192.0.2.1"

    async def scene() -> None:
        async with ScriptedBroker() as broker:
            mqtt = settings(broker)
            failure = await refusal(factory(mqtt, judge=forbid))
            assert failure.kind == "policy" and "safety.deny" in failure.reason
            failure = await refusal(wire_factory(mqtt, "n", nowhere, lambda a: None, lambda: True))
            assert "no such name" in failure.reason
            failure = await refusal(wire_factory(mqtt, "n", elsewhere, lambda a: None, lambda: True))
            assert failure.kind == "policy" and "unencrypted" in failure.reason
            lost = SecretSource("file", "/nonexistent/password")
            failure = await refusal(factory(settings(broker, username="u", password=lost)))
            assert failure.kind == "certificate" and "/nonexistent/password" in failure.reason
            assert broker.connects == []

    asyncio.run(scene())


def packet(kind: int, body: bytes) -> bytes:
    return bytes([kind, len(body)]) + body


@pytest.mark.parametrize(
    ("sent", "kind", "words"),
    [
        (packet(0xE0, b"\x8e\x00"), "taken_over", "session taken over"),
        (packet(0xE0, b"\x8b\x00"), "server", "server shutting down"),
        (packet(0xE0, b"\x87\x00"), "refused", "not authorized"),
        (b"\x30\xff\xff\xff\x7f" + b"x" * 2000, "protocol", "larger"),
        (packet(0x30, b"\x00\x02\xff\xfe\x00hello"), "protocol", "UTF-8"),
        (b"\xf0\x05hello", "closed", "closed"),
        (b"\x00" * 50, "closed", "closed"),
    ],
)
def test_whatever_the_broker_sends_ends_in_one_closed(sent: bytes, kind: str, words: str) -> None:
    async def scene() -> None:
        async with ScriptedBroker(first=sent) as broker:
            wire = await connected(broker)
            async with asyncio.timeout(5):
                closed = await wire.event()
            assert isinstance(closed, Closed) and closed.kind == kind and words in closed.reason

    asyncio.run(scene())


def test_a_message_is_received() -> None:
    async def scene() -> None:
        async with ScriptedBroker(first=packet(0x30, b"\x00\x01t\x00hello")) as broker:
            wire = await connected(broker)
            assert await wire.event() == Received(Message("t", b"hello"))
            wire.abort()

    asyncio.run(scene())


def test_threads_and_descriptors_are_given_back() -> None:
    def paho_threads() -> int:
        return sum(thread.name.startswith("paho") for thread in threading.enumerate())

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def scene() -> None:
        async with ScriptedBroker() as broker:
            before = descriptors()
            for _ in range(5):
                wire = await connected(broker)
                await wire.close()
            await until(lambda: paho_threads() == 0 and descriptors() <= before)

    asyncio.run(scene())


# TLS ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("pki")
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other.pem")
    own = ca.issue_cert("n")
    own.private_key_and_cert_chain_pem.write_to_path(folder / "own.pem")
    return ca, folder


def server(ca: trustme.CA, name: str = "broker.test", client_ca: bool = False, **dates: Any) -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name, **dates).configure_cert(context)
    if client_ca:
        ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def moment(days: int) -> Any:
    return datetime.now(UTC) + timedelta(days=days)


EXPIRED = {"not_before": moment(-20), "not_after": moment(-10)}
TOO_EARLY = {"not_before": moment(10), "not_after": moment(20)}


@pytest.mark.parametrize(
    ("ca_file", "name", "dates", "words"),
    [
        ("other.pem", "broker.test", {}, "unknown CA"),
        ("ca.pem", "wrong.test", {}, "is not for broker.test"),
        ("ca.pem", "broker.test", EXPIRED, "has expired"),
        ("ca.pem", "broker.test", TOO_EARLY, "not valid yet"),
    ],
)
def test_each_tls_failure_is_one_sentence(pki: Any, ca_file: str, name: str, dates: Any, words: str) -> None:
    ca, folder = pki

    async def scene() -> None:
        async with ScriptedBroker(tls=server(ca, name, **dates)) as broker:
            failure = await refusal(factory(settings(broker, ca_file=str(folder / ca_file))))
            assert failure.kind == "tls" and words in failure.reason and broker.connects == []

    asyncio.run(scene())


@pytest.mark.parametrize("dates", [EXPIRED, TOO_EARLY])
def test_dates_are_not_judged_while_the_clock_is_unsynced(pki: Any, dates: Any) -> None:
    ca, folder = pki

    async def scene() -> None:
        async with ScriptedBroker(tls=server(ca, **dates)) as broker:
            wire = await factory(settings(broker, ca_file=str(folder / "ca.pem")), dates=False)(WILL)
            await wire.close()
        async with ScriptedBroker(tls=server(ca, "wrong.test", **dates)) as broker:
            failure = await refusal(factory(settings(broker, ca_file=str(folder / "ca.pem")), dates=False))
            assert "is not for" in failure.reason

    asyncio.run(scene())


def test_mutual_tls_and_certificates_read_anew(pki: Any, tmp_path: Path) -> None:
    ca, folder = pki
    own = tmp_path / "own.pem"

    async def scene() -> None:
        async with ScriptedBroker(tls=server(ca, client_ca=True)) as broker:
            ca_file = str(folder / "ca.pem")
            failure = await refusal(factory(settings(broker, ca_file=ca_file)))
            assert "mqtt.cert_file" in failure.reason
            open_wire = factory(settings(broker, ca_file=ca_file, cert_file=str(own)))
            failure = await refusal(open_wire)
            assert failure.kind == "certificate" and str(own) in failure.reason
            own.write_text("nonsense")
            failure = await refusal(open_wire)
            assert failure.kind == "certificate" and "PEM" in failure.reason
            trustme.CA().issue_cert("n").private_key_and_cert_chain_pem.write_to_path(own)
            failure = await refusal(open_wire)
            assert "mqtt.cert_file" in failure.reason or "refuses our certificate" in failure.reason
            own.write_bytes((folder / "own.pem").read_bytes())
            await (await open_wire(WILL)).close()

    asyncio.run(scene())


def test_a_plain_port_and_an_encrypted_key_do_not_hang(pki: Any, tmp_path: Path) -> None:
    ca, folder = pki

    async def scene() -> None:
        async with ScriptedBroker(silent=True) as broker:
            open_wire = factory(
                settings(broker, url=f"mqtts://broker.test:{broker.port}", ca_file=str(folder / "ca.pem"))
            )
            task = asyncio.create_task(refusal(open_wire))
            await asyncio.sleep(0.2)
            broker.send_all(b"\x20\x02\x00\x00 this is not TLS")
            assert "TLS port" in (await task).reason
        pem = (folder / "own.pem").read_bytes()
        key = serialization.load_pem_private_key(pem, None)
        lock = serialization.BestAvailableEncryption(b"hush")
        pem_form, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        (tmp_path / "own.key").write_bytes(key.private_bytes(pem_form, form, lock))
        files = {"cert_file": str(folder / "own.pem"), "key_file": str(tmp_path / "own.key")}
        async with ScriptedBroker(tls=server(ca)) as broker:
            failure = await refusal(factory(settings(broker, ca_file=str(folder / "ca.pem"), **files)))
            assert failure.kind == "certificate" and "unencrypted key" in failure.reason

    asyncio.run(scene())


# The publisher on the wire ----------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 5, 100])
def test_the_window_on_the_wire(most: int) -> None:
    async def scene() -> None:
        store = FakeStore()
        store.add(1000, age_s=100)
        async with (
            ScriptedBroker(properties=receive_maximum(most)) as broker,
            publishing(store, factory(settings(broker))) as publisher,
        ):
            publisher.committed(store.add(50))
            await until(lambda: len(store.sent) == 1050)
            assert broker.most_in_flight <= min(10, most)

    asyncio.run(scene())


def test_no_packet_exceeds_the_brokers_maximum() -> None:
    async def scene() -> None:
        store = FakeStore()
        store.add(200, age_s=100)
        async with (
            ScriptedBroker(properties=maximum_packet_size(300)) as broker,
            publishing(store, factory(settings(broker))),
        ):
            await until(lambda: len(store.sent) == 200)
            assert max(p.size for p in broker.publishes) <= 300

    asyncio.run(scene())


def test_tcp_cut_at_a_message_loses_nothing() -> None:
    async def scene() -> None:
        store = FakeStore()
        async with ScriptedBroker(end_at=9) as broker, publishing(store, factory(settings(broker))) as publisher:
            publisher.committed(store.add(30))
            await until(lambda: len(broker.connects) == 2)
            broker.end_at = None
            await until(lambda: len(store.sent) == 30)
            assert [c.will["conn"] for c in broker.connects[:2]] == [1, 2]

    asyncio.run(scene())


def test_stopped_precedes_the_disconnect() -> None:
    async def scene() -> None:
        store = FakeStore()
        async with ScriptedBroker() as broker:
            async with publishing(store, factory(settings(broker))) as publisher:
                await until(lambda: publisher.delivery.connected)
                publisher.committed(store.add(3))
            assert broker.publishes[-1].json["state"] == "stopped" and broker.publishes[-1].retain
            assert store.sent == {1, 2, 3}
            await until(lambda: broker.ends == ["clean"])

    asyncio.run(scene())


def test_a_slow_connect_never_blocks_the_loop() -> None:
    async def scene() -> float:
        """Measure the longest pause of the loop while TLS hangs."""
        async with ScriptedBroker(silent=True) as broker:
            mqtt = settings(broker, url=f"mqtts://broker.test:{broker.port}")
            async with publishing(FakeStore(), factory(mqtt)):
                longest, last = 0.0, time.monotonic()
                for _ in range(50):
                    await asyncio.sleep(0.01)
                    longest, last = max(longest, time.monotonic() - last), time.monotonic()
                return longest

    assert asyncio.run(scene()) < 3  # CONNECT_S: a connect on the loop would take so long

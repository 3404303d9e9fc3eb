"""The mqtt check against brokers that behave, refuse, lie, drip and fall silent; and our own delivery as records."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from agent.check import Traffic
from agent.checks import Context, Toolbox
from agent.checks.mqtt import Mqtt
from agent.config.secret import SecretSource
from agent.delivery import OwnDelivery, OwnWay
from agent.model import Facts, Failed, Failure, Layer
from agent.net.mqtt_packets import FIVE, THREE_ONE_ONE, connect_packet
from agent.options import ID_PATTERN
from agent.policy import Policy
from agent.safety import Gate
from tests.rigs.scripted_broker import ScriptedBroker, parse_connect
from tests.rigs.servers import (
    LOOPBACK,
    Certificates,
    Handler,
    closed_port,
    deaf_port,
    in_seconds,
    measured,
    resets,
    says,
    stream_server,
)

SHORT_S = 0.5
CONNACK_FIVE, CONNACK_311, PINGRESP = b"\x20\x03\x00\x00\x00", b"\x20\x02\x00\x00", b"\xd0\x00"


def check(port: int, **words: Any) -> Mqtt:
    scheme = words.pop("scheme", "mqtt")
    host = words.pop("host", LOOPBACK)
    return Mqtt(name="b", url=f"{scheme}://{host}:{port}", **words)


def against_broker(seconds: float = 20.0, words: dict[str, Any] | None = None, **script: Any) -> tuple[Facts, Any]:
    async def go() -> tuple[Facts, Any]:
        async with ScriptedBroker(**script) as broker:
            facts = await measured(check(broker.port, **(words or {})), seconds)
            while len(broker.ends) < len(broker.connects):
                await asyncio.sleep(0.01)
            return facts, broker

    return asyncio.run(go())


def against(handler: Handler, seconds: float = 20.0, **words: Any) -> Facts:
    async def go() -> Facts:
        async with stream_server(handler) as port:
            return await measured(check(port, **words), seconds)

    return asyncio.run(go())


def scripted(*answers: bytes, hang_up: bool = False) -> Handler:
    """Make a handler that answers the n-th thing it reads with the n-th of these, then reads on (or hangs up)."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(65536)
            writer.write(answer)
        while not hang_up and await reader.read(65536):
            continue

    return handler


def test_a_broker_that_takes_us_in_and_answers_passes() -> None:
    facts, broker = against_broker()
    assert facts.failure is None, facts.detail
    assert facts.address == LOOPBACK
    assert facts.fields["mqtt_version"] == "5"
    for name in ("connect_s", "connack_s", "round_trip_s"):
        value = facts.fields[name]
        assert isinstance(value, float) and 0 < value < 20
    assert (len(broker.pings), broker.ends) == (1, ["clean"])
    assert not broker.publishes and not broker.subscriptions, "nothing that needs a right or wakes somebody"


def test_the_client_is_clean_without_a_will_and_never_an_agent() -> None:
    _, broker = against_broker()
    _, other = against_broker()
    said = broker.connects[0]
    assert said.clean and said.will is None and said.username is None
    assert re.fullmatch("SiteprobeCheck[0-9a-f]{8}", said.client_id)
    assert not re.fullmatch(ID_PATTERN, said.client_id), "no node can have this id"
    assert said.client_id != other.connects[0].client_id, "two probes must not kick each other out"


def test_user_and_password_are_sent() -> None:
    words = {"username": "probe", "password": SecretSource("literal", "pass wörd")}
    facts, broker = against_broker(words=words)
    assert facts.failure is None
    assert (broker.connects[0].username, broker.connects[0].password) == ("probe", "pass wörd")


def test_connect_packets_are_as_the_standard_has_them() -> None:
    for level in (FIVE, THREE_ONE_ONE):
        packet = connect_packet(level, "SiteprobeCheck00000000", "u" * 100, "p" * 100)
        count = packet[1] & 127 | packet[2] << 7
        assert packet[0] == 0x10 and len(packet) == 3 + count
        said = parse_connect(packet[3:])
        assert (said.protocol, said.username, said.password) == (level, "u" * 100, "p" * 100)


@pytest.mark.parametrize("first", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00", b""], ids=["311", "five", "hangs up"])
def test_a_broker_of_the_older_version_is_asked_in_its_own(first: bytes) -> None:
    asked: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(65536))
        if asked[-1][8] != THREE_ONE_ONE:
            writer.write(first)
            return
        writer.write(CONNACK_311)
        await reader.readexactly(2)
        writer.write(PINGRESP)
        await reader.read()

    async def go() -> tuple[Facts, Facts]:
        async with stream_server(handler) as port:
            memory: dict[str, Any] = {}
            found = []
            for _ in range(2):
                ctx = Context(Gate(Policy()), tools, resolve, in_seconds(20), check_type="mqtt", memory=memory)
                found.append(await check(port).run(ctx))
            return found[0], found[1]

    async def resolve(target: str, deadline: float) -> str:
        return target

    tools = Toolbox()
    for facts in asyncio.run(go()):
        assert facts.failure is None, facts.detail
        assert facts.fields["mqtt_version"] == "3.1.1"
    assert [packet[8] for packet in asked] == [5, 4, 4], "what it speaks is remembered"


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (0x86, Failure.AUTH),
        (0x87, Failure.AUTH),
        (0x85, Failure.AUTH),
        (0x88, Failure.REFUSED),
        (0x97, Failure.REFUSED),
        (0x9D, Failure.REFUSED),
        (0x81, Failure.PROTOCOL),
    ],
)
def test_a_refusal_says_whose_matter_it_is(code: int, failure: Failure) -> None:
    facts, _ = against_broker(connack=code)
    assert facts.failure is failure
    assert f"{code:#04x}" in facts.detail
    assert "connect_s" in facts.fields and "round_trip_s" not in facts.fields


@pytest.mark.parametrize(
    ("code", "failure"), [(2, Failure.AUTH), (3, Failure.REFUSED), (4, Failure.AUTH), (5, Failure.AUTH)]
)
def test_refusals_in_the_older_version(code: int, failure: Failure) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet = await reader.read(65536)
        writer.write(b"\x20\x02\x00\x01" if packet[8] == FIVE else bytes([0x20, 2, 0, code]))

    assert against(handler).failure is failure


def test_no_listener_is_refused_and_no_answer_a_timeout() -> None:
    with closed_port() as port:
        assert asyncio.run(measured(check(port))).failure is Failure.REFUSED
    with deaf_port() as port:
        assert asyncio.run(measured(check(port), SHORT_S)).failure is Failure.TIMEOUT


def test_accepted_and_then_silent_is_a_timeout() -> None:
    facts, _ = against_broker(SHORT_S, silent=True)
    assert facts.failure is Failure.TIMEOUT
    assert "did not answer CONNECT" in facts.detail
    assert "connect_s" in facts.fields


def test_taken_in_and_then_silent_is_stalled() -> None:
    facts = against(scripted(CONNACK_FIVE), SHORT_S)
    assert facts.failure is Failure.STALLED
    assert "connack_s" in facts.fields


def test_a_slow_drip_is_stalled_at_the_deadline() -> None:
    drip = says(*(bytes([byte]) for byte in b"\x20\x7f" + bytes(200)), pause_s=0.1)
    assert against(drip, SHORT_S).failure is Failure.STALLED


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00" * 64,
        b"\xff" * 64,
        PINGRESP,
        b"\x20\x00",
        b"\x20\x01\x00",
        b"\x20\x02\x02\x00",
        b"\x21\x02\x00\x00",
        b"\x20\x03\x00\x00\x09",
        b"\x20\x06\x00\x00\xff\xff\xff\xff",
        b"\x20\xff\xff\xff\x7f",
        b"\x20\xff\xff\xff\xff\x01",
        b"\x30\x05\x00\x01a\x00x",
        b"\x20\x80\x80\x01",
    ],
)
def test_what_is_no_connack_is_protocol(answer: bytes) -> None:
    facts = against(says(answer, then=5.0))
    assert facts.failure is Failure.PROTOCOL
    assert len(facts.detail) < 200


def test_a_flood_after_connect_ends_at_its_first_packet() -> None:
    facts = against(says(*([b"\x20\xff\xff\xff\x7f" + b"x" * 65536] * 20), then=5.0))
    assert facts.failure is Failure.PROTOCOL


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"\xd0\x01\x00", Failure.PROTOCOL),
        (b"\xd1\x00", Failure.PROTOCOL),
        (b"\x20\x03\x00\x00\x00", Failure.PROTOCOL),
        (b"\x30\x06\x00\x01a\x00hi", Failure.PROTOCOL),
        (b"\xe0\x01\x87", Failure.AUTH),
        (b"\xe0\x01\x89", Failure.REFUSED),
        (b"\xe0\x00", Failure.PROTOCOL),
    ],
)
def test_a_wrong_answer_to_the_ping(answer: bytes, failure: Failure) -> None:
    facts = against(scripted(CONNACK_FIVE, answer))
    assert facts.failure is failure
    assert "connack_s" in facts.fields and "round_trip_s" not in facts.fields


def test_hanging_up_is_protocol_and_a_reset_is_reset() -> None:
    assert against(says()).failure is Failure.PROTOCOL
    assert against(says(b"\x20\x03\x00")).failure is Failure.PROTOCOL, "in the middle of a packet"
    assert against(scripted(CONNACK_FIVE, hang_up=True)).failure in (Failure.PROTOCOL, Failure.RESET)
    assert against(resets()).failure is Failure.RESET


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def over_tls(certificates: Certificates, host: str = "localhost", **how: Any) -> Facts:
    async def go() -> Facts:
        async with ScriptedBroker(tls=certificates.server(**how)) as broker:
            asked = check(broker.port, scheme="mqtts", host=host, ca_file=certificates.ca_file)
            return await measured(asked, 20, names={host: LOOPBACK})

    return asyncio.run(go())


def test_mqtts_tells_the_handshake_and_the_days_left(certificates: Certificates) -> None:
    facts = over_tls(certificates, ends_in_days=2)
    assert facts.failure is None, facts.detail
    assert facts.fields["certificate_left_s"] == pytest.approx(2 * 86400, abs=120)
    assert facts.fields["tls_s"]


@pytest.mark.parametrize(
    ("how", "failure"),
    [
        ({"starts_in_days": -9, "ends_in_days": -1}, Failure.TLS_EXPIRED),
        ({"starts_in_days": 1, "ends_in_days": 9}, Failure.TLS_NOT_YET_VALID),
        ({"other_ca": True}, Failure.TLS_UNTRUSTED),
        ({"host": "broker.example"}, Failure.TLS_NAME),
    ],
)
def test_a_wrong_certificate(certificates: Certificates, how: dict[str, Any], failure: Failure) -> None:
    assert over_tls(certificates, **how).failure is failure


def test_plain_mqtt_behind_mqtts_is_a_failed_handshake(certificates: Certificates) -> None:
    facts = against(says(b"\x20\x02\x00\x00"), scheme="mqtts", host=LOOPBACK, ca_file=certificates.ca_file)
    assert facts.failure is Failure.TLS_HANDSHAKE


def test_an_address_outside_the_fence_is_not_asked() -> None:
    async def go(**policy: Any) -> Facts:
        return await measured(check(1883, host="192.0.2.1"), 1.0, **policy)

    denied = asyncio.run(go(allow=(ip_network("198.51.100.0/24"),)))
    assert denied.failure is Failure.LOCAL_POLICY


def test_what_is_declared_and_what_does_not_go_together(tmp_path: Path) -> None:
    asked = Mqtt(name="b", url="mqtts://b.example")
    assert asked.sends() == (Traffic("b.example", "tcp", 8883, 2),)
    assert asked.asked == "mqtts://b.example"
    assert asked.default_layer is Layer.COLLECTOR and not asked.hearsay
    secret = SecretSource("literal", "x")
    login: dict[str, Any] = {"username": "u", "password": secret}
    assert Mqtt(name="b", url="mqtts://b.example", **login).problems() == []
    assert Mqtt(name="b", url="mqtt://127.0.0.1", **login).problems() == []
    assert [key for key, _ in Mqtt(name="b", url="mqtt://b.example", **login).problems()] == ["password"]
    assert [key for key, _ in Mqtt(name="b", url="mqtts://b", password=secret).problems()] == ["password"]
    assert [key for key, _ in Mqtt(name="b", ca_file="x").problems()] == ["ca_file"]


WORKS = OwnWay(True, "192.0.2.5", connack_s=0.25, puback_s=0.01, puback_max_s=0.02)


async def told(ways: list[OwnWay], seconds: float = 20.0) -> Facts | Failed:
    """Run the check of our own delivery; the publisher says these one after the other, the last for ever."""
    tools = Toolbox()
    tools.get(OwnDelivery).source = lambda: ways.pop(0) if len(ways) > 1 else ways[0]

    async def resolve(target: str, deadline: float) -> str:
        raise AssertionError("our own delivery asks nobody")

    own = Mqtt(name="delivery")
    assert own.hearsay and own.sends() == () and own.asked == ""
    return await own.run(Context(Gate(Policy()), tools, resolve, in_seconds(seconds), check_type="mqtt"))


@pytest.mark.parametrize(
    ("ways", "failure"),
    [
        ([WORKS], None),
        ([OwnWay(), OwnWay(), WORKS], None),
        ([replace(WORKS, waiting_s=9.0)], Failure.STALLED),
        ([OwnWay(failure=Failure.REFUSED, reason="nobody listens")], Failure.REFUSED),
        ([OwnWay(), OwnWay(failure=Failure.LOCAL_PERMISSION, reason="no key")], Failure.LOCAL_PERMISSION),
    ],
)
def test_our_own_delivery_is_told_as_the_publisher_has_it(ways: list[OwnWay], failure: Failure | None) -> None:
    facts = asyncio.run(told(ways))
    assert isinstance(facts, Facts)
    assert facts.failure is failure
    if ways[-1].connected:
        assert facts.fields == {"connack_s": 0.25, "puback_s": 0.01, "puback_max_s": 0.02}
        assert facts.address == "192.0.2.5"
    else:
        assert facts.detail


def test_a_connection_that_never_comes_about_is_a_timeout_in_time() -> None:
    facts = asyncio.run(told([OwnWay()], 0.3))
    assert isinstance(facts, Facts)
    assert facts.failure is Failure.TIMEOUT


def test_without_an_agent_there_is_no_own_delivery() -> None:
    facts = asyncio.run(measured(Mqtt(name="delivery")))
    assert facts.failure is Failure.ABORTED

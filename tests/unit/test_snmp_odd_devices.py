"""Devices that are slow, speak another version, or never agree on SNMPv3's engine and time: each has its word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agent.model import Failed, Failure
from agent.snmp import envelope, exchange, message, oids
from agent.snmp.credentials import Credentials
from agent.snmp.exchange import ATTEMPTS, DATAGRAMS_A_QUESTION
from tests.rigs.snmp_agent import Agent, Script, from_tree
from tests.rigs.snmp_asker import SYSTEM, WHO, Asker, failure, play
from tests.rigs.snmp_v3 import NOT_IN_TIME, UNKNOWN_ENGINE, Device

UNSIGNED = Credentials("3", user="probe")
SIGNED = Credentials("3", user="probe", auth_protocol="SHA-256", auth_key="canary-secret")


def always_another_engine() -> Script:
    """Make a device whose engine id is another one in each report."""
    device, number = Device(UNSIGNED), iter(range(1, 1000))

    def script(request: bytes) -> list[bytes]:
        device.engine = b"\x80\x00\x00\x09\x05one-device" + bytes([next(number)])
        return [device.report(envelope.read(request), UNKNOWN_ENGINE)]

    return script


def every_time_is_wrong(boots_rise: int) -> Script:
    """Make a device that tells its engine, and then calls every time wrong, its own of a moment ago too."""
    device = Device(SIGNED)

    def script(request: bytes) -> list[bytes]:
        asked = envelope.read(request)
        if asked.engine != device.engine:
            return [device.report(asked, UNKNOWN_ENGINE)]
        device.boots += boots_rise
        return [device.report(asked, NOT_IN_TIME, envelope.SIGNED)]

    return script


@pytest.mark.parametrize(
    ("device", "who", "expected", "words"),
    [
        (always_another_engine, UNSIGNED, Failure.PROTOCOL, "keeps changing its SNMPv3 engine id"),
        (lambda: every_time_is_wrong(7), SIGNED, Failure.AUTH, "calls our SNMPv3 time wrong"),
        (lambda: every_time_is_wrong(0), SIGNED, Failure.AUTH, "calls our SNMPv3 time wrong"),
    ],
    ids=["engine id", "boots that jump", "its own time"],
)
def test_a_device_that_never_agrees_on_its_engine_is_asked_anew_and_then_told(
    device: Callable[[], Script], who: Credentials, expected: Failure, words: str
) -> None:
    async def scene(asker: Asker, peer: Agent) -> None:
        try:
            await (await asker.session(peer.port, 2.0, who)).get([oids.SYS_NAME])
        finally:
            assert 2 <= len(peer.requests) <= ATTEMPTS * DATAGRAMS_A_QUESTION, "discovered anew, but not for ever"

    found = failure(device(), scene)
    assert (found[0], words in found[1]) == (expected, True), found


def delayed(peer: Agent, by_s: float) -> Script:
    """Make a device that answers each question so much later."""

    def script(request: bytes) -> list[bytes]:
        reply, to = from_tree(SYSTEM)(request)[0], ("127.0.0.1", peer.sender[1])
        asyncio.get_running_loop().call_later(by_s, peer.transport.sendto, reply, to)
        return []

    return script


def test_a_slow_device_is_waited_for_and_one_that_is_too_slow_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "ANSWER_TIMEOUT_S", 0.3)

    async def scene(asker: Asker, peer: Agent) -> None:
        peer.script = delayed(peer, 0.2)
        assert await asker.get(peer.port) == b"sw"
        peer.script = delayed(peer, 0.4)
        with pytest.raises(Failed) as caught:
            await asker.get(peer.port)
        assert (caught.value.failure, "no answer" in caught.value.detail) == (Failure.TIMEOUT, True)
        peer.script = from_tree(SYSTEM)
        assert await asker.get(peer.port) == b"sw", "an answer that comes too late is not taken for the next one"
        await asyncio.sleep(0.2)
        assert await asker.get(peer.port) == b"sw"

    play(lambda request: [], scene)


def in_version_1(request: bytes) -> list[bytes]:
    """Answer a v2c question with a v1 message."""
    return [from_tree(SYSTEM)(request)[0].replace(b"\x02\x01\x01\x04", b"\x02\x01\x00\x04", 1)]


@pytest.mark.parametrize(
    ("device", "who", "expected", "words"),
    [
        (in_version_1, WHO, Failure.MISMATCH, "none an answer to our question"),
        (lambda request: [], Credentials("3", user="probe"), Failure.TIMEOUT, "no answer to SNMPv3; is it switched on"),
        (lambda request: [], WHO, Failure.TIMEOUT, "a wrong community"),
        (
            lambda request: [message.question("get", "2c", b"canary-secret", 1, [oids.SYS_NAME])],
            Credentials("3", user="probe"),
            Failure.MISMATCH,
            "none an answer to our question",
        ),
    ],
    ids=["v1 to v2c", "v2c only, asked in v3", "v3 only, asked in v2c", "v2c to v3"],
)
def test_a_device_of_another_version_is_told_from_one_that_is_off(
    device: Script, who: Credentials, expected: Failure, words: str
) -> None:
    async def scene(asker: Asker, peer: Agent) -> None:
        await (await asker.session(peer.port, 0.5, who)).get([oids.SYS_NAME])

    found = failure(device, scene)
    assert (found[0], words in found[1]) == (expected, True), found

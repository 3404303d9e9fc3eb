"""SNMPv3 of our own: keys, signatures, the envelope, and which answers hold."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from pyasn1.codec.ber import decoder
from pyasn1.type.univ import OctetString
from pysnmp.proto.mpmod.rfc3412 import SNMPv3Message
from pysnmp.proto.secmod.rfc3414.service import SnmpUSMSecurityModel, UsmSecurityParameters

from agent.model import Failed, Failure
from agent.snmp import ber, crypto, envelope, message, oids, usm
from agent.snmp.credentials import AUTH_PROTOCOLS, PRIV_PROTOCOLS, Credentials
from agent.snmp.envelope import ENCRYPTED, NUMBER_MOST, SIGNED, Envelope
from agent.snmp.usm import DeviceClock
from tests.rigs.snmp_agent import Agent, Script
from tests.rigs.snmp_agent import agent as scripted_agent
from tests.rigs.snmp_asker import Asker
from tests.rigs.snmp_v3 import NOT_IN_TIME, Device, Twist

KEY, OTHER = "canary-auth-key", "canary-other-key"
OPEN = Credentials("3", user="probe")
SIGNING = Credentials("3", user="probe", auth_key=KEY)
SEALED = Credentials("3", user="probe", auth_key=KEY, priv_key=OTHER)
ABOUT = Envelope(7, SIGNED, b"\x80\x00\x1f\x88\x04rig", 3, 1000, b"probe", (0, 0), b"", (0, 0))


@pytest.mark.parametrize(
    ("protocol", "key"),
    [("MD5", "526f5eed9fcce26f8964c2930787d82b"), ("SHA", "6695febc9288e36282235fc7151f128497b38f3f")],
)
def test_keys_are_those_of_rfc_3414(protocol: str, key: str) -> None:
    who = Credentials("3", user="u", auth_protocol=protocol, auth_key="maplesyrup")
    keys = crypto.localized(who, crypto.master_keys(who), bytes(11) + b"\x02")
    assert (bytes(keys.auth).hex(), keys.priv) == (key, None)


@pytest.mark.parametrize("protocol", AUTH_PROTOCOLS)
def test_signatures_are_those_of_pysnmp(protocol: str) -> None:
    who = replace(SIGNING, auth_protocol=protocol)
    keys = crypto.localized(who, crypto.master_keys(who), ABOUT.engine)
    body = envelope.scoped(ABOUT.engine, message.pdu("get", 7, [oids.SYS_NAME]))
    unsigned = envelope.written(ABOUT, bytes(crypto.digest_bytes(protocol)), body)
    signed = envelope.written(ABOUT, crypto.signature(protocol, keys, unsigned), body)
    service = SnmpUSMSecurityModel.AUTH_SERVICES[crypto.AUTH_IDS[protocol]]
    assert service.authenticate_outgoing_message(keys.auth, unsigned) == signed
    start, stop = envelope.read(signed).digest
    assert service.authenticate_incoming_message(keys.auth, OctetString(signed[start:stop]), signed) == unsigned


@pytest.mark.parametrize("protocol", PRIV_PROTOCOLS)
def test_what_is_encrypted_can_be_read_with_the_right_key_only(protocol: str) -> None:
    who = replace(SEALED, priv_protocol=protocol, auth_protocol="SHA-512")
    keys = crypto.localized(who, crypto.master_keys(who), ABOUT.engine)
    octets, salt = crypto.encrypted(protocol, keys, 3, 1000, b"thirteen here")
    assert crypto.decrypted(protocol, keys, 3, 1000, salt, octets)[:13] == b"thirteen here"
    wrong = crypto.localized(who, crypto.master_keys(who), b"other engine")
    assert crypto.decrypted(protocol, wrong, 3, 1000, salt, octets)[:13] != b"thirteen here"
    for broken in ((salt[:-1], octets), (b"", octets)):
        with pytest.raises(ber.Unreadable, match="cannot be decrypted"):
            crypto.decrypted(protocol, keys, 3, 1000, *broken)


def test_the_envelope_is_what_pysnmp_reads() -> None:
    body = envelope.scoped(ABOUT.engine, message.pdu("bulk", 7, [oids.IF_NAME], 10))
    data = envelope.written(replace(ABOUT, salt=b"12345678"), b"x" * 24, body)
    found, rest = decoder.decode(data, asn1Spec=SNMPv3Message())
    assert (rest, int(found[0]), int(found[1][0]), int(found[1][1]), bytes(found[1][2])) == (b"", 3, 7, 8192, b"\x05")
    security, _ = decoder.decode(found[2], asn1Spec=UsmSecurityParameters())
    assert [bytes(security[i]) for i in (0, 3, 4, 5)] == [ABOUT.engine, b"probe", b"x" * 24, b"12345678"]
    assert [int(security[i]) for i in (1, 2)] == [3, 1000]
    assert (bytes(found[3][0][0]), found[3][0][2].getName()) == (ABOUT.engine, "get-bulk-request")
    about = envelope.read(data)
    assert data[slice(*about.digest)] == b"x" * 24
    assert replace(about, digest=(0, 0), body=(0, 0)) == replace(ABOUT, salt=b"12345678")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.replace(b"\x04\x01\x05", b"\x04\x01\x07"), "encrypted otherwise"),
        (lambda d: d.replace(b"\x04\x01\x05", b"\x04\x01\x06"), "a security that SNMP does not have"),
        (lambda d: d.replace(b"\x04\x01\x05\x02\x01\x03", b"\x04\x01\x05\x02\x01\x02"), "a security that SNMP"),
        (lambda d: d.replace(b"\x02\x01\x03", b"\x02\x01\x01", 1), "another SNMP version"),
        (lambda d: d.replace(b"\x02\x02\x03\xe8", b"\x02\x02\x83\xe8"), "a time that SNMP does not have"),
        (lambda d: d + b"\x00", "more bytes"),
        (lambda d: d[:-1], "cut short"),
    ],
)
def test_what_is_wrong_with_an_envelope_is_told(change: Callable[[bytes], bytes], words: str) -> None:
    body = envelope.scoped(ABOUT.engine, message.pdu("get", 7, [oids.SYS_NAME]))
    with pytest.raises(ber.Unreadable, match=words):
        envelope.read(change(envelope.written(ABOUT, bytes(24), body)))


def test_an_envelope_with_numbers_beyond_those_of_snmp_is_refused() -> None:
    for about in (replace(ABOUT, boots=NUMBER_MOST + 1), replace(ABOUT, time=NUMBER_MOST + 1)):
        with pytest.raises(ber.Unreadable, match="a time that SNMP does not have"):
            envelope.read(envelope.written(about, b"", envelope.scoped(b"", b"")))


def test_a_clock_takes_what_is_newer_and_refuses_what_is_played_again() -> None:
    clock = DeviceClock(3, 1000, at=50.0)
    assert clock.now(60.5) == 1010
    assert clock.accepts(1, 5, 60.0) and clock.sure  # nothing signed was heard before
    assert clock.accepts(1, 400, 60.0) and clock.now(61.0) == 401
    assert clock.accepts(1, 251, 60.0) and clock.now(60.0) == 400
    assert not clock.accepts(1, 249, 60.0)
    assert not clock.accepts(1, 300, 111.0)
    assert not clock.accepts(0, 900, 60.0)
    assert clock.accepts(2, 1, 60.0) and not clock.accepts(1, 9999, 60.0)
    assert not clock.accepts(NUMBER_MOST, 1, 60.0)
    assert not DeviceClock(0, 0, 0.0).accepts(NUMBER_MOST, 1, 60.0)


def play(script: Script, scene: Callable[[Callable[..., Awaitable[Any]], Agent], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        asker = Asker()

        async def name(who: Credentials = SEALED, within: float = 10.0) -> Any:
            session = await asker.session(peer.port, within, who)
            return (await session.get([oids.SYS_NAME]))[oids.SYS_NAME]

        async with scripted_agent(script) as peer:
            try:
                await name(Credentials("3", user="warm", auth_key=KEY, priv_key=OTHER), 0.0)
            except Failed:
                pass  # pysnmp is loaded now, so that what follows is quick
            try:
                return await scene(name, peer)
            finally:
                await asker.snmp.aclose()

    return asyncio.run(go())


@pytest.mark.parametrize("who", [OPEN, SIGNING, SEALED], ids=["open", "signed", "sealed"])
def test_a_device_is_discovered_once_and_asked_with_its_time(who: Credentials) -> None:
    device = Device(who)

    async def scene(name: Any, peer: Agent) -> None:
        assert [await name(who) for _ in range(3)] == [b"sw"] * 3

    play(device, scene)
    first, *rest = device.heard
    assert (first.engine, first.user, first.level, first.boots, first.time) == (b"", b"", 0, 0, 0)
    assert [(e.engine, e.user, e.level, e.boots) for e in rest] == [(device.engine, b"probe", device.level, 3)] * 3
    assert all(1000 <= e.time <= 1002 for e in rest)
    assert len({e.message for e in device.heard}) == 4


def test_an_engine_id_full_of_zeros_is_signed_in_the_right_place() -> None:
    async def scene(name: Any, peer: Agent) -> None:
        assert await name() == b"sw"

    play(Device(SEALED, engine=b"\x80\x00\x00\x63\x05" + bytes(27)), scene)


def less_protected(device: Device, asked: Envelope, data: bytes) -> bytes:
    return device.sealed(device.about(asked, SIGNED), device.named(*device.question(data, asked)))


def unprotected(device: Device, asked: Envelope, data: bytes) -> bytes:
    return device.sealed(device.about(asked, 0), device.named(*device.question(data, asked)))


def with_changes(**changes: Any) -> Twist:
    def twist(device: Device, asked: Envelope, data: bytes) -> bytes:
        about = replace(device.about(asked, device.level), **changes)
        return device.sealed(about, device.named(*device.question(data, asked)))

    return twist


def wrongly_signed(device: Device, asked: Envelope, data: bytes) -> bytes:
    body = device.named(*device.question(data, asked))
    return device.sealed(device.about(asked, device.level), body, key=OTHER)


def of_another_context(device: Device, asked: Envelope, data: bytes) -> bytes:
    body = device.named(*device.question(data, asked))
    return device.sealed(device.about(asked, device.level), body, context=b"elsewhere")


def of_another_question(device: Device, asked: Envelope, data: bytes) -> bytes:
    request, found = device.question(data, asked)
    return device.sealed(device.about(asked, device.level), device.named(request ^ 1, found))


def of_another_message(device: Device, asked: Envelope, data: bytes) -> bytes:
    about = replace(device.about(asked, device.level), message=asked.message ^ 1)
    return device.sealed(about, device.named(*device.question(data, asked)))


def changed_on_the_way(device: Device, asked: Envelope, data: bytes) -> bytes:
    whole = device.sealed(device.about(asked, device.level), device.named(*device.question(data, asked)))
    return whole[:-1] + bytes((whole[-1] ^ 1,))


def cut_short(device: Device, asked: Envelope, data: bytes) -> bytes:
    return device.sealed(device.about(asked, device.level), device.named(*device.question(data, asked))[:-1])


def report_of_somebody(device: Device, asked: Envelope, data: bytes) -> bytes:
    about = replace(device.about(asked, SIGNED), user=b"somebody")
    return device.sealed(about, device.named(1, []).replace(b"\xa2", b"\xa8", 1))


REFUSED: dict[str, Twist] = {
    "only signed": less_protected,
    "unprotected": unprotected,
    "signed with another key": wrongly_signed,
    "of another user": with_changes(user=b"somebody"),
    "of another engine": with_changes(engine=b"\x80\x00\x1f\x88\x04xyz"),
    "of an earlier start": with_changes(boots=2),
    "of ten minutes ago": with_changes(time=400),
    "of the last start of all": with_changes(boots=NUMBER_MOST),
    "of another context": of_another_context,
    "of another question": of_another_question,
    "of another message": of_another_message,
    "changed on the way": changed_on_the_way,
    "cut short": cut_short,
    "a signed report of another user": report_of_somebody,
    "own question": lambda device, asked, data: data,
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_that_does_not_hold_is_none(name: str) -> None:
    device = Device(SEALED)

    async def scene(ask: Any, peer: Agent) -> tuple[Failure, str]:
        assert await ask() == b"sw"
        device.twist = REFUSED[name]
        with pytest.raises(Failed) as caught:
            await ask(within=0.4)
        device.twist = None
        assert await ask() == b"sw"
        return caught.value.failure, caught.value.detail

    found = play(device, scene)
    assert (found[0], "none an answer" in found[1]) == (Failure.MISMATCH, True), found


REPORTED = {
    "1.3.6.1.6.3.15.1.1.1.0": (Failure.AUTH, "at this security level"),
    NOT_IN_TIME: (Failure.AUTH, "calls our SNMPv3 time wrong"),
    "1.3.6.1.6.3.15.1.1.3.0": (Failure.AUTH, "does not know the SNMPv3 user probe"),
    "1.3.6.1.6.3.15.1.1.4.0": (Failure.PROTOCOL, "keeps changing its SNMPv3 engine id"),
    "1.3.6.1.6.3.15.1.1.5.0": (Failure.AUTH, "wrong key for the SNMPv3 user probe"),
    "1.3.6.1.6.3.15.1.1.6.0": (Failure.AUTH, "wrong encryption key"),
    "1.3.6.1.6.3.12.1.5.0": (Failure.PROTOCOL, "not valid SNMP (UnknownReport)"),
}


@pytest.mark.parametrize("oid", REPORTED)
def test_each_report_has_its_sentence(oid: str) -> None:
    device = Device(SEALED, twist=lambda device, asked, data: device.report(asked, oid))

    async def scene(name: Any, peer: Agent) -> tuple[Failure, str]:
        with pytest.raises(Failed) as caught:
            await name()
        return caught.value.failure, caught.value.detail

    found = play(device, scene)
    assert (found[0], REPORTED[oid][1] in found[1]) == (REPORTED[oid][0], True), found


def restarted(device: Device) -> None:
    device.boots, device.time = device.boots + 1, 1


def reset(device: Device) -> None:
    device.boots, device.time = 1, 1


def exchanged(device: Device) -> None:
    device.engine, device.boots, device.time = b"\x80\x00\x1f\x88\x04new", 1, 1


@pytest.mark.parametrize(
    ("happens", "within", "datagrams"), [(restarted, 10.0, 2), (exchanged, 10.0, 3), (reset, 10.0, 3)]
)
def test_a_device_that_comes_back_otherwise_is_found_again(
    happens: Callable[[Device], None], within: float, datagrams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.snmp.exchange.ANSWER_TIMEOUT_S", 0.2)
    device = Device(SEALED)

    async def scene(name: Any, peer: Agent) -> None:
        assert await name() == b"sw"
        happens(device)
        before = len(device.heard)
        assert await name(within=within) == b"sw"
        assert len(device.heard) - before == datagrams
        assert await name() == b"sw"

    play(device, scene)


@pytest.mark.parametrize("signs", [True, False])
def test_a_restart_is_learnt_from_a_report_signed_or_not(signs: bool) -> None:
    device = Device(SEALED, signs_reports=signs)

    async def scene(name: Any, peer: Agent) -> None:
        assert await name() == b"sw"
        restarted(device)
        assert await name() == b"sw"

    play(device, scene)
    assert [e.boots for e in device.heard] == [0, 3, 3, 4]


def test_the_time_of_a_device_goes_on_between_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    device, passed_s = Device(SEALED), [0]
    monkeypatch.setattr(usm, "_now", lambda: asyncio.get_running_loop().time() + passed_s[0])

    async def scene(name: Any, peer: Agent) -> None:
        assert await name() == b"sw"
        passed_s[0] = 5000
        device.time += 5000
        assert await name() == b"sw"

    play(device, scene)
    assert len(device.heard) == 3


def test_without_an_engine_id_no_question_is_asked() -> None:
    device = Device(SEALED)

    def nameless(request: bytes) -> list[bytes]:
        device.heard.append(envelope.read(request))
        about = replace(device.about(device.heard[-1], 0), engine=b"1234")
        return [device.sealed(about, device.named(1, []).replace(b"\xa2", b"\xa8", 1))]

    async def scene(name: Any, peer: Agent) -> tuple[Failure, str]:
        with pytest.raises(Failed) as caught:
            await name(within=1.5)
        return caught.value.failure, caught.value.detail

    found = play(nameless, scene)
    assert (found[0], {e.level for e in device.heard}) == (Failure.MISMATCH, {0}), found


def test_an_encrypted_answer_to_who_has_no_key_for_it_is_none(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(name: Any, peer: Agent) -> Failure:
        with pytest.raises(Failed) as caught:
            await name(SIGNING, within=1.5)
        return caught.value.failure

    assert play(Device(SEALED), scene) is Failure.MISMATCH
    assert not caplog.records


def test_a_device_that_drops_what_is_for_another_engine_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.snmp.exchange.ANSWER_TIMEOUT_S", 0.1)
    device = Device(SEALED)

    def silent(request: bytes) -> list[bytes]:
        return device(request) if envelope.read(request).engine in (b"", device.engine) else []

    async def scene(name: Any, peer: Agent) -> None:
        assert await name() == b"sw"
        exchanged(device)
        with pytest.raises(Failed):
            await name()
        assert await name() == b"sw"

    play(silent, scene)


def test_who_forges_the_time_of_a_discovery_does_not_lock_us_out() -> None:
    device = Device(SEALED)

    def forging(request: bytes) -> list[bytes]:
        answers = device(request)
        if envelope.read(request).engine:
            return answers
        about = replace(device.about(device.heard[-1], 0), boots=NUMBER_MOST - 1, time=5)
        return [device.sealed(about, device.named(1, []).replace(b"\xa2", b"\xa8", 1))]

    async def scene(name: Any, peer: Agent) -> None:
        assert await name() == b"sw"

    play(forging, scene)
    assert [e.boots for e in device.heard] == [0, NUMBER_MOST - 1, 3]


def test_two_devices_may_have_other_keys_for_one_user_name() -> None:
    other = Credentials("3", user="probe", auth_key=OTHER, priv_key=KEY)

    async def go() -> list[Any]:
        asker, found = Asker(), []
        for who in (SEALED, other, SEALED):
            async with scripted_agent(Device(who)) as peer:
                session = await asker.session(peer.port, who=who)
                found.append((await session.get([oids.SYS_NAME]))[oids.SYS_NAME])
        await asker.snmp.aclose()
        return found

    assert asyncio.run(go()) == [b"sw"] * 3


def test_what_comes_after_a_question_or_without_one_is_not_read() -> None:
    async def go() -> None:
        peer = usm.Peer(SEALED, crypto.master_keys(SEALED))
        device = Device(SEALED)
        peer.wire.begin()
        peer.wire.datagram_received(device.report(ABOUT, NOT_IN_TIME), None)
        question = asyncio.ensure_future(peer.ask("get", (oids.SYS_NAME,), 0))
        discovery = await peer.wire.wanted.get()
        assert isinstance(discovery, bytes)
        question.cancel()
        await asyncio.sleep(0)
        peer.wire.datagram_received(device(discovery)[0], None)
        assert (peer.wire.heard, peer.wire.wanted.empty()) == (2, True)

    asyncio.run(go())


def test_of_pysnmp_only_what_signs_and_encrypts_is_loaded() -> None:
    """Its engine, its functions for users and what they load (pysmi, jinja2, requests) are 10 MB."""
    code = "import sys, json, agent.snmp.usm; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert "pysnmp.proto.secmod.rfc3826.priv.aes" in loaded
    for unwanted in (
        "pysnmp.entity",
        "pysnmp.hlapi",
        "pysnmp.carrier",
        "pysnmp.smi.mibs",
        "pysmi",
        "requests",
        "jinja2",
    ):
        assert not [name for name in loaded if name == unwanted or name.startswith(f"{unwanted}.")], unwanted


def test_encrypted_and_signed_are_bits_of_the_flags() -> None:
    assert (SIGNED, ENCRYPTED, envelope.LEVELS) == (1, 2, (0, 1, 3))

"""The `snmp` check: options, answers of every kind, and that it costs nothing until it is used."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pysnmp.proto.api import v2c

import agent
from agent.checks import Context, Toolbox, load
from agent.checks.snmp import SnmpCheck
from agent.model import Facts, Failed, Failure
from agent.policy import Policy
from agent.safety import SNMP_PDUS_PER_SECOND, Gate
from agent.snmp import oids
from agent.snmp.ber import readable
from agent.snmp.credentials import Credentials
from agent.snmp.plain import PlainPeer
from tests.rigs.snmp_agent import Script, answer, asked, from_table
from tests.rigs.snmp_agent import agent as scripted_agent

SECRET = "canary-secret"


class Known:
    """A secret source as the config makes it."""

    def __init__(self, text: str = SECRET) -> None:
        self._text = text

    def reveal(self) -> str:
        if not self._text:
            raise ValueError("credential snmp-auth is missing; see LoadCredential= in the unit")
        return self._text


def port_rows(index: int, name: str, oper: int = 1, octets: int = 1000, alias: str = "") -> dict[str, Any]:
    numbers = {
        oids.IF_ADMIN_STATUS: v2c.Integer32(1),
        oids.IF_OPER_STATUS: v2c.Integer32(oper),
        oids.IF_HIGH_SPEED: v2c.Gauge32(1000),
        oids.IF_HC_IN_OCTETS: v2c.Counter64(octets),
        oids.IF_HC_OUT_OCTETS: v2c.Counter64(octets),
        oids.IF_NAME: v2c.OctetString(name),
        oids.IF_ALIAS: v2c.OctetString(alias),
        oids.IF_DISCONTINUITY: v2c.TimeTicks(0),
    }
    counters = (oids.IF_IN_ERRORS, oids.IF_OUT_ERRORS, oids.IF_IN_DISCARDS, oids.IF_OUT_DISCARDS)
    rows = numbers | dict.fromkeys(counters, v2c.Counter32(3))
    return {f"{column}.{index}": value for column, value in rows.items()}


def device(uptime: int = 4200, boots: int = 7, **ports: dict[str, Any]) -> dict[str, Any]:
    table = {
        oids.SYS_OBJECT_ID: v2c.ObjectIdentifier("1.3.6.1.4.1.9.1.1"),
        oids.SYS_UP_TIME: v2c.TimeTicks(uptime),
        oids.SYS_NAME: v2c.OctetString("core-switch"),
        oids.SYS_CONTACT: v2c.OctetString("Mrs Example"),
        oids.SYS_LOCATION: v2c.OctetString("cupboard 3"),
        oids.ENGINE_BOOTS: v2c.Integer32(boots),
    }
    for rows in ports.values():
        table |= rows
    return table


async def literal(target: str, deadline: float) -> str:
    return target


class Bench:
    """Runs a check against a scripted agent, again and again."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.gate, self.tools = gate or Gate(Policy()), Toolbox()
        self.memory: dict[str, Any] = {}
        self.said: list[str] = []

    async def run(self, port: int, within: float = 5.0, once: bool = False, **options: Any) -> Facts:
        check = SnmpCheck(name="sw", target="127.0.0.1", port=port, **({"community": Known()} | options))
        deadline = asyncio.get_running_loop().time() + within
        context = Context(
            self.gate, self.tools, literal, deadline, "snmp", once=once, memory=self.memory, say=self.said.append
        )
        return await check.run(context)


def ask(script: Script, times: int = 1, **options: Any) -> Facts:
    async def go() -> Facts:
        bench = Bench()
        try:
            async with scripted_agent(script) as peer:
                for _ in range(times):
                    facts = await bench.run(peer.port, **options)
                return facts
        finally:
            await bench.tools.aclose()

    return asyncio.run(go())


def failure(script: Script, **options: Any) -> Failed:
    with pytest.raises(Failed) as caught:
        ask(script, **options)
    return caught.value


def problems(**options: Any) -> dict[str, str]:
    return dict(SnmpCheck(name="sw", target="sw.example", **options).problems())


def test_the_type_is_found_and_asks_for_a_version_that_its_secrets_fit() -> None:
    assert load()["snmp"] is SnmpCheck
    assert problems(user="probe", auth_key=Known(), priv_key=Known()) == {}
    assert problems(community=Known()) == {}
    assert SnmpCheck(name="sw", target="x", community=Known()).version_used == "2c"
    assert SnmpCheck(name="sw", target="x", user="probe").version_used == "3"
    assert list(problems()) == ["user"]
    assert list(problems(version="2c")) == ["community"]
    assert list(problems(version="3", user="probe", community=Known())) == ["community"]
    assert list(problems(community=Known(), user="probe", auth_key=Known())) == ["user", "auth_key"]
    assert list(problems(user="probe", priv_key=Known())) == ["priv_key"]
    assert list(problems(user="probe", watch_ports=("1", "1"))) == ["watch_ports"]
    assert problems(user="probe", watch_ports=("1", "4294967295", "Gi1")) == {}
    assert "4294967296" in problems(user="probe", watch_ports=("4294967296",))["watch_ports"]


def test_what_it_sends_is_on_snmps_own_budget() -> None:
    few, many = (
        SnmpCheck(name="sw", target="10.0.0.2", user="u", watch_ports=tuple(map(str, range(n)))).sends()[0]
        for n in (0, 48)
    )
    assert (few.destination, few.protocol, few.port, few.requests, few.own_budget) == ("10.0.0.2", "udp", 161, 7, True)
    assert many.requests == 31


def test_secrets_are_in_no_text() -> None:
    credentials = Credentials("3", SECRET, "probe", auth_key=SECRET, priv_key=SECRET)
    assert SECRET not in repr(credentials) + credentials.level


def test_a_start_does_not_load_pysnmp() -> None:
    code = (
        "import sys, agent.checks as c; c.load(); sys.exit(any(m.startswith(('pysnmp','pyasn1')) for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_in_the_code_can_write_to_a_device() -> None:
    sources = [path.read_text() for path in (Path(agent.__file__).parent / "snmp").rglob("*.py")]
    assert sources
    assert not [s for s in sources if re.search(r"set_cmd|SetRequest|SetCommand|ntforg", s)]


def test_a_device_and_its_ports_by_index_name_and_alias() -> None:
    table = device(
        a=port_rows(1, "Gi1/0/1", alias="uplink"), b=port_rows(2, "Gi1/0/2", oper=2), c=port_rows(30, "Gi1/0/30")
    )
    facts = ask(from_table(table), watch_ports=("30", "Gi1/0/2", "uplink", "Gi9"))
    assert facts.address == "127.0.0.1"
    assert facts.fields == {
        "sys_name": "core-switch",
        "sys_object_id": "1.3.6.1.4.1.9.1.1",
        "uptime_s": 42.0,
        "boots": 7,
        "ports_up": 2,
        "ports_down": 1,
        "profile": "cisco",
        "neighbours": None,
        "unread": None,
        "findings": "switch_port_down",
        "health": "critical",
        "reason": "port Gi1/0/2 is down; port Gi9 is not on this device, whose ports have names such as Gi1/0/1",
    }
    assert [(kind, fields["port"], fields["name"], fields["oper"]) for kind, fields in facts.more] == [
        ("snmp_port", 30, "Gi1/0/30", "up"),
        ("snmp_port", 2, "Gi1/0/2", "down"),
        ("snmp_port", 1, "Gi1/0/1", "up"),
    ]
    assert facts.more[0][1]["in_bits_per_s"] is None
    assert "alias" not in facts.more[2][1]


def test_rates_need_two_polls_and_names_are_read_once() -> None:
    polls: list[list[str]] = []

    def script(request: bytes) -> list[bytes]:
        polls.append(asked(request)[2])
        return from_table(device(uptime=4200 + len(polls), a=port_rows(1, "Gi1", octets=1000 * len(polls))))(request)

    facts = ask(script, times=3, watch_ports=("Gi1",))
    assert sum(oids.IF_NAME in asked_for for asked_for in polls) == 1
    rate = facts.more[0][1]["in_bits_per_s"]
    assert isinstance(rate, float) and rate > 0
    assert facts.more[0][1]["in_errors"] == 0


def test_a_reboot_is_told_once_and_gives_no_rate() -> None:
    tables = [device(boots=b, uptime=u, a=port_rows(1, "Gi1")) for b, u in ((7, 900), (7, 950), (8, 3), (8, 40))]

    async def go() -> list[Facts]:
        bench, found = Bench(), []
        async with scripted_agent(lambda request: []) as peer:
            for table in tables:
                peer.script = from_table(table)
                found.append(await bench.run(peer.port, watch_ports=("1",)))
        await bench.tools.aclose()
        return found

    polls = asyncio.run(go())
    assert [[kind for kind, _ in facts.more] for facts in polls] == [
        ["snmp_port"],
        ["snmp_port"],
        ["event", "snmp_port"],
        ["snmp_port"],
    ]
    assert polls[2].more[0][1]["kind"] == "device_rebooted"
    assert "from 7 to 8" in str(polls[2].more[0][1]["detail"])
    assert [facts.more[-1][1]["in_bits_per_s"] for facts in polls] == [None, 0.0, None, 0.0]


def test_ports_that_got_new_numbers_are_looked_up_again() -> None:
    before: dict[str, Any]
    after: dict[str, Any]
    before, after = ({"a": port_rows(i, "Gi1"), "b": port_rows(3 - i, "Gi2")} for i in (1, 2))

    async def go() -> list[Facts]:
        bench, found = Bench(), []
        async with scripted_agent(lambda request: []) as peer:
            for rows in (before, after, after):
                peer.script = from_table(device(4200, 7, **rows))
                found.append(await bench.run(peer.port, watch_ports=("Gi1",)))
        await bench.tools.aclose()
        return found

    polls = asyncio.run(go())
    assert [[fields["port"] for _, fields in facts.more] for facts in polls] == [[1], [], [2]]
    assert "not found yet" in str(polls[1].fields["reason"])


def test_personal_text_only_where_it_is_wanted() -> None:
    table = device(a=port_rows(1, "Gi1", alias="Dr Example"))
    assert "Example" not in repr(ask(from_table(table), watch_ports=("1",)))
    facts = ask(from_table(table), watch_ports=("1",), personal_text=True)
    assert (facts.fields["sys_contact"], facts.fields["sys_location"]) == ("Mrs Example", "cupboard 3")
    assert facts.more[0][1]["alias"] == "Dr Example"


def test_a_confirmation_asks_one_question() -> None:
    facts = ask(from_table(device(a=port_rows(1, "Gi1"))), watch_ports=("Gi1",), once=True)
    assert facts.more == () and "ports_up" not in facts.fields
    assert "health" not in facts.fields, "how it is was not asked"


def test_a_device_with_little_room_is_asked_in_smaller_parts() -> None:
    def script(request: bytes) -> list[bytes]:
        if len(asked(request)[2]) > 6:
            return [answer(request, {}, status=1)]
        return from_table(device(a=port_rows(1, "Gi1")))(request)

    assert ask(script, watch_ports=("1",)).fields["ports_up"] == 1


def test_what_the_device_refuses_or_hides() -> None:
    nothing = failure(from_table({}))
    assert (nothing.failure, "view" in nothing.detail) == (Failure.AUTH, True)
    refused = failure(lambda r: [answer(r, {}, status=16, index=1)])
    assert (refused.failure, "authorizationError" in refused.detail) == (Failure.AUTH, True)
    broken = failure(lambda r: [answer(r, {}, status=5, index=1)])
    assert (broken.failure, "genErr" in broken.detail) == (Failure.PROTOCOL, True)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (lambda r: [answer(r, device() | {oids.SYS_UP_TIME: v2c.OctetString("soon")})], Failure.MISMATCH),
        (lambda r: [answer(r, {"1.3.6.1.9.9": v2c.Integer32(1)})], Failure.MISMATCH),
        (lambda r: [answer(r, {oids.SYS_NAME: v2c.OctetString("x")}, other_id=1)], Failure.MISMATCH),
        (lambda r: [b"\x00" * 40], Failure.PROTOCOL),
        (lambda r: [from_table(device())(r)[0][:-9]], Failure.PROTOCOL),
        (lambda r: [b"\x30\x84\x00\x00\xea\x5a" + b"\x30" * 60_000], Failure.PROTOCOL),
        (lambda r: [bytes([0x30, 0x80]) * 2000], Failure.PROTOCOL),
        (lambda r: [random.Random(1).randbytes(300)] * 500, Failure.PROTOCOL),
        (lambda r: [r], Failure.MISMATCH),
    ],
)
def test_answers_that_are_none_are_named_without_a_traceback(
    script: Script, expected: Failure, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.WARNING)
    found = failure(script, within=0.4)
    assert found.failure is expected, found.detail
    assert not caplog.records
    assert capfd.readouterr().err == ""


def test_a_right_answer_among_rubbish_is_found() -> None:
    facts = ask(lambda r: [b"rubbish", b"\x30\x03\x02\x01\x01", *from_table(device())(r)])
    assert facts.fields["sys_name"] == "core-switch"


def test_a_walk_in_circles_ends() -> None:
    def script(request: bytes) -> list[bytes]:
        _, pdu, _ = asked(request)
        if isinstance(pdu, v2c.GetBulkRequestPDU):
            return [answer(request, {f"{oids.IF_NAME}.{i}": v2c.OctetString(f"p{i}") for i in (1, 2)})]
        return from_table(device())(request)

    fields = ask(script, watch_ports=("Gi1",)).fields
    assert (fields["health"], str(fields["unread"]).partition(",")[0]) == ("warning", "watched ports")
    assert str(fields["reason"]).startswith("the watched ports could not be read: ") and "circles" in str(
        fields["reason"]
    )


def test_a_state_that_is_no_number_hides_the_ports_but_not_the_device() -> None:
    ports = port_rows(1, "Gi1") | {f"{oids.IF_OPER_STATUS}.1": v2c.OctetString("up")}
    fields = ask(from_table(device(a=ports)), watch_ports=("1",)).fields
    assert (fields["sys_name"], fields["unread"]) == ("core-switch", "watched ports")


def test_a_counter_that_is_no_number_is_as_if_it_were_not_there() -> None:
    ports = port_rows(1, "Gi1") | {f"{oids.IF_HIGH_SPEED}.1": v2c.OctetString("1000")}
    facts = ask(from_table(device(a=ports)), watch_ports=("1",))
    assert (facts.fields["ports_up"], facts.more[0][1]["speed_bits_per_s"]) == (1, None)


def test_an_endless_table_is_not_read_to_its_end() -> None:
    rows = {f"{oids.IF_NAME}.{i}": v2c.OctetString(f"p{i}") for i in range(1, 2300)}
    facts = ask(from_table(device() | rows), watch_ports=("Gi1",), within=20.0, max_repetitions=25)
    assert facts.fields["reason"] == "port Gi1 is not among the first 2000 ports of this device"


def test_silence_and_a_closed_port_are_told_apart() -> None:
    silence = failure(lambda r: [], within=0.3)
    assert (silence.failure, "wrong community" in silence.detail) == (Failure.TIMEOUT, True)

    async def closed() -> Facts:
        bench = Bench()
        async with scripted_agent(lambda r: []) as peer:
            port = peer.port
        await asyncio.sleep(0)
        try:
            return await bench.run(port)
        finally:
            await bench.tools.aclose()

    with pytest.raises(Failed) as caught:
        asyncio.run(closed())
    assert caught.value.failure is Failure.REFUSED


def test_secrets_that_cannot_be_read_or_are_too_short_are_our_fault() -> None:
    for key, words in ((Known(""), "LoadCredential"), (Known("short"), "8 characters")):
        found = failure(lambda r: [], community=None, user="probe", auth_key=key)
        assert (found.failure, words in found.detail) == (Failure.LOCAL_PERMISSION, True)


@pytest.mark.parametrize("how", ["missing", "old"])
def test_v3_without_its_encryption_names_the_package(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    from agent.snmp import crypto  # first: pysnmp's modules import each other in a circle

    from pysnmp.proto.secmod.rfc3826.priv import aes  # isort: skip

    def gone(key: bytes, start: bytes) -> None:
        raise AttributeError("module 'cryptography.hazmat.decrepit.ciphers.modes' has no attribute 'CFB'")

    monkeypatch.setattr(aes, *{"missing": ("PysnmpCryptoError", True), "old": ("_cryptography_cipher", gone)}[how])
    crypto._cipher_works.cache_clear()
    try:
        found = failure(lambda r: [], community=None, user="probe", auth_key=Known(), priv_key=Known())
    finally:
        crypto._cipher_works.cache_clear()
    assert (found.failure, "python3-cryptography" in found.detail) == (Failure.INTERNAL, True)


@pytest.mark.parametrize("protocol", ["AES-128", "AES-192", "AES-256", "DES"])
def test_encryption_works_here(protocol: str) -> None:
    from agent.snmp.crypto import prove

    prove(Credentials("3", user="u", auth_key=SECRET, priv_key=SECRET, priv_protocol=protocol))


def test_mutated_datagrams_never_raise() -> None:
    from agent.snmp import crypto
    from agent.snmp.usm import Peer

    async def go() -> int:
        rng, heard = random.Random(7), 0
        for credentials in (
            Credentials("2c", SECRET),
            Credentials("3", user="u"),
            Credentials("3", user="u", auth_key=SECRET, priv_key=SECRET),
        ):
            v3 = credentials.version == "3"
            peer = Peer(credentials, crypto.master_keys(credentials)) if v3 else PlainPeer(credentials)
            peer.wire.begin()
            question = asyncio.ensure_future(peer.ask("get", (oids.SYS_NAME,), 0))
            request = await peer.wire.wanted.get()
            assert isinstance(request, bytes)
            for _ in range(300):
                data = bytearray(request.replace(b"\xa0", rng.choice((b"\xa2", b"\xa8"))))
                for _ in range(rng.randint(1, 4)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                peer.wire.heard = 0
                peer.wire.datagram_received(bytes(data[: rng.randint(1, len(data))]), None)
                heard += 1
                readable(bytes(data))
            question.cancel()
        return heard

    assert asyncio.run(go()) == 900


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (b"", False),
        (b"\x30", False),
        (b"\x30\x00", True),
        (b"\x30\x03\x02\x01\x05", True),
        (b"\x30\x03\x02\x01\x05\x00", False),
        (b"\x30\x04\x02\x01\x05", False),
        (b"\x30\x03\x02\x02\x05", False),
        (b"\x30\x81\x03\x02\x01\x05", True),
        (b"\x30\x80\x02\x01\x05\x00\x00", False),
        (b"\x31\x00", False),
    ],
)
def test_well_formed_ber(data: bytes, fits: bool) -> None:
    assert readable(data) is fits


def test_a_device_gets_no_more_than_its_own_budget_and_loopback_is_not_rated() -> None:
    async def go() -> tuple[float, float]:
        gate, loop = Gate(Policy(packets_per_second=0.001, burst=1)), asyncio.get_running_loop()
        start = loop.time()
        for _ in range(4):
            await gate.snmp_permit("192.0.2.1", 161, start + 5)
        paced = loop.time() - start
        with pytest.raises(Failed) as late:
            await gate.snmp_permit("192.0.2.1", 161, loop.time() + 0.01)
        assert late.value.failure is Failure.OVERLOAD
        await gate.snmp_permit("192.0.2.2", 161, loop.time() + 0.1)
        start = loop.time()
        for _ in range(100):
            await gate.snmp_permit("127.0.0.1", 161, start + 1)
        return paced, loop.time() - start

    paced, unpaced = asyncio.run(go())
    assert paced >= 3 / SNMP_PDUS_PER_SECOND - 0.01
    assert unpaced < paced


def test_a_denied_device_gets_no_datagram() -> None:
    from ipaddress import ip_network

    async def go() -> list[bytes]:
        bench = Bench(Gate(Policy(deny=(ip_network("127.0.0.0/8"),))))
        async with scripted_agent(from_table(device())) as peer:
            with pytest.raises(Failed) as caught:
                await bench.run(peer.port)
            assert caught.value.failure is Failure.LOCAL_POLICY
            await bench.tools.aclose()
            return peer.requests

    assert asyncio.run(go()) == []


def test_it_explains_what_it_asked_and_never_a_secret() -> None:
    async def go() -> list[str]:
        bench = Bench()
        async with scripted_agent(from_table(device())) as peer:
            await bench.run(peer.port)
        await bench.tools.aclose()
        return bench.said

    said = asyncio.run(go())
    assert any("v2c" in line for line in said)
    assert any("ask get" in line and oids.SYS_NAME in line for line in said)
    assert any("core-switch" in line for line in said)
    assert SECRET not in "".join(said)

"""The ntp check against a scripted time server: right, wrong, refusing and hostile."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from typing import Any

import pytest

from agent.check import Traffic
from agent.checks import Context, Toolbox
from agent.checks.ntp import QUIET_S, Ntp
from agent.model import Facts, Failed, Failure
from agent.net import ntp
from agent.policy import Policy
from agent.safety import Gate
from tests.rigs.servers import LOOPBACK, closed_port, datagram_server, measured
from tests.rigs.time_server import ask, ntp_check, reply, stamp


def test_passes_with_its_figures_in_order() -> None:
    facts = ask(lambda query: [reply(query)])
    assert facts.failure is None
    assert facts.address == LOOPBACK
    assert list(facts.fields) == ["offset_s", "delay_s", "stratum", "leap", "root_distance_s"]
    assert (facts.fields["stratum"], facts.fields["leap"]) == (2, 0)
    assert facts.fields["root_distance_s"] == pytest.approx(0.007, abs=1e-4)


@pytest.mark.parametrize("ahead_s", [12.5, -7.25, 86400.0 * 365 * 40])
def test_the_offset_is_how_far_the_server_is_ahead(ahead_s: float) -> None:
    facts = ask(lambda query: [reply(query, ahead_s=ahead_s)])
    assert facts.failure is None
    offset_s, delay_s = facts.fields["offset_s"], facts.fields["delay_s"]
    assert isinstance(offset_s, float) and isinstance(delay_s, float)
    assert abs(offset_s - ahead_s) <= delay_s / 2 + 0.001
    assert 0 <= delay_s < 5


def test_the_servers_own_time_to_answer_is_no_delay() -> None:
    def slow(query: bytes) -> list[bytes]:
        came = stamp(time.time())
        time.sleep(0.4)
        return [reply(query, received=came)]

    facts = ask(slow)
    delay_s, offset_s = facts.fields["delay_s"], facts.fields["offset_s"]
    assert isinstance(delay_s, float) and isinstance(offset_s, float)
    assert delay_s < 0.2
    assert abs(offset_s) < 0.2


def test_the_packet_tells_nothing_of_us() -> None:
    heard: list[bytes] = []

    def answer(query: bytes) -> list[bytes]:
        heard.append(query)
        return [reply(query)]

    for _ in range(3):
        ask(answer)
    assert {len(query) for query in heard} == {48}
    assert {query[:40] for query in heard} == {b"\x23" + bytes(39)}
    assert len({query[40:] for query in heard}) == 3


@pytest.mark.parametrize(
    ("how", "failure", "word"),
    [
        ({"first": 0xE4}, Failure.PROTOCOL, "not synchronised"),
        ({"stratum": 16}, Failure.PROTOCOL, "not synchronised"),
        ({"first": 0xE4, "stratum": 0, "name": b"INIT"}, Failure.PROTOCOL, "not synchronised (INIT)"),
        ({"stratum": 0, "name": bytes(4)}, Failure.PROTOCOL, "not synchronised"),
        ({"stratum": 0, "name": b"RATE"}, Failure.PROHIBITED, "raise `interval`"),
        ({"first": 0xE4, "stratum": 0, "name": b"DENY"}, Failure.PROHIBITED, "DENY"),
        ({"stratum": 0, "name": b"RSTR"}, Failure.PROHIBITED, "RSTR"),
        ({"dispersion_s": 17.0}, Failure.PROTOCOL, "wrong by 17 s"),
        ({"first": 0x25}, Failure.PROTOCOL, "mode 5"),
        ({"first": 0x04}, Failure.PROTOCOL, "version 0"),
        ({"sent": 0}, Failure.PROTOCOL, "no time"),
        ({"received": 0}, Failure.PROTOCOL, "no time"),
        ({"received": stamp(2e9)}, Failure.PROTOCOL, "before it was asked"),
        ({"received": stamp(1e9)}, Failure.PROTOCOL, "longer than its answer took"),
        ({"set_ago_s": -60.0}, Failure.PROTOCOL, "in the future"),
    ],
)
def test_every_fault_has_its_failure_and_its_sentence(how: dict[str, Any], failure: Failure, word: str) -> None:
    facts = ask(lambda query: [reply(query, **how)])
    assert facts.failure is failure
    assert word in facts.detail
    assert {"stratum", "leap"} <= set(facts.fields)


@pytest.mark.parametrize("how", [{"dispersion_s": 11.0}, {"set_ago_s": None}, {"first": 0x1C}, {"first": 0x64}])
def test_what_real_servers_do_passes(how: dict[str, Any]) -> None:
    """A domain controller with a dispersion of 10 s, no reference time, version 3, a leap second tonight."""
    assert ask(lambda query: [reply(query, **how)]).failure is None


def test_silence_and_a_closed_port() -> None:
    assert ask(lambda query: [], seconds=0.2).failure is Failure.TIMEOUT
    with closed_port(socket.SOCK_DGRAM) as port:
        assert asyncio.run(measured(ntp_check(port)(name="a", server=LOOPBACK))).failure is Failure.REFUSED


@pytest.mark.parametrize(
    "wrong",
    [
        lambda query: reply(bytes(48)),
        lambda query: reply(query[:47] + bytes([query[47] ^ 1])),
        lambda query: query,
        lambda query: b"\x24",
        lambda query: b"\x24" * 65000,
    ],
    ids=["no origin", "wrong origin", "our own packet", "one byte", "64 kB"],
)
def test_an_answer_to_something_else_is_not_heard(wrong: Any) -> None:
    facts = ask(lambda query: [wrong(query)], seconds=0.2)
    assert (facts.failure, facts.fields["ignored_answers"]) == (Failure.MISMATCH, 1)
    facts = ask(lambda query: [wrong(query), wrong(query), reply(query, stratum=3)])
    assert (facts.failure, facts.fields["stratum"], facts.fields["ignored_answers"]) == (None, 3, 2)


def test_a_truncated_answer_is_a_protocol_failure_and_a_long_one_is_not() -> None:
    assert ask(lambda query: [reply(query)[:40]]).failure is Failure.PROTOCOL
    assert ask(lambda query: [reply(query) + bytes(60000)]).failure is None


def test_an_answer_from_another_address_is_not_heard() -> None:
    async def go() -> Facts:
        loop = asyncio.get_running_loop()
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        ):
            server.bind((LOOPBACK, 0))
            server.setblocking(False)
            stranger.bind(("127.0.0.2", server.getsockname()[1]))
            check = ntp_check(server.getsockname()[1])(name="a", server=LOOPBACK)
            asking = asyncio.create_task(measured(check, 0.5))
            query, asker = await loop.sock_recvfrom(server, 100)
            stranger.sendto(reply(query), asker)
            return await asking

    assert asyncio.run(go()).failure is Failure.TIMEOUT


def test_a_server_that_refuses_is_left_alone() -> None:
    asked: list[bytes] = []

    def refuse(query: bytes) -> list[bytes]:
        asked.append(query)
        return [reply(query, stratum=0, name=b"RATE")]

    async def go() -> list[Failure | None]:
        memory: dict[str, Any] = {}
        async with datagram_server(refuse) as port:
            check = ntp_check(port)(name="a", server=LOOPBACK)
            first = await run_with(check, memory)
            second = await run_with(check, memory)
            now = asyncio.get_running_loop().time()
            assert now < memory["quiet_until"] <= now + QUIET_S
            memory["quiet_until"] = now
            return [first, second, await run_with(check, memory)]

    assert asyncio.run(go()) == [Failure.PROHIBITED, Failure.LOCAL_POLICY, Failure.PROHIBITED]
    assert len(asked) == 2


async def run_with(check: Ntp, memory: dict[str, Any]) -> Failure | None:
    async def resolve(target: str, deadline: float) -> str:
        return target

    deadline = asyncio.get_running_loop().time() + 5
    try:
        facts = await check.run(Context(Gate(Policy()), Toolbox(), resolve, deadline, memory=memory))
    except Failed as failed:
        return failed.failure
    return facts.failure


def test_a_clock_that_is_set_meanwhile_spoils_only_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    real_ns, calls = time.time_ns, iter(range(100))
    monkeypatch.setattr("agent.net.udp.time.time_ns", lambda: real_ns() + 3_600_000_000_000 * min(next(calls), 1))
    facts = ask(lambda query: [reply(query)])
    assert facts.failure is Failure.ABORTED
    assert facts.fields.get("offset_s") is None


def test_random_answers_are_a_failure_and_never_an_error() -> None:
    rng = random.Random(5)

    def garbage(query: bytes) -> list[bytes]:
        whole = bytearray(reply(query))
        for _ in range(rng.randrange(1, 9)):
            whole[rng.choice([*range(24), *range(32, 48)])] = rng.randrange(256)
        return [rng.randbytes(rng.randrange(90)), bytes(whole)]

    async def go() -> set[Failure | None]:
        async with datagram_server(garbage) as port:
            return {(await measured(ntp_check(port)(name="a", server=LOOPBACK))).failure for _ in range(300)}

    assert {None, Failure.PROTOCOL} <= asyncio.run(go()) <= {None, Failure.PROTOCOL, Failure.PROHIBITED}


def test_differences_are_right_across_the_turn_of_the_era() -> None:
    turn_ns = (2**32 - ntp.UNIX_EPOCH_S) * ntp.NANO  # 7 February 2036
    before, after = ntp.stamp(turn_ns - ntp.NANO), ntp.stamp(turn_ns + ntp.NANO)
    assert after < before
    assert (ntp.apart_s(after, before), ntp.apart_s(before, after)) == (2.0, -2.0)


def test_declares_what_it_sends() -> None:
    check = Ntp(name="a", server="gateway")
    assert check.sends() == (Traffic("gateway", "udp", 123, 1),)
    assert (check.asked, check.layer_or_default, check.default_timeout_s) == ("gateway", "time", 2.0)
    assert "offset_s" in check.numbers()

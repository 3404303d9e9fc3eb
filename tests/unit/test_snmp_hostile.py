"""Devices that are dead, broken or hostile: who waits for whom, and the sentence for each."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack

import pytest
from pysnmp.proto.api import v2c

from agent.model import Failed, Failure
from agent.snmp import message, oids
from agent.snmp.credentials import Credentials
from agent.snmp.device import PAUSE_FIRST_S, PAUSE_LONGEST_S, Silence
from tests.rigs.snmp_agent import Agent, Script, answer, from_table, from_tree
from tests.rigs.snmp_agent import agent as scripted_agent
from tests.rigs.snmp_asker import SYSTEM, WHO, Asker, failure, play, silent_polls
from tests.rigs.snmpd import free_udp_port


def test_pauses_double_from_one_to_fifteen_minutes_and_vary() -> None:
    silence, now, pauses = Silence(random.Random(3)), 0.0, []
    for _ in range(9):
        silence.another(now)
        pauses.append(silence.left_s(now))
        now += pauses[-1]
    assert pauses[:2] == [0.0, 0.0]
    for pause, fair in zip(pauses[2:], (60, 120, 240, 480, 900, 900, 900), strict=True):
        assert 0.8 * fair <= pause <= 1.2 * fair
    assert len({p / round(p / PAUSE_FIRST_S) for p in pauses[2:]}) > 1
    assert max(pauses) <= 1.2 * PAUSE_LONGEST_S
    silence.ask_now()
    assert (silence.left_s(now - 1), silence.polls) == (0.0, 9)
    silence.heard()
    assert silence.polls == 0


def test_after_three_silent_polls_a_device_is_left_alone_until_it_shows_life() -> None:
    async def scene(asker: Asker, peer: Agent) -> None:
        await silent_polls(asker, peer, 3)
        asked_before = len(peer.requests)
        found = await silent_polls(asker, peer, 5)
        assert found.failure is Failure.TIMEOUT
        assert "no answer to the last 3 polls" in found.detail and "left alone" in found.detail
        assert len(peer.requests) == asked_before
        peer.script = from_tree(SYSTEM)
        asker.snmp.sign_of_life("127.0.0.1")
        assert await asker.get(peer.port) == b"sw"
        peer.script = lambda request: []
        assert "left alone" not in (await silent_polls(asker, peer, 3)).detail

    play(lambda request: [], scene)


def test_who_is_let_in_is_not_held_up_by_a_wrong_community() -> None:
    def picky(request: bytes) -> list[bytes]:
        return from_tree(SYSTEM)(request) if message.parse(request).community == b"canary-secret" else []

    async def scene(asker: Asker, peer: Agent) -> None:
        for _ in range(4):
            with pytest.raises(Failed):
                session = await asker.session(peer.port, within=0.2, who=Credentials("2c", "wrong"))
                await session.get([oids.SYS_NAME])
        assert await asker.get(peer.port) == b"sw"

    play(picky, scene)


def test_of_fifty_devices_with_ten_dead_ones_no_living_one_is_late() -> None:
    async def go() -> None:
        asker, done = Asker(), list[bool]()

        async def poll(port: int, alive: bool, within: float) -> None:
            try:
                assert await asker.get(port, within) == b"sw"
                assert alive
            except Failed as failed:
                assert (alive, failed.failure) == (False, Failure.TIMEOUT)
            done.append(alive)

        async with AsyncExitStack() as stack:
            alive = [number % 5 != 0 for number in range(50)]
            scripts = [from_tree(SYSTEM) if a else (lambda request: []) for a in alive]
            peers = [await stack.enter_async_context(scripted_agent(script)) for script in scripts]
            pairs = list(zip((p.port for p in peers), alive, strict=True))
            await asyncio.gather(*(poll(port, a, 5.0) for port, a in pairs))
            assert done == [True] * 40 + [False] * 10
            for _ in range(2):
                await asyncio.gather(*(poll(port, a, 0.2) for port, a in pairs if not a))
            done.clear()
            heard = [len(peer.requests) for peer in peers]
            await asyncio.gather(*(poll(port, a, 5.0) for port, a in pairs))
            assert [len(p.requests) - h for p, h in zip(peers, heard, strict=True)] == [int(a) for a in alive]
        await asker.snmp.aclose()

    asyncio.run(go())


def test_a_check_that_never_got_its_turn_says_nothing_against_the_device() -> None:
    def picky(request: bytes) -> list[bytes]:
        return from_tree(SYSTEM)(request) if message.parse(request).community == b"canary-secret" else []

    async def scene(asker: Asker, peer: Agent) -> None:
        async def refused(within: float) -> Failed:
            session = await asker.session(peer.port, within=within, who=Credentials("2c", "wrong"))
            with pytest.raises(Failed) as caught:
                await session.get([oids.SYS_NAME])
            return caught.value

        holding = asyncio.ensure_future(refused(1.5))
        await asyncio.sleep(0.1)
        for within in (0.3, 1.6):  # the second has its turn at last, and 0.1 s for it
            waiting = await asker.session(peer.port, within=within)
            peer.script = picky if within < 1 else lambda request: []
            with pytest.raises(Failed) as caught:
                await waiting.get([oids.SYS_NAME])
            assert (caught.value.failure, "another check" in caught.value.detail) == (Failure.OVERLOAD, True)
        assert (await holding).failure is Failure.TIMEOUT

    play(picky, scene)


def test_a_device_that_falls_silent_in_the_middle_is_not_said_to_refuse_us() -> None:
    async def scene(asker: Asker, peer: Agent) -> None:
        session = await asker.session(peer.port, within=0.4)
        await session.get([oids.SYS_NAME])
        peer.script = lambda request: []
        with pytest.raises(Failed) as caught:
            await session.get([oids.SYS_NAME])
        assert caught.value.detail == "the device answered the questions before this one, and then no more"

    play(from_tree(SYSTEM), scene)


def test_one_question_at_a_time_goes_to_a_device() -> None:
    open_questions, most = [0], [0]

    async def scene(asker: Asker, peer: Agent) -> None:
        loop = asyncio.get_running_loop()

        def slow(request: bytes) -> list[bytes]:
            open_questions[0] += 1
            most[0] = max(most[0], open_questions[0])
            address = ("127.0.0.1", peer.sender[1])

            def reply() -> None:
                open_questions[0] -= 1
                peer.transport.sendto(from_tree(SYSTEM)(request)[0], address)

            loop.call_later(0.02, reply)
            return []

        peer.script = slow
        assert await asyncio.gather(*(asker.get(peer.port) for _ in range(8))) == [b"sw"] * 8

    play(lambda request: [], scene)
    assert most == [1]


HUGE = {f"1.3.6.1.2.1.2.2.1.2.{i}": v2c.OctetString("x" * 200) for i in range(45)}
BROKEN: dict[str, tuple[Script, Failure, str]] = {
    "truncated": (lambda r: [from_tree(SYSTEM)(r)[0][:-3]], Failure.PROTOCOL, "cut short"),
    "oversized": (lambda r: [answer(r, HUGE)], Failure.PROTOCOL, "at most 8192"),
    "too long for its length": (lambda r: [from_tree(SYSTEM)(r)[0] + b"x"], Failure.PROTOCOL, "not readable"),
    "rubbish": (lambda r: [b"hello"], Failure.PROTOCOL, "is not SNMP"),
    "deep": (lambda r: [deep(2000)], Failure.PROTOCOL, "not readable"),
    "wrong id": (lambda r: [answer(r, {}, other_id=1)], Failure.MISMATCH, "request id"),
    "wrong community": (
        lambda r: [answer(r.replace(b"canary-secret", b"canary-sesame"), SYSTEM)],
        Failure.MISMATCH,
        "none an answer",
    ),
    "own question": (lambda r: [r], Failure.MISMATCH, "none an answer"),
    "other object": (lambda r: [answer(r, {oids.SYS_UP_TIME: v2c.TimeTicks(1)})], Failure.MISMATCH, "other objects"),
    "genErr": (lambda r: [answer(r, {}, status=5, index=1)], Failure.PROTOCOL, f"genErr to {oids.SYS_NAME}"),
    "tooBig at one": (lambda r: [answer(r, {}, status=1)], Failure.PROTOCOL, "tooBig"),
    "view": (lambda r: [answer(r, {}, status=16, index=1)], Failure.AUTH, "SNMP view"),
}


def deep(levels: int) -> bytes:
    data = b""
    for _ in range(levels):
        data = b"\x30\x82" + len(data).to_bytes(2) + data
    return data


@pytest.mark.parametrize("name", BROKEN)
def test_every_broken_answer_has_its_sentence(name: str) -> None:
    script, expected, words = BROKEN[name]
    found = failure(script, lambda asker, peer: asker.get(peer.port, within=0.6))
    assert (found[0], words in found[1]) == (expected, True), found


def test_no_such_object_is_no_failure() -> None:
    assert play(from_table({}), lambda asker, peer: asker.get(peer.port)) is None


def test_a_table_that_runs_in_circles_ends() -> None:
    def circles(request: bytes) -> list[bytes]:
        return [answer(request, {f"{oids.IF_NAME}.{i}": v2c.OctetString("x") for i in (1, 2)})]

    async def scene(asker: Asker, peer: Agent) -> None:
        await (await asker.session(peer.port)).table((oids.IF_NAME,))

    found = failure(circles, scene)
    assert (found[0], "circles" in found[1]) == (Failure.PROTOCOL, True)


LAG_MOST_S = 0.05
"""Nobody on the loop may be held up longer by what a device sends."""


class Recorded:
    """Makes its answers at the first question and repeats them, so that only their reading is timed."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._replies: list[bytes] = []

    def __call__(self, request: bytes) -> list[bytes]:
        if not self._replies:
            self._replies = self._script(request)
            return []
        return self._replies


def mutated(rng: random.Random, whole: bytes, times: int) -> list[bytes]:
    found = []
    for _ in range(times):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        found.append(bytes(data))
    return found


HOSTILE: dict[str, Script] = {
    "mutated": lambda r: mutated(random.Random(46), r, 20),
    "mutated, 8 kB": lambda r: mutated(random.Random(46), answer(as_v2c(r), HUGE)[:8000], 20),
    "deep": lambda r: [deep(2000)] * 20,
    "64 kB": lambda r: [random.Random(46).randbytes(60_000)] * 20,
    "many parts": lambda r: [b"\x30\x82\x1f\xa4" + b"\x02\x01\x01" * 2700] * 20,
    "flood": lambda r: [random.Random(46).randbytes(100)] * 3000,
}


def as_v2c(request: bytes) -> bytes:
    """Give a v2c question to answer, also where the real one is of v3, which this rig cannot read."""
    v3 = request[request.index(b"\x02\x01") + 2] == 3
    return message.question("get", "2c", b"canary-secret", 1, [oids.SYS_NAME]) if v3 else request


@pytest.mark.parametrize("who", [WHO, Credentials("3", user="probe")], ids=["v2c", "v3"])
def test_the_loop_stays_awake_and_the_log_short_under_hostile_answers(
    who: Credentials, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async def go() -> dict[str, float]:
        longest = dict[str, float]()

        async def watch(name: str) -> None:
            """Count what the loop's own thread works between two turns; what else this machine does is no lag."""
            while True:
                before = time.thread_time()
                await asyncio.sleep(0.005)
                longest[name] = max(longest.get(name, 0.0), time.thread_time() - before)

        asker = Asker()
        with pytest.raises(OSError):  # nobody listens there; it makes the engine of v3
            await (await asker.session(free_udp_port(), 20.0, who)).get([oids.SYS_NAME])
        for name, script in HOSTILE.items():
            async with scripted_agent(Recorded(script)) as peer:
                for watched in (False, True):
                    watching = asyncio.ensure_future(watch(name)) if watched else None
                    with pytest.raises(Failed):
                        await (await asker.session(peer.port, 0.25, who)).get([oids.SYS_NAME])
                    if watching:
                        watching.cancel()
        await asker.snmp.aclose()
        return longest

    lags_s = asyncio.run(go())
    assert capfd.readouterr() == ("", "")
    assert len(caplog.records) < 10
    print("longest lag, ms:", {name: round(lag_s * 1e3, 1) for name, lag_s in lags_s.items()})
    assert set(lags_s) == set(HOSTILE)
    assert max(lags_s.values()) < LAG_MOST_S

"""The http check against scripted servers."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from agent import __version__
from agent.check import Traffic
from agent.checks.http import LARGEST_BODY, Http
from agent.model import Facts, Failure
from tests.rigs.servers import (
    LOOPBACK,
    Handler,
    closed_port,
    deaf_port,
    measured,
    resets,
    says,
    stream_server,
)
from tests.rigs.web import NAMES, OK, ask, hears, number


def test_passes_with_the_phases_in_order() -> None:
    facts = ask(says(OK), "http://epr.example.org:{port}/health", expect_text="status: up")
    assert facts.failure is None
    assert facts.address == LOOPBACK
    assert list(facts.fields) == ["dns_s", "connect_s", "first_byte_s", "status", "body_bytes", "total_s"]
    assert facts.fields["status"] == 200
    assert facts.fields["body_bytes"] == 10
    phases = number(facts, "dns_s") + number(facts, "connect_s")
    assert 0 < phases <= number(facts, "first_byte_s") <= number(facts, "total_s")


def test_sends_one_plain_get() -> None:
    heard: list[bytes] = []
    ask(hears(heard), "http://EPR.example.org:{port}/a b/é%20x?q=ü&r=1#part")
    line, *headers = heard[0].decode().split("\r\n")
    assert line == "GET /a%20b/%C3%A9%20x?q=%C3%BC&r=1 HTTP/1.1"
    port = headers[0].rpartition(":")[2]
    assert [h.lower() for h in headers if h] == [
        f"host: epr.example.org:{port}",
        f"user-agent: siteprobe/{__version__}",
        "accept: */*",
        "accept-encoding: identity",
        "connection: close",
    ]


def test_first_byte_and_total_are_told_apart() -> None:
    slow_start = OK[:5]
    facts = ask(says(b"", slow_start, OK[5:], pause_s=0.15))
    assert 0.15 <= number(facts, "first_byte_s") < number(facts, "total_s") - 0.1


def test_an_address_needs_no_dns_also_in_brackets() -> None:
    heard: list[bytes] = []
    facts = ask(hears(heard), "http://[::1]:{port}/", address="::1")
    assert facts.failure is None
    assert facts.address == "::1"
    assert "dns_s" not in facts.fields
    assert b"host: [::1]:" in heard[0].lower()


@pytest.mark.parametrize(
    ("status", "expect", "failure"),
    [
        (204, (), None),
        (302, (), Failure.HTTP_STATUS),
        (302, (302,), None),
        (404, (), Failure.HTTP_STATUS),
        (503, (), Failure.HTTP_STATUS),
        (401, (200, 401), None),
        (200, (204,), Failure.HTTP_STATUS),
        (407, (), Failure.AUTH),
    ],
)
def test_the_status_is_judged(status: int, expect: tuple[int, ...], failure: Failure | None) -> None:
    facts = ask(says(b"HTTP/1.1 %d Word\r\nContent-Length: 0\r\n\r\n" % status), expect_status=expect)
    assert facts.failure is failure
    assert facts.fields["status"] == status
    assert "total_s" in facts.fields


def test_interim_answers_are_passed_over() -> None:
    facts = ask(says(b"HTTP/1.1 103 Early Hints\r\n\r\n", OK))
    assert facts.fields["status"] == 200


def test_text_that_is_missing() -> None:
    facts = ask(says(OK), expect_text="status: down")
    assert facts.failure is Failure.HTTP_TEXT
    assert facts.fields["body_bytes"] == 10


def test_chunked_body_and_text_across_chunks() -> None:
    chunks = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\nh\xc3\xa9ll\r\n",
        b"1\r\no\r\n",
        b"0\r\n\r\n",
    )
    assert ask(says(*chunks, pause_s=0.01), expect_text="héllo").failure is None


def test_an_answer_that_is_cut_off_is_not_said_to_be_something_else_than_http() -> None:
    facts = ask(says(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello"))
    assert (facts.failure, facts.fields["body_bytes"]) == (Failure.PROTOCOL, 5)
    assert facts.detail == "the server closed the connection before its answer was whole; look at its log"


def test_a_body_without_end_is_read_up_to_the_cap() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    facts = ask(endless)
    assert facts.failure is None
    assert facts.fields["body_bytes"] == LARGEST_BODY


@pytest.mark.parametrize(
    ("handler", "failure"),
    [
        (says(then=5), Failure.TIMEOUT),
        (says(b"HTTP/1.1 200 OK\r\n", then=5), Failure.STALLED),
        (says(OK[:-3], then=5), Failure.STALLED),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", *[b"x"] * 40, pause_s=0.05), Failure.STALLED),
        (says(OK[:-3]), Failure.PROTOCOL),
        (says(), Failure.PROTOCOL),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), Failure.PROTOCOL),
        (says(b"\x15\x03\x01\x00\x02\x02\x28"), Failure.PROTOCOL),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65536 + b"\r\n\r\n"), Failure.PROTOCOL),
        (says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), Failure.PROTOCOL),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), Failure.PROTOCOL),
        (resets(), Failure.RESET),
        (resets(OK[:-3]), Failure.RESET),
    ],
    ids=[
        "silent",
        "stops in the head",
        "stops in the body",
        "drips",
        "ends in the body",
        "ends at once",
        "not HTTP",
        "TLS alert",
        "64 kB header",
        "switches protocols",
        "two lengths",
        "resets",
        "resets in the body",
    ],
)
def test_every_fault_has_its_failure(handler: Handler, failure: Failure) -> None:
    facts = ask(handler, seconds=0.4)
    assert facts.failure is failure
    assert facts.address == LOOPBACK
    assert "connect_s" in facts.fields
    assert facts.detail.isprintable()


def test_what_is_known_travels_with_the_failure() -> None:
    facts = ask(says(OK[:-3], then=5), seconds=0.3)
    assert (facts.fields["status"], facts.fields["body_bytes"]) == (200, 7)
    assert "first_byte_s" in facts.fields
    assert "total_s" not in facts.fields


def test_no_connection() -> None:
    async def go(port: int, host: str = LOOPBACK) -> Facts:
        return await measured(Http(name="a", url=f"http://{host}:{port}/"), 0.3, names=NAMES)

    with closed_port() as port:
        assert asyncio.run(go(port)).failure is Failure.REFUSED
    with deaf_port() as port:
        assert asyncio.run(go(port)).failure is Failure.TIMEOUT
    nowhere = asyncio.run(go(80, "nowhere.example.org"))
    assert nowhere.failure is Failure.DNS_NXDOMAIN
    assert asyncio.run(go(631)).failure is Failure.LOCAL_POLICY


def test_random_bytes_are_a_failure_and_never_an_error() -> None:
    rng = random.Random(11)

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        good = bytearray(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
        for _ in range(rng.randrange(4)):
            good[rng.randrange(len(good))] = rng.randrange(256)
        writer.write(rng.choice([bytes(good), rng.randbytes(rng.randrange(200)), b"HTTP/1.1 " + rng.randbytes(50)]))
        await writer.drain()

    async def go() -> set[Failure | None]:
        async with stream_server(garbage) as port:
            check = Http(name="a", url=f"http://127.0.0.1:{port}/")
            return {(await measured(check)).failure for _ in range(200)}

    seen = asyncio.run(go())
    assert {None, Failure.PROTOCOL} <= seen
    assert seen <= {None, Failure.PROTOCOL, Failure.HTTP_STATUS, Failure.RESET, Failure.AUTH}


def test_the_wait_for_our_own_budget_is_not_the_services_time() -> None:
    async def go() -> Facts:
        async with stream_server(says(OK)) as port:
            check = Http(name="a", url=f"http://127.0.0.1:{port}/")
            return await SlowGate.measured(check)

    facts = asyncio.run(go())
    assert facts.failure is None
    assert number(facts, "total_s") < 0.3


class SlowGate:
    """A gate whose permits take 0.4 s, as with a spent budget (loopback itself is not rated)."""

    @staticmethod
    async def measured(check: Http) -> Facts:
        from agent.checks import Context, Toolbox
        from agent.policy import Policy
        from agent.safety import Gate, Permit

        class Slow(Gate):
            async def permit(self, *where: Any, **how: Any) -> Permit:
                await asyncio.sleep(0.4)
                return await super().permit(*where, **how)

        async def resolve(target: str, deadline: float) -> str:
            return target

        return await check.run(Context(Slow(Policy()), Toolbox(), resolve, asyncio.get_running_loop().time() + 5))


@pytest.mark.parametrize(
    ("url", "proxy", "traffic"),
    [
        ("http://epr.example.org/", "", Traffic("epr.example.org", "tcp", 80, 1)),
        ("https://epr.example.org", "", Traffic("epr.example.org", "tcp", 443, 1)),
        ("https://[2001:db8::1]:8443/", "", Traffic("2001:db8::1", "tcp", 8443, 1)),
        ("https://epr.example.org/", "http://10.0.0.9", Traffic("10.0.0.9", "tcp", 80, 1)),
    ],
)
def test_declares_what_it_sends(url: str, proxy: str, traffic: Traffic) -> None:
    check = Http(name="a", url=url, proxy=proxy)
    assert check.sends() == (traffic,)
    assert check.asked == url
    assert (check.default_timeout_s, check.main_field, check.layer_or_default) == (5.0, "total_s", "service")

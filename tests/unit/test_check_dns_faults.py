"""The dns check against a name server that is silent, wrong, cut short or mad."""

from __future__ import annotations

import asyncio
import random
import socket
import time

import dns.flags
import dns.message
import dns.reversename
import dns.rrset
import pytest

from agent.checks import dns as dns_module
from agent.model import Facts, Failure
from tests.rigs.name_server import NAME, Change, ask, dns_check, over_tcp, records, reply
from tests.rigs.servers import LOOPBACK, Handler, closed_port, datagram_server, measured, says


def truncated(query: bytes) -> list[bytes]:
    return [reply(query, change=lambda answer: setattr(answer, "flags", answer.flags | dns.flags.TC))]


def test_silence_and_a_closed_port() -> None:
    facts = ask(lambda query: [], seconds=0.2)
    assert facts.failure is Failure.DNS_TIMEOUT
    assert facts.address == LOOPBACK
    with closed_port(socket.SOCK_DGRAM) as port:
        check = dns_check(port)(name="a", server=LOOPBACK, query=NAME)
        assert asyncio.run(measured(check)).failure is Failure.REFUSED


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: setattr(answer, "id", answer.id ^ 1),
        lambda answer: setattr(answer, "flags", answer.flags & ~dns.flags.QR),
        lambda answer: answer.question.__setitem__(0, dns.rrset.from_text("evil.example.org.", 0, "IN", "A")),
    ],
    ids=["wrong id", "a question", "another question"],
)
def test_an_answer_to_something_else_is_not_heard(change: Change) -> None:
    facts = ask(records(f"{NAME} A 10.0.0.66", change=change), seconds=0.2)
    assert (facts.failure, facts.fields["ignored_answers"]) == (Failure.MISMATCH, 1)
    assert facts.detail.startswith("an answer came, but not to our question")

    def wrong_then_right(query: bytes) -> list[bytes]:
        return [reply(query, f"{NAME} A 10.0.0.66", change=change), reply(query, f"{NAME} A 10.0.0.1")]

    facts = ask(wrong_then_right)
    assert (facts.fields["answers"], facts.fields["ignored_answers"]) == ("10.0.0.1", 1)


def test_garbage_with_our_id_is_a_protocol_failure() -> None:
    assert ask(lambda query: [query[:2] + b"\x81\x80garbage"]).failure is Failure.PROTOCOL


def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    addresses = [f"10.0.{i // 250}.{i % 250 + 1}" for i in range(500)]
    whole = over_tcp(lambda query: reply(query, *(f"{NAME} A {a}" for a in addresses)), pieces=4)
    facts = ask(truncated, whole, expect=addresses)
    assert facts.failure is None
    assert len(str(facts.fields["answers"])) == 1000


def test_an_answer_cut_in_the_middle_of_a_record_counts_as_truncated() -> None:
    def cut(query: bytes) -> list[bytes]:
        def mark(answer: dns.message.Message) -> None:
            answer.flags |= dns.flags.TC

        return [reply(query, f"{NAME} TXT {'x' * 200}", change=mark)[:-50]]

    facts = ask(cut, over_tcp(lambda query: reply(query, f"{NAME} TXT whole")), record="TXT")
    assert facts.fields["answers"] == "whole"


@pytest.mark.parametrize(
    ("tcp", "failure"),
    [
        (None, Failure.REFUSED),
        (says(then=5), Failure.DNS_TIMEOUT),
        (says(b"\x00"), Failure.PROTOCOL),
        (over_tcp(lambda query: b"\x00" * 12), Failure.MISMATCH),
        (over_tcp(lambda query: query[:2] + b"\xff" * 9), Failure.PROTOCOL),
        (over_tcp(lambda query: reply(query, rcode="SERVFAIL")), Failure.DNS_SERVFAIL),
    ],
    ids=["closed", "silent", "ends early", "wrong id", "garbage", "servfail"],
)
def test_over_tcp_too_every_fault_has_its_failure(tcp: Handler | None, failure: Failure) -> None:
    facts = ask(truncated, tcp, seconds=0.4)
    assert facts.failure is failure
    assert "response_s" in facts.fields


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
            check = dns_check(server.getsockname()[1])(name="a", server=LOOPBACK, query=NAME)
            asking = asyncio.create_task(measured(check, 0.5))
            query, asker = await loop.sock_recvfrom(server, 600)
            stranger.sendto(reply(query, f"{NAME} A 10.0.0.66"), asker)
            return await asking

    facts = asyncio.run(go())
    assert facts.failure is Failure.DNS_TIMEOUT
    assert "answers" not in facts.fields


@pytest.mark.parametrize("guesses", [1, 60])
def test_somebody_who_guesses_ids_is_counted_and_not_believed(guesses: int) -> None:
    def forged_then_right(query: bytes) -> list[bytes]:
        forged = reply(query, f"{NAME} A 10.0.0.66")
        ids = ((int.from_bytes(query[:2], "big") + i) % 65536 for i in range(1, 1 + guesses))
        return [*(guess.to_bytes(2, "big") + forged[2:] for guess in ids), reply(query, f"{NAME} A 10.0.0.1")]

    facts = ask(forged_then_right)
    assert facts.fields["answers"] == "10.0.0.1"
    assert facts.fields["ignored_answers"] == guesses


def test_a_datagram_of_64_kb() -> None:
    def padded(query: bytes) -> list[bytes]:
        return [reply(query, f"{NAME} A 10.0.0.1") + bytes(64_000)]

    assert ask(padded).failure is Failure.PROTOCOL
    text = " ".join(['"' + "x" * 255 + '"'] * 250)
    facts = ask(records(f"{NAME} TXT {text}"), record="TXT")
    assert (facts.failure, len(str(facts.fields["answers"]))) == (None, 1000)


def test_over_tcp_64_kb_pass_and_a_drip_is_silence() -> None:
    text = " ".join(['"' + "x" * 255 + '"'] * 250)
    facts = ask(truncated, over_tcp(lambda query: reply(query, f"{NAME} TXT {text}"), pieces=9), record="TXT")
    assert (facts.failure, len(str(facts.fields["answers"]))) == (None, 1000)
    assert ask(truncated, says(b"\xff\xff", *[b"x"] * 60, pause_s=0.05), seconds=0.5).failure is Failure.DNS_TIMEOUT
    assert ask(truncated, says(b"\xff\xff" + b"x" * 1000)).failure is Failure.PROTOCOL
    assert ask(truncated, says(b"\x00\x00")).failure is Failure.MISMATCH


def test_an_answer_that_is_truncated_over_tcp_too_is_judged_as_it_is() -> None:
    facts = ask(truncated, over_tcp(lambda query: truncated(query)[0]))
    assert facts.failure is Failure.DNS_MISMATCH


def test_random_answers_are_a_failure_and_never_an_error() -> None:
    rng = random.Random(3)

    def garbage(query: bytes) -> list[bytes]:
        whole = bytearray(reply(query, f"{NAME} CNAME b.example.org.", "b.example.org. A 10.0.0.1"))
        for _ in range(rng.randrange(1, 6)):
            whole[rng.randrange(2, len(whole))] = rng.randrange(256)
        return [bytes(whole[: rng.randrange(12, len(whole) + 1)]), query[:2] + rng.randbytes(rng.randrange(80))]

    async def go() -> set[Failure | None]:
        async with datagram_server(garbage) as port:
            check = dns_check(port)(name="a", server=LOOPBACK, query=NAME)
            return {(await measured(check, 0.5)).failure for _ in range(200)}

    seen = asyncio.run(go())
    assert Failure.PROTOCOL in seen
    assert Failure.INTERNAL not in seen


def test_what_we_need_to_read_an_answer_is_not_the_servers_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = dns_module._ours

    def slowly(question: dns.message.Message, data: bytes) -> bool:
        time.sleep(0.2)
        return ours(question, data)

    monkeypatch.setattr(dns_module, "_ours", slowly)
    assert 0 < float(str(ask(records(f"{NAME} A 10.0.0.1")).fields["response_s"])) < 0.15

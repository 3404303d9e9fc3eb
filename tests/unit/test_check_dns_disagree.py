"""Two name servers that are asked the same: each by its own check, and each record tells who answered otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agent.checks import Context, Toolbox
from agent.checks.dns import MOST_QUESTIONS, Answers
from agent.model import Facts
from agent.policy import Policy
from agent.safety import Gate
from tests.rigs.name_server import NAME, dns_check, records
from tests.rigs.servers import Answer, datagram_server

ONE, OTHER = "127.0.0.1", "127.0.0.2"


async def asked(tools: Toolbox, server: str, port: int, said: list[str] | None = None, **options: Any) -> Facts:
    async def resolve(target: str, deadline: float) -> str:
        return target

    check = dns_check(port)(**({"name": "a", "server": server, "query": NAME} | options))
    ctx = Context(Gate(Policy()), tools, resolve, asyncio.get_running_loop().time() + 5)
    if said is not None:
        ctx.say = said.append
    return await check.run(ctx)


def both(one: Answer, other: Answer, said: list[str] | None = None, **options: Any) -> tuple[Facts, Facts, Facts]:
    """Ask one server, the other, and the first again, as three runs of one agent."""

    async def go() -> tuple[Facts, Facts, Facts]:
        tools = Toolbox()
        async with datagram_server(one) as first, datagram_server(other, address=OTHER) as second:
            return (
                await asked(tools, ONE, first),
                await asked(tools, OTHER, second, said, **options),
                await asked(tools, ONE, first),
            )

    return asyncio.run(go())


def addresses(*found: str) -> Answer:
    return records(*(f"{NAME} A {address}" for address in found))


def test_servers_that_agree() -> None:
    first, second, third = both(addresses("10.0.0.1", "10.0.0.2"), addresses("10.0.0.2", "10.0.0.1"))
    assert "disagreeing_servers" not in first.fields, "there was nothing to compare with yet"
    assert second.fields["disagreeing_servers"] == third.fields["disagreeing_servers"] == 0
    assert "disagrees_with" not in second.fields


@pytest.mark.parametrize(
    "other", [addresses("10.0.0.9"), addresses("10.0.0.1", "10.0.0.9"), records(rcode="NXDOMAIN"), records()]
)
def test_servers_that_disagree_fail_nothing_by_that(other: Answer) -> None:
    said: list[str] = []
    first, second, third = both(addresses("10.0.0.1"), other, said)
    assert (second.fields["disagreeing_servers"], second.fields["disagrees_with"]) == (1, ONE)
    assert (third.fields["disagreeing_servers"], third.fields["disagrees_with"]) == (1, OTHER)
    assert first.failure is third.failure is None
    assert f"{ONE} answered otherwise" in said


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR"])
def test_a_server_that_cannot_say_has_no_opinion(rcode: str) -> None:
    found = both(addresses("10.0.0.1"), records(rcode=rcode))
    assert all("disagreeing_servers" not in facts.fields for facts in found)


def test_another_question_is_not_compared() -> None:
    found = both(addresses("10.0.0.1"), records(f"{NAME} TXT x"), record="TXT")
    assert all("disagreeing_servers" not in facts.fields for facts in found)
    _, second, _ = both(addresses("10.0.0.1"), addresses("10.0.0.1"), query=NAME.upper().rstrip("."))
    assert second.fields["disagreeing_servers"] == 0


def tell(answers: Answers, server: str, answer: Sequence[str], now: float, name: str = "epr") -> set[str]:
    return set(answers.others((name, "A"), server, list(answer), now, 75.0))


def test_an_old_answer_is_forgotten() -> None:
    answers = Answers()
    assert tell(answers, ONE, ["10.0.0.1"], 0.0) == set()
    assert tell(answers, OTHER, ["10.0.0.2"], 74.0) == {ONE}
    assert tell(answers, OTHER, ["10.0.0.2"], 76.0) == set()
    assert tell(answers, ONE, ["10.0.0.2"], 80.0) == {OTHER}


def test_no_more_is_remembered_than_a_config_can_ask() -> None:
    answers = Answers()
    for number in range(3 * MOST_QUESTIONS):
        tell(answers, ONE, ["10.0.0.1"], 0.0, f"name-{number}")
    assert len(answers._said) <= MOST_QUESTIONS


def test_it_may_be_limited_like_every_number() -> None:
    assert "disagreeing_servers" in dns_check(53).numbers()

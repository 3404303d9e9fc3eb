"""The rounds: a check never runs twice at a time, whoever asks, and a new plan ends what runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from agent.check import Traffic
from agent.checks import Check, Context, Toolbox
from agent.clock import Clock
from agent.model import Facts
from agent.policy import Policy
from agent.rounds import NotNow, Rounds, Running
from agent.runner import Run, Runner
from agent.safety import Gate
from tests.rigs import virtual_time

RUN_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Slow(Check):
    """A check that takes two seconds."""

    type = "slow"

    def sends(self) -> tuple[Traffic, ...]:
        return (Traffic("there.example", "tcp", 443, 1),)

    async def run(self, ctx: Context) -> Facts:
        await asyncio.sleep(RUN_S)
        return Facts({"once": ctx.once})


class Seldom(Slow):
    """One that may be asked every ten minutes only."""

    least_interval_s = 600.0


async def resolve(target: str, deadline: float) -> str:
    return "192.0.2.7"


def check(of: type[Slow] = Slow, interval_s: float = 3600.0, **options: Any) -> Slow:
    return of(name="a", interval_s=interval_s, timeout_s=5.0, layer="service", **options)


def played(scene: Callable[[Rounds, list[Run]], Awaitable[None]]) -> None:
    """Let rounds run in virtual time while the scene is played."""

    async def play() -> None:
        runs: list[Run] = []

        def take(check: Check, run: Run) -> tuple[str, int]:
            runs.append(run)
            return "ep", len(runs)

        rounds = Rounds(Runner(Gate(Policy()), Toolbox(), resolve, Clock("trusted")), "node", take, lambda late_s: None)
        task = asyncio.create_task(rounds.run())
        await scene(rounds, runs)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time.run(play())


def test_a_check_asked_on_command_runs_at_once_and_gives_its_number() -> None:
    async def scene(rounds: Rounds, runs: list[Run]) -> None:
        rounds.plan([check()])
        await asyncio.sleep(10)
        assert len(runs) == 1
        began = asyncio.get_running_loop().time()
        assert await rounds.ask_now("a") == ("ep", 2)
        assert asyncio.get_running_loop().time() - began < RUN_S + 0.5
        await asyncio.sleep(60)
        assert len(runs) == 2, "the command took no slot of its own"

    played(scene)


def test_one_that_runs_already_is_busy_whoever_began_it() -> None:
    async def scene(rounds: Rounds, runs: list[Run]) -> None:
        rounds.plan([check()])
        await asyncio.sleep(10)
        first = asyncio.create_task(rounds.ask_now("a"))
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(Running):
                await rounds.ask_now("a")
            await asyncio.sleep(0.5)
        assert await first == ("ep", 2)
        assert len(runs) == 2

    played(scene)


@pytest.mark.parametrize(
    ("asked", "pause_s"),
    [(check(Seldom), 600.0), (check(device_class="medical", responsibility_agreement="A-1"), 60.0)],
)
def test_a_command_keeps_to_how_often_a_type_and_a_medical_device_may_be_asked(asked: Slow, pause_s: float) -> None:
    async def scene(rounds: Rounds, runs: list[Run]) -> None:
        rounds.plan([asked])
        await asyncio.sleep(10)
        with pytest.raises(NotNow, match=f"every {pause_s:g} s"):
            await rounds.ask_now("a")
        await asyncio.sleep(pause_s)
        assert await rounds.ask_now("a") == ("ep", 2)

    played(scene)


def test_a_check_that_is_not_in_the_plan_is_never_asked() -> None:
    async def scene(rounds: Rounds, runs: list[Run]) -> None:
        rounds.plan([])
        with pytest.raises(NotNow, match="no check b runs here"):
            await rounds.ask_now("b")

    played(scene)


def test_a_new_plan_ends_what_runs_and_who_waits_for_it_hears_so() -> None:
    async def scene(rounds: Rounds, runs: list[Run]) -> None:
        rounds.plan([check()])
        await asyncio.sleep(10)
        waiting = asyncio.create_task(rounds.ask_now("a"))
        await asyncio.sleep(1)
        rounds.plan([])
        with pytest.raises(NotNow, match="was ended"):
            await waiting
        await asyncio.sleep(3600)
        assert len(runs) == 1
        rounds.plan([check(interval_s=10.0)])
        await asyncio.sleep(30)
        assert len(runs) in (3, 4), "it begins anew, and keeps to its interval"

    played(scene)


@pytest.mark.parametrize(
    ("asked", "pause_s"),
    [(check(Seldom), 600.0), (check(device_class="medical", responsibility_agreement="A-1"), 60.0)],
)
def test_a_new_plan_again_and_again_asks_nobody_too_often(asked: Slow, pause_s: float) -> None:
    async def scene(rounds: Rounds, runs: list[Run]) -> None:
        rounds.plan([asked])
        await asyncio.sleep(10)
        for _ in range(int(pause_s / 10) - 2):
            rounds.plan([asked])
            await asyncio.sleep(10)
        assert len(runs) == 1, "reloads, or suppressions that come and go"
        await asyncio.sleep(30)
        assert len(runs) == 2

    played(scene)


def test_a_confirmation_asks_the_cheapest_question_once() -> None:
    async def scene(rounds: Rounds, runs: list[Run]) -> None:
        rounds.plan([check()])
        await asyncio.sleep(10)
        rounds.confirm(["a", "gone"])
        await asyncio.sleep(5)
        await rounds.ask_now("a")
        assert [run.record.fields["once"] for run in runs] == [False, True, False]

    played(scene)


def test_news_has_a_check_asked_at_once_and_a_running_one_once_more() -> None:
    async def scene(rounds: Rounds, runs: list[Run]) -> None:
        rounds.plan([check()])
        await asyncio.sleep(10)
        assert len(runs) == 1
        rounds.at_once(["a", "gone"])
        await asyncio.sleep(1)
        rounds.at_once(["a"])
        rounds.at_once(["a"])
        await asyncio.sleep(60)
        assert len(runs) == 3, "at once, and once more for what happened meanwhile"

    played(scene)


def test_news_never_has_a_medical_device_asked() -> None:
    async def scene(rounds: Rounds, runs: list[Run]) -> None:
        rounds.plan([check(device_class="medical", responsibility_agreement="A-1")])
        await asyncio.sleep(10)
        rounds.at_once(["a"])
        await asyncio.sleep(60)
        assert len(runs) == 1

    played(scene)

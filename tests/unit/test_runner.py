"""One run of a check: whatever it does becomes a record, and nothing but a cancellation comes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from agent.check import Traffic
from agent.checks import Check, Context, Toolbox
from agent.clock import Clock, ClockQuality
from agent.model import Facts, Failed, Failure, Layer
from agent.policy import Policy
from agent.runner import GRACE_S, STARVED_S, Run, Runner
from agent.safety import Gate
from tests.rigs import virtual_time

Behaviour = Callable[[Context], Awaitable[Facts]]


@dataclass(frozen=True, kw_only=True)
class Puppet(Check):
    """A check that does what the test says."""

    type = "tcp"
    behaviour: Any = None

    def sends(self) -> tuple[Traffic, ...]:
        return (Traffic("there.example", "tcp", 443, 1),)

    async def run(self, ctx: Context) -> Facts:
        found: Facts = await self.behaviour(ctx)
        return found


async def resolve(target: str, deadline: float) -> str:
    return "192.0.2.7"


def runner(quality: ClockQuality = ClockQuality.SYNCED) -> Runner:
    return Runner(Gate(Policy()), Toolbox(), resolve, Clock("auto", lambda: quality))


def played(behaviour: Behaviour, **options: Any) -> Run:
    check = Puppet(name="a", timeout_s=2.0, layer=str(Layer.SERVICE), behaviour=behaviour)
    return virtual_time.run(runner().run(replace(check, **options)))


def test_a_pass_has_every_field_of_the_contract_in_order() -> None:
    async def behave(ctx: Context) -> Facts:
        return Facts({"connect_s": 0.5, "status": None}, address=await ctx.resolve("there.example"))

    run = played(behave)
    assert list(run.record.fields) == ["check", "layer", "target", "address", "outcome", "duration_s", "connect_s"]
    assert run.record.fields["address"] == "192.0.2.7"
    assert run.record.fields["target"] == "there.example"
    assert (run.record.type, run.record.taken.clock) == ("tcp", "synced")


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (Failure.REFUSED, "fail"),
        (Failure.LOCAL_POLICY, "unknown"),
        (Failure.LOCAL_LINK, "unknown"),
        (Failure.OVERLOAD, "unknown"),
    ],
)
def test_a_raised_failure_keeps_its_word_fields_and_the_address_resolved_before(failure: Failure, outcome: str) -> None:
    async def behave(ctx: Context) -> Facts:
        await ctx.resolve("there.example")
        raise Failed(failure, "said why", responder="192.0.2.1")

    fields = played(behave).record.fields
    assert (fields["outcome"], fields["failure"], fields["detail"]) == (outcome, str(failure), "said why")
    assert (fields["responder"], fields["address"]) == ("192.0.2.1", "192.0.2.7")


def test_a_check_that_hangs_is_ended_from_outside_and_fails() -> None:
    async def behave(ctx: Context) -> Facts:
        await asyncio.sleep(3600)
        return Facts({})

    fields = played(behave).record.fields
    assert (fields["outcome"], fields["failure"]) == ("fail", "timeout")
    assert fields["duration_s"] == pytest.approx(2.0 + GRACE_S)


def test_a_frozen_process_is_overload_and_not_the_targets_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async def behave(ctx: Context) -> Facts:
        time.sleep(0.2)  # the whole loop stands still, beyond every deadline
        await asyncio.sleep(0)
        await asyncio.sleep(1)
        return Facts({})

    monkeypatch.setattr("agent.runner.STARVED_S", 0.05)
    monkeypatch.setattr("agent.runner.GRACE_S", 0.0)
    check = Puppet(name="a", timeout_s=0.1, layer="service", behaviour=behave)
    fields = asyncio.run(runner().run(check)).record.fields
    assert (fields["outcome"], fields["failure"]) == ("unknown", "overload")
    assert STARVED_S >= GRACE_S


def test_a_broken_check_becomes_internal_and_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def behave(ctx: Context) -> Facts:
        raise ZeroDivisionError("1/0 with a secret-canary in it")

    fields = played(behave).record.fields
    assert (fields["outcome"], fields["failure"]) == ("unknown", "internal")
    assert fields["detail"] == "ZeroDivisionError in check type tcp"
    assert "check a broke" in caplog.text


def test_cancelling_a_run_cancels_the_check() -> None:
    async def scene() -> bool:
        seen: list[bool] = []

        async def behave(ctx: Context) -> Facts:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                seen.append(True)
                raise
            return Facts({})

        task = asyncio.create_task(runner().run(Puppet(name="a", timeout_s=2.0, behaviour=behave)))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return seen == [True] and task.cancelled()

    assert virtual_time.run(scene())


def test_further_records_carry_the_head_of_the_check() -> None:
    async def behave(ctx: Context) -> Facts:
        return Facts({"uptime_s": 5}, address="192.0.2.9", more=(("snmp_port", {"port": 7}), ("event", {"kind": "x"})))

    more = played(behave).more
    assert [record.type for record in more] == ["snmp_port", "event"]
    for record in more:
        assert (record.fields["check"], record.fields["address"]) == ("a", "192.0.2.9")
        assert "outcome" not in record.fields


def test_memory_lasts_from_run_to_run_until_the_check_is_forgotten() -> None:
    async def behave(ctx: Context) -> Facts:
        ctx.memory["runs"] = ctx.memory.get("runs", 0) + 1
        return Facts({"runs": ctx.memory["runs"]})

    check = Puppet(name="a", timeout_s=2.0, layer="service", behaviour=behave)
    one = runner()

    async def scene() -> list[object]:
        seen = [(await one.run(check)).record.fields["runs"] for _ in range(2)]
        one.forget({"b"})
        return [*seen, (await one.run(check)).record.fields["runs"]]

    assert virtual_time.run(scene()) == [1, 2, 1]


@pytest.mark.parametrize(("quality", "judged"), [(ClockQuality.SYNCED, True), (ClockQuality.UNSYNCED, False)])
def test_certificate_dates_are_judged_only_by_a_clock_that_is_set(quality: ClockQuality, judged: bool) -> None:
    async def behave(ctx: Context) -> Facts:
        return Facts({"judged": ctx.judge_certificate_dates})

    check = Puppet(name="a", timeout_s=2.0, layer="service", behaviour=behave)
    assert virtual_time.run(runner(quality).run(check)).record.fields["judged"] is judged

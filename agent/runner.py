"""Runs a check once under its deadline and makes its records.

Here is the only `except Exception` of the tree: whatever a check does wrong becomes a record with
outcome `unknown` and failure `internal`, never a traceback that stops the agent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.checks import Check, Context, Resolve, Toolbox
from agent.clock import Clock, ClockQuality, Instant
from agent.model import Facts, Failed, Failure, Record, Scalar, outcome_of
from agent.safety import Gate

GRACE_S = 0.5
"""A check ends by its own deadline; this much later it is ended from outside."""
LAST_TURN_S = 0.1
"""After a stall of the whole process all timers are due at once: then a check still has this long to end by itself."""
STARVED_S = 1.0
"""Woken this long after the deadline, we were too busy to have heard an answer: overload, not loss."""
SILENCE = (Failure.TIMEOUT, Failure.DNS_TIMEOUT)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """The records of one run: the check's own first, then what it found besides."""

    record: Record
    more: tuple[Record, ...] = ()


class Runner:
    """Gives each run its context; remembers what a check wants to keep from run to run."""

    def __init__(self, gate: Gate, tools: Toolbox, resolve: Resolve, clock: Clock) -> None:
        """Take what all runs share."""
        self._gate = gate
        self._tools = tools
        self._resolve = resolve
        self._clock = clock
        self._memory: dict[str, dict[str, Any]] = {}

    async def run(self, check: Check, *, once: bool = False, say: Callable[[str], None] | None = None) -> Run:
        """Run the check once; never raises but on cancellation."""
        loop = asyncio.get_running_loop()
        taken, began = self._clock.now(), loop.time()
        ctx = Context(
            gate=self._gate,
            tools=self._tools,
            resolve_target=self._resolve,
            deadline=began + check.timeout_s,
            check_type=check.type,
            once=once,
            judge_certificate_dates=taken.clock != ClockQuality.UNSYNCED,
            memory=self._memory.setdefault(check.name, {}),
        )
        if say:
            ctx.say = say
        facts = await self._facts(check, ctx)
        return records_of(check, facts, facts.address or ctx.address, taken, loop.time() - began)

    def refuse(self, check: Check, sentence: str) -> Run:
        """Make the record of a run that is not made, because of our own policy."""
        facts = Facts({}, failure=Failure.LOCAL_POLICY, detail=sentence)
        return records_of(check, facts, "", self._clock.now(), 0.0)

    def reopen(self) -> None:
        """The way works again: devices that were silent because of it need not be left alone."""
        self._tools.reopen()

    def forget(self, kept: set[str]) -> None:
        """Drop the memory of checks that are no longer there."""
        self._memory = {name: memory for name, memory in self._memory.items() if name in kept}

    async def _facts(self, check: Check, ctx: Context) -> Facts:
        facts = await self._answer(check, ctx)
        starved = asyncio.get_running_loop().time() > ctx.deadline + STARVED_S
        if starved and facts.failure in SILENCE:
            return Facts(facts.fields, facts.address, Failure.OVERLOAD, "this machine was too busy to measure")
        return facts

    async def _answer(self, check: Check, ctx: Context) -> Facts:
        try:
            return await _ended_at(ctx.deadline + GRACE_S, check.run(ctx))
        except Failed as failed:
            return Facts(failed.fields, failure=failed.failure, detail=failed.detail)
        except TimeoutError:
            return Facts({}, failure=Failure.TIMEOUT, detail=f"no answer within {check.timeout_s:g} s")
        except Exception as error:  # the one place: a broken check must not stop the agent
            log.exception("check %s broke; please report this", check.name)
            return Facts({}, failure=Failure.INTERNAL, detail=f"{type(error).__name__} in check type {check.type}")


async def _ended_at(when: float, run: Awaitable[Facts]) -> Facts:
    """End a run at a time of the loop clock, with TimeoutError, but not before its own timers had their turn.

    After a stall the check must still be woken by its own deadline, to look at what came in meanwhile.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = loop.call_at(when - LAST_TURN_S, lambda: limit.reschedule(max(when, loop.time() + LAST_TURN_S)))
        try:
            return await run
        finally:
            timer.cancel()


def records_of(check: Check, facts: Facts, address: str, taken: Instant, duration_s: float) -> Run:
    """Make the records of a run, in the field order of the contract; `address` is the one used."""
    head: dict[str, Scalar] = {
        "check": check.name,
        "layer": check.layer,
        "target": check.asked,
        "address": address,
    }
    verdict: dict[str, Scalar] = {
        "outcome": str(outcome_of(facts.failure, check.type)),
        "failure": str(facts.failure) if facts.failure else None,
        "detail": facts.detail or None,
        "duration_s": round(duration_s, 6),
    }
    record = Record(check.type, taken, cleaned({**head, **verdict, **facts.fields}))
    more = tuple(Record(kind, taken, cleaned({**head, **fields})) for kind, fields in facts.more)
    return Run(record, more)


def cleaned(fields: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Leave out what is not known."""
    return {key: value for key, value in fields.items() if value is not None}

"""Asking without a schedule: each check now, a failing one again each second until it is decided."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from agent.app import Agent
from agent.checks import Check, Toolbox
from agent.clock import Clock
from agent.config import Config
from agent.health import Health, beyond, limits_of, step
from agent.model import Outcome, Record
from agent.net.resolve import Resolver
from agent.rounds import CONFIRM_S
from agent.runner import Run, Runner
from agent.safety import Gate
from agent.verdict import HEALTHY, Finding, Path, SiteFacts, locate

DELIVERY_S = 15.0
"""How long `run --once` waits for the broker to take everything."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one check answered: its runs in order, its health after them, and the explanation."""

    check: Check
    runs: tuple[Run, ...]
    health: Health
    lines: tuple[str, ...] = field(default=())

    @property
    def record(self) -> Record:
        """The record of the last run."""
        return self.runs[-1].record

    @property
    def word(self) -> str:
        """`pass`, `degraded`, `fail` or `unknown`."""
        outcome = str(self.record.fields["outcome"])
        slow = outcome == Outcome.PASS and beyond(self.record, self.check.degraded)
        return "degraded" if slow else outcome


async def ask(check: Check, runner: Runner) -> Answer:
    """Ask a check, and again each second while it fails, up to its `fail_after`."""
    lines: list[str] = []
    run = await runner.run(check, say=lines.append)
    runs, health = [run], step(Health(), run.record, limits_of(check))
    again = check.asked_again and check.device_class != "medical"  # such a device is asked once a minute at most
    while health.suspect and again:
        await asyncio.sleep(CONFIRM_S)
        run = await runner.run(check, once=True, say=lines.append)
        runs.append(run)
        health = step(health, run.record, limits_of(check))
    for _ in range(check.fail_after if health.illness.streak else 0):  # in a second a device says the same of itself
        health = step(health, run.record, limits_of(check))
    while not health.decided:  # asking again would not help: the reason is ours
        health = step(health, run.record, limits_of(check))
    return Answer(check, tuple(runs), health, tuple(lines))


async def ask_all(config: Config, wanted: Iterable[Check], done: Callable[[Answer], None]) -> list[Answer]:
    """Ask checks at the same time within the safety budgets; `done` gets each answer as it comes."""
    gate, tools, clock = Gate(config.safety), Toolbox(), Clock(config.clock)
    runner = Runner(gate, tools, Resolver(gate), clock)

    async def one(check: Check) -> Answer:
        answer = await ask(check, runner)
        done(answer)
        return answer

    try:
        return list(await asyncio.gather(*(one(check) for check in wanted)))
    finally:
        await tools.aclose()


def verdict_of(config: Config, answers: Iterable[Answer]) -> Finding:
    """Judge answers that were all taken just now."""
    healths: Mapping[str, Health] = {answer.check.name: answer.health for answer in answers}
    return locate(Path(config.checks), healths, SiteFacts(Clock(config.clock).now()))


async def run_once(config: Config) -> tuple[Finding, int, str, str]:
    """Measure, judge and publish once; gives the finding, how many records still wait, why, and why those are lost.

    What the broker does not take within 15 s stays in the store, unless there is none but memory. Raises
    `StoreInUse`, and `JournalEnded` if the journal fails meanwhile.
    """
    agent = Agent(config)
    await agent.open()
    publishing = asyncio.create_task(agent.publisher.run())
    try:
        await asyncio.gather(*(_take(agent, check) for check in agent.rounds.checks.values()))
        await agent.journal.flush()
        waiting, reason = await _delivered(agent), agent.publisher.delivery.reason
        await agent.end(publishing)
        await asyncio.wait([publishing])
        lost = agent.journal.trouble if agent.journal.in_memory else ""
        return agent.pipeline.finding, waiting, reason, lost
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)  # it fails too where the journal has
        await agent.close()


async def _take(agent: Agent, check: Check) -> None:
    answer = await ask(check, agent.runner)
    for run in answer.runs:
        agent.pipeline.take(check, run.record, run.more)
    agent.pipeline.healths[check.name] = answer.health
    agent.pipeline.judge(agent.facts())


async def _delivered(agent: Agent) -> int:
    loop = asyncio.get_running_loop()
    until = loop.time() + DELIVERY_S
    while agent.journal.pending and loop.time() < until:  # noqa: ASYNC110 - acknowledgements are counted, not told
        await asyncio.sleep(0.1)
    return agent.journal.pending


def all_well(finding: Finding) -> bool:
    """Tell whether the finding is `healthy`."""
    return finding.verdict == HEALTHY

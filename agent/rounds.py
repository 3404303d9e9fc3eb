"""The rounds of the agent: each check is asked when it is due, again while a fault is confirmed, or on command.

Every run begins here, so that one check never runs twice at a time, whoever asks for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from agent.check import CheckOptions
from agent.checks import Check
from agent.config.rules import MEDICAL_INTERVAL_S
from agent.restraint import Restraint
from agent.runner import Run, Runner
from agent.schedule import FIRST_WITHIN_S, Schedule, share

CONFIRM_S = 1.0
"""Pause before a failing check is asked again (contract, section 4: every 1-2 s)."""
LONGEST_WAIT_S = 60.0
STALL_S = 2.0
"""Woken this long after the time asked for, the process was stopped or starved."""
Number = tuple[str, int]
"""Epoch and sequence number of a record."""


class Running(Exception):
    """The check runs already."""


class NotNow(Exception):
    """The check may not be asked, or not now; its text is one sentence."""


class Rounds:
    """Knows which checks run, when each is due, and which run now."""

    def __init__(
        self,
        runner: Runner,
        node: str,
        take: Callable[[Check, Run], Number],
        stalled: Callable[[float], None],
    ) -> None:
        """Have `take` keep each run and give the number of its record; nothing runs before `plan`.

        `stalled` is told for how many seconds the whole process stood still.
        """
        self._runner, self._node, self._take, self._stalled = runner, node, take, stalled
        self.checks: dict[str, Any] = {}
        self.schedule = Schedule((), node, 0.0)
        self._restraint = Restraint()
        self._wake = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._began: dict[str, float] = {}
        self._confirming: set[str] = set()
        self._again: set[str] = set()
        self._wanted: dict[str, asyncio.Future[Number]] = {}

    def plan(self, active: Iterable[CheckOptions]) -> None:
        """Go on with these checks: whatever runs now ends at once, and each begins as after a start.

        But none is asked sooner after its last run than its type, or a medical device, ever may be: a config that
        is reloaded again and again must not become a DHCP question each time.
        """
        for task in self._running.values():
            task.cancel()
        for wanted in self._wanted.values():
            if not wanted.done():
                wanted.set_exception(NotNow("the run was ended: the config changed, or active checks are suppressed"))
        self._running, self._wanted, self._confirming, self._again = {}, {}, set(), set()
        self.checks = {check.name: check for check in active}
        self._restraint.begin()
        now = asyncio.get_running_loop().time()
        intervals_s = ((check.name, check.interval_s) for check in self.checks.values())
        soonest = {name: self._soonest(check) for name, check in self.checks.items() if name in self._began}
        self.schedule = Schedule(intervals_s, self._node, now, soonest)
        self._wake.set()

    def forget(self, kept: Iterable[CheckOptions]) -> None:
        """Drop the memory of checks that are no longer configured; one that only rests for a while keeps its own."""
        self._restraint.forget(kept)

    async def run(self) -> None:
        """Start what is due, tick by tick, for ever."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                for name in self.schedule.due(loop.time()):
                    self._running[name] = group.create_task(self._ask(name))
                self._wake.clear()
                until = min(self.schedule.next_at(), loop.time() + LONGEST_WAIT_S)
                try:
                    async with asyncio.timeout_at(until):
                        await self._wake.wait()
                except TimeoutError:
                    self._after_stall(loop.time(), loop.time() - until)

    def _after_stall(self, now: float, late_s: float) -> None:
        """After the whole process stood still: say so once, and do not send all that was missed in a burst."""
        if late_s > STALL_S:
            self.schedule.resume(now)
            self._stalled(late_s)

    def confirm(self, names: Iterable[str]) -> None:
        """Ask these again in a second, each by its cheapest question."""
        at = asyncio.get_running_loop().time() + CONFIRM_S
        for name in names:
            check = self.checks.get(name)
            if check is None or check.device_class == "medical":
                continue  # a medical device is never asked out of turn
            self._confirming.add(name)
            soonest = self._began.get(name, -math.inf) + check.least_interval_s
            self.schedule.hurry(name, at if check.asked_again else max(at, soonest))
        self._wake.set()

    def at_once(self, names: Iterable[str]) -> None:
        """Ask these now, out of turn; one that runs already, once more afterwards: it began before the news."""
        now = asyncio.get_running_loop().time()
        for name in names:
            check = self.checks.get(name)
            if check is None or check.device_class == "medical":
                continue  # a medical device is never asked out of turn
            if name in self._running:
                self._again.add(name)
            self.schedule.hurry(name, now)
        self._wake.set()

    async def ask_now(self, name: str) -> Number:
        """Run a check in the next tick and give the number of its record; raises `Running` or `NotNow`."""
        if name in self._running or name in self._wanted:
            raise Running(name)
        loop = asyncio.get_running_loop()
        self._judge(name, loop.time())
        wanted: asyncio.Future[Number] = loop.create_future()
        self._wanted[name] = wanted
        self.schedule.hurry(name, loop.time())
        self._wake.set()
        return await wanted

    def _judge(self, name: str, now: float) -> None:
        """Hold a command to what the config must keep to: how often a type, and a medical device, may be asked."""
        check = self.checks.get(name)
        if check is None:
            raise NotNow(f"no check {name} runs here: it is not in the config, or active checks are suppressed")
        if now < self._soonest(check):
            since_s = now - self._began[name]
            raise NotNow(f"{name} was asked {since_s:.0f} s ago, and may be asked every {least_pause_s(check):g} s")

    def _soonest(self, check: CheckOptions) -> float:
        """Say before when a check may not be asked again, whoever wants it."""
        return self._began.get(check.name, -math.inf) + least_pause_s(check)

    async def _ask(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        check, began = self.checks[name], loop.time()
        self._began[name] = began
        refusal = self._restraint.refusal(check)
        once = name in self._confirming
        run = self._runner.refuse(check, refusal) if refusal else await self._runner.run(check, once=once)
        self._confirming.discard(name)
        del self._running[name]
        advice = self._restraint.take(check, run.record, began, loop.time())
        self.schedule.finished(name, began, loop.time(), advice.pause_s)
        if name in self._again:
            self._again.discard(name)
            self.schedule.hurry(name, loop.time())
        number = self._take(check, replace(run, more=(*run.more, *advice.events)) if advice.events else run)
        if advice.reopened:
            self._reopen(loop.time())
        if (wanted := self._wanted.pop(name, None)) and not wanted.done():
            wanted.set_result(number)
        self._wake.set()

    def _reopen(self, now: float) -> None:
        """Ask again what was put off while something on the way was down, spread as after a start."""
        self._runner.reopen()
        for name in self._restraint.put_off():
            if name in self.checks and self.checks[name].device_class != "medical":
                self.schedule.hurry(name, now + share(self._node, name) * FIRST_WITHIN_S)


def least_pause_s(check: CheckOptions) -> float:
    """Give the least time between two runs of a check, in seconds."""
    return MEDICAL_INTERVAL_S if check.device_class == "medical" else check.least_interval_s

"""The trace that runs by itself when a target beyond the gateway goes down, and the one on command.

The transition itself is committed and published at once, so what the trace finds seconds later cannot be in it:
it is a record of type `path` of the same check, whose field `transition` names that transition as `ep-seq`.

The rules: one trace at a time; of targets that go down together only the nearest, and none of the others for
30 s; a place again only after 10 min, for until then it is the same incident (contract, section 4); never a
medical device, never while active checks are suppressed. It asks nothing that the check does not ask itself:
by ICMP where that is what the check sends, by TCP to the port of the check; a check of another protocol is
not traced. Each packet passes the gate.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from agent.check import CheckOptions
from agent.checks.path import Path, trace_of
from agent.model import Layer, Record
from agent.rounds import NotNow, Running
from agent.runner import Runner
from agent.safety import Gate
from agent.verdict.graph import BEYOND_GATEWAY, ON_SITE, node_key

TOGETHER_S = 30.0
"""What goes down within this time of a trace went down with it: as long as a fault may take to be confirmed."""
AGAIN_S = 600.0
Number = tuple[str, int]
"""Epoch and sequence number of a record."""


class Numbered(Protocol):
    """What the tracer needs of the journal."""

    @property
    def ep(self) -> str:
        """The epoch in force."""

    def append(self, record: Record, urgent: bool = False) -> int:
        """Keep a record and give its number."""


class Tracer:
    """Traces what went down, and what the centre asks for; each result is a record in the journal."""

    def __init__(
        self, runner: Runner, gate: Gate, journal: Numbered, checks: Callable[[], Iterable[CheckOptions]]
    ) -> None:
        """Begin with nothing to do; `checks` gives those that the config has now."""
        self._runner, self._gate, self._journal, self._checks = runner, gate, journal, checks
        self._down: list[tuple[CheckOptions, Number]] = []
        self._wake = asyncio.Event()
        self._one = asyncio.Lock()
        self._last = -math.inf
        self._places: dict[str, float] = {}
        self._asked: dict[str, float] = {}

    def went_down(self, check: CheckOptions, transition: Number) -> None:
        """Hear that a check is down; `transition` is the number of the record that says so."""
        self._down.append((check, transition))
        self._wake.set()

    async def run(self) -> None:
        """Trace what goes down, for the life of the process."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._one:
                down, self._down = self._down, []  # all of one judgement: it says them in one go
                chosen = self._chosen(down, asyncio.get_running_loop().time())
                if chosen is not None:
                    check, trace, (ep, seq) = chosen
                    self._places[node_key(check)] = self._last = asyncio.get_running_loop().time()
                    await self._trace(trace, f"{ep}-{seq}")

    def _chosen(
        self, down: Iterable[tuple[CheckOptions, Number]], now: float
    ) -> tuple[CheckOptions, Path, Number] | None:
        """Choose the nearest of those that went down together; None where nothing is to be traced."""
        self._places = {place: at for place, at in self._places.items() if now - at < AGAIN_S}
        if self._gate.suppressed or now - self._last < TOGETHER_S:
            return None
        found = [(c, trace_of(c), number) for c, number in down if c.layer in BEYOND_GATEWAY and c.group != ON_SITE]
        fresh = [
            (c, trace, number)
            for c, trace, number in found
            if trace is not None and c.type != Path.type and node_key(c) not in self._places
        ]
        return min(fresh, key=lambda one: BEYOND_GATEWAY.index(Layer(one[0].layer)), default=None)

    async def trace_now(self, name: str) -> Number:
        """Trace the way to a check's target and give the number of the record; raises `Running` or `NotNow`."""
        if self._one.locked():
            raise Running(name)
        now = asyncio.get_running_loop().time()
        trace = self._judge(name, now)
        self._asked = {asked: at for asked, at in self._asked.items() if now - at < Path.least_interval_s}
        self._asked[name] = now
        async with self._one:
            return await self._trace(trace, "")

    def _judge(self, name: str, now: float) -> Path:
        """Hold a command to the config: only what is there, and not too often."""
        check = next((check for check in self._checks() if check.name == name), None)
        if check is None:
            raise NotNow(f"no check {name} runs here: it is not in the config")
        if self._gate.suppressed:
            raise NotNow("active checks are suppressed")
        trace = trace_of(check)
        if trace is None:
            raise NotNow(f"the way to {name} is not traced: only checks by ICMP or TCP are, and no medical device")
        since_s = now - self._asked.get(name, -math.inf)
        if since_s < Path.least_interval_s:
            raise NotNow(f"{name} was traced {since_s:.0f} s ago, and may be every {Path.least_interval_s:g} s")
        return trace

    async def _trace(self, trace: Path, transition: str) -> Number:
        run = await self._runner.run(trace)
        record = run.record
        if transition:
            record = replace(record, fields={**record.fields, "transition": transition})
        number = self._journal.ep, self._journal.append(record, urgent=True)
        for more in run.more:
            self._journal.append(more)
        return number

"""Runs a coroutine on an event loop whose clock jumps to the next timer when nothing else is to be done.

A day of schedule takes milliseconds. `asyncio.sleep`, `asyncio.timeout` and `loop.time()` all follow.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
DEADLOCK_S = 5.0
"""Real seconds that nothing may happen while no timer is set: then the test hangs, and says so."""


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which starts at 1000 s.

    `grace_s` are the real seconds to wait for threads and sockets before each jump.
    """

    def __init__(self, grace_s: float = 0.0) -> None:
        super().__init__()
        self._time_s = 1000.0
        self._grace_s = grace_s
        self._really_select = self._selector.select  # type: ignore[attr-defined]
        self._selector.select = self._jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._time_s

    def stand_still(self, seconds: float) -> None:
        """Let time pass in which nothing runs, as on a machine that is starved."""
        self._time_s += seconds

    def _jump(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]]
        ready = self._really_select(DEADLOCK_S if timeout is None else min(timeout, self._grace_s))
        if not ready and timeout is None:
            raise RuntimeError("no timer is set and nothing happens: the coroutine under test waits for ever")
        if not ready and timeout:
            self._time_s += timeout
        return ready


def run(coro: Coroutine[Any, Any, T], grace_s: float = 0.0) -> T:
    """Run the coroutine to its end in virtual time and give its result."""
    with asyncio.Runner(loop_factory=lambda: JumpingLoop(grace_s)) as runner:
        return runner.run(coro)

"""The service's side of the packet child: starts it on demand, asks it, ends it when idle, bears its death."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import agent
from agent.model import Failed, Failure
from agent.packets.lines import LINE_BYTES, packed, unpacked

IDLE_S = 60.0
"""A child that nobody asked for so long is ended: most of the time there is none."""
RETRY_S, RETRY_MOST_S = 1.0, 60.0
"""After a death the next start waits 1 s, then 2, 4 … up to a minute; an answer ends the count."""
END_S = 2.0
"""A child whose input was closed ends at once; one that does not is killed after this long."""
LAST_WORDS_S = 0.5
"""What it wrote before its end may still be in the pipe."""
STDERR_BYTES = 4096
"""Kept of what it wrote to its standard error, the newest; enough for the end of a traceback."""
FRAME = " |+-"
"""What surrounds the lines of a traceback of several errors."""
NAME = "the packet helper (python -m agent.packets)"
NO_HOME = "/dev/null"
"""scapy keeps a cache and settings in its home: below a file not even root can make them."""


def own_command() -> list[str]:
    """Give the command that starts the real child; -P keeps the working directory off the module path."""
    return [sys.executable, "-P", "-m", "agent.packets", str(os.getpid())]


def own_environment() -> dict[str, str]:
    """Give the whole environment of the child: it needs to find `agent` and its library, and nothing else."""
    source = str(Path(agent.__file__).resolve().parents[1])
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([source, *filter(None, sys.path)])),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
        "HOME": NO_HOME,
    }


class _Running:
    """One life of the child: the process, who waits for which answer, what it said on its standard error."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.said: deque[int] = deque(maxlen=STDERR_BYTES)
        self.ended = False
        self.readers = [asyncio.create_task(self._answers()), asyncio.create_task(self._complaints())]

    async def _answers(self) -> None:
        """Hand each answer to who waits for it; a line that is none, or the end, ends this life."""
        stdout = self.process.stdout
        assert stdout is not None
        try:
            while line := await stdout.readline():
                message = unpacked(line)
                wanted = self.waiting.pop(message["id"], None)
                if wanted and not wanted.done():
                    wanted.set_result(message)
        except ValueError:  # too long, or not JSON: a child like that is not to be trusted any more
            self.kill()
        await self.end()

    async def _complaints(self) -> None:
        stderr = self.process.stderr
        assert stderr is not None
        while part := await stderr.read(STDERR_BYTES):
            self.said.extend(part)

    def send(self, line: bytes) -> None:
        """Write a question; whether it arrived is seen by the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(line)

    async def end(self) -> None:
        """Close its input, wait for its end, kill it if that does not come; whoever still waits is told."""
        if self.ended:
            return
        self.ended = True
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()
        await asyncio.wait(self.readers[1:], timeout=LAST_WORDS_S)
        self._tell(f"{NAME} ended while it was asked{self.last_words}; it is started again for the next check")

    async def gone(self) -> None:
        """End it, and read what is left in its pipes."""
        await self.end()
        await asyncio.gather(*self.readers)

    def kill(self) -> None:
        """End it as the kernel would."""
        with suppress(ProcessLookupError):
            self.process.kill()

    def _tell(self, sentence: str) -> None:
        for wanted in self.waiting.values():
            if not wanted.done():
                wanted.set_exception(Failed(Failure.INTERNAL, sentence))
        self.waiting.clear()

    @property
    def last_words(self) -> str:
        """The last line of its standard error, shortened, in brackets; "" where it said nothing."""
        text = bytes(self.said).decode("utf-8", "replace")
        lines = [line for line in (line.strip(FRAME) for line in text.splitlines()) if line]
        return f" ({''.join(c for c in lines[-1] if c.isprintable())[:120]})" if lines else ""


def codec_child() -> PacketChild:
    """Make a child for what needs scapy: it ends a minute later, while one that listens may go on without it."""
    return PacketChild()


class PacketChild:
    """A packet child, running or not; `Toolbox.get(PacketChild)` is the one that listens."""

    def __init__(self, command: Sequence[str] | None = None, idle_s: float = IDLE_S) -> None:
        """Start nothing yet; `command` stands in for the real child in tests."""
        self._command, self._idle_s = command, idle_s
        self._running: _Running | None = None
        self._starting = asyncio.Lock()
        self._number = 0
        self._asking = 0
        self._deaths = 0
        self._not_before = 0.0
        self._keep_until = 0.0
        self._idle: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """The process id of the child; None while there is none."""
        return self._running.process.pid if self._running and not self._running.ended else None

    async def ask(self, do: str, deadline: float, *, keep_s: float = 0.0, **given: Any) -> dict[str, Any]:
        """Ask one thing and give what was found.

        `deadline` in seconds of the loop clock; `keep_s` keeps the child alive for at least so long
        afterwards. Raises `Failed`: what the child reports, `internal` if it died or cannot be started,
        `overload` if it did not answer in time (then it is killed).
        """
        self._asking += 1
        try:
            running = await self._started()
            found = await self._answer(running, do, given, deadline)
        finally:
            self._asking -= 1
            loop = asyncio.get_running_loop()
            self._keep_until = max(self._keep_until, loop.time() + max(keep_s, self._idle_s))
            self._watch_idle()
        self._deaths = 0
        if failure := found.get("failure"):
            known = failure in tuple(Failure)
            raise Failed(Failure(failure) if known else Failure.INTERNAL, str(found.get("detail", "")))
        answer = found.get("found")
        return answer if isinstance(answer, dict) else {}

    async def _answer(self, running: _Running, do: str, given: dict[str, Any], deadline: float) -> dict[str, Any]:
        self._number += 1
        number = self._number
        wanted: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        running.waiting[number] = wanted
        try:
            running.send(packed({"id": number, "do": do, "given": given}))
            async with asyncio.timeout_at(deadline):
                return await wanted
        except TimeoutError:
            self._died(running)
            running.kill()
            detail = f"{NAME} did not answer in time and was ended; is this machine overloaded?"
            raise Failed(Failure.OVERLOAD, detail) from None
        except Failed:
            self._died(running)
            raise
        finally:
            running.waiting.pop(number, None)

    async def _started(self) -> _Running:
        """Give the child that runs, started now if need be; raises `Failed` while a start must wait."""
        async with self._starting:
            if self._running and not self._running.ended and self._running.process.returncode is None:
                return self._running
            now = asyncio.get_running_loop().time()
            if self._deaths and now < self._not_before:
                often = f"died {self._deaths} times in a row" if self._deaths > 1 else "died"
                wait_s = self._not_before - now
                raise Failed(Failure.INTERNAL, f"{NAME} {often}; it is started again in {wait_s:.0f} s")
            self._running = _Running(await self._start())
            return self._running

    async def _start(self) -> asyncio.subprocess.Process:
        command = self._command or own_command()
        pipe = asyncio.subprocess.PIPE
        try:
            return await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, limit=LINE_BYTES, cwd="/", env=own_environment()
            )
        except OSError as error:
            self._back_off()
            raise Failed(Failure.INTERNAL, f"{NAME} cannot be started: {error.strerror}") from None

    def _died(self, running: _Running) -> None:
        """Count a death once, however many waited."""
        if self._running is running:
            self._back_off()
            self._retire()

    def _back_off(self) -> None:
        wait_s = min(RETRY_S * 2.0**self._deaths, RETRY_MOST_S)
        self._deaths = min(self._deaths + 1, 1000)
        self._not_before = asyncio.get_running_loop().time() + wait_s

    def _retire(self) -> None:
        """Let go of the child that runs; its end is waited for beside."""
        if self._running:
            ending = asyncio.create_task(self._running.gone())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self._running = None

    def _watch_idle(self) -> None:
        if self._idle is None or self._idle.done():
            self._idle = asyncio.create_task(self._end_when_idle())

    async def _end_when_idle(self) -> None:
        loop = asyncio.get_running_loop()
        while self._running:
            await asyncio.sleep(max(self._keep_until - loop.time(), 0.01) if not self._asking else self._idle_s)
            if not self._asking and loop.time() >= self._keep_until:
                self._retire()

    async def aclose(self) -> None:
        """End the child and wait for its end."""
        if self._idle:
            self._idle.cancel()
        self._retire()
        await asyncio.gather(*self._ending)

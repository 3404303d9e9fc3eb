"""A few daemon threads for calls that block: late ones hold up neither the loop nor the end of the process."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
IDLE_S = 30.0
"""A thread without work ends after this long: most agents look up a name once a minute."""

Job = tuple[str, asyncio.AbstractEventLoop, "asyncio.Future[T | OSError | UnicodeError]"]


class Workers(Generic[T]):
    """Calls one blocking function in at most `limit` threads, made when needed."""

    def __init__(self, call: Callable[[str], T], limit: int) -> None:
        """Start without threads; `call` takes one text and may raise OSError or UnicodeError."""
        self._call = call
        self._limit = limit
        self._jobs: queue.SimpleQueue[Job[T]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0

    async def run(self, argument: str) -> T | OSError | UnicodeError:
        """Call the function in a thread; gives what it returned, or the error that it raised."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T | OSError | UnicodeError] = loop.create_future()
        with self._lock:
            self._unfinished += 1
            more = self._threads < min(self._unfinished, self._limit)
            self._threads += more
        self._jobs.put((argument, loop, answer))
        if more:
            threading.Thread(target=self._work, name="lookup", daemon=True).start()
        return await answer

    def _work(self) -> None:
        while True:
            try:
                argument, loop, answer = self._jobs.get(timeout=IDLE_S)
            except queue.Empty:
                if self._may_end():
                    return
                continue
            try:
                found: T | OSError | UnicodeError = self._call(argument)
            except (OSError, UnicodeError) as error:
                found = error
            with self._lock:
                self._unfinished -= 1
            _hand_over(loop, answer, found)

    def _may_end(self) -> bool:
        with self._lock:
            if self._unfinished >= self._threads:
                return False  # a job was put in just now and counts on this thread
            self._threads -= 1
            return True


def _hand_over(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], found: T) -> None:
    try:
        loop.call_soon_threadsafe(_settle, answer, found)
    except RuntimeError:  # the loop was closed while we were away: nobody waits any more
        return


def _settle(answer: asyncio.Future[T], found: T) -> None:
    if not answer.done():
        answer.set_result(found)

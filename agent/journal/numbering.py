"""Every record's number, and the queue in which it waits for its commit. On the event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from agent.clock import Instant
from agent.journal.batch import BufferOptions
from agent.journal.blocks import Line
from agent.journal.place import Place
from agent.journal.ranges import Span
from agent.journal.shelf import Shelves
from agent.journal.times import Times
from agent.journal.trouble import JournalEnded, StoreTrouble
from agent.journal.waiting import THINNED, Queue, Waiting
from agent.messages import encode
from agent.model import Record, Scalar

P = ParamSpec("P")
T = TypeVar("T")

URGENT_WAITING = 100  # records that start a commit at once


class Numbering:
    """Numbers what is appended and asks for its commit."""

    def __init__(
        self,
        buffer: BufferOptions,
        node: str,
        machine: str,
        on_commit: Callable[[Sequence[Line]], None],
        now: Callable[[], Instant],
        main_fields: Mapping[str, str] | None = None,
        connected: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take what it needs.

        `machine` names the hardware: on another one a new epoch begins. `on_commit` gets the lines of each
        commit, in order, on the event loop, after they are durable. `main_fields` names the record field that
        summaries keep, by check type. `connected` tells whether what is committed will be sent at once: if not, the
        time of a record that was taken before the clock was set stays open, and its line is `held`.
        """
        self.trouble = ""
        self._buffer, self._node, self._machine = buffer, node, machine
        self._on_commit, self._now, self._connected = on_commit, now, connected
        self._times, self._saved_times = Times(), Times().text()
        self._place = Place(buffer.directory, machine, buffer.max_bytes)
        self._thread = ThreadPoolExecutor(1, "journal")
        self._shelves = Shelves()
        self._main_fields = main_fields or {}
        self._queue = Queue(self._main_fields)
        self._tickets = 0
        self._looked_ts = -math.inf
        self._booted_ts: float | None = None  # by the wall clock, seconds since 1970: it moves when that jumps
        self._ages_from_ms = 0
        self._values: dict[str, str] = {}
        self._unsaved: dict[str, str] = {}
        self._saving = False
        self._broken: StoreTrouble | None = None  # noticed while reading
        self._commit_at = self._retry_at = math.inf  # seconds of the loop clock
        self._poke, self._turn = asyncio.Event(), asyncio.Event()
        self._closing = False
        self._keeper: asyncio.Task[None] | None = None
        self._failed: BaseException | None = None

    def append(self, record: Record, urgent: bool = False) -> int:
        """Give a record its seq; it is committed within commit_s, at once if `urgent` or 100 wait."""
        return self._append(record, urgent)

    async def kept(self) -> None:
        """Wait while the journal keeps records, until it is closed; raises `JournalEnded` if it no longer can."""
        if self._keeper:
            await asyncio.wait([self._keeper])
        self._refuse_if_failed()

    def declare_lost(self, ep: str, spans: Iterable[Span], reason: str) -> None:
        """Give up numbers of the present epoch (thinned, quarantined, crash): one `loss` record a span."""
        shelf = self._shelves.present
        for first, last in spans if ep == shelf.ep else ():
            shelf.lose(first, last)
            fields: dict[str, Scalar] = {"from_seq": first, "to_seq": last, "reason": reason}
            self._append(Record("loss", self._now(), fields), bound=True)

    def _append(self, record: Record, urgent: bool = False, bound: bool = False) -> int:
        self._tickets += 1
        seq = self._number(self._tickets, record, bound)
        hurry = urgent or len(self._queue) >= URGENT_WAITING
        self._commit_within(0.0 if hurry else self._buffer.commit_s)
        return seq

    # -- inside

    def _number(self, ticket: int, record: Record, bound: bool = False) -> int:
        shelf, taken = self._shelves.present, record.taken
        seq = shelf.next_seq
        text = encode(record, self._node, shelf.ep, seq)
        line = Line(shelf.ep, seq, record.type, record.check, taken.ts, taken.mono_ms, text)
        shelf.next_seq = seq + 1
        for first, last in self._queue.add(Waiting(ticket, line, record, bound)).spans:
            shelf.lose(first, last)
        return seq

    def _declare_dropped(self) -> None:
        """Declare and sum up what was thinned out because too much waited."""
        while self._queue.dropped:
            dropped, summaries = self._queue.take_dropped()
            self.declare_lost(self._shelves.present.ep, dropped.spans, THINNED)
            for record in summaries.records():
                self._append(record)

    async def _next_turn(self) -> None:
        """Wait for the end of the next commit; raises `JournalEnded` if there will be none."""
        self._refuse_if_failed()
        await self._turn.wait()
        self._refuse_if_failed()

    def _ended(self, keeper: asyncio.Task[None]) -> None:
        """Note why the task ended, and let nobody wait for a commit that will not come."""
        if not keeper.cancelled() and (error := keeper.exception()):
            self._failed = error
            self._turn.set()

    def _refuse_if_failed(self) -> None:
        if error := self._failed:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise JournalEnded(f"the journal cannot go on ({reason}); start siteprobe anew, and report this") from error

    def _time(self) -> float:
        return asyncio.get_running_loop().time()

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call on the thread that owns SQLite; what is asked first is done first."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *args, **kwargs))

    def _commit_within(self, delay_s: float) -> None:
        at = self._time() + delay_s
        if at < self._commit_at:
            self._commit_at = at
            self._poke.set()

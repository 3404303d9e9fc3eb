"""The machinery of the journal on the event loop: when a commit is due, and going from one store to another."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from functools import partial

from agent.clock import STEP_S, ClockQuality, Instant
from agent.journal.batch import Batch, State, Status
from agent.journal.blocks import Line
from agent.journal.numbering import Numbering
from agent.journal.place import Opened, SetAside, open_memory
from agent.journal.ranges import Ranges
from agent.journal.shelf import Shelf
from agent.journal.summary import Summaries
from agent.journal.times import KEY as TIMES
from agent.journal.times import Times
from agent.journal.trouble import StoreInUse, StoreTrouble
from agent.journal.waiting import THINNED
from agent.model import Record, Scalar, event

RETRY_S = 10.0  # between two attempts to come back to disk
SKIPPED_AFTER_POWER_CUT = 1000  # more than 10 s of the fastest writer: what a card may have pretended to flush
AGE_S = 60.0  # between two looks at the age of the oldest records, by the wall clock
AGE_TRUSTED_MS = 3_600_000  # a wall clock that jumped must stay there so long before records go because of their age
LOSSES_AT_ONCE = 16  # loss records an eviction; beyond it, neighbours are declared together


class Keeper(Numbering):
    """Commits what is appended, and finds another place for it when a store fails."""

    # -- life --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the store. Raises `StoreInUse` if another agent holds it; else never fails, see `trouble`."""
        try:
            self._adopt(await self._open_disk())
        except StoreInUse:
            self._thread.shutdown(wait=False)
            raise
        except StoreTrouble as trouble:
            await self._go_to_memory(trouble)
        await self._commit()
        try:
            await self._run(self._shelves.present.store.checkpoint)
        except StoreTrouble as trouble:
            self._broken = trouble
        self._keeper = asyncio.create_task(self._keep(), name="journal")
        self._keeper.add_done_callback(self._ended)

    async def close(self) -> None:
        """Commit what waits, mark the store as cleanly closed, and let go of it.

        Where the keeping has failed nothing is committed: how far the last commit came is not known, opening anew
        finds out. It lets go all the same, and raises `JournalEnded`.
        """
        self._closing = True
        self._poke.set()
        if self._keeper:
            await asyncio.wait([self._keeper])
        while self._queue and not self._failed:
            await self._commit()
        if not self._failed:
            await self._commit(clean=True)
        for shelf in self._shelves.readable:
            await self._run(shelf.store.close)
        await self._run(self._place.release)
        self._thread.shutdown(wait=False)
        self._refuse_if_failed()

    async def _keep(self) -> None:
        """Commit whenever one is due, and look for the disk while in memory; for the life of the journal."""
        while not self._closing:
            self._poke.clear()
            delay = min(self._commit_at, self._retry_at) - self._time()
            if self._broken:
                await self._leave(self._broken)
            elif delay > 0:
                await self._sleep(delay)
            elif self._retry_at <= self._time():
                await self._try_disk()
            else:
                await self._commit()

    async def _sleep(self, delay: float) -> None:
        try:
            async with asyncio.timeout(None if delay == math.inf else delay):
                await self._poke.wait()
        except TimeoutError:
            return

    # -- committing --------------------------------------------------------------------------

    async def _commit(self, clean: bool = False) -> None:
        """Write all that waits; a store that fails is left for another one, where it waits again."""
        self._declare_dropped()
        shelf, lines, self._commit_at = self._shelves.present, self._queue.send(), math.inf
        leaving = self._leaving(shelf, lines)
        values = {} if shelf.in_memory else self._unsaved
        if values:
            self._unsaved, self._saving = {}, True
        batch = self._batch(shelf, lines, values, clean)
        try:
            status = await self._run(self._place.commit, shelf.store, batch)
        except StoreTrouble as trouble:
            await self._leave(trouble)
        else:
            self._queue.committed()
            self._saved_times = values.get(TIMES, self._saved_times)
            shelf.learn(status, batch.state.next_seq - 1)
            await self._make_room(shelf, status)
            if lines:
                asyncio.get_running_loop().call_soon(self._on_commit, leaving)
            await self._drop_drained()
        self._saving = False
        self._turn.set()
        self._turn = asyncio.Event()

    @property
    def _values_wait(self) -> bool:
        """Tell whether something remembered is not on disk yet; without the disk nothing waits for it."""
        return not self._shelves.present.in_memory and bool(self._unsaved or self._saving)

    def _batch(self, shelf: Shelf, lines: list[Line], values: Mapping[str, str], clean: bool) -> Batch:
        now, evict_to, shelf.evict_to = self._now(), shelf.evict_to, 0
        next_seq = lines[-1].seq + 1 if lines else shelf.committed_seq + 1
        sure = partial(Ranges.within, first=0, last=next_seq - 1)
        settled, lost = sure(shelf.settled), sure(shelf.lost)
        state = State(shelf.ep, self._machine, now.boot, clean, next_seq, shelf.lost_total, settled, lost)
        expired_ts = None
        if self._ages_count(now) and abs(now.ts - self._looked_ts) >= AGE_S:
            self._looked_ts, expired_ts = now.ts, now.ts - self._buffer.max_age_s
        oldest = shelf.oldest_pending or (lines[0].seq if lines else 0)
        return Batch(state, lines, values, evict_to, oldest, expired_ts)

    def _ages_count(self, now: Instant) -> bool:
        """Tell whether the clock is set and has not jumped within the hour: one wrong date must not empty the store."""
        before, self._booted_ts = self._booted_ts, now.ts - now.mono_ms / 1000
        if before is not None and abs(self._booted_ts - before) > STEP_S:
            self._ages_from_ms = now.mono_ms + AGE_TRUSTED_MS
        return now.clock != ClockQuality.UNSYNCED and now.mono_ms >= self._ages_from_ms

    async def _make_room(self, shelf: Shelf, status: Status) -> None:
        """Declare and sum up what is unsent in the blocks that have to go; the next commit removes them with it."""
        if status.evict_to:
            unsent = shelf.settled.missing(shelf.first_seq, status.evict_to)
            self.declare_lost(shelf.ep, unsent.union(status.undeclared).joined(LOSSES_AT_ONCE).spans, THINNED)
            try:
                summaries = await self._run(shelf.store.summarise, unsent, Summaries(self._main_fields))
            except StoreTrouble as trouble:
                self._broken = trouble
                return
            for record in summaries.records():
                self._append(record, bound=True)
            shelf.evict_to, self._looked_ts = status.evict_to, -math.inf
            self._commit_within(self._buffer.commit_s)

    def _leaving(self, shelf: Shelf, lines: list[Line]) -> list[Line]:
        """Give the lines as they leave with this commit, which also holds what is decided of their times."""
        if self._connected():
            self._decide(shelf, lines)
        return self._times.leaving(lines, self._now().boot)

    def _decide(self, shelf: Shelf, lines: Sequence[Line]) -> None:
        if self._times.decide(lines, shelf.first_seq, shelf.next_seq, self._now()):
            self._values[TIMES] = self._unsaved[TIMES] = self._times.text()

    async def _as_sent(self, shelf: Shelf, lines: Sequence[Line]) -> list[Line]:
        """Give the lines as they are to be sent, once what is decided of their times is durable.

        Nothing if their store fails meanwhile: it is read again when it is back.
        """
        self._decide(shelf, lines)
        while shelf is self._shelves.present and not shelf.in_memory and self._saved_times != self._times.text():
            self._commit_within(0.0)
            await self._next_turn()
        return self._times.leaving(lines, self._now().boot) if shelf in self._shelves.readable else []

    async def _read(self, shelf: Shelf, wanted: Ranges, limit: int) -> list[Line]:
        """Read; what should be there and is not (a damaged block) is declared lost, so that nobody waits for it."""
        try:
            lines = await self._run(shelf.store.read, wanted, limit)
        except StoreTrouble as trouble:
            if shelf is self._shelves.present:
                self._broken = trouble
                self._poke.set()
            return []
        asked = wanted.within(0, lines[-1].seq) if len(lines) == limit else wanted
        absent = shelf.absent(asked, lines)
        self.declare_lost(shelf.ep, absent.spans, "crash")
        shelf.settled = shelf.settled.union(absent)
        return await self._as_sent(shelf, lines)

    # -- from one store to another -------------------------------------------------------------

    async def _open_disk(self, damaged: str = "", rehearse: bool = False) -> Opened:
        now = self._now()
        return await self._run(self._place.open, now.ts, now.boot, damaged, rehearse)

    def _adopt(self, opened: Opened, *firsts: Record) -> None:
        """Go on with a store that was opened on disk, and declare what a power cut may have cost."""
        self._times.learn(opened.values.get(TIMES))
        self._saved_times = opened.values.get(TIMES, Times().text())
        self._values = opened.values | newer(self._values, opened.values) | {TIMES: self._times.text()}
        self._unsaved = {key: value for key, value in self._values.items() if opened.values.get(key) != value}
        self.trouble, self._retry_at = "", math.inf
        aside = [self._new_epoch(opened.set_aside)] if opened.set_aside else []
        unclean = not opened.state.clean and opened.state.boot != self._now().boot
        skipped = max(opened.missing, SKIPPED_AFTER_POWER_CUT if unclean else 0)
        self._use(Shelf.of(opened), [*aside, *firsts], skipped)

    def _use(self, shelf: Shelf, firsts: Sequence[Record], skipped: int = 0) -> None:
        """Go on with this epoch: first these events, then what waits, under new numbers.

        What was thinned out while it waited takes numbers here too, to be declared: it was taken, and is gone.
        """
        before = self._shelves.opened
        left = self._queue.leave()
        self._shelves.use(shelf, left.undeclared)
        thinned = left.thinned.within(before.committed_seq + 1, before.next_seq) if before else Ranges()
        crash, first = shelf.next_seq, shelf.next_seq + skipped
        end = shelf.next_seq = first + len(thinned)  # before any record: those of one commit follow one another
        self.declare_lost(shelf.ep, [(crash, first - 1)] if skipped else (), "crash")
        self.declare_lost(shelf.ep, [(first, end - 1)] if thinned else (), THINNED)
        for record in (*firsts, *left.summaries.records()):
            self.append(record)
        for waiting in left.moving:
            self._number(waiting.ticket, waiting.record)
        self._commit_within(0.0)

    async def _leave(self, trouble: StoreTrouble) -> None:
        """Give up the present store: a damaged one for a new file, one that cannot be written for memory."""
        shelf, self._broken = self._shelves.present, None
        await self._run(shelf.store.close)
        if not trouble.corrupt or shelf.in_memory:
            await self._go_to_memory(trouble)
            return
        try:
            opened = await self._open_disk(damaged=str(trouble))
        except StoreTrouble as worse:
            await self._go_to_memory(worse)
        else:
            self._adopt(opened)

    async def _go_to_memory(self, trouble: StoreTrouble) -> None:
        """Go on in memory: in the epoch that is still there from the last time, else in a fresh one.

        The lock is given back too: a file system that has failed can only be unmounted, and mended, without it.
        """
        self._say(trouble)
        await self._run(self._place.release)
        shelf = self._shelves.left
        if not shelf:
            opened = await self._run(open_memory, self._buffer.max_bytes, self._machine, self._now().boot)
            shelf = Shelf.of(opened)
        self._use(shelf, [self._event("store_in_memory", str(trouble), *self._shelves.last_on_disk)])

    async def _try_disk(self) -> None:
        """Come back to disk if there is room for more than a few records."""
        try:
            opened = await self._open_disk(rehearse=True)
        except StoreTrouble as trouble:
            self._say(trouble)
            return
        memory = self._shelves.present
        detail = f"the store is writable again; epoch {memory.ep} was used in memory"
        self._adopt(opened, self._event("store_back", detail, memory.ep, memory.committed_seq))

    def _say(self, trouble: StoreTrouble) -> None:
        self.trouble = f"{trouble}; until then records are kept in memory only and end with the agent"
        self._retry_at = self._time() + RETRY_S

    async def _drop_drained(self) -> None:
        left = self._shelves.left
        if left and not left.pending:
            self._shelves.left = None
            await self._run(left.store.close)

    def _new_epoch(self, aside: SetAside) -> Record:
        """Tell of a store that was set aside; where it cannot say its epoch, we may know it."""
        known = (aside.ep, aside.last_seq) if aside.ep else self._shelves.last_on_disk
        return self._event(aside.kind, aside.detail, *known)

    def _event(self, kind: str, detail: str, old_ep: str, old_seq: int) -> Record:
        known: dict[str, Scalar] = {"old_ep": old_ep, "old_last_seq": old_seq} if old_ep else {}
        return event(kind, detail, self._now(), **known)


def newer(ours: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """Give what was remembered without the disk; of two numbers (a count, a time) the larger one is the newer."""
    return {
        key: max(value, stored[key], key=int) if value.isdecimal() and stored.get(key, "").isdecimal() else value
        for key, value in ours.items()
    }

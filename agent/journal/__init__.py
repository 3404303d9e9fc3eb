"""The journal: every record gets its number here, is kept, and only then may be published.

Rules (contract, section 3, rules 1 and 2)
- A record gets (ep, seq) when it is appended, in that order. It is handed to `on_commit` only after the
  commit that holds it and the counter is durable; so after a crash the counter stands right behind the
  last record anyone can have seen, and no number is skipped or used twice.
- After an unclean change of the boot id (a power cut; cards lie about flushing) 1,000 numbers are skipped
  and declared by a `loss` record, reason `crash`.
- SQLite lives on a thread of its own; the event loop only awaits it. A slow disk delays commits alone.
- When the disk fails, records go on in memory (at most 16 MiB) under a fresh epoch. What waited for the
  failed commit gets new numbers there: it was never seen outside. The disk is tried again every 10 s.
- When the disk is back, its own epoch goes on. What was committed in memory may have been published under
  its numbers, and so is never renumbered: the memory is kept, readable, until all of it is marked sent
  (`unsent` gives it first), and only what was not yet committed moves. If the disk fails again before
  that, the same epoch in memory goes on. What is unsent in memory when the process ends is gone.
- Beyond its limit the store gives up its oldest blocks, a 64th of the limit at once. What was unsent in them is
  declared (`loss`, thinned) and summed up (`summary`, one a check) in the commit that removes them.
- While a disk hangs, at most 10,000 records wait; then the oldest of them are thinned out in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.journal.blocks import Line
from agent.journal.keeper import Keeper
from agent.journal.ranges import Ranges, Span
from agent.journal.trouble import JournalEnded, StoreInUse, StoreTrouble

__all__ = ["Journal", "JournalEnded", "Line", "Ranges", "StoreInUse", "StoreTrouble"]

MARKS_S = 5.0  # how long a sent mark may wait for a commit; losing it only sends twice


class Journal(Keeper):
    """Numbers, keeps and gives back records. All methods are called on the event loop.

    Arguments: see `Keeper`; `open()` comes before anything else.
    """

    async def flush(self) -> None:
        """Wait until all appended and remembered so far is committed, on disk or in memory; raises `JournalEnded`."""
        last = self._tickets
        while self._queue.holds_ticket_up_to(last) or self._values_wait:
            self._commit_within(0.0)
            await self._next_turn()

    @property
    def ep(self) -> str:
        """The present epoch."""
        return self._shelves.present.ep

    @property
    def first_seq(self) -> int:
        """The lowest number still held; `next_seq` if none is."""
        return self._shelves.present.first_seq

    @property
    def next_seq(self) -> int:
        """The number that the next record gets."""
        return self._shelves.present.next_seq

    @property
    def committed_seq(self) -> int:
        """The highest number that is durable."""
        return self._shelves.present.committed_seq

    @property
    def in_memory(self) -> bool:
        """Tell whether records are kept in memory only; `trouble` says why."""
        return self._shelves.present.in_memory

    @property
    def lost_total(self) -> int:
        """Numbers declared lost in this epoch."""
        return self._shelves.present.lost_total

    @property
    def pending(self) -> int:
        """Records not marked sent, in flight included."""
        return self._shelves.pending

    @property
    def oldest_pending_ts(self) -> float | None:
        """When the oldest pending record was taken (seconds since 1970); as of the last commit."""
        known = [shelf.oldest_ts for shelf in self._shelves.readable if shelf.oldest_pending]
        return min([ts for ts in known if ts] + self._queue.oldest_ts, default=None)

    @property
    def buffer_bytes(self) -> int:
        """Bytes in use by the store."""
        return self._shelves.present.used_bytes

    async def unsent(self, after: int, limit: int) -> list[Line]:
        """Give at most `limit` committed records not marked sent, ascending, with seq > `after`.

        While an epoch in memory is not drained its records come first (look at each line's `ep`); a
        caller that pages on with the last seq starts again at 0 when nothing comes any more.
        """
        for shelf in self._shelves.readable:
            if wanted := shelf.unsent(after, limit):
                return await self._read(shelf, wanted, limit)
        return []

    async def read(self, ranges: Iterable[Span], limit: int = 1000) -> list[Line]:
        """Give the first `limit` committed records of these ranges of the present epoch that are held, ascending."""
        shelf = self._shelves.present
        held = Ranges.of(ranges).within(shelf.first_seq, shelf.committed_seq)
        return await self._read(shelf, held, limit)

    def mark_sent(self, ep: str, seqs: Iterable[int]) -> None:
        """Note that the broker has acknowledged these; saved with the next commit. A stale epoch is ignored."""
        self._shelves.mark(ep, tuple(seqs))
        self._commit_within(max(MARKS_S, self._buffer.commit_s))

    def remember(self, key: str, value: str) -> None:
        """Keep a small value, written with the next commit."""
        if self._values.get(key) != value:
            self._values[key] = self._unsaved[key] = value
            self._commit_within(self._buffer.commit_s)

    def recall(self, key: str) -> str | None:
        """Give what was remembered, in this run or an earlier one."""
        return self._values.get(key)

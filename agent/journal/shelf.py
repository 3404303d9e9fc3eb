"""The numbers of one epoch as the event loop knows them: what is held, what is settled, what is pending."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from agent.journal.batch import Status
from agent.journal.blocks import Line
from agent.journal.place import Opened
from agent.journal.ranges import Ranges
from agent.journal.store import Store

MOST_SPANS = 4096
"""Of settled numbers. Ten messages of 100 records in flight make at most 1,000; where the broker takes one type and
not another for weeks (0x10) there would be one for every few records, and each commit writes them all."""


@dataclass(slots=True)
class Shelf:
    """One epoch. Settled = marked sent or declared lost (`lost` alone); pending = given a number, not settled."""

    store: Store
    ep: str
    next_seq: int
    committed_seq: int
    first_seq: int
    lost_total: int
    settled: Ranges
    lost: Ranges
    used_bytes: int = 0
    oldest_ts: float | None = None
    evict_to: int = 0

    @classmethod
    def of(cls, opened: Opened) -> Shelf:
        """Take over an opened store."""
        s = opened.state
        return cls(opened.store, s.ep, s.next_seq, s.next_seq - 1, opened.first_seq, s.lost_total, s.settled, s.lost)

    @property
    def in_memory(self) -> bool:
        """Tell whether the records are kept in memory only."""
        return self.store.path == ":memory:"

    @property
    def pending(self) -> int:
        """Count the numbers that are neither sent nor declared lost, waiting and in flight included."""
        held = self.next_seq - self.first_seq
        return held - len(self.settled.within(self.first_seq, self.next_seq - 1))

    @property
    def oldest_pending(self) -> int:
        """Give the lowest pending number that is committed, 0 if there is none."""
        found = self.settled.missing(self.first_seq, self.committed_seq).spans
        return found[0][0] if found else 0

    def unsent(self, after: int, limit: int) -> Ranges:
        """Give the lowest `limit` pending committed numbers above `after`."""
        return self.settled.missing(max(after + 1, self.first_seq), self.committed_seq).head(limit)

    def mark(self, seqs: Iterable[int]) -> None:
        """Mark numbers as sent; those that are not held are ignored.

        Of too many separate marks the smallest are forgotten: those records are sent twice, which readers expect.
        """
        for seq in seqs:
            if self.first_seq <= seq <= self.committed_seq:
                self.settled = self.settled.add(seq, seq)
        if len(self.settled.spans) > MOST_SPANS:
            self.settled = self.settled.largest(MOST_SPANS // 2).union(self.lost)

    def lose(self, first: int, last: int) -> None:
        """Settle numbers that are given up, and count those that were pending."""
        self.lost_total += len(self.settled.missing(max(first, self.first_seq), last))
        self.settled = self.settled.add(first, last)
        self.lost = self.lost.add(max(first, self.first_seq), last)

    def absent(self, wanted: Ranges, found: Sequence[Line]) -> Ranges:
        """Tell which pending numbers should have been found and were not."""
        got = self.settled.union(Ranges.of((line.seq, line.seq) for line in found))
        return Ranges.of(span for first, last in wanted.spans for span in got.missing(first, last).spans).within(
            self.first_seq, self.committed_seq
        )

    def learn(self, status: Status, last_seq: int) -> None:
        """Take in how the store stands after a commit whose last number was `last_seq`."""
        self.committed_seq = max(self.committed_seq, last_seq)
        self.first_seq, self.used_bytes, self.oldest_ts = status.first_seq, status.used_bytes, status.oldest_ts
        self.settled = self.settled.within(self.first_seq, self.next_seq)
        self.lost = self.lost.within(self.first_seq, self.next_seq)


@dataclass(slots=True)
class Shelves:
    """The epoch in use and those beside it.

    `left`: an epoch in memory that is not drained yet, while the disk is in use again. `parked`: the
    disk's epoch while the disk cannot be used, with what of it is settled.
    """

    opened: Shelf | None = None
    left: Shelf | None = None
    parked_ep: str = ""
    parked_seq: int = 0
    parked_settled: Ranges = field(default_factory=Ranges)

    @property
    def present(self) -> Shelf:
        """The epoch in use."""
        if self.opened is None:
            raise RuntimeError("Journal.open() comes first")
        return self.opened

    @property
    def readable(self) -> tuple[Shelf, ...]:
        """The epochs whose records can be read, the older first."""
        return (self.left, self.present) if self.left else (self.present,)

    @property
    def pending(self) -> int:
        """Count what is pending in all of them."""
        return sum(shelf.pending for shelf in self.readable)

    def mark(self, ep: str, seqs: Sequence[int]) -> None:
        """Mark numbers of this epoch as sent; an epoch that is not known here is ignored."""
        for shelf in self.readable:
            if shelf.ep == ep:
                shelf.mark(seqs)
        if ep == self.parked_ep:
            self.parked_settled = self.parked_settled.union(Ranges.of((seq, seq) for seq in seqs))

    @property
    def last_on_disk(self) -> tuple[str, int]:
        """Give the disk's last known epoch and number, ("", 0) if there is none."""
        if self.opened and not self.opened.in_memory:
            return self.opened.ep, self.opened.committed_seq
        return self.parked_ep, self.parked_seq

    def use(self, shelf: Shelf, undeclared: Ranges) -> None:
        """Go on with this epoch, and keep what is still needed of the one that is left.

        What only `undeclared` (`loss` records not committed) gave up is pending again. Leaving memory keeps
        it readable; what was not committed there moves on.
        """
        before = self.opened
        if before:
            before.evict_to = 0  # what was to go with the commit that did not come is chosen again
            for first, last in undeclared.spans:
                before.settled, before.lost = before.settled.remove(first, last), before.lost.remove(first, last)
            self.parked_ep, self.parked_seq = self.last_on_disk
        if before and not before.in_memory:
            self.parked_settled = before.settled
        if shelf.ep == self.parked_ep:
            shelf.settled = shelf.settled.union(self.parked_settled).within(shelf.first_seq, shelf.committed_seq)
        if shelf is self.left:
            self.left = None
        elif before and before.in_memory and not shelf.in_memory:
            self.left, before.next_seq = before, before.committed_seq + 1
        self.opened = shelf

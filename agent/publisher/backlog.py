"""The third lane: unsent records, and those asked for again, read from the journal and sent as arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from agent.journal import Ranges
from agent.messages import late, late_suffix
from agent.publisher.window import Lane, Outgoing
from agent.publisher.wire import Line, Store

READ_LINES = 500
"""Records of one read of the journal: five full arrays."""
MOST_IN_ARRAY = 100
MOST_ARRAY_BYTES = 32 * 1024

Key = tuple[str, int]


def late_array(lines: Sequence[Line]) -> Outgoing:
    """Write records of one epoch and type as a message of the backlog."""
    payload = b"[" + b",".join(late(line.text).encode() for line in lines) + b"]"
    return Outgoing(Lane.LATE, late_suffix(lines[0].type), payload, lines=tuple(lines))


class Replay:
    """Numbers that the centre asked for again, until each is acknowledged or turns out not to be held any more."""

    def __init__(self, store: Store) -> None:
        """Start with none wanted."""
        self._store = store
        self._ep = ""
        self._wanted = Ranges()

    def __len__(self) -> int:
        """Count the numbers that are still to be sent again."""
        return len(self._wanted)

    def want(self, ranges: Iterable[tuple[int, int]]) -> int | None:
        """Add committed numbers of the present epoch; gives the lowest, None where there is none."""
        if self._ep != self._store.ep:
            self._ep, self._wanted = self._store.ep, Ranges()
        added = Ranges.of(ranges).within(1, self._store.committed_seq)
        self._wanted = self._wanted.union(added)
        return added.spans[0][0] if added.spans else None

    def done(self, ep: str, seqs: Iterable[int]) -> None:
        """Forget numbers that have arrived."""
        if self._wanted and ep == self._ep:
            for first, last in Ranges.of((seq, seq) for seq in seqs).spans:
                self._wanted = self._wanted.remove(first, last)

    async def read(self, after: int, limit: int) -> Sequence[Line]:
        """Read the lowest wanted records above `after`, ascending; what is not held is no longer wanted."""
        if self._ep != self._store.ep:
            self._wanted = Ranges()
        wanted = self._wanted.within(after + 1, self._store.committed_seq)
        if not wanted:
            return ()
        lines = await self._store.read(wanted.spans, limit)
        searched = wanted.within(0, lines[-1].seq) if len(lines) >= limit else wanted
        found = Ranges.of((line.seq, line.seq) for line in lines)
        for span in searched.spans:
            for first, last in found.missing(*span).spans:
                self._wanted = self._wanted.remove(first, last)
        return lines


async def read_page(store: Store, replay: Replay, after: int) -> list[Line]:
    """Read the next lines of one epoch above `after`: what is unsent, and what is asked for again."""
    unsent = await store.unsent(after, READ_LINES)
    again = await replay.read(after, READ_LINES)
    ep = unsent[0].ep if unsent else store.ep
    found = {line.seq: line for line in (*again, *unsent) if line.ep == ep}
    return [found[seq] for seq in sorted(found)[:READ_LINES]]


class Backlog:
    """Unsent records read from the journal, sent as arrays of one type in ascending order.

    `after` is how far the journal has been read; None = nothing more is known to wait there. A record
    that becomes unsent again (a lost connection, a refusal, too old for live) sets it back. A pass from
    0 onwards is of one epoch: what an epoch in memory left is sent before the store's own begins.
    """

    def __init__(self) -> None:
        """Start with the whole journal to be read."""
        self._after: int | None = 0
        self._pass_ep = ""
        self._read: dict[tuple[str, str], deque[Line]] = {}
        self._ready_at = 0.0
        self._single: set[Key] = set()

    def begin(self) -> None:
        """Start a connection: everything unsent is backlog, also what was in flight."""
        self._after = 0
        self._read.clear()

    def unsent_again(self, seq: int) -> None:
        """Have the record, and what follows it, read again."""
        self._after = seq - 1 if self._after is None else min(self._after, seq - 1)

    @property
    def hungry(self) -> bool:
        """Whether the journal should be read now."""
        return self._after is not None and not self._read

    def take_place(self) -> int:
        """Say after which number to read, and take it as read; `unsent_again` meanwhile is kept."""
        after, self._after = self._after or 0, None
        if not after:
            self._pass_ep = ""
        return after

    def feed(self, lines: Sequence[Line], elsewhere: set[Key], newest: Key) -> bool:
        """Take one read of the journal, but for what is in flight, in another lane, or newer than `newest`.

        `newest` is the epoch and the highest committed number when the read began: what came after
        went to the live lane, and may have been sent from there since. Gives False, and takes nothing,
        where another epoch begins: its lowest numbers come with a pass from 0.
        """
        ep, committed_seq = newest
        if lines and self._pass_ep not in ("", lines[0].ep):
            return False
        if lines and self._after is not None and self._after < lines[0].seq:
            return True  # something lower became unsent during the read: it is read first, and these again
        for line in lines:
            if (line.ep, line.seq) not in elsewhere and (line.ep != ep or line.seq <= committed_seq):
                self._read.setdefault((line.ep, line.type), deque()).append(line)
        if lines:
            self._pass_ep = lines[0].ep
            self.unsent_again(lines[-1].seq + 1)
        return True

    def again_from(self, seq: int) -> None:
        """Have everything from this number on read again, so that the order stays ascending."""
        lowest = min((lines[0].seq for lines in self._read.values()), default=seq)
        self._read.clear()
        self.unsent_again(min(lowest, seq))

    def split(self, outgoing: Outgoing) -> None:
        """Send the records of a refused array again, each as a message of its own."""
        self._single.update(outgoing.keys)
        self.again_from(outgoing.seqs[0])

    def answered(self, outgoing: Outgoing) -> None:
        """Forget that a record had to go as a message of its own."""
        self._single.difference_update(outgoing.keys)

    def hurry(self) -> None:
        """Let the next array go at once: the rate has changed."""
        self._ready_at = 0.0

    @property
    def due_at(self) -> float:
        """When the rate lets the next array go (loop clock)."""
        return self._ready_at

    def spend(self, now: float, records: int, rate: float) -> None:
        """Count records against the rate (records/s; 0 = unlimited)."""
        self._ready_at = max(self._ready_at, now) + (records / rate if rate else 0.0)

    def next(self, now: float, rate: float, most: int, room_bytes: int) -> Outgoing | None:
        """Give the next array of at most `most` records in `room_bytes`, if the rate (records/s) allows.

        An array holds about a second's worth of a slow rate, so that the pace is even. A record that
        does not fit goes alone: whether it can be sent at all is judged where every message is.
        """
        if not self._read or now < self._ready_at:
            return None
        key = min(self._read, key=lambda k: self._read[k][0].seq)
        most = min(most, MOST_IN_ARRAY, max(1, round(rate)) if rate else MOST_IN_ARRAY)
        chosen = self._fitting(self._read[key], most, min(room_bytes, MOST_ARRAY_BYTES))
        if not self._read[key]:
            del self._read[key]
        self.spend(now, len(chosen), rate)
        return late_array(chosen)

    def _fitting(self, waiting: deque[Line], most: int, room_bytes: int) -> list[Line]:
        """Take as many lines as fit an array, one at least."""
        chosen: list[Line] = []
        used_bytes = 1  # two brackets, and one comma fewer than records
        while waiting and len(chosen) < most:
            line = waiting[0]
            used_bytes += len(late(line.text).encode()) + 1
            alone = (line.ep, line.seq) in self._single
            if chosen and (used_bytes > room_bytes or alone):
                break
            chosen.append(waiting.popleft())
            if alone:
                break
        return chosen

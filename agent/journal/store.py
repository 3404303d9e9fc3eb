"""One SQLite file (or memory) full of blocks. Blocking; only the journal's own thread calls it.

Rules
- One commit is one transaction: the lines as a block, and in the one `state` row the counter, the
  settled ranges and the epoch. So the counter can never fall behind or run ahead of the records.
- WAL with synchronous=FULL: what was committed survives a power cut (91 cuts, 44,800 commits, none lost).
- locking_mode=EXCLUSIVE: no other connection exists (SQLite 3.7-3.51.2 can corrupt a WAL with two), so
  the index of the WAL stays in our own memory and no mapped -shm file can kill us on a full disk.
- Small blocks at the end (the tail) become one block of 500 records as soon as there are so many. The
  tail's texts stay in memory, so that merging reads nothing back.
- Eviction takes two commits: the first says which blocks have to go, the second removes them in the same
  transaction that holds the `loss` records declaring what was unsent in them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from agent.journal import schema
from agent.journal.batch import Batch, State, Status
from agent.journal.blocks import Damaged, Line, declared_lost, line_of, newest_dated, pack, unpack
from agent.journal.ranges import Ranges
from agent.journal.rows import checksum, lines_of, state_of
from agent.journal.summary import Summaries
from agent.journal.trouble import StoreTrouble, inode, trouble_of

BLOCK_RECORDS = 500
BLOCK_TEXT_BYTES = 512 * 1024  # of uncompressed text, so that long records do not make a block of megabytes
CACHED_BLOCKS = 2
LEAST_BYTES = 64 * 1024  # an empty store takes 5 KiB; below this eviction would chase its own loss records
EVICTED_SHARE = 64
"""Of the limit: so much room is made at once, so that one summary a check stands for many records."""
READ_STATE = "SELECT ep, machine, boot, clean, next_seq, lost_total, settled, lost, checksum FROM state"
EVICTED_AT_ONCE = 20  # blocks a commit, so that a much lower limit after a reload stalls nothing
REHEARSAL_BYTES = 64 * 1024
CHECKSUM = "checksum"  # key of the CRC-32 of all that is remembered: who reads a value may rely on what it wrote


class Store:
    """The blocks of one epoch, over one open connection. Every method may raise `StoreTrouble`."""

    def __init__(self, path: str, max_bytes: int) -> None:
        """Open the file (":memory:" for none), making the tables if it is empty. `max_bytes` is the limit of all."""
        self.path = path
        self.max_bytes = max(max_bytes, LEAST_BYTES)
        self._tail_first = self._tail_next = 0
        self._tail: list[Line] = []
        self._texts: dict[int, list[str]] = {}
        self._inode = 0
        with self._trouble():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")

    def wrong(self) -> str:
        """Say why the file cannot be ours or whole, "" if it is or is empty. Reads all of it; writes nothing."""
        try:
            with self._trouble():
                return schema.wrong(self._db)
        except StoreTrouble as trouble:
            if trouble.corrupt:
                return str(trouble)
            raise

    def settle(self) -> None:
        """Set how the file is written; makes the tables in an empty one."""
        with self._trouble():
            schema.settle(self._db, self.max_bytes)
        self._inode = inode(self.path)

    def state(self) -> State | None:
        """Give the state row; None before the first commit."""
        with self._trouble():
            row = self._db.execute(READ_STATE).fetchone()
        try:
            return state_of(row) if row else None
        except ValueError as error:
            raise StoreTrouble(f"the store {self.path} is damaged ({error})", corrupt=True) from error

    def values(self) -> dict[str, str]:
        """Give everything that was remembered."""
        with self._trouble():
            found, known = self._values(), self._db.execute("SELECT value FROM value WHERE key = ?", (CHECKSUM,))
            if (sum_row := known.fetchone()) and sum_row[0] != checksum([*found.items()]):
                raise StoreTrouble(f"the store {self.path} is damaged (a remembered value)", corrupt=True)
            return found

    def first_seq(self) -> int | None:
        """Give the lowest number held, None if nothing is."""
        with self._trouble():
            found: int | None = self._db.execute("SELECT min(first_seq) FROM block").fetchone()[0]
            return found

    def last_seq(self) -> int:
        """Give the highest number held, 0 if nothing is or the newest block is damaged."""
        with self._trouble():
            newest = self._db.execute("SELECT first_seq, last_seq, bytes FROM block ORDER BY first_seq DESC LIMIT 1")
            for first, last, packed in newest:
                with suppress(Damaged):
                    return line_of(unpack(packed, last - first + 1)[-1]).seq
        return 0

    def load_tail(self) -> None:
        """Read the small blocks at the end back, so that they are merged with what comes."""
        with self._trouble():
            newest_first = self._db.execute("SELECT first_seq, last_seq, bytes FROM block ORDER BY first_seq DESC")
            tail: list[Line] = []
            for first, last, packed in newest_first:
                if last - first + 1 + len(tail) >= BLOCK_RECORDS or (tail and last + 1 != tail[0].seq):
                    break
                try:
                    tail = [line_of(text) for text in unpack(packed, last - first + 1)] + tail
                except Damaged:
                    break
            self._set_tail(tail)

    def rehearse(self) -> None:
        """Write and remove a little, to learn whether there is room before anything depends on it."""
        with self._trouble():
            self._db.execute("INSERT OR REPLACE INTO value VALUES ('rehearsal', zeroblob(?))", (REHEARSAL_BYTES,))
            self._db.execute("DELETE FROM value WHERE key = 'rehearsal'")

    def commit(self, batch: Batch) -> Status:
        """Write the batch, durably, and tell where the store stands. After an error the store must not be used on."""
        if inode(self.path) != self._inode:  # what is written to a deleted file is gone with the process
            raise StoreTrouble(f"the store {self.path} was deleted or replaced while the agent used it")
        with self._trouble():
            schema.give_back(self._db, self.max_bytes)
            self._db.execute("BEGIN IMMEDIATE")
            if batch.evict_to:
                self._evict(batch.evict_to)
            tail = self._insert(list(batch.lines))
            s = batch.state
            if batch.values:
                self._remember(batch.values)
            row = (s.ep, s.machine, s.boot, int(s.clean), s.next_seq, s.lost_total, s.settled.text(), s.lost.text())
            self._db.execute(
                "INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, checksum(row))
            )
            self._db.execute("COMMIT")
            self._set_tail(tail)
            return self._status(batch)

    def read(self, wanted: Ranges, limit: int) -> list[Line]:
        """Give the first `limit` wanted records that are held and undamaged, ascending; unpacks only their blocks."""
        lines: list[Line] = []
        with self._trouble():
            for first, last in wanted.spans:
                for begin, end in self._blocks(first, last):
                    if len(lines) >= limit:
                        return lines[:limit]
                    lines += lines_of(self._part(begin, end, max(first, begin), min(last, end)), max(first, begin))
        return lines[:limit]

    def summarise(self, wanted: Ranges, summaries: Summaries) -> Summaries:
        """Add up the wanted records that are held and undamaged, block by block."""
        with self._trouble():
            for first, last in wanted.spans:
                for begin, end in self._blocks(first, last):
                    for text in self._part(begin, end, max(first, begin), min(last, end)):
                        summaries.add_text(text)
        return summaries

    def checkpoint(self) -> None:
        """Bring the file itself up to date: that it is in use must be known even if its log is lost."""
        with self._trouble():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file; what cannot be written any more is recovered at the next opening."""
        with suppress(sqlite3.Error):
            self._db.close()

    # -- inside ------------------------------------------------------------------------------

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise trouble_of(self.path, error) from error

    def _values(self) -> dict[str, str]:
        kept = "SELECT key, value FROM value WHERE key NOT IN ('rehearsal', ?) ORDER BY key"
        return dict(self._db.execute(kept, (CHECKSUM,)).fetchall())

    def _remember(self, values: Mapping[str, str]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO value VALUES (?, ?)", values.items())
        kept = checksum([*self._values().items()])
        self._db.execute("INSERT OR REPLACE INTO value VALUES (?, ?)", (CHECKSUM, kept))

    def _set_tail(self, tail: list[Line]) -> None:
        self._tail = tail
        self._tail_first = tail[0].seq if tail else 0
        self._tail_next = tail[-1].seq + 1 if tail else 0

    def _insert(self, lines: list[Line]) -> list[Line]:
        """Write the lines as one more small block, or merge the tail with them; gives the tail after it."""
        joins = bool(self._tail and lines and lines[0].seq == self._tail_next)
        together = self._tail + lines if joins else lines
        if not lines or not _is_full(together):
            self._put(lines)
            return together if lines else self._tail
        if joins:
            self._db.execute("DELETE FROM block WHERE first_seq >= ?", (self._tail_first,))
        pieces = [together[at : at + BLOCK_RECORDS] for at in range(0, len(together), BLOCK_RECORDS)]
        for piece in pieces:
            self._put(piece)
        return [] if _is_full(pieces[-1]) else pieces[-1]

    def _put(self, lines: list[Line]) -> None:
        if lines:
            block = (lines[0].seq, lines[-1].seq, newest_dated(lines), pack([line.text for line in lines]))
            self._db.execute("INSERT INTO block VALUES (?, ?, ?, ?)", block)

    def _evict(self, evict_to: int) -> None:
        self._db.execute("DELETE FROM block WHERE last_seq <= ?", (evict_to,))
        self._texts.clear()
        self._set_tail([line for line in self._tail if line.seq > evict_to])

    def _status(self, batch: Batch) -> Status:
        first = self.first_seq() or batch.state.next_seq
        used_bytes = schema.used_bytes(self._db)
        evict_to, undeclared = self._to_evict(batch, used_bytes - self.max_bytes)
        oldest = self.read(Ranges.of([(batch.oldest_ts_of, batch.oldest_ts_of)]), 1)
        oldest_ts = oldest[0].ts if oldest else None
        return Status(first, used_bytes, evict_to, undeclared, oldest_ts)

    def _to_evict(self, batch: Batch, excess_bytes: int) -> tuple[int, Ranges]:
        """Choose the oldest blocks that must go: those beyond the byte limit, and those that are too old.

        Blocks of an unset clock have no age: they go when a later block is too old.
        """
        if excess_bytes > 0:
            excess_bytes += self.max_bytes // EVICTED_SHARE
        elif batch.expired_ts is None:
            return 0, Ranges()
        going: list[tuple[int, int]] = []
        undated: list[tuple[int, int]] = []
        rows = self._db.execute("SELECT first_seq, last_seq, newest_ts, length(bytes) FROM block ORDER BY first_seq")
        for first, last, newest_ts, size in rows:
            expired = None not in (newest_ts, batch.expired_ts) and newest_ts < batch.expired_ts
            if len(going) >= EVICTED_AT_ONCE or (excess_bytes <= 0 and newest_ts is not None and not expired):
                break
            undated.append((first, last))
            if excess_bytes > 0 or expired:
                going += undated
                undated = []
            excess_bytes -= size
        return (going[-1][1], self._undeclared(going, batch.state.settled)) if going else (0, Ranges())

    def _undeclared(self, going: list[tuple[int, int]], settled: Ranges) -> Ranges:
        """Find what unsent `loss` records among the blocks declared: it must be declared anew."""
        spans = []
        for first, last in going:
            unsent = settled.missing(first, last)
            try:
                texts = self._block_texts(first, last) if unsent else []
            except Damaged:
                continue
            spans += [lost for at, text in enumerate(texts, first) if at in unsent and (lost := declared_lost(text))]
        return Ranges.of(spans)

    def _blocks(self, first: int, last: int) -> list[tuple[int, int]]:
        rows = self._db.execute(
            "SELECT first_seq, last_seq FROM block WHERE first_seq <= ?2 AND last_seq >= ?1 AND first_seq >= "
            "coalesce((SELECT max(first_seq) FROM block WHERE first_seq <= ?1), ?1) ORDER BY first_seq",
            (first, last),
        )
        return rows.fetchall()

    def _part(self, begin: int, end: int, first: int, last: int) -> list[str]:
        """Give first...last of the block begin...end, nothing if it is damaged."""
        try:
            return self._block_texts(begin, end)[first - begin : last - begin + 1]
        except Damaged:
            return []

    def _block_texts(self, first: int, last: int) -> list[str]:
        if self._tail and first >= self._tail_first:
            return [line.text for line in self._tail[first - self._tail_first : last - self._tail_first + 1]]
        if first not in self._texts:
            packed = self._db.execute("SELECT bytes FROM block WHERE first_seq = ?", (first,)).fetchone()[0]
            while len(self._texts) >= CACHED_BLOCKS:
                del self._texts[next(iter(self._texts))]
            self._texts[first] = unpack(packed, last - first + 1)
        return self._texts[first]


def _is_full(lines: Sequence[Line]) -> bool:
    return len(lines) >= BLOCK_RECORDS or sum(len(line.text) for line in lines) >= BLOCK_TEXT_BYTES

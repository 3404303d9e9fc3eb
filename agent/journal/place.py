"""The directory of the store: its lock, opening the file, setting a bad one aside. Blocking, own thread only.

A bad file never stops the agent: it is renamed, and a new store with a new epoch begins. The newest three that
were set aside are kept for whoever wants to look; where the disk is too full for the store itself, none.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from agent.journal.batch import Batch, State, Status
from agent.journal.store import Store
from agent.journal.trouble import StoreInUse, StoreTrouble, trouble_of

NAME = "journal"
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
EP_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # base 32 without l, o, 0, 1, which people confuse
EP_LENGTH = 6
MEMORY = ":memory:"
MEMORY_MOST_BYTES = 16 * 2**20
LOCK_BYTES = 64
COMPANIONS = ("-wal", "-shm", "-journal")
SET_ASIDE = f"{NAME}.set-aside-"
KEPT_ASIDE = 3


@dataclass(frozen=True, slots=True)
class SetAside:
    """A store that was not used. `kind` is the event kind; ep "" and last_seq 0 where they cannot be read."""

    kind: str
    detail: str
    ep: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A store ready for use, what it knew, and the one that had to make room for it."""

    store: Store
    state: State
    values: dict[str, str]
    first_seq: int = 1
    set_aside: SetAside | None = None
    missing: int = 0
    """Numbers that were committed and that the store no longer knows: its log was damaged since."""


def new_ep() -> str:
    """Draw a new epoch: 6 characters, about 30 bits."""
    return "".join(secrets.choice(EP_ALPHABET) for _ in range(EP_LENGTH))


def open_memory(max_bytes: int, machine: str, boot: str) -> Opened:
    """Make a store in memory, under a fresh epoch, of at most 16 MiB."""
    store = Store(MEMORY, min(max_bytes, MEMORY_MOST_BYTES))
    store.settle()
    return Opened(store, State(new_ep(), machine, boot, False, 1), {})


def lock_text(ep: str, next_seq: int) -> bytes:
    """Write what the lock file holds: our process id, then the epoch and its next number; always as long."""
    return f"{os.getpid()}\n{ep} {next_seq} {mark_of(ep, next_seq)}\n".encode().ljust(LOCK_BYTES, b"\n")


def mark_of(ep: str, next_seq: int) -> str:
    """Give the CRC-32 of a note: a damaged one must not send the numbers anywhere."""
    return f"{zlib.crc32(f'{ep} {next_seq}'.encode()):08x}"


def noted(text: bytes) -> tuple[str, int]:
    """Read epoch and next number from a lock file; ("", 0) where there are none."""
    match text.decode("ascii", "replace").split():
        case [_, ep, next_seq, mark] if next_seq.isdecimal() and mark == mark_of(ep, int(next_seq)):
            return ep, int(next_seq)
    return "", 0


class Place:
    """The directory of the store; holds the lock for as long as the agent lives."""

    def __init__(self, directory: str, machine: str, max_bytes: int) -> None:
        """Remember where the store lies, which machine this is, and how large the store may become."""
        self.directory = Path(directory)
        self.path = self.directory / f"{NAME}.sqlite"
        self._machine = machine
        self._max_bytes = max_bytes
        self._lock_fd = -1
        self._noted = ("", 0)

    def open(self, ts: float, boot: str, damaged: str = "", rehearse: bool = False) -> Opened:
        """Open the store, or set it aside (at once, if `damaged` says why) and begin a new one.

        Raises `StoreInUse` if another agent holds the directory, `StoreTrouble` if it is not writable.
        """
        try:
            self._lock()
            store, set_aside = self._usable(ts, damaged)
            self._remove_old(1 if set_aside else 0)
        except OSError as error:
            raise trouble_of(str(self.path), error) from error
        try:
            return self._use(store, boot, set_aside, rehearse)
        except StoreTrouble as trouble:
            store.close()
            if not trouble.corrupt or damaged:
                raise
            damaged = str(trouble)
        return self.open(ts, boot, damaged, rehearse)

    def commit(self, store: Store, batch: Batch) -> Status:
        """Commit to the store, then note the epoch and its next number in the lock file.

        A log that is damaged or removed takes commits with it whose records were published: by the note their
        numbers are not used again. It is not flushed: it outlives the process, and a power cut is known by the boot.
        """
        status = store.commit(batch)
        if store.path != MEMORY:
            with suppress(OSError):  # a full disk: the store itself says so
                os.pwrite(self._lock_fd, lock_text(batch.state.ep, batch.state.next_seq), 0)
        return status

    def release(self) -> None:
        """Give the lock back."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _lock(self) -> None:
        """Take the lock unless it is ours already; a lock of the kernel's ends with its process."""
        if self._lock_fd >= 0:
            return
        self.directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        fd = os.open(self.directory / f"{NAME}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._noted = noted(os.pread(fd, LOCK_BYTES, 0))
            os.pwrite(fd, lock_text(*self._noted), 0)
        except BlockingIOError:
            holder = os.pread(fd, LOCK_BYTES, 0).decode("ascii", "replace").partition("\n")[0] or "unknown"
            os.close(fd)
            raise StoreInUse(
                f"{self.directory} is in use by another siteprobe with process id {holder}: "
                "stop that one, or set another buffer.directory"
            ) from None
        except OSError:
            os.close(fd)
            raise
        self._lock_fd = fd

    def _usable(self, ts: float, damaged: str) -> tuple[Store, SetAside | None]:
        """Open the file; if it cannot be used, set it aside and make a new one."""
        if not self.path.exists() or not self.path.stat().st_size:
            self._move_companions(self._aside_name(ts))
        store = self._connect()
        try:
            kind, why, ep, last_seq = self._judge(store, damaged)
        except StoreTrouble:
            store.close()
            raise
        if not why:
            return store, None
        store.close()
        aside = self._aside_name(ts)
        self.path.rename(aside)
        self._move_companions(aside)
        known = f"; its epoch was {ep}, its last known number {last_seq}" if ep else ""
        set_aside = SetAside(kind, f"{self.path} was set aside as {aside.name}: {why}{known}", ep, last_seq)
        return self._connect(), set_aside

    def _connect(self) -> Store:
        """Open the file, made readable for our own user only if it is not there."""
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        return Store(str(self.path), self._max_bytes)

    def _judge(self, store: Store, damaged: str) -> tuple[str, str, str, int]:
        """Look at the file without writing: (event kind, why it cannot be used or "", epoch, last number)."""
        why = damaged or store.wrong()
        try:
            state = store.state()
        except StoreTrouble:
            state = None
        ep, last_seq = (state.ep, state.next_seq - 1) if state else ("", 0)
        if not why and state and state.machine != self._machine:
            return "epoch_changed", "it was written on another machine", ep, last_seq
        return "store_set_aside", why, ep, last_seq

    def _use(self, store: Store, boot: str, set_aside: SetAside | None, rehearse: bool) -> Opened:
        """Make the tables where there are none, and read what the store knew."""
        store.settle()
        if rehearse:
            store.rehearse()
        state = store.state() or State(new_ep(), self._machine, boot, True, 1)
        # A damaged log can bring an older counter back and leave newer blocks: their numbers are taken.
        state = replace(state, next_seq=max(state.next_seq, store.last_seq() + 1))
        store.load_tail()
        ep, next_seq = self._noted
        missing = max(next_seq - state.next_seq, 0) if ep == state.ep else 0
        return Opened(store, state, store.values(), store.first_seq() or state.next_seq, set_aside, missing)

    def _aside_name(self, ts: float) -> Path:
        stamp = datetime.fromtimestamp(ts, UTC).strftime("%Y%m%dT%H%M%S")
        names = (f"{SET_ASIDE}{stamp}{more}.sqlite" for more in ("", *(f"-{n}" for n in range(2, 1000))))
        return next(path for name in names if not (path := self.directory / name).exists())

    def _remove_old(self, fresh: int) -> None:
        """Remove stores that were set aside: all but the newest three; where the disk is short, all but the fresh.

        Short: what is free on it would not let the store grow to its limit. `fresh`: how many were set aside just now.
        """
        store_bytes = self.path.stat().st_size if self.path.exists() else 0
        room = os.statvfs(self.directory)
        short = room.f_bavail * room.f_frsize + store_bytes < self._max_bytes
        stamped: dict[str, list[Path]] = {}
        for path in self.directory.glob(f"{SET_ASIDE}*"):
            stamped.setdefault(path.name.partition(".sqlite")[0], []).append(path)
        oldest_first = sorted(stamped.values(), key=lambda paths: max(path.stat().st_mtime for path in paths))
        for paths in oldest_first[: max(len(stamped) - (fresh if short else KEPT_ASIDE), 0)]:
            for path in paths:
                path.unlink()

    def _move_companions(self, aside: Path) -> None:
        """Move what SQLite left beside the file: a log that outlives its file must never be replayed into a new one."""
        for end in COMPANIONS:
            companion = self.path.with_name(self.path.name + end)
            if companion.exists():
                companion.rename(aside.with_name(aside.name + end))

"""Why a store cannot be used, as one sentence for people. Pure."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

FREE = "free some space on this file system, or set buffer.directory to another one"
OWN = "give the agent's user write access to it, or set buffer.directory to a directory of its own"
REMOUNT = "remount the file system read-write, or set buffer.directory to another one"
DESCRIPTORS = "raise LimitNOFILE= of the service"
CARD = "check the disk or SD card (`dmesg` tells more)"
OPENED = "another process has it open (a database browser, a backup?): close that (`fuser -v` on the file names it)"
ELSEWHERE = "set buffer.directory to a path whose parents are directories"

ADVICE = {
    errno.ENOSPC: FREE,
    errno.EDQUOT: FREE,
    errno.EACCES: OWN,
    errno.EPERM: OWN,
    errno.EROFS: REMOUNT,
    errno.EIO: CARD,
    errno.EMFILE: DESCRIPTORS,
    errno.ENFILE: DESCRIPTORS,
    errno.ENOTDIR: ELSEWHERE,
    errno.EEXIST: ELSEWHERE,
}
SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_MISMATCH, SQLITE_CONSTRAINT = (
    11,
    26,
    20,
    19,
)  # https://www.sqlite.org/rescode.html
SQLITE_ERROR = 1  # a missing table or column: the file is not of our schema
SQLITE_ADVICE = {3: OWN, 5: OPENED, 6: OPENED, 8: REMOUNT, 10: CARD, 13: FREE, 14: OWN}
"""By PERM, BUSY, LOCKED, READONLY, IOERR, FULL and CANTOPEN (https://www.sqlite.org/rescode.html)."""
CORRUPT = (SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_MISMATCH, SQLITE_ERROR, SQLITE_CONSTRAINT)
"""Constraint: a number that the store holds already was given again, so its parts do not belong together."""


class StoreTrouble(Exception):
    """The store cannot be used. The text is one sentence; `corrupt` tells a bad file from a bad disk."""

    def __init__(self, sentence: str, corrupt: bool = False) -> None:
        """Keep the sentence."""
        super().__init__(sentence)
        self.corrupt = corrupt


class StoreInUse(StoreTrouble):
    """Another agent holds the directory: the one refusal that `Journal.open` passes on."""


class JournalEnded(Exception):
    """The journal's own task failed for a reason that nobody foresaw: nothing is committed any more."""


def trouble_of(path: str, error: sqlite3.Error | OSError) -> StoreTrouble:
    """Say what an error means for the store at this path, and what to do."""
    if isinstance(error, OSError):
        reason, advice = error.strerror or str(error), ADVICE.get(error.errno or 0, OWN)
        return StoreTrouble(f"the store {path} cannot be written ({reason}): {advice}")
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    undecodable = code == 0 and isinstance(error, sqlite3.OperationalError)  # "Could not decode to UTF-8"
    if code in CORRUPT or undecodable:
        return StoreTrouble(f"the store {path} is damaged ({error})", corrupt=True)
    return StoreTrouble(f"the store {path} cannot be written ({error}): {SQLITE_ADVICE.get(code, CARD)}")


def inode(path: str) -> int:
    """Give the number of the file at a path; 0 where there is none."""
    try:
        return Path(path).stat().st_ino
    except OSError:
        return 0

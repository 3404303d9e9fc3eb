"""How the SQLite file of a store is laid out and set up. Blocking; callers turn sqlite3 errors into `StoreTrouble`."""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x73697062  # "sipb": tells our file from any other SQLite file
SCHEMA_VERSION = 2
SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), ep TEXT NOT NULL, machine TEXT NOT NULL,
  boot TEXT NOT NULL, clean INTEGER NOT NULL, next_seq INTEGER NOT NULL, lost_total INTEGER NOT NULL,
  settled TEXT NOT NULL, lost TEXT NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE block (first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, newest_ts REAL, bytes BLOB NOT NULL);
CREATE TABLE value (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
PAGE_BYTES = 1024
"""A commit writes whole pages. At 50 records/s: 270 bytes a record on disk with 1 KiB, 430 with SQLite's own 4 KiB."""
CHECKPOINT_BYTES = 2 * 2**20
"""WAL size at which it is copied back: by then nearly all small blocks in it are merged and cost nothing."""
CACHE_KIB = 512
VACUUM_PAGES = 2048  # given back to the file system a commit, where the limit was lowered


def pragma(db: sqlite3.Connection, name: str) -> int:
    """Ask for a number."""
    found: int = db.execute(f"PRAGMA {name}").fetchone()[0]
    return found


def is_empty(db: sqlite3.Connection) -> bool:
    """Tell whether the file has nothing of anybody's in it."""
    tables: int = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return tables == 0 and pragma(db, "application_id") == 0


def wrong(db: sqlite3.Connection) -> str:
    """Say why the file cannot be ours or whole, "" if it is or is empty. Reads all of it."""
    if is_empty(db):
        return ""
    if pragma(db, "application_id") != APPLICATION_ID:
        return "it is not a siteprobe journal"
    if (version := pragma(db, "user_version")) != SCHEMA_VERSION:
        return f"its schema version is {version}, this agent knows {SCHEMA_VERSION}"
    found: str = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    return "" if found == "ok" else f"it is damaged: {found[:200]}"


def settle(db: sqlite3.Connection, max_bytes: int) -> None:
    """Set how the file is written; makes the tables in an empty one."""
    fresh = is_empty(db)
    if fresh:
        db.execute(f"PRAGMA page_size={PAGE_BYTES}")
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    log_bytes = min(CHECKPOINT_BYTES, max_bytes // 8)
    db.execute(f"PRAGMA wal_autocheckpoint={log_bytes // pragma(db, 'page_size')}")
    db.execute(f"PRAGMA journal_size_limit={2 * CHECKPOINT_BYTES}")
    if fresh:
        db.executescript(SCHEMA)


def used_bytes(db: sqlite3.Connection) -> int:
    """Give the bytes of the file that are in use."""
    return (pragma(db, "page_count") - pragma(db, "freelist_count")) * pragma(db, "page_size")


def give_back(db: sqlite3.Connection, max_bytes: int) -> None:
    """Shrink a file that is well above the limit (it was lowered) by some of what is free in it.

    A script, since `execute` would step once and free one page; and so outside any transaction.
    """
    size = pragma(db, "page_count") * pragma(db, "page_size")
    if size > max_bytes + max_bytes // 8 and pragma(db, "freelist_count"):
        db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

"""The journal on a disk or a file that does not work: it goes on, says so, and never uses a number twice."""

from __future__ import annotations

import asyncio
import errno
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.journal import Journal, keeper
from agent.journal.trouble import trouble_of
from tests.rigs.journals import Bench


def bench(tmp_path: Path, **settings: object) -> Bench:
    return Bench(tmp_path / "store", **settings)  # type: ignore[arg-type]


async def run_of(b: Bench, count: int) -> str:
    async with b.open() as journal:
        await b.fill(journal, count)
        return journal.ep


def set_aside(b: Bench) -> list[str]:
    return sorted(p.name for p in b.directory.glob("journal.set-aside-*.sqlite"))


def overwrite(path: Path) -> None:
    path.write_bytes(b"not a database at all " * 500)


def damage_pages(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(3 * 1024)
        file.write(b"\xa5" * (size - 4 * 1024))


def make_foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE customers (name TEXT)")
    db.close()


def make_newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def drop_table(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE block")
    db.close()


def spoil_marks(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE state SET settled = 'nonsense'")
    db.close()


@pytest.mark.parametrize("spoil", [overwrite, damage_pages, make_foreign, make_newer, drop_table, spoil_marks])
def test_a_bad_file_is_set_aside_and_a_new_epoch_begins(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    b = bench(tmp_path)
    old_ep = asyncio.run(run_of(b, 700))
    spoil(b.path)
    before = b.path.read_bytes()
    b.seen.clear()
    new_ep = asyncio.run(run_of(b, 1))
    aside = set_aside(b)
    assert new_ep != old_ep and len(aside) == 1
    assert (b.directory / aside[0]).read_bytes() == before
    first = json.loads(b.seen[0].text)
    assert (first["seq"], first["type"], first["kind"]) == (1, "event", "store_set_aside")
    assert aside[0] in first["detail"]
    if spoil in (make_newer, drop_table):
        assert (first["old_ep"], first["old_last_seq"]) == (old_ep, 700)
        assert old_ep in first["detail"]
    assert asyncio.run(run_of(b, 1)) == new_ep


def test_two_bad_files_in_one_second_are_both_kept(tmp_path: Path) -> None:
    b = bench(tmp_path)
    for _ in range(2):
        asyncio.run(run_of(b, 1))
        overwrite(b.path)
    asyncio.run(run_of(b, 1))
    stamp = "journal.set-aside-20251122T140322"
    assert set_aside(b) == [f"{stamp}-2.sqlite", f"{stamp}.sqlite"]


def test_a_log_without_its_file_is_never_replayed(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story() -> bytes:
        async with b.open() as journal:
            await b.fill(journal, 5)
            return Path(f"{b.path}-wal").read_bytes()

    log = asyncio.run(story())
    b.path.unlink()
    Path(f"{b.path}-wal").write_bytes(log)
    b.seen.clear()
    asyncio.run(run_of(b, 1))
    assert [line.seq for line in b.seen] == [1]
    assert len(list(b.directory.glob("journal.set-aside-*-wal"))) == 1


def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    b = bench(tmp_path)
    b.directory.mkdir()
    b.path.touch()
    asyncio.run(run_of(b, 1))
    assert (set_aside(b), [line.type for line in b.seen]) == ([], ["icmp"])


def test_on_another_machine_a_new_epoch_begins(tmp_path: Path) -> None:
    b = bench(tmp_path)
    old_ep = asyncio.run(run_of(b, 3))
    b.machine = "board-2"
    assert asyncio.run(run_of(b, 1)) != old_ep
    (event,) = b.fields("event")
    assert (event["seq"], event["kind"], event["old_ep"], event["old_last_seq"]) == (1, "epoch_changed", old_ep, 3)


def test_without_a_directory_it_runs_in_memory_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    b = Bench(tmp_path / "file" / "store", max_bytes=256 * 2**20)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 250)
            assert journal.in_memory and journal.committed_seq == 251
            path = str(b.path)
            assert path in journal.trouble and "Not a directory" in journal.trouble
            assert "set buffer.directory" in journal.trouble and "memory" in journal.trouble
            assert [line.seq for line in await journal.unsent(200, 100)] == list(range(201, 252))

    asyncio.run(story())
    (event,) = b.fields("event")
    assert (event["seq"], event["kind"]) == (1, "store_in_memory") and "old_ep" not in event


def test_memory_has_a_limit_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    b = Bench(tmp_path / "file" / "store", max_bytes=64 * 1024)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 4000)
            assert journal.first_seq > 1 and journal.buffer_bytes < 96 * 1024 and journal.lost_total > 0

    asyncio.run(story())


async def broken(b: Bench, journal: Journal, error: type[sqlite3.Error], code: int) -> None:
    """Let the next commit fail as SQLite would say it, and wait until the journal has moved."""
    failure = error("disk I/O error")
    failure.sqlite_errorcode = code
    ep = journal.ep
    store = journal._shelves.present.store

    def fail(_: object) -> object:
        with store._trouble():
            raise failure

    store.commit = fail  # type: ignore[method-assign,assignment]
    journal.append(b.icmp(1000))
    journal.append(b.icmp(1001))
    await journal.flush()
    assert journal.ep != ep


def numbers_of(b: Bench) -> dict[tuple[str, int], str]:
    """Give every pair that was seen; no pair may have two contents."""
    found: dict[tuple[str, int], str] = {}
    for line in b.seen:
        assert found.setdefault((line.ep, line.seq), line.text) == line.text
    return found


def test_a_failing_disk_memory_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "RETRY_S", 0.3)
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            disk = journal.ep
            journal.remember("conn", "1")
            await b.fill(journal, 10)
            await broken(b, journal, sqlite3.OperationalError, 10)
            memory = journal.ep
            journal.remember("conn", "2")
            journal.mark_sent(disk, [1, 2])
            assert journal.in_memory and "check the disk" in journal.trouble
            assert [json.loads(line.text).get("number") for line in b.seen[10:]] == [None, 1000, 1001]
            assert [(line.ep, line.seq) for line in b.seen[10:]] == [(memory, 1), (memory, 2), (memory, 3)]
            async with asyncio.timeout(5):
                while journal.in_memory:
                    await asyncio.sleep(0.02)
            await b.fill(journal, 1)
            assert (journal.ep, journal.trouble) == (disk, "")
            back = json.loads(b.seen[13].text)
            assert (back["ep"], back["seq"], back["kind"], back["old_ep"]) == (disk, 11, "store_back", memory)
            first = await journal.unsent(0, 100)
            assert {line.ep for line in first} == {memory} and len(first) == 3
            assert journal.pending == 3 + 10
            journal.mark_sent(memory, [line.seq for line in first])
            assert [line.seq for line in await journal.unsent(0, 100)] == list(range(3, 13))
            await b.fill(journal, 1)
        async with b.open() as journal:
            assert (journal.ep, journal.recall("conn"), journal.pending) == (disk, "2", 11)

    asyncio.run(story())
    numbers_of(b)
    first = b.fields("event")[0]
    assert (first["kind"], first["old_last_seq"]) == ("store_in_memory", 10)


def test_failing_again_before_memory_is_drained_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "RETRY_S", 0.1)
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            await broken(b, journal, sqlite3.OperationalError, 13)
            memory = journal.ep
            while journal.in_memory:
                await asyncio.sleep(0.02)
            await b.fill(journal, 3)
            monkeypatch.setattr(keeper, "RETRY_S", 60.0)
            await broken(b, journal, sqlite3.OperationalError, 13)
            assert journal.ep == memory
            assert [line.seq for line in await journal.unsent(0, 100)] == list(range(1, journal.next_seq))

    asyncio.run(story())
    numbers_of(b)


def test_damage_found_while_running_begins_a_new_store_on_disk(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 10)
            old = journal.ep
            await broken(b, journal, sqlite3.DatabaseError, 11)
            assert not journal.in_memory
            (event,) = b.fields("event")
            assert (event["seq"], event["kind"], event["old_ep"], event["old_last_seq"]) == (
                1,
                "store_set_aside",
                old,
                10,
            )
            assert [line.seq for line in await journal.unsent(0, 100)] == [1, 2, 3]

    asyncio.run(story())
    numbers_of(b)
    assert len(set_aside(b)) == 1


def test_a_read_error_changes_the_store_too(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 10)
            await journal._run(journal._shelves.present.store._db.close)
            assert await journal.unsent(0, 5) == []
            async with asyncio.timeout(5):
                while not journal.in_memory:
                    await asyncio.sleep(0.01)

    asyncio.run(story())


FULL = """
import asyncio, pathlib, resource, sys
from tests.rigs.journals import Bench
from agent.journal import keeper
keeper.RETRY_S = 0.1
async def main():
    b = Bench(pathlib.Path(sys.argv[1]))
    async with b.open() as j:
        disk = j.ep
        await b.fill(j, 1000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        await b.fill(j, 1000)
        assert j.in_memory, j.trouble
        print(j.trouble)
        memory = j.ep
        await asyncio.sleep(0.3)
        assert j.in_memory and j.ep == memory, "no going to and fro while there is no room"
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        while j.in_memory:
            await asyncio.sleep(0.02)
        await b.fill(j, 1)
        assert j.ep == disk
    pairs = [(line.ep, line.seq) for line in b.seen]
    assert len(set(pairs)) == len(pairs) == 2000 + 1 + 2
    async with b.open() as j:
        held = await j.read([(1, 10**6)], 10**6)
        assert [l.seq for l in held] == list(range(1, j.next_seq))
        shown = {(l.ep, l.seq): l.text for l in b.seen}
        assert all(shown.get((l.ep, l.seq), l.text) == l.text for l in held)
asyncio.run(main())
"""


def test_no_room_by_the_kernels_own_word(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout


def test_a_store_deleted_under_the_agent_is_noticed_and_nothing_new_is_lost(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def scene() -> tuple[str, str, int]:
        async with b.open() as journal:
            await b.fill(journal, 5)
            before = journal.ep
            for path in b.directory.iterdir():
                path.unlink()
            number = journal.append(b.icmp(6), urgent=True)
            await journal.flush()
            kept = [line for line in await journal.unsent(0, 100) if line.type == "icmp"]
            assert number, "it got a number"
            return before, journal.ep, len(kept)

    before, after, kept = asyncio.run(scene())
    assert after != before, "what is written to a deleted file is no record of that epoch"
    assert kept >= 1
    kinds = [json.loads(line.text).get("kind") for line in b.seen if line.type == "event"]
    assert {"store_in_memory", "store_set_aside"} & set(kinds), kinds


def flip_in(path: Path, text: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(text)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("text", [b'[["old', b"4711", b'["state/a"]'])
def test_a_damaged_value_stops_nobody_who_reads_it(tmp_path: Path, text: bytes) -> None:
    """SQLite sees no damage in a text; who decided of times, or counts connections, could not go on with it."""
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            old_ep = journal.ep
            journal.remember("times", '[["old", "boot", null, "1-4"]]')
            journal.remember("conn", "4711")
            journal.remember("retained", '["state/a"]')
        flip_in(b.path, text)
        async with b.open() as journal:
            assert journal.ep != old_ep and journal.recall("conn") is None
            await journal.flush()
            assert "a remembered value" in b.fields("event")[-1]["detail"]
        async with b.open() as journal:
            assert journal.trouble == "" and len(set_aside(b)) == 1

    asyncio.run(story())


def test_counts_made_without_the_disk_take_none_of_its_own_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is not there at the start: what counts connections begins anew, and goes on behind the old count."""
    monkeypatch.setattr(keeper, "RETRY_S", 0.1)
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            journal.remember("conn", "57")
        b.directory.rename(tmp_path / "unplugged")
        b.directory.touch()
        async with b.open() as journal:
            journal.remember("conn", "1")
            journal.remember("retained", "[]")
            b.directory.unlink()
            (tmp_path / "unplugged").rename(b.directory)
            async with asyncio.timeout(5):
                while journal.in_memory:
                    await asyncio.sleep(0.02)
            assert journal.recall("conn") == "57" and journal.recall("retained") == "[]"

    asyncio.run(story())


def test_a_damaged_note_in_the_lock_file_sends_the_numbers_nowhere(tmp_path: Path) -> None:
    b = bench(tmp_path)
    ep = asyncio.run(run_of(b, 10))
    lock = b.directory / "journal.lock"
    assert f"{ep} 11 " in lock.read_text()
    lock.write_text(lock.read_text().replace(f"{ep} 11 ", f"{ep} {10**30} "))
    assert asyncio.run(run_of(b, 1)) == ep
    assert (b.seen[-1].ep, b.seen[-1].seq) == (ep, 11) and not set_aside(b)


def test_a_store_that_finds_no_descriptor_names_the_limit() -> None:
    trouble = trouble_of("/var/lib/siteprobe/journal.sqlite", OSError(errno.EMFILE, "Too many open files"))
    assert "LimitNOFILE" in str(trouble) and not trouble.corrupt


def test_a_store_that_another_process_has_open_says_so_and_does_not_blame_the_disk(tmp_path: Path) -> None:
    b = bench(tmp_path)
    ep = asyncio.run(run_of(b, 3))

    async def story(browser: sqlite3.Connection) -> None:
        async with b.open() as journal:
            assert journal.in_memory and "database is locked" in journal.trouble
            assert "another process has it open" in journal.trouble and "disk" not in journal.trouble.split(";")[0]
            browser.close()
        async with b.open() as journal:
            assert (journal.ep, journal.trouble) == (ep, "")

    with closing(sqlite3.connect(b.path)) as browser:
        browser.execute("BEGIN EXCLUSIVE")
        asyncio.run(story(browser))

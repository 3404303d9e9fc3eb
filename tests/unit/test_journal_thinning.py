"""What the journal does when it holds too much: summaries, a bounded queue, few old files, a file that shrinks."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.clock import Instant
from agent.journal import Journal, keeper, shelf, waiting
from agent.journal.batch import Batch, Status
from agent.journal.place import Opened, Place
from agent.journal.summary import Summaries
from agent.model import Record, event
from tests.rigs.journals import MAIN_FIELDS, Bench

KIB = 1024


def bench(tmp_path: Path, **settings: object) -> Bench:
    return Bench(tmp_path / "store", **settings)  # type: ignore[arg-type]


def probe(b: Bench, check: str, number: int) -> Record:
    """Make a record of one of several checks; each tenth fails and so has no main figure, each 25th is unknown."""
    outcome = "fail" if number % 10 == 9 else "unknown" if number % 25 == 0 else "pass"
    figure = {"rtt_mean_s": (number % 100) / 1000} if outcome == "pass" else {}
    return Record("icmp", b.now(), {"check": check, "outcome": outcome, **figure, "number": f"{number * 7919:0300}"})


def lost(fields: list[dict[str, Any]]) -> set[int]:
    return {n for f in fields for n in range(f["from_seq"], f["to_seq"] + 1)}


def one_by_one(texts: dict[int, str], numbers: set[int]) -> dict[str, list[dict[str, Any]]]:
    """Sort the probes among these numbers by check."""
    found: dict[str, list[dict[str, Any]]] = {}
    for number in sorted(numbers):
        record = json.loads(texts[number]) if number in texts else {"type": ""}
        if record["type"] == "icmp":
            found.setdefault(record["check"], []).append(record)
    return found


def test_what_went_unsent_is_summed_up_by_check(tmp_path: Path) -> None:
    b = bench(tmp_path, max_bytes=64 * KIB)

    async def story() -> None:
        async with b.open() as journal:
            for number in range(1, 100_000):
                b.ts += 1
                journal.append(probe(b, ("gateway", "dc-a")[number % 3 == 0], number))
                if number % 50 == 0:
                    await journal.flush()
                    if journal.first_seq > 1:
                        break
            await journal.flush()
            gone = set(range(1, journal.first_seq))
            texts = {line.seq: line.text for line in b.seen}
            by_check = one_by_one(texts, gone)
            summaries = {f["check"]: f for f in b.fields("summary")}
            assert lost(b.fields("loss")) == gone and set(summaries) == set(by_check) == {"gateway", "dc-a"}
            for check, records in by_check.items():
                s, figures = summaries[check], [r["rtt_mean_s"] for r in records if "rtt_mean_s" in r]
                assert (s["of_type"], s["field"], s["count"]) == ("icmp", "rtt_mean_s", len(records))
                assert s["pass"] == len(figures) == s["measured"]
                assert s["fail"] == len([r for r in records if r["outcome"] == "fail"]) < s["count"] - s["pass"]
                assert (s["min"], s["max"]) == (min(figures), max(figures))
                assert s["mean"] == pytest.approx(sum(figures) / len(figures))
                assert (s["ts"], s["period_s"]) == (
                    records[0]["ts"],
                    (records[-1]["mono_ms"] - records[0]["mono_ms"]) / 1000,
                )

    asyncio.run(story())


def test_sent_records_go_without_a_summary(tmp_path: Path) -> None:
    b = bench(tmp_path, max_bytes=64 * KIB)

    async def story() -> None:
        async with b.open() as journal:
            while journal.first_seq == 1:
                for number in range(50):
                    journal.append(probe(b, "gateway", number))
                await journal.flush()
                journal.mark_sent(journal.ep, range(1, journal.next_seq))
            await journal.flush()

    asyncio.run(story())
    assert not b.fields("summary") and not b.fields("loss")


def test_summaries_of_summaries_keep_every_count(tmp_path: Path) -> None:
    b = bench(tmp_path, max_bytes=64 * KIB)

    async def story() -> tuple[int, int, list[dict[str, Any]]]:
        async with b.open() as journal:
            for number in range(12_000):
                journal.append(probe(b, f"check-{number % 300}", number))
                if number % 100 == 0:
                    await journal.flush()
            before = 0
            while before < journal.next_seq:  # what an eviction sums up is committed with the next commit
                before = journal.next_seq
                await journal.flush()
                await asyncio.sleep(5 * b.commit_s)
            lines = await journal.read([(1, journal.committed_seq)], 10**6)
            assert journal.buffer_bytes < 96 * KIB
            return journal.first_seq, journal.committed_seq, [json.loads(line.text) for line in lines]

    first, last, held = asyncio.run(story())
    types = [record["type"] for record in held]
    # Whatever was taken is held, or counted in a summary that is held: nothing is counted twice or forgotten.
    counted = sum(record["count"] for record in held if record["type"] == "summary")
    gone = [json.loads(line.text) for line in b.seen if line.type == "icmp" and line.seq < first]
    evicted_next = lost([record for record in held if record["type"] == "loss"]) & set(range(first, last + 1))
    twice = [r for r in held if r["seq"] in evicted_next]
    assert counted == len(gone) + sum(r["count"] if r["type"] == "summary" else r["type"] == "icmp" for r in twice)
    assert types.count("icmp") > len(held) / 2, "summaries must not fill the room that was made"


def test_many_checks_share_one_summary_and_a_merge_keeps_the_mean() -> None:
    at = Instant(1000.0, 5000, "synced", "aaaaaa")
    first = Summaries(MAIN_FIELDS)
    for number in range(20):
        at = Instant(1000.0 + number, 5000 + number * 1000, "synced", "aaaaaa")
        first.add("icmp", at, {"check": f"c-{number % 10}", "outcome": "pass", "rtt_mean_s": number / 100})
    records = first.records()
    assert [r.fields.get("check") for r in records] == ["c-0", "c-1", "c-2", None]
    assert records[-1].fields == {"period_s": 16.0, "count": 14, "pass": 14, "fail": 0}
    again = Summaries(MAIN_FIELDS)
    for record in (*records, *records):
        again.add(record.type, record.taken, record.fields)
    merged = {r.fields.get("check"): r.fields for r in again.records()}
    assert (merged["c-0"]["count"], merged["c-0"]["mean"], merged["c-0"]["max"]) == (4, 0.05, 0.1)
    assert merged[None]["count"] == 28


def test_a_period_over_a_restart_with_an_unset_clock_is_not_told() -> None:
    for clock, period_s in (("unsynced", None), ("synced", 9000.0)):
        s = Summaries({})
        s.add("tcp", Instant(1000.0, 5000, clock, "aaaaaa"), {"check": "epr", "outcome": "pass"})
        s.add("tcp", Instant(10_000.0, 7000, "synced", "bbbbbb"), {"check": "epr", "outcome": "fail"})
        (record,) = s.records()
        assert (record.fields.get("period_s"), record.fields["count"], "mean" in record.fields) == (period_s, 2, False)


# -- a disk that hangs ---------------------------------------------------------------------------


@contextmanager
def hanging(journal: Journal, then: sqlite3.Error | None = None) -> Iterator[None]:
    """Let commits hang, as an fsync on a dying card does; `then`: how they end."""
    store, release = journal._shelves.present.store, threading.Event()
    commit = store.commit

    def hang(batch: Batch) -> Status:
        release.wait(30)
        with store._trouble():
            if then:
                raise then
        return commit(batch)

    store.commit = hang  # type: ignore[method-assign]
    try:
        yield
    finally:
        release.set()


def test_while_the_disk_hangs_the_queue_is_bounded_and_the_oldest_are_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MOST_WAITING", 1000)
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            with hanging(journal):
                count = 5000
                for number in range(count):
                    journal.append(probe(b, "gateway", number), urgent=True)
                    if number in (10, 2500):
                        await asyncio.sleep(0.05)
                assert len(journal._queue) <= 1000 + 11 + 1
                assert journal.next_seq == count + 1 and journal.committed_seq == 0
                assert journal.lost_total >= count - 1100 and journal.pending + journal.lost_total == count
            await journal.flush()
            held = await journal.read([(1, journal.committed_seq)], 10**5)
            gone = lost(b.fields("loss"))
            assert {line.seq for line in held} | gone == set(range(1, journal.next_seq))
            assert not {line.seq for line in held} & gone and len(gone) == journal.lost_total
            probes = [line for line in held if line.type == "icmp"]
            assert sum(f["count"] for f in b.fields("summary")) + len(probes) == count
            assert [line.seq for line in await journal.unsent(0, 10**5)] == [line.seq for line in held]
            assert journal.pending == len(held)

    asyncio.run(story())
    assert {f["reason"] for f in b.fields("loss")} == {"thinned"}


@pytest.mark.parametrize(("code", "missing"), [(10, 0), (11, 0), (11, 7)])
def test_thinned_while_the_disk_hung_and_then_failed_is_declared_in_the_new_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, missing: int
) -> None:
    """Also where numbers of the store that comes next are skipped (`missing`): both in one commit."""
    monkeypatch.setattr(waiting, "MOST_WAITING", 1000)
    use = Place._use

    def use_damaged(*args: Any) -> Opened:
        return replace(use(*args), missing=missing)

    b = bench(tmp_path)
    failure = sqlite3.OperationalError("disk I/O error")
    failure.sqlite_errorcode = code

    async def story() -> None:
        async with b.open() as journal:
            old = journal.ep
            monkeypatch.setattr(Place, "_use", use_damaged)
            with hanging(journal, failure):
                for number in range(2750):
                    journal.append(probe(b, "gateway", number), urgent=True)
                    if number == 10:
                        await asyncio.sleep(0.05)
                thinned = journal.lost_total
                assert thinned >= 1500
            while journal.ep == old:
                await asyncio.sleep(0.01)
            await journal.flush()
            assert journal.ep != old and journal.lost_total >= thinned
            held = await journal.read([(1, journal.committed_seq)], 10**5)
            assert {line.seq for line in held} | lost(b.fields("loss")) == set(range(1, journal.next_seq))
            probes = [line for line in held if line.type == "icmp"]
            assert sum(f["count"] for f in b.fields("summary")) + len(probes) == 2750

    asyncio.run(story())


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("free_bytes", [10**9, 0])
def test_only_the_newest_three_bad_files_are_kept_and_none_where_the_disk_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int
) -> None:
    class Room:
        f_bavail, f_frsize = free_bytes, 1

    monkeypatch.setattr("os.statvfs", lambda path: Room)
    b = bench(tmp_path)

    async def run() -> None:
        async with b.open() as journal:
            await b.fill(journal, 1)

    kept = []
    for number in range(6):
        b.ts += 100
        asyncio.run(run())
        b.path.write_bytes(b"damaged %d" % number * 400)
        (b.directory / "journal.sqlite-wal").write_bytes(b"left over")
        asyncio.run(run())
        kept.append(sorted(p.read_bytes()[8:9] for p in b.directory.glob("journal.set-aside-*.sqlite")))
    asyncio.run(run())
    left = sorted(b.directory.glob("journal.set-aside-*"))
    if free_bytes:
        assert kept[-1] == [b"3", b"4", b"5"] and len([p for p in left if p.suffix == ".sqlite"]) == 3
    else:
        assert kept[-1] == [b"5"] and left == []


def test_the_file_shrinks_when_the_limit_is_lowered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.journal.schema.VACUUM_PAGES", 64)
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            for number in range(20_000):
                journal.append(event("agent_started", f"{number**9:0100}", b.now()))
                if number % 500 == 0:
                    await journal.flush()
            await journal.flush()
        before = b.path.stat().st_size
        b.max_bytes = 128 * KIB
        assert before > 3 * b.max_bytes
        async with b.open() as journal:
            for _ in range(100):
                await b.fill(journal, 1)
            assert journal.buffer_bytes < 160 * KIB
            held = await journal.read([(1, journal.committed_seq)], 10**5)
            assert [line.seq for line in held] == list(range(journal.first_seq, journal.next_seq))
        assert b.path.stat().st_size < 192 * KIB

    asyncio.run(story())
    assert b.rows("PRAGMA integrity_check") == [("ok",)]


# -- memory --------------------------------------------------------------------------------------


def test_marks_of_every_second_record_stay_bounded_and_forget_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "MOST_SPANS", 100)
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 1500)
            journal.declare_lost(journal.ep, [(7, 7), (701, 701)], "quarantined")
            journal.mark_sent(journal.ep, range(1001, 1401))
            for seq in range(2, 1000, 2):
                journal.mark_sent(journal.ep, [seq])
            assert len(journal._shelves.present.settled.spans) <= 103
            await journal.flush()
        async with b.open() as journal:
            settled, gone = journal._shelves.present.settled, journal._shelves.present.lost
            assert gone.spans == ((7, 7), (701, 701))
            assert 7 in settled and 701 in settled and all(n in settled for n in range(1001, 1401))
            for seq in range(2, 1000, 2):
                journal.mark_sent(journal.ep, [seq])
            assert {7, 701} <= {n for n in range(1, 1000) if n in journal._shelves.present.settled}
            unsent = {line.seq for line in await journal.unsent(0, 10**4)}
            assert unsent.isdisjoint({7, 701}) and unsent >= set(range(1, 1000, 2)) - {7, 701}
            assert journal.lost_total == 2

    asyncio.run(story())


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_long_backlog_takes_disk_and_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The full million is measured by `python -m bench.journal`."""
    b = bench(tmp_path, max_bytes=256 * KIB * KIB)
    monkeypatch.setattr(b, "committed", lambda lines: None)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 5_000, each=500)
            before = rss_bytes()
            await b.fill(journal, 50_000, each=500)
            assert journal.pending == 55_000
            assert rss_bytes() - before < 5e6

    asyncio.run(story())


def test_age_is_not_looked_for_at_every_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench(tmp_path)
    asked: list[float | None] = []

    async def story() -> None:
        async with b.open() as journal:
            store = journal._shelves.present.store
            commit = store.commit

            def watch(batch: Batch) -> Status:
                asked.append(batch.expired_ts)
                return commit(batch)

            store.commit = watch  # type: ignore[method-assign]
            for _ in range(10):
                b.ts += 10
                await b.fill(journal, 1)

    asyncio.run(story())
    assert len([ts for ts in asked if ts is not None]) == 1 and keeper.AGE_S == 60

"""Numbers, commits, blocks, marks, eviction: the journal on a disk that works."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.journal import Journal, StoreInUse
from agent.model import Record
from tests.rigs.journals import DAY_S, Bench


def bench(tmp_path: Path, **settings: object) -> Bench:
    return Bench(tmp_path / "store", **settings)  # type: ignore[arg-type]


def test_numbers_start_at_one_and_go_on_after_reopening(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story() -> tuple[str, str]:
        async with b.open() as journal:
            ep = journal.ep
            assert [journal.append(b.icmp(n)) for n in range(3)] == [1, 2, 3]
            assert (journal.next_seq, journal.committed_seq, journal.pending) == (4, 0, 3)
            await journal.flush()
            assert (journal.committed_seq, journal.first_seq, journal.in_memory, journal.trouble) == (3, 1, False, "")
        async with b.open() as journal:
            assert journal.append(b.icmp(3)) == 4
            return ep, journal.ep

    first, second = asyncio.run(story())
    assert first == second and len(first) == 6
    assert [line.seq for line in b.seen] == [1, 2, 3, 4]
    assert json.loads(b.seen[3].text)["number"] == 3
    assert (b.directory.stat().st_mode & 0o777, b.path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_before_open_a_clear_word(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="open"):
        _ = bench(tmp_path).journal().ep


def test_a_commit_takes_what_came_within_commit_s(tmp_path: Path) -> None:
    b = bench(tmp_path, commit_s=0.05)

    async def story() -> None:
        async with b.open() as journal:
            journal.append(b.icmp(0))
            await asyncio.sleep(0)
            journal.append(b.icmp(1))
            while not b.seen:
                await asyncio.sleep(0.01)

    asyncio.run(story())
    assert b.commits == [2]


@pytest.mark.parametrize(("count", "urgent"), [(100, False), (1, True)])
def test_a_hundred_or_one_urgent_do_not_wait(tmp_path: Path, count: int, urgent: bool) -> None:
    b = bench(tmp_path, commit_s=3600.0)

    async def story() -> None:
        async with b.open() as journal:
            for n in range(count):
                journal.append(b.icmp(n), urgent)
            async with asyncio.timeout(5):
                while journal.committed_seq < count:
                    await asyncio.sleep(0.01)

    asyncio.run(story())
    assert sum(b.commits) == count


def test_what_comes_during_a_commit_goes_with_the_next(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            for n in range(20):
                journal.append(b.icmp(n), urgent=True)
                await asyncio.sleep(0)
            await journal.flush()

    asyncio.run(story())
    assert sum(b.commits) == 20 and len(b.commits) < 20


def test_small_blocks_become_blocks_of_500_also_over_a_restart(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 330, each=30)
        async with b.open() as journal:
            await b.fill(journal, 900, each=90)
            assert [line.seq for line in await journal.read([(440, 520), (999, 1002)])] == [
                *range(440, 521),
                *range(999, 1003),
            ]

    asyncio.run(story())
    sizes = [last - first + 1 for first, last in b.rows("SELECT first_seq, last_seq FROM block ORDER BY first_seq")]
    assert sizes[:2] == [500, 500] and sum(sizes) == 1230


def test_unsent_pages_on_and_marks_survive(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 250)
            assert [line.seq for line in await journal.unsent(0, 100)] == list(range(1, 101))
            assert await journal.unsent(250, 100) == []
            journal.mark_sent(journal.ep, (seq for seq in (1, 2, 3, 7)))
            journal.mark_sent("zzzzzz", [100])
            journal.mark_sent(journal.ep, [0, 251, 9999])
            assert journal.pending == 246
        async with b.open() as journal:
            assert journal.pending == 246
            assert [line.seq for line in await journal.unsent(0, 5)] == [4, 5, 6, 8, 9]
            assert [line.text for line in await journal.unsent(200, 50)] == [line.text for line in b.seen[200:250]]

    asyncio.run(story())


def test_the_age_of_the_oldest_pending_record(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            assert journal.oldest_pending_ts is None
            for n in range(3):
                b.ts += 10
                journal.append(b.icmp(n))
            assert journal.oldest_pending_ts == pytest.approx(b.ts - 20)
            journal.mark_sent(journal.ep, [])
            await journal.flush()
            assert journal.oldest_pending_ts == pytest.approx(b.ts - 20, abs=1e-3)
            journal.mark_sent(journal.ep, [1])
            journal.append(b.icmp(3))
            await journal.flush()
            assert journal.oldest_pending_ts == pytest.approx(b.ts - 10, abs=1e-3)
            journal.mark_sent(journal.ep, range(1, 5))
            assert (journal.oldest_pending_ts, journal.pending) == (None, 0)

    asyncio.run(story())


def test_what_is_remembered_is_recalled_in_the_next_run(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            assert journal.recall("conn") is None
            journal.remember("conn", "1")
            journal.remember("conn", "2")
            assert journal.recall("conn") == "2"
        async with b.open() as journal:
            assert journal.recall("conn") == "2"

    asyncio.run(story())


def test_over_the_limit_the_oldest_go_and_the_unsent_are_declared(tmp_path: Path) -> None:
    b = bench(tmp_path, max_bytes=64 * 1024)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 500)
            journal.mark_sent(journal.ep, [*range(1, 101), 200])
            await b.fill(journal, 2500)
            assert journal.first_seq > 500
            assert journal.buffer_bytes < 96 * 1024
            declared = {n for f in b.fields("loss") for n in range(f["from_seq"], f["to_seq"] + 1)}
            assert {f["reason"] for f in b.fields("loss")} == {"thinned"}
            gone = set(range(1, journal.first_seq)) - {*range(1, 101), 200}
            assert declared >= gone and not declared & {*range(1, 101), 200}
            assert journal.lost_total == len(declared)
            held = [line.seq for line in await journal.read([(1, journal.committed_seq)], 10_000)]
            assert held == list(range(journal.first_seq, journal.committed_seq + 1))
            assert journal.pending == len([n for n in range(journal.first_seq, journal.next_seq) if n not in declared])

    asyncio.run(story())
    assert [line.seq for line in b.seen] == list(range(1, len(b.seen) + 1))
    assert b.path.stat().st_size < 128 * 1024


def test_a_loss_that_goes_unsent_is_declared_again(tmp_path: Path) -> None:
    b = bench(tmp_path, max_bytes=64 * 1024)

    async def story() -> tuple[int, set[int]]:
        async with b.open() as journal:
            await b.fill(journal, 6000)
            lines = await journal.read([(1, journal.committed_seq)], 10_000)
            held = [json.loads(line.text) for line in lines if line.type == "loss"]
            return journal.first_seq, {n for f in held for n in range(f["from_seq"], f["to_seq"] + 1)}

    first_seq, declared = asyncio.run(story())
    assert declared >= set(range(1, first_seq))


def test_too_old_blocks_go_but_not_by_an_unset_clock(tmp_path: Path) -> None:
    b = bench(tmp_path, max_age_s=7 * DAY_S)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 500)
            b.ts, b.clock = b.ts + 30 * DAY_S, "unsynced"
            await b.fill(journal, 10)
            assert journal.first_seq == 1
            b.clock = "synced"
            await b.fill(journal, 1)
            await b.fill(journal, 1)
            assert journal.first_seq == 501
            assert [(f["from_seq"], f["to_seq"]) for f in b.fields("loss")] == [(1, 500)]

    asyncio.run(story())


def test_a_clock_that_jumps_years_ahead_for_a_while_costs_no_record(tmp_path: Path) -> None:
    """It says that it is set (timesyncd's flag stays): only an hour of it makes records old."""
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 500)
            b.wrong_s = 365 * DAY_S
            for _ in range(5):
                await b.fill(journal, 1)
                b.ts += 600
            assert (journal.first_seq, journal.lost_total) == (1, 0)
            b.ts += 3600
            await b.fill(journal, 1)
            await b.fill(journal, 1)
            assert journal.first_seq == 501

    asyncio.run(story())


def test_quarantined_numbers_are_declared_and_counted_once(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 10)
            journal.declare_lost(journal.ep, [(4, 5)], "quarantined")
            journal.declare_lost("zzzzzz", [(6, 6)], "quarantined")
            assert (journal.lost_total, journal.pending) == (2, 9)
        async with b.open() as journal:
            assert (journal.lost_total, journal.pending) == (2, 9)
            assert [line.seq for line in await journal.unsent(3, 3)] == [6, 7, 8]

    asyncio.run(story())
    assert [f["reason"] for f in b.fields("loss")] == ["quarantined"]


@pytest.mark.parametrize("clean", [True, False])
def test_only_an_unclean_reboot_skips_1000_numbers(tmp_path: Path, clean: bool) -> None:
    b = bench(tmp_path)
    asyncio.run(_run_of(b, 5))
    if not clean:
        b.make_unclean()
    b.boot = "77ab01"
    asyncio.run(_run_of(b, 1))
    if clean:
        assert [line.seq for line in b.seen] == [1, 2, 3, 4, 5, 6]
    else:
        lost = b.fields("loss")[0]
        assert (lost["seq"], lost["from_seq"], lost["to_seq"], lost["reason"]) == (1006, 6, 1005, "crash")
        assert b.seen[-1].seq == 1007
    asyncio.run(_run_of(b, 1))
    assert b.seen[-1].seq == b.seen[-2].seq + 1


async def _run_of(b: Bench, count: int) -> None:
    async with b.open() as journal:
        await b.fill(journal, count)


def test_skipped_numbers_are_not_pending(tmp_path: Path) -> None:
    b = bench(tmp_path)
    asyncio.run(_run_of(b, 5))
    b.make_unclean()
    b.boot = "77ab01"

    async def story() -> None:
        async with b.open() as journal:
            assert (journal.pending, journal.lost_total, journal.next_seq) == (6, 1000, 1007)
            assert [line.seq for line in await journal.unsent(0, 100)] == [1, 2, 3, 4, 5, 1006]
            assert [line.seq for line in await journal.read([(4, 2000)])] == [4, 5, 1006]
            assert journal.lost_total == 1000

    asyncio.run(story())


def test_a_second_agent_is_refused_by_name(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story(first: Journal) -> None:
        second = b.journal()
        with pytest.raises(StoreInUse, match=r"in use by another siteprobe with process id \d+: stop"):
            await second.open()
        first.append(b.icmp(0))
        await first.flush()

    async def both() -> None:
        async with b.open() as first:
            await story(first)

    asyncio.run(both())
    asyncio.run(_run_of(b, 1))
    assert [line.seq for line in b.seen] == [1, 2]


WRITER = """
import asyncio, sys, pathlib
from tests.rigs.journals import Bench
async def main():
    b = Bench(pathlib.Path(sys.argv[1]), commit_s=0.002)
    b.committed = lambda lines: print("\\n".join(line.text for line in lines), flush=True)
    j = b.journal()
    await j.open()
    print("open", flush=True)
    for n in range(100000):
        j.append(b.icmp(int(sys.argv[2]) * 100000 + n), urgent=n % 7 == 0)
        if n % 5 == 0:
            await asyncio.sleep(0.0005)
asyncio.run(main())
"""


def killed(directory: Path, number: int, lines: int) -> list[str]:
    """Run the writer, kill it when it has shown so many records, give all it showed whole."""
    command = [sys.executable, "-c", WRITER, str(directory), str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        shown = [process.stdout.readline() for _ in range(lines + 1)]
        process.kill()
        shown += process.stdout.readlines()
    assert shown[0] == "open\n"
    return [line for line in shown[1:] if line.endswith("}\n")]


def test_killed_ten_times_no_number_twice_and_none_missing(tmp_path: Path) -> None:
    b = bench(tmp_path)
    shown: dict[int, str] = {}
    for number in range(10):
        for text in killed(b.directory, number, 3 + number * 37 % 211):
            seq = json.loads(text)["seq"]
            assert shown.setdefault(seq, text) == text

    async def story() -> None:
        async with b.open() as journal:
            held = await journal.read([(1, 10**6)], 10**6)
            assert [line.seq for line in held] == list(range(1, journal.next_seq))
            texts = {line.seq: line.text + "\n" for line in held}
            assert all(texts[seq] == text for seq, text in shown.items())
            assert not b.fields("event") and not b.fields("loss")

    asyncio.run(story())


def test_a_damaged_block_is_declared_and_the_rest_is_read(tmp_path: Path) -> None:
    b = bench(tmp_path)
    asyncio.run(_run_of(b, 1100))
    b.rows("UPDATE block SET bytes = zeroblob(40) WHERE first_seq = 501")

    async def story() -> None:
        async with b.open() as journal:
            assert [line.seq for line in await journal.unsent(499, 4)] == [500]
            while lines := await journal.unsent(0, 1000):
                journal.mark_sent(journal.ep, [line.seq for line in lines])
            await journal.flush()
            assert len(await journal.unsent(0, 1000)) == len(b.fields("loss"))

    asyncio.run(story())
    declared = {n for f in b.fields("loss") for n in range(f["from_seq"], f["to_seq"] + 1)}
    assert declared == set(range(501, 1001)) and {f["reason"] for f in b.fields("loss")} == {"crash"}


def test_long_records_do_not_make_blocks_of_megabytes(tmp_path: Path) -> None:
    b = bench(tmp_path)

    async def story() -> None:
        async with b.open() as journal:
            for n in range(200):
                journal.append(Record("snmp", b.now(), {f"field_{k}": f"{n * k:0900}" for k in range(8)}))
            await journal.flush()

    asyncio.run(story())
    assert [line.seq for line in b.seen] == list(range(1, 201))

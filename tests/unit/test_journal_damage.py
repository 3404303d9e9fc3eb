"""Bytes flipped anywhere in the store, and a log cut short: open() never fails, and nothing wrong is given back."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.journal import Journal
from tests.rigs.journals import Bench

RECORDS = 1300
SEEDS = 200


@pytest.fixture(scope="module")
def left_by_a_crash(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, int], str]]:
    """Make a store with full blocks, small blocks, marks and values, part of it still in the log."""
    root = tmp_path_factory.mktemp("damage")
    b = Bench(root / "live")

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, RECORDS - 100)
            journal.mark_sent(journal.ep, [*range(1, 300), 700])
            journal.remember("conn", "17")
        async with b.open() as journal:
            await b.fill(journal, 100, each=20)
            shutil.copytree(b.directory, root / "crashed")

    asyncio.run(story())
    assert (root / "crashed" / "journal.sqlite-wal").stat().st_size > 0
    return root / "crashed", {(line.ep, line.seq): line.text for line in b.seen}


def flip(path: Path, chance: random.Random) -> None:
    """Change 1 to 40 bytes, far apart or close together."""
    content = bytearray(path.read_bytes())
    middle, width = chance.randrange(len(content)), chance.choice([8, 1000, len(content)])
    for _ in range(chance.randint(1, 40)):
        at = (middle + chance.randrange(width)) % len(content)
        content[at] ^= chance.randint(1, 255)
    path.write_bytes(content)


async def look(b: Bench, journal: Journal, truth: dict[tuple[str, int], str], old_ep: str) -> None:
    """Measuring goes on within 10 s; what is given back is right, and what is not given back is declared."""
    async with asyncio.timeout(10):
        journal.append(b.icmp(1))
        await journal.flush()
        while journal.trouble or journal._broken:
            await asyncio.sleep(0.01)
        given: dict[int, str] = {}
        end = journal.next_seq
        while lines := await journal.unsent(max(given, default=0), 500):
            given |= {line.seq: line.text for line in lines}
        given |= {line.seq: line.text for line in await journal.read([(1, 10**6)], 10**6)}
        await journal.flush()
    if journal.ep != old_ep:
        (told, *_) = [event for event in b.fields("event") if event["kind"] == "store_set_aside"]
        assert "set aside" in told["detail"] and list(b.directory.glob("journal.set-aside-*.sqlite"))
        return
    lost = {n for f in b.fields("loss") for n in range(f["from_seq"], f["to_seq"] + 1)}
    sent = {n for n in range(1, journal.next_seq) if n in journal._shelves.present.settled}
    shown = truth | {(line.ep, line.seq): line.text for line in b.seen}
    for seq in range(journal.first_seq, end):
        assert seq not in given or given[seq] == shown[old_ep, seq]
        assert seq in given or seq in lost or seq in sent, f"{seq} is neither there nor declared"
    for line in b.seen:
        assert (line.ep, line.seq) not in truth, "a number was used twice"


def opened(directory: Path, truth: dict[tuple[str, int], str]) -> str:
    """Open the damaged store after a reboot, look at it, and give the epoch that is in use then."""
    b = Bench(directory, boot="77ab01")
    ((old_ep, _), *_) = truth

    async def story() -> str:
        async with b.open() as journal:
            await look(b, journal, truth, old_ep)
            return journal.ep

    return asyncio.run(story())


def test_flipped_bytes_at_200_random_places(tmp_path: Path, left_by_a_crash: Any) -> None:
    store, truth = left_by_a_crash
    kept = 0
    for seed in range(SEEDS):
        chance = random.Random(seed)
        directory = tmp_path / str(seed)
        shutil.copytree(store, directory)
        flip(directory / chance.choice(["journal.sqlite", "journal.sqlite", "journal.sqlite-wal"]), chance)
        kept += opened(directory, truth) == next(iter(truth))[0]
        shutil.rmtree(directory)
    assert SEEDS // 10 < kept < SEEDS, "both ways must have been taken"


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def zero_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + bytes(path.stat().st_size // 2))


def zero_head(path: Path) -> None:
    path.write_bytes(bytes(64) + path.read_bytes()[64:])


@pytest.mark.parametrize("spoil", [Path.unlink, shorten, zero_half, zero_head])
def test_a_log_cut_short_or_zeroed_after_a_power_cut(
    tmp_path: Path, left_by_a_crash: Any, spoil: Callable[[Path], None]
) -> None:
    """The card lied about flushing: the rest is kept, and 1,000 numbers are skipped, so that none is used twice."""
    store, truth = left_by_a_crash
    shutil.copytree(store, tmp_path / "store")
    spoil(tmp_path / "store" / "journal.sqlite-wal")
    b = Bench(tmp_path / "store", boot="77ab01")
    old_ep = next(iter(truth))[0]

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 1)
            held = await journal.read([(1, 10**6)], 10**6)
            assert journal.ep == old_ep and all(truth.get((x.ep, x.seq), x.text) == x.text for x in held)
            (lost,) = b.fields("loss")
            assert lost["reason"] == "crash" and lost["to_seq"] - lost["from_seq"] == 999
            assert b.seen[-1].seq > RECORDS and json.loads(b.seen[-1].text)["number"] == 0

    asyncio.run(story())


@pytest.mark.parametrize("spoil", [Path.unlink, shorten, zero_half, zero_head])
def test_a_log_damaged_without_a_power_cut_costs_its_records_and_no_number_twice(
    tmp_path: Path, left_by_a_crash: Any, spoil: Callable[[Path], None]
) -> None:
    store, truth = left_by_a_crash
    shutil.copytree(store, tmp_path / "store")
    spoil(tmp_path / "store" / "journal.sqlite-wal")
    b = Bench(tmp_path / "store")
    last = max(seq for _, seq in truth)

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, 1)
            held = {x.seq for x in await journal.read([(1, 10**6)], 10**6)}
            assert b.seen[-1].seq > last, "a number was used twice"
            (lost,) = b.fields("loss")
            assert (lost["reason"], lost["to_seq"]) == ("crash", last)
            assert held | set(range(lost["from_seq"], last + 1)) == set(range(1, journal.next_seq))

    asyncio.run(story())


def put_back(path: Path, row: tuple[Any, ...]) -> None:
    with sqlite3.connect(path) as db:
        db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    db.close()


@pytest.mark.parametrize("held", [300, 320])
def test_an_older_counter_beside_newer_blocks_uses_no_number_twice(tmp_path: Path, held: int) -> None:
    """A log that was copied back and then damaged: the pages do not belong to one moment, and each of them is whole."""
    b = Bench(tmp_path / "store")

    async def story() -> None:
        async with b.open() as journal:
            await b.fill(journal, held)
        with sqlite3.connect(b.path) as db:
            older = db.execute("SELECT * FROM state").fetchone()
        db.close()
        async with b.open() as journal:
            await b.fill(journal, 2000)
        put_back(b.path, older)
        (b.directory / "journal.lock").unlink()
        before = {line.seq: line.text for line in b.seen}
        b.seen.clear()
        async with b.open() as journal:
            await b.fill(journal, 1000)
            assert not journal.trouble and min(line.seq for line in b.seen) == len(before) + 1
            given = {line.seq: line.text for line in await journal.read([(1, len(before))], 10_000)}
            assert given == before

    asyncio.run(story())

"""Blocks give back what was put in, or say that they cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.journal.blocks import Damaged, Line, declared_lost, line_of, newest_dated, pack, unpack
from agent.messages import encode
from agent.model import Record
from bench.journal import measure
from tests.rigs.journals import START_TS, Bench

BENCH = Bench(Path("nowhere"))


def texts(count: int) -> list[str]:
    return [encode(BENCH.icmp(n), "main-hospital-01", "k3f9q2", 1 + n) for n in range(count)]


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])), min_size=1))
def test_any_texts_come_back(lines: list[str]) -> None:
    assert unpack(pack(lines), len(lines)) == lines


def test_a_full_block_of_icmp_records_takes_a_tenth() -> None:
    lines = texts(500)
    assert len(pack(lines)) < sum(map(len, lines)) / 10


@pytest.mark.parametrize("at", [0, 2, 40, -1])
def test_one_wrong_byte_is_noticed(at: int) -> None:
    packed = bytearray(pack(texts(50)))
    packed[at] ^= 0x55
    with pytest.raises(Damaged):
        unpack(bytes(packed), 50)


def test_a_cut_block_and_a_wrong_count_are_noticed() -> None:
    packed = pack(texts(50))
    for wrong, count in ((packed[:-5], 50), (packed, 49), (b"", 1)):
        with pytest.raises(Damaged):
            unpack(wrong, count)


def test_a_line_comes_back_from_its_text() -> None:
    text = texts(1)[0]
    line = line_of(text)
    assert line == Line("k3f9q2", 1, "icmp", "gateway", line.ts, BENCH.now().mono_ms, text)
    assert line.ts == pytest.approx(START_TS, abs=1e-3)
    assert line_of(encode(Record("event", BENCH.now()), "n", "k3f9q2", 9)).check == "site"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"ts":1}', "nonsense"])
def test_what_is_no_record_is_damage(text: str) -> None:
    with pytest.raises(Damaged):
        line_of(text)


def test_a_record_of_an_unset_clock_has_no_age() -> None:
    lines = [line_of(text) for text in texts(2)]
    undated = [line_of(line.text.replace('"synced"', '"unsynced"')) for line in lines]
    assert newest_dated(undated) is None
    assert newest_dated(lines) == lines[-1].ts


def test_only_a_loss_record_declares_a_loss() -> None:
    lost = Record("loss", BENCH.now(), {"from_seq": 3, "to_seq": 9, "reason": "thinned"})
    talk = Record("event", BENCH.now(), {"detail": '"type":"loss"'})
    assert declared_lost(encode(lost, "n", "k3f9q2", 1)) == (3, 9)
    assert declared_lost(encode(talk, "n", "k3f9q2", 1)) is None


def test_256_mib_hold_two_weeks_at_5_records_a_second(tmp_path: Path) -> None:
    """The mixture of `python -m bench.journal`, which also tells speed and memory."""
    rows = {row.name: row for row in asyncio.run(measure(tmp_path / "store", 20_000))}
    assert rows["256 MiB at 5 records/s"].good

"""The reference reader finds what it is there to find: duplicates, changed contents, gaps, declared losses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.reader import Ledger, TwoContents, replay_command

BASE = "siteprobe/v1/o/s/n"


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger()
    yield made
    made.close()


def record(seq: int, ep: str = "e1", **fields: Any) -> dict[str, Any]:
    return {"v": 1, "node": "n", "ep": ep, "seq": seq, "type": "icmp", "check": "gw", **fields}


def live(ledger: Ledger, *records: dict[str, Any]) -> None:
    for item in records:
        ledger.take(f"{BASE}/live/{item['type']}/gw", json.dumps(item).encode())


def late(ledger: Ledger, *records: dict[str, Any]) -> None:
    ledger.take(f"{BASE}/late/icmp", json.dumps([{**item, "late": True} for item in records]).encode())


def heartbeat(ledger: Ledger, next_seq: int, first_seq: int = 1, ep: str = "e1") -> None:
    card = {"node": "n", "ep": ep, "first_seq": first_seq, "next_seq": next_seq}
    ledger.take(f"{BASE}/heartbeat", json.dumps(card).encode())


def test_a_record_is_kept_once_however_often_it_comes(ledger: Ledger) -> None:
    live(ledger, record(1), record(1))
    late(ledger, record(1))
    assert ledger.records() == [record(1)]
    assert ledger.duplicates == 2


def test_the_order_of_keys_and_the_late_mark_are_no_other_content(ledger: Ledger) -> None:
    live(ledger, record(1, a=1, b=2))
    late(ledger, record(1, b=2, a=1))
    assert len(ledger.records()) == 1


def test_one_number_with_two_contents_is_refused(ledger: Ledger) -> None:
    live(ledger, record(1, rtt_mean_s=0.1))
    with pytest.raises(TwoContents, match="'n', 'e1', 1"):
        late(ledger, record(1, rtt_mean_s=0.2))


def test_the_same_number_in_another_epoch_is_another_record(ledger: Ledger) -> None:
    live(ledger, record(1), record(1, ep="e2", rtt_mean_s=0.2))
    assert len(ledger.records()) == 2
    assert ledger.gaps() == {}


def test_gaps_are_found_between_before_and_behind(ledger: Ledger) -> None:
    live(ledger, record(2), record(3), record(6))
    assert ledger.gaps() == {("n", "e1"): [(1, 1), (4, 5)]}
    heartbeat(ledger, next_seq=9)
    assert ledger.gaps() == {("n", "e1"): [(1, 1), (4, 5), (7, 8)]}


def test_an_epoch_known_from_the_heartbeat_alone_is_one_gap(ledger: Ledger) -> None:
    heartbeat(ledger, next_seq=4, ep="e9")
    assert ledger.gaps() == {("n", "e9"): [(1, 3)]}


def test_a_declared_loss_is_no_gap(ledger: Ledger) -> None:
    live(ledger, record(1), {**record(7, from_seq=2, to_seq=6, reason="thinned"), "type": "loss"})
    assert ledger.gaps() == {}


def test_an_older_heartbeat_takes_nothing_back(ledger: Ledger) -> None:
    heartbeat(ledger, next_seq=4)
    heartbeat(ledger, next_seq=2)
    assert ledger.gaps() == {("n", "e1"): [(1, 3)]}


def test_other_topics_and_empty_messages_are_passed_over(ledger: Ledger) -> None:
    ledger.take(f"{BASE}/state/gw", b"")
    ledger.take(f"{BASE}/status", b'{"state":"online"}')
    assert ledger.epochs() == []


def test_the_ledger_outlives_the_process(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "reader.db")
    live(first, record(1), record(3))
    first.close()
    second = Ledger(tmp_path / "reader.db")
    live(second, record(3))
    assert second.duplicates == 1
    assert second.gaps() == {("n", "e1"): [(2, 2)]}
    second.close()


def test_a_replay_asks_for_no_more_than_its_share() -> None:
    command = replay_command(1, "e1", [(1, 10), (20, 9000), (9500, 9600)])
    assert command["args"] == {"ep": "e1", "ranges": [[1, 10], [20, 5009]]}

"""The SQL of docs/delivery.md does what the page says: run in SQLite, and in a PostgreSQL of the test's own."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.postgres import Postgres

PAGE = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text()
SQL = dict(re.findall(r"```sql (\w+)\n(.*?)```", PAGE, re.DOTALL))
Row = tuple[Any, ...]
Ask = Callable[[str, dict[str, Any]], Sequence[Row]]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("server")
        postgres.fresh_database()
        yield postgres.ask
        return
    database = sqlite3.connect(":memory:")
    yield lambda sql, values: database.execute(sql, values).fetchall()
    database.close()


def read(ask: Ask, *messages: dict[str, Any]) -> None:
    """Do with messages what the page says."""
    for statement in SQL["tables"].split(";")[:-1]:
        ask(statement, {})
    for message in messages:
        if "next_seq" in message:
            ask(SQL["heartbeat"], message)
            continue
        ask(SQL["insert"], message | {"body": json.dumps(message)})
        if message["type"] == "loss":
            ask(SQL["lost"], message)


def record(seq: int, ep: str = "e1", type: str = "icmp", **fields: Any) -> dict[str, Any]:
    return {"node": "n", "ep": ep, "seq": seq, "type": type, "ts": "2026-11-22T14:03:22.123Z", **fields}


def heartbeat(next_seq: int, first_seq: int = 1, ep: str = "e1") -> dict[str, Any]:
    return {"node": "n", "ep": ep, "first_seq": first_seq, "next_seq": next_seq}


def gaps(ask: Ask) -> list[Row]:
    return [tuple(row) for row in ask(SQL["gaps"], {})]


def test_the_page_has_all_of_the_sql() -> None:
    assert list(SQL) == ["tables", "insert", "lost", "heartbeat", "gaps"]


def test_a_record_that_comes_twice_counts_once(ask: Ask) -> None:
    read(ask, record(1), record(2), record(1, late=True), record(1, ep="e2"))
    assert ask("SELECT ep, seq FROM record ORDER BY ep, seq", {}) == [("e1", 1), ("e1", 2), ("e2", 1)]
    assert gaps(ask) == []


def test_gaps_before_between_and_behind(ask: Ask) -> None:
    read(ask, record(3), record(4), record(8), heartbeat(next_seq=12, first_seq=1))
    assert gaps(ask) == [("n", "e1", 1, 2, 1), ("n", "e1", 5, 7, 1), ("n", "e1", 9, 11, 1)]


def test_a_declared_loss_is_no_gap_and_may_overlap_what_came(ask: Ask) -> None:
    loss = record(9, type="loss", from_seq=2, to_seq=8, reason="thinned")
    read(ask, record(1), record(4), loss, loss, record(11), heartbeat(next_seq=12))
    assert gaps(ask) == [("n", "e1", 10, 10, 1)]


def test_what_the_agent_no_longer_holds_is_not_replayable(ask: Ask) -> None:
    read(ask, record(5), record(20), heartbeat(next_seq=21, first_seq=10))
    assert gaps(ask) == [("n", "e1", 1, 4, 0), ("n", "e1", 6, 19, 0)]


def test_an_older_heartbeat_takes_nothing_back(ask: Ask) -> None:
    read(ask, heartbeat(next_seq=5, first_seq=3), heartbeat(next_seq=4, first_seq=1))
    assert gaps(ask) == [("n", "e1", 1, 4, 0)]


def test_an_epoch_without_a_heartbeat_shows_its_inner_gaps(ask: Ask) -> None:
    read(ask, record(1), record(3))
    assert gaps(ask) == [("n", "e1", 2, 2, 0)]


def test_the_page_is_one_page() -> None:
    words = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL).split()
    assert len(words) < 900


def test_a_failing_statement_is_noticed_in_both(ask: Ask) -> None:
    with pytest.raises((sqlite3.Error, subprocess.CalledProcessError)):
        ask("SELECT nothing FROM nowhere", {})

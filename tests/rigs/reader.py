"""The reference reader, as docs/delivery.md tells a central team to write one, and the judge of our tests.

    judge = Ledger(folder / "reader.db")        # ":memory:" does too
    with CentralReader(broker.port, judge): ...
    judge.gaps()                                # what is neither here nor declared lost

It keeps each (node, ep, seq) once, refuses one number with two contents, and knows from the heartbeat
and from `loss` records what is missing.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    node TEXT NOT NULL, ep TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (node, ep, seq));
CREATE TABLE IF NOT EXISTS lost (
    node TEXT NOT NULL, ep TEXT NOT NULL, from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL,
    PRIMARY KEY (node, ep, from_seq, to_seq));
CREATE TABLE IF NOT EXISTS extent (
    node TEXT NOT NULL, ep TEXT NOT NULL, first_seq INTEGER NOT NULL, next_seq INTEGER NOT NULL,
    PRIMARY KEY (node, ep));
"""
RECORDS_A_REPLAY = 5000
SPANS_A_REPLAY = 1000
EXPIRY_S = 30
CONNECT_S = 10.0
ANSWER_S = 2.0
"""An answer to `replay` may come behind the records that it promises; one whose broker was killed never comes."""
Span = tuple[int, int]


class TwoContents(AssertionError):
    """One (node, ep, seq) came with two contents: what must never happen (contract, rule 1)."""


class Ledger:
    """What has arrived, in SQLite; one lock, since MQTT clients call from threads of their own."""

    def __init__(self, file: Path | str = ":memory:") -> None:
        """Open the file, made where it is missing."""
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._database.executescript(SCHEMA)
        self._lock = threading.Lock()
        self.duplicates = 0
        self.came_late = 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def take(self, topic: str, payload: bytes) -> None:
        """Take one message of any topic of an agent; raises TwoContents."""
        kind = topic.split("/")[5]
        if not payload or kind not in ("live", "late", "heartbeat"):
            return
        content = json.loads(payload)
        with self._lock:
            if kind == "heartbeat":
                self._extent(content)
            for record in content if kind == "late" else [content] * (kind == "live"):
                self._record(record)
            self.came_late += len(content) * (kind == "late")

    def _extent(self, card: Mapping[str, Any]) -> None:
        values = (card["node"], card["ep"], card["first_seq"], card["next_seq"])
        self._database.execute(
            "INSERT INTO extent VALUES (?, ?, ?, ?) ON CONFLICT (node, ep) DO UPDATE SET"
            " first_seq = max(first_seq, excluded.first_seq), next_seq = max(next_seq, excluded.next_seq)",
            values,
        )

    def _record(self, record: dict[str, Any]) -> None:
        body = json.dumps({key: value for key, value in record.items() if key != "late"}, sort_keys=True)
        key = (record["node"], record["ep"], record["seq"])
        added = self._database.execute("INSERT OR IGNORE INTO record VALUES (?, ?, ?, ?)", (*key, body)).rowcount
        if not added:
            self.duplicates += 1
            self._same(key, body)
        elif record["type"] == "loss":
            span = (*key[:2], record["from_seq"], record["to_seq"])
            self._database.execute("INSERT OR IGNORE INTO lost VALUES (?, ?, ?, ?)", span)

    def _same(self, key: tuple[str, str, int], body: str) -> None:
        where = "SELECT body FROM record WHERE (node, ep, seq) = (?, ?, ?)"
        (kept,) = self._database.execute(where, key).fetchone()
        if kept != body:
            raise TwoContents(f"{key}: {kept} and {body}")

    def records(self, node: str | None = None) -> list[dict[str, Any]]:
        """Give all records (of a node) in ascending order of their numbers."""
        with self._lock:
            found = self._database.execute("SELECT node, body FROM record ORDER BY node, ep, seq").fetchall()
        return [json.loads(body) for name, body in found if node in (None, name)]

    def epochs(self) -> list[tuple[str, str]]:
        """Name every (node, ep) that a record or a heartbeat spoke of."""
        with self._lock:
            return self._database.execute(
                "SELECT node, ep FROM record UNION SELECT node, ep FROM extent ORDER BY 1, 2"
            ).fetchall()

    def gaps(self) -> dict[tuple[str, str], list[Span]]:
        """Give by (node, ep) the spans that exist, and are neither here nor declared lost."""
        found = {key: list(self._gaps(*key)) for key in self.epochs()}
        return {key: spans for key, spans in found.items() if spans}

    def _gaps(self, node: str, ep: str) -> Iterator[Span]:
        with self._lock:
            here = self._database.execute(
                "SELECT seq, seq FROM record WHERE node = ? AND ep = ?"
                " UNION SELECT from_seq, to_seq FROM lost WHERE node = ? AND ep = ? ORDER BY 1",
                (node, ep, node, ep),
            ).fetchall()
            (told,) = self._database.execute(
                "SELECT max(next_seq) FROM extent WHERE node = ? AND ep = ?", (node, ep)
            ).fetchone()
        reached = 0
        for first, last in here:
            if first > reached + 1:
                yield (reached + 1, first - 1)
            reached = max(reached, last)
        if told and reached < told - 1:
            yield (reached + 1, told - 1)


def replay_command(number: int, ep: str, spans: list[Span]) -> dict[str, Any]:
    """Write the command that asks for spans again; RECORDS_A_REPLAY at most are asked for at once."""
    wanted, room = [], RECORDS_A_REPLAY
    for first, last in spans[:SPANS_A_REPLAY]:
        last = min(last, first + room - 1)
        wanted.append([first, last])
        room -= last - first + 1
        if room <= 0:
            break
    expiry = datetime.now(UTC) + timedelta(seconds=EXPIRY_S)
    expires = expiry.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"id": f"reader-{time.time_ns()}-{number}", "exp": expires, "args": {"ep": ep, "ranges": wanted}}


class CentralReader:
    """An MQTT client that feeds a ledger: QoS 1, a session that the broker keeps, acknowledged once stored."""

    def __init__(self, port: int, ledger: Ledger, client_id: str = "reference-reader") -> None:
        """Read from 127.0.0.1; with the same `client_id` a broker keeps what came meanwhile."""
        self.ledger = ledger
        self.failure: Exception | None = None
        self.responses: list[dict[str, Any]] = []
        self.states: list[str] = []
        self.asked = 0
        self._numbers = itertools.count(1)
        self._bases: dict[str, str] = {}
        self._subscribed = threading.Event()
        self._port = port
        # 3.1.1: every broker speaks it, and nothing a reader needs is in MQTT 5 alone (contract, rule 9).
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, clean_session=False, protocol=paho.MQTTv311, manual_ack=True
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("siteprobe/v1/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._take

    def __enter__(self) -> Self:
        """Connect and subscribe."""
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self.wait_subscribed()
        return self

    def wait_subscribed(self) -> None:
        """Wait until the subscription stands; call `forget_connection` before the broker goes."""
        assert self._subscribed.wait(CONNECT_S), "the reader could not subscribe"

    def forget_connection(self) -> None:
        """Have `wait_subscribed` and `wait_for_state` wait for what the next connection brings."""
        self._subscribed.clear()
        self.states.clear()

    def __exit__(self, *_: object) -> None:
        """Disconnect; the session stays at the broker. Raises what the ledger found wrong."""
        self._client.disconnect()
        self._client.loop_stop()
        self.check()

    def check(self) -> None:
        """Raise what went wrong while taking a message."""
        if self.failure:
            raise self.failure

    def _take(self, client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        parts = message.topic.split("/")
        try:
            if len(parts) > 5 and parts[3] != "fleet":
                self._bases[parts[4]] = "/".join(parts[:5])
                if parts[5] == "response":
                    self.responses.append(json.loads(message.payload))
                elif parts[5] == "status" and message.payload:
                    self.states.append(json.loads(message.payload)["state"])
                self.ledger.take(message.topic, bytes(message.payload))
        except (TwoContents, ValueError, LookupError) as error:
            self.failure = self.failure or error
            return  # not acknowledged: what is not stored comes again
        client.ack(message.mid, message.qos)

    def ask_for_gaps(self) -> int:
        """Send a `replay` for what is missing, one for each (node, ep); gives how many were sent."""
        gaps = self.ledger.gaps()
        for (node, ep), spans in gaps.items():
            command = replay_command(next(self._numbers), ep, spans)
            self._client.publish(f"{self._bases[node]}/command/replay", json.dumps(command), qos=1)
            self.asked += 1
        return len(gaps)

    def wait_for_state(self, state: str, seconds: float = 20.0) -> None:
        """Wait until a `status` with this state came, and forget those before it."""
        end = time.monotonic() + seconds
        while state not in self.states:
            assert time.monotonic() < end, f"no {state} within {seconds:g} s; came: {self.states}"
            time.sleep(0.05)
        del self.states[: self.states.index(state) + 1]

    def wait_until_whole(self, seconds: float = 20.0, least: int = 1) -> None:
        """Wait until at least so many records are here without a gap; ask for gaps once a second meanwhile.

        Then wait a little for the answers to what was asked.
        """
        end, next_ask = time.monotonic() + seconds, time.monotonic() + 1
        while self.ledger.gaps() or len(self.ledger.records()) < least:
            self.check()
            assert time.monotonic() < end, f"still missing after {seconds:g} s: {self.ledger.gaps()}"
            if time.monotonic() >= next_ask:
                next_ask += 1
                self.ask_for_gaps()
            time.sleep(0.05)
        end = time.monotonic() + ANSWER_S
        while len(self.responses) < self.asked and time.monotonic() < end:
            time.sleep(0.05)
        self.check()

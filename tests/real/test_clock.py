"""The whole agent with a clock that is unset, set at last, or jumps: nothing lost, nothing twice, no timer moved."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.clock_shim import ClockShim
from tests.rigs.mosquitto import Mosquitto, free_port
from tests.rigs.servers import says
from tests.rigs.service import Found, Ledger, Service, config, seconds_of, serving, tcp

HOUR_S, MONTH_S = 3600, 30 * 86400
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
INTERVAL_S = 0.5


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[ClockShim]:
    with ClockShim(tmp_path) as shim:
        yield shim


def in_1970() -> int:
    """Give the offset with which the clock shows the first minute of 1970."""
    return 60 - int(time.time())


def taken_ts(record: Found) -> float:
    """Give when a record of this boot was taken, by the real clocks of this machine."""
    since_boot_s = float(record["mono_ms"]) / 1000
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot_s


def of_kind(ledger: Ledger, kind: str) -> list[Found]:
    """Give the events of a kind."""
    return [record for record in ledger.by_number().values() if record.get("kind") == kind]


def checks_taken(ledger: Ledger) -> list[Found]:
    """Give the records of the check in the order of their numbers."""
    return [record for _, record in sorted(ledger.by_number().items()) if record["type"] == "tcp"]


def wait_for_more(ledger: Ledger) -> None:
    """Wait until the check has been asked three times more."""
    known = len(checks_taken(ledger))
    ledger.wait_for(lambda _: len(checks_taken(ledger)) > known + 2, 10)


def test_a_boot_in_1970_without_a_broker_is_put_right_before_it_is_sent(tmp_path: Path, shim: ClockShim) -> None:
    port = free_port()
    shim.set(in_1970(), synchronised=False)
    with serving(says(OK)) as peers:
        values = config(tmp_path, [tcp("peer", peers[0])], port, clock="auto")
        with Service(tmp_path, values, shim.env) as agent:
            unset = agent.wait_for(lambda status: status["buffer"]["next_seq"] > 8)["buffer"]["next_seq"]
            agent.kill()  # a crash in the same boot
            agent.start()
            agent.wait_for(lambda status: status["buffer"]["next_seq"] > unset + 4 and status["clock"] == "unsynced")
            shim.set(0)
            agent.wait_for(lambda status: status["clock"] == "synced")
            with Mosquitto(tmp_path, port=port), Ledger(port) as ledger:
                ledger.wait_complete(agent, 25)
                first = ledger.by_number()
                assert {record["clock"] for record in first.values()} == {"corrected", "synced"}
                assert all(abs(seconds_of(r["ts"]) - taken_ts(r)) < 1 for r in first.values())
                assert all(r["clock"] == "corrected" for (_, seq), r in first.items() if seq < unset)
                assert len(of_kind(ledger, "clock_behind")) == 2 and len(of_kind(ledger, "clock_step")) == 1
                monos = [record["mono_ms"] for record in checks_taken(ledger)]
                assert monos == sorted(monos)
            assert agent.stop() == 0


def test_what_was_sent_with_an_unset_clock_is_never_sent_with_another_time(tmp_path: Path, shim: ClockShim) -> None:
    shim.set(in_1970(), synchronised=False)
    with serving(says(OK)) as peers, Mosquitto(tmp_path) as broker, Ledger(broker.port) as ledger:
        values = config(tmp_path, [tcp("peer", peers[0])], broker.port, clock="auto")
        with Service(tmp_path, values, shim.env) as agent:
            ledger.wait_for(lambda _: len(checks_taken(ledger)) > 3, 15)
            live = [r for r, _ in ledger.records() if r["type"] == "tcp" and "late" not in r]
            assert {record["clock"] for record in live} == {"unsynced"}
            broker.kill()  # what is in flight may have arrived, or not
            agent.wait_for(lambda status: not status["delivery"]["connected"])
            agent.kill()
            shim.set(0)
            agent.start()
            broker.start()
            ledger.wait_for(lambda _: "synced" in {record["clock"] for record in checks_taken(ledger)}, 25)
            ledger.wait_complete(agent, 25)  # fails where one number has two contents
            kept = ledger.by_number()
            assert all(kept[record["ep"], record["seq"]]["clock"] == "unsynced" for record in live)
            assert agent.stop() == 0


def test_a_clock_that_jumps_moves_no_timer_and_no_number(tmp_path: Path, shim: ClockShim) -> None:
    offsets = (HOUR_S, 0, -HOUR_S, MONTH_S, in_1970(), 0)
    with serving(says(OK)) as peers, Mosquitto(tmp_path) as broker, Ledger(broker.port) as ledger:
        values = config(tmp_path, [tcp("peer", peers[0])], broker.port)
        with Service(tmp_path, values, shim.env) as agent:
            for offset_s in offsets:
                wait_for_more(ledger)
                shim.set(offset_s)
            steps = len(offsets)
            ledger.wait_for(lambda _: len(of_kind(ledger, "clock_step")) == steps, 10)
            ledger.wait_complete(agent, 20)
            told = [event["seconds"] for _, event in sorted((e["seq"], e) for e in of_kind(ledger, "clock_step"))]
            expected = [after - before for before, after in itertools.pairwise((0, *offsets))]
            assert told == pytest.approx(expected, abs=0.1)
            monos = [record["mono_ms"] / 1000 for record in checks_taken(ledger)]
            waits = [after - before for before, after in itertools.pairwise(monos)]
            assert min(waits) > 0 and max(waits) < 4 * INTERVAL_S, waits
            # No burst: never more than the schedule has.
            assert len(monos) <= (monos[-1] - monos[0]) / INTERVAL_S + 2
            assert not of_kind(ledger, "stalled")
            assert agent.stop() == 0

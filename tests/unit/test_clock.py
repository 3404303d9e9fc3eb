"""The wall clock: how far it is trusted, its steps, and the times of records that were taken before it was set."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import clock as clock_module
from agent.clock import WRITTEN_S, Clock, ClockQuality, Instant, Step, system_clock_quality
from agent.journal import Journal, Line
from agent.model import Record, Scalar
from agent.timekeeper import LAST_TS, Timekeeper
from tests.rigs import virtual_time
from tests.rigs.journals import Bench, Buffer
from tests.rigs.publishing import FakeNetwork, FakeStore, publishing

NOW_S = WRITTEN_S + 28_000_000.0
NEVER_SET_S = 120.0


# -- how far it is trusted


@pytest.mark.parametrize(
    ("adjtimex", "flag", "quality"),
    [
        (True, False, "synced"),  # ntpd, chronyd with rtcsync, timesyncd
        (True, True, "synced"),
        (False, True, "synced"),  # timesyncd was right, and has had no server for half a day
        (False, False, "unsynced"),
        (None, True, "synced"),  # ProtectClock forbids to ask the kernel
        (None, False, "unsynced"),
    ],
)
def test_the_system_says_how_far_the_clock_is_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, adjtimex: bool | None, flag: bool, quality: str
) -> None:
    monkeypatch.setattr(clock_module, "kernel_clock_synchronised", lambda: adjtimex)
    monkeypatch.setattr(clock_module, "TIMESYNCD_FLAG", tmp_path if flag else tmp_path / "none")
    assert system_clock_quality() == quality


class Hands:
    """Two clocks that the test moves; reading them takes no time."""

    def __init__(self) -> None:
        self.ts, self.mono_ms, self.quality = NOW_S, 1_000_000, ClockQuality.SYNCED

    def clock(self, setting: str = "auto") -> Clock:
        return Clock(setting, lambda: self.quality, lambda: self.ts, lambda: self.mono_ms)

    def wait(self, seconds: float) -> None:
        self.ts, self.mono_ms = self.ts + seconds, self.mono_ms + round(seconds * 1000)


@pytest.mark.parametrize("setting", ["auto", "trusted"])
def test_a_clock_before_our_own_time_is_not_set_whoever_vouches_for_it(setting: str) -> None:
    hands = Hands()
    clock = hands.clock(setting)
    assert clock.now().clock == "synced"
    hands.ts = NEVER_SET_S
    assert (clock.now().ts, clock.now().clock) == (NEVER_SET_S, "unsynced")


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, 30 * 86400.0, NEVER_SET_S - NOW_S, 2.5])
def test_each_step_is_noted_once(step_s: float) -> None:
    hands = Hands()
    clock = hands.clock()
    clock.now()
    hands.wait(1)
    hands.ts += step_s
    for _ in range(5):
        clock.now()
        hands.wait(1)
    assert clock.take_steps() == [Step(NOW_S + 1, NOW_S + 1 + step_s)]
    assert clock.take_steps() == []


def test_slewing_and_sleeping_are_no_steps() -> None:
    hands = Hands()
    clock = hands.clock()
    for _ in range(10_000):
        hands.wait(1)
        hands.ts += 0.0005
        clock.now()
    hands.wait(8 * 3600)
    clock.now()
    assert clock.take_steps() == []


def test_a_process_that_is_stopped_between_the_two_clocks_sees_no_step() -> None:
    hands = Hands()
    stops = iter([0, 0, 60, 0, 0, 0, 0, 0, 0])

    def wall() -> float:
        ts = hands.ts
        hands.wait(next(stops))
        return ts

    clock = Clock("trusted", wall=wall, boot_ms=lambda: hands.mono_ms)
    for _ in range(5):
        clock.now()
    assert clock.take_steps() == []


def test_after_a_step_the_system_is_asked_at_once_how_good_the_clock_is_now() -> None:
    hands = Hands()
    clock = hands.clock()
    assert clock.now().clock == "synced"
    hands.ts, hands.quality = hands.ts - 3600, ClockQuality.UNSYNCED
    assert clock.now().clock == "unsynced"


# -- the timekeeper


class Values:
    """A journal of small values."""

    def __init__(self, **values: str) -> None:
        self.values, self.events = values, list[Record]()

    def append(self, record: Record, urgent: bool = False) -> int:
        self.events.append(record)
        return len(self.events)

    def remember(self, key: str, value: str) -> None:
        self.values[key] = value

    def recall(self, key: str) -> str | None:
        return self.values.get(key)


@pytest.mark.parametrize(
    ("ts", "known_ts", "behind"),
    [
        (NOW_S, None, False),
        (NOW_S, NOW_S - 60, False),
        (NOW_S, NOW_S + 1, False),  # seconds are whole, and NTP sets small things right
        (NOW_S, NOW_S + 3600, True),
        (NEVER_SET_S, None, True),
        (NEVER_SET_S, NOW_S, True),
    ],
)
def test_a_clock_that_stands_before_a_known_time_is_told_of_at_the_start(
    ts: float, known_ts: float | None, behind: bool
) -> None:
    hands, said = Hands(), list[str]()
    hands.ts = ts
    values = Values(**({LAST_TS: str(int(known_ts))} if known_ts else {}))
    Timekeeper(hands.clock(), values, said.append).begin()
    assert [e.fields["kind"] for e in values.events] == ["clock_behind"] * behind
    assert len(said) == behind


def test_a_step_is_one_event_with_both_times() -> None:
    hands, values = Hands(), Values()
    keeper = Timekeeper(hands.clock(), values, lambda _: None)
    for step_s in (0, 360_000_000, 0, 0):
        hands.wait(1)
        hands.ts += step_s
        keeper.look()
    (told,) = values.events
    assert (told.fields["kind"], told.fields["seconds"]) == ("clock_step", 360_000_000)
    assert str(told.fields["detail"]).endswith("by +360000000 s")


def test_the_newest_time_is_kept_once_a_minute_and_an_older_one_only_if_the_clock_is_set() -> None:
    hands, values = Hands(), Values()
    keeper = Timekeeper(hands.clock(), values, lambda _: None)
    keeper.look()
    hands.wait(59)
    keeper.look()
    assert values.values[LAST_TS] == str(int(NOW_S))
    hands.wait(1)
    keeper.look()
    assert values.values[LAST_TS] == str(int(NOW_S) + 60)
    hands.ts, hands.quality = NOW_S - 5000, ClockQuality.UNSYNCED
    keeper.keep()
    assert values.values[LAST_TS] == str(int(NOW_S) + 60)
    hands.wait(2)
    hands.quality = ClockQuality.SYNCED
    keeper.keep()
    assert values.values[LAST_TS] == str(int(NOW_S) - 4998)


# -- records that were taken before the clock was set


class Story:
    """A probe whose clock is not set at first; `connected` and `now` are the test's."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder)
        self.connected = False
        self.now = Instant(NEVER_SET_S, 100_000, "unsynced", "boot-1")

    async def open(self) -> Journal:
        buffer = Buffer(str(self.bench.directory))
        journal = Journal(
            buffer, "n", "board-1", self.bench.committed, lambda: self.now, connected=lambda: self.connected
        )
        await journal.open()
        return journal

    def wait(self, seconds: float) -> None:
        self.now = replace(self.now, ts=self.now.ts + seconds, mono_ms=self.now.mono_ms + round(seconds * 1000))

    def set(self) -> None:
        self.now = replace(self.now, ts=NOW_S + (self.now.mono_ms - 100_000) / 1000, clock="synced")

    async def take(self, journal: Journal, count: int = 1, each_s: float = 60.0) -> None:
        for number in range(count):
            journal.append(Record("icmp", self.now, {"number": number}))
            self.wait(each_s)
        await journal.flush()
        await asyncio.sleep(0)


def read(lines: list[Line]) -> list[dict[str, Any]]:
    return [json.loads(line.text) for line in lines]


def told(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["clock"], one["ts"]) for one in found]


def run(story: Callable[[], Any]) -> None:
    asyncio.run(story())


def test_what_was_taken_before_the_clock_was_set_leaves_with_the_right_time(tmp_path: Path) -> None:
    async def story() -> None:
        s = Story(tmp_path)
        journal = await s.open()
        await s.take(journal, 121)
        assert all(line.held for line in s.bench.seen)
        s.set()
        await s.take(journal)
        lines = await journal.unsent(0, 500)
        found = read(lines)
        assert [one["clock"] for one in found] == ["corrected"] * 121 + ["synced"]
        for line, one in zip(lines, found, strict=True):
            assert abs(line.ts - (NOW_S + (one["mono_ms"] - 100_000) / 1000)) < 0.002
            assert not line.held
        assert [one["seq"] for one in found] == list(range(1, 123))
        assert read(await journal.read([(5, 9)])) == found[4:9]
        await journal.close()

    run(story)


def test_what_was_given_out_while_the_clock_was_unset_stays_as_it_was(tmp_path: Path) -> None:
    async def story() -> None:
        s = Story(tmp_path)
        journal = await s.open()
        await s.take(journal, 10)
        before = read(await journal.unsent(0, 4))
        s.set()
        after = read(await journal.unsent(0, 100))
        assert after[:4] == before and {one["clock"] for one in before} == {"unsynced"}
        assert {one["clock"] for one in after[4:]} == {"corrected"}
        await journal.close()

    run(story)


def test_while_there_is_a_connection_fresh_records_are_not_held(tmp_path: Path) -> None:
    async def story() -> None:
        s = Story(tmp_path)
        s.connected = True
        journal = await s.open()
        await s.take(journal, 3)
        live = list(s.bench.seen)
        assert not any(line.held for line in live)
        s.set()
        assert await journal.unsent(0, 100) == live
        await journal.close()

    run(story)


def test_a_record_waiting_in_memory_when_the_clock_is_set_leaves_corrected(tmp_path: Path) -> None:
    async def story() -> None:
        s = Story(tmp_path)
        journal = await s.open()
        s.connected = True
        journal.append(Record("icmp", s.now, {}))
        s.wait(5)
        s.set()
        await journal.flush()
        await asyncio.sleep(0)
        (line,) = s.bench.seen
        assert json.loads(line.text)["clock"] == "corrected" and abs(line.ts - NOW_S) < 0.002
        assert await journal.unsent(0, 10) == [line]
        await journal.close()

    run(story)


@pytest.mark.parametrize("set_before_crash", [False, True])
def test_what_left_once_leaves_the_same_after_a_crash_in_the_same_boot(tmp_path: Path, set_before_crash: bool) -> None:
    """The first journal is not closed: its file is used on as a crash would leave it, once its lock is gone."""

    async def story() -> None:
        s = Story(tmp_path / "a")
        journal = await s.open()
        await s.take(journal, 6)
        first = await journal.unsent(0, 3)
        if set_before_crash:
            s.set()
            first += (await journal.unsent(0, 6))[3:]
        (tmp_path / "b").mkdir()
        for file in (tmp_path / "a").glob("journal.sqlite*"):
            (tmp_path / "b" / file.name).write_bytes(file.read_bytes())
        await journal.close()

        s.bench.directory = tmp_path / "b"
        s.wait(3600)
        s.set()
        s.now = replace(s.now, ts=s.now.ts + 0.7)  # NTP has come closer meanwhile
        again = await s.open()
        second = await again.unsent(0, 6)
        assert second[: len(first)] == first
        assert {one["clock"] for one in read(second[3:])} == {"corrected"}
        await again.close()

    run(story)


def test_records_of_an_earlier_boot_stay_unset_and_in_order(tmp_path: Path) -> None:
    async def story() -> None:
        s = Story(tmp_path)
        for boot in range(5):
            s.now = Instant(NEVER_SET_S, 10_000, "unsynced", f"boot-{boot}")
            journal = await s.open()
            await s.take(journal, 4)
            await journal.close()
        s.set()
        journal = await s.open()
        found = read(await journal.unsent(0, 100))
        assert [one["seq"] for one in found] == list(range(1, 21))
        assert [one["clock"] for one in found] == ["unsynced"] * 16 + ["corrected"] * 4
        assert read(await journal.unsent(0, 100)) == found
        await journal.close()

    run(story)


def test_a_corrected_record_differs_in_nothing_but_its_time(tmp_path: Path) -> None:
    async def story() -> None:
        s = Story(tmp_path)
        journal = await s.open()
        fields: dict[str, Scalar] = {
            "detail": '"ts":"x","clock":"unsynced","boot":"boot-1"',
            "check": "epr",
            "rtt_mean_s": 0.1 + 0.2,
        }
        journal.append(Record("icmp", s.now, fields))
        await journal.flush()
        await asyncio.sleep(0)
        kept = json.loads(s.bench.seen[0].text)
        s.set()
        (line,) = await journal.unsent(0, 9)
        found = json.loads(line.text)
        assert list(found) == list(kept)
        assert {k for k in found if found[k] != kept[k]} == {"ts", "clock"}
        assert (line.type, line.check, line.mono_ms) == ("icmp", "epr", 100_000)
        await journal.close()

    run(story)


def test_decisions_stay_few_when_a_site_never_gets_the_time(tmp_path: Path) -> None:
    async def story() -> None:
        s = Story(tmp_path)
        s.connected = True
        journal = await s.open()
        for _ in range(50):
            await s.take(journal, 5)
        assert len(journal.recall("times") or "") < 60
        await journal.close()

    run(story)


def test_a_held_record_that_is_committed_on_a_fresh_connection_goes_as_the_journal_gives_it() -> None:
    async def scene() -> None:
        store, net = FakeStore(), FakeNetwork()
        async with publishing(store, net.open_wire) as publisher:
            await asyncio.sleep(5)
            held, free = store.add(2)
            publisher.committed([replace(held, held=True), free])
            await asyncio.sleep(5)
        assert net.live_seqs() == [free.seq]
        assert net.late_seqs() == [held.seq]

    virtual_time.run(scene())

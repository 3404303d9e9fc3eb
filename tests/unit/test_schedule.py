"""When checks are due: first runs, phases, ticks, and what happens after a late run."""

from __future__ import annotations

import itertools
import math

from agent.schedule import FIRST_WITHIN_S, Schedule

START = 1000.0


def played(schedule: Schedule, until: float, run_s: float = 0.0) -> list[tuple[float, str]]:
    """Run everything that is due until then; each run takes `run_s`."""
    began: list[tuple[float, str]] = []
    ending: list[tuple[float, str, float]] = []
    while True:
        now = min(schedule.next_at(), min((end for end, _, _ in ending), default=math.inf))
        if now > until:
            return began
        for end, name, start in [e for e in ending if e[0] <= now]:
            ending.remove((end, name, start))
            schedule.finished(name, start, end)
        for name in schedule.due(now):
            began.append((now, name))
            ending.append((now + run_s, name, now))


def test_every_check_runs_within_five_seconds_and_sooner_if_its_interval_is() -> None:
    schedule = Schedule([(f"slow-{i}", 60.0) for i in range(50)] + [("fast", 1.0)], "node", START)
    first = {name: at for at, name in reversed(played(schedule, START + 10))}
    assert max(first.values()) <= START + FIRST_WITHIN_S + 0.1
    assert first["fast"] <= START + 1.1
    assert len(set(first.values())) > 20, "first runs are spread"


def test_it_keeps_to_a_grid_of_its_own_whenever_it_was_started() -> None:
    grids = set()
    for start in (START, START + 3.3, START + 7.7):
        times = [at for at, _ in played(Schedule([("a", 10.0)], "node", start), start + 60)][2:]
        grids |= {round(at % 10.0, 3) for at in times}
        assert all(abs(b - a - 10.0) < 1e-6 for a, b in itertools.pairwise(times))
    assert len(grids) == 1


def test_nodes_do_not_ask_at_the_same_moment() -> None:
    phases = {round([at for at, _ in played(Schedule([("a", 60.0)], f"n-{i}", 0), 200)][2] % 60, 1) for i in range(20)}
    assert len(phases) > 15


def test_intervals_below_two_ticks_skip_no_slot() -> None:
    for interval_s in (0.1, 0.15):
        for number in range(20):
            runs = played(Schedule([(f"c-{number}", interval_s)], "node", START), START + 30, run_s=0.001)
            assert abs(len(runs) - 30 / interval_s) <= 2


def test_all_sends_lie_on_ticks_and_some_share_one() -> None:
    runs = played(Schedule([(f"c-{i}", 10.0) for i in range(300)], "node", START), START + 30)
    times = [at for at, _ in runs]
    assert all(abs(at * 10 - round(at * 10)) < 1e-6 for at in times)
    assert len(set(times)) < len(times) / 2


def test_a_run_longer_than_its_interval_skips_slots_and_never_overlaps_or_bunches() -> None:
    runs = [at for at, _ in played(Schedule([("a", 2.0)], "node", START), START + 60, run_s=5.0)]
    gaps = [b - a for a, b in itertools.pairwise(runs)]
    assert min(gaps) >= 5.0
    assert max(gaps) <= 8.0


def test_after_a_long_stall_each_check_runs_once_and_counts_as_overdue() -> None:
    schedule = Schedule([(f"c-{i}", 10.0) for i in range(20)], "node", START)
    played(schedule, START + 20)
    late = START + 620
    due = schedule.due(late)
    assert sorted(due) == sorted(f"c-{i}" for i in range(20)), "one run each, no catching up"
    for name in due:
        schedule.finished(name, late, late)
    assert schedule.overdue(late) == 20
    assert schedule.due(late + 0.05) == []
    assert schedule.overdue(late + 61) == 20, "and they wait again"


def test_a_suspected_fault_is_asked_earlier_but_not_while_it_runs() -> None:
    schedule = Schedule([("a", 60.0)], "node", START)
    began = schedule.next_at()
    assert schedule.due(began) == ["a"]
    schedule.hurry("a", began + 1)
    assert schedule.next_at() == math.inf, "it is running"
    schedule.finished("a", began, began)
    schedule.hurry("a", began + 1)
    assert began + 1 <= schedule.next_at() <= began + 1.1
    schedule.hurry("a", began + 30)
    assert schedule.next_at() <= began + 1.1, "hurrying never delays"
    schedule.hurry("nobody", began)
    assert schedule.due(began + 1.1) == ["a"]


def test_500_checks_at_10_s_are_50_a_second_on_average_and_never_many_more() -> None:
    runs = [at for at, _ in played(Schedule([(f"c-{i}", 10.0) for i in range(500)], "node", START), START + 100)]
    steady = [at for at in runs if at >= START + 20]
    per_second = [sum(1 for at in steady if START + s <= at < START + s + 1) for s in range(20, 99)]
    assert 45 <= sum(per_second) / len(per_second) <= 55
    assert max(per_second) < 100

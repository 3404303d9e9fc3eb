"""What follows from commands over time: suppression from command and file, and the pace of the centre."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.commands.desk import PACES_A_MINUTE
from tests.rigs.desk import PACE, START, Front

MAINTENANCE = {"seconds": 600, "kind": "maintenance", "reason": "router swap"}
ISOLATION = {"seconds": 60, "kind": "isolation", "reason": "drill"}
NONE: dict[str, Any] = {}


@pytest.fixture
def front(tmp_path: Path) -> Front:
    return Front(tmp_path)


def test_a_suppression_begins_at_once_ends_by_itself_and_can_be_ended(front: Front) -> None:
    front.ask("suppress", MAINTENANCE)
    assert [s.kind for s in front.suppressed if s] == ["maintenance"]
    front.later(599)
    assert front.desk.suppression == {
        "kind": "maintenance", "reason": "router swap", "source": "command", "left_s": 1.0
    }  # fmt: skip
    front.later(1)
    assert front.desk.suppression is None
    assert front.suppressed[-1] is None
    front.ask("suppress", ISOLATION)
    front.ask("suppress", {**ISOLATION, "seconds": 0})
    assert front.suppressed[-1] is None
    assert [k for k in front.kinds() if k != "command"] == ["suppression_began", "suppression_ended"] * 2


@pytest.mark.parametrize("step_s", [-3600, 3600, -1_795_000_000])
def test_a_step_of_the_clock_neither_prolongs_nor_cuts_a_suppression(front: Front, step_s: float) -> None:
    front.ask("suppress", MAINTENANCE)
    front.now = replace(front.now, ts=front.now.ts + step_s)
    front.later(599)
    assert front.desk.suppression
    front.later(2)
    assert front.desk.suppression is None


@pytest.mark.parametrize(
    ("away_s", "boot", "clock_s", "left_s"),
    [
        (100, "boot-1", 0, 500),  # a restart of the agent
        (100, "boot-2", 0, 500),  # a reboot, with a clock
        (100, "boot-2", -1_700_000_000, 600),  # a reboot without one: at most the whole time again
        (700, "boot-2", 0, None),
    ],
)
def test_a_restart_goes_on_with_the_time_left(
    front: Front, tmp_path: Path, away_s: float, boot: str, clock_s: float, left_s: float | None
) -> None:
    front.ask("suppress", MAINTENANCE)
    again = Front(tmp_path, notes=front.notes)
    mono_ms = 5000 if boot != "boot-1" else START.mono_ms
    again.now = replace(START, boot=boot, mono_ms=mono_ms, ts=START.ts + clock_s)
    again.later(away_s)
    found = again.desk.suppression
    assert (found and found["left_s"]) == left_s
    assert bool(again.suppressed) is bool(left_s)


def test_the_file_does_what_the_command_does(front: Front, tmp_path: Path) -> None:
    file = tmp_path / "suppress"
    front.later(1)
    file.write_text(json.dumps(MAINTENANCE))
    front.later(1)
    assert (front.desk.suppression or NONE)["source"] == "file"
    again = Front(tmp_path, notes=front.notes)
    again.now = front.now
    again.later(100)
    assert (again.desk.suppression or NONE)["left_s"] == 500, "the same file is not begun anew by a restart"
    again.later(500)
    assert again.desk.suppression is None, "it ends by itself although the file still lies there"
    again.later(1)
    assert again.desk.suppression is None
    file.write_text(json.dumps({**ISOLATION, "seconds": 1000}))
    again.later(1)
    assert (again.desk.suppression or NONE)["kind"] == "isolation"
    file.unlink()
    again.later(1)
    assert again.desk.suppression is None


@pytest.mark.parametrize(
    ("age_s", "left_s"), [(200.0, 400), (599.0, 1), (600.0, None), (86_400.0, None), (-86_400.0, 600)]
)
def test_a_file_that_a_new_store_does_not_know_counts_from_when_it_was_written(
    tmp_path: Path, age_s: float, left_s: int | None
) -> None:
    file = tmp_path / "suppress"
    file.write_text(json.dumps(MAINTENANCE))
    os.utime(file, ns=(1, 1))  # the time that a copy may keep counts for nothing
    for _ in range(2):  # each start anew has no store, as where the disk is gone
        front = Front(tmp_path)
        front.now = replace(START, ts=file.lstat().st_ctime + age_s)
        front.later(0)
        found = front.desk.suppression
        assert (found and round(found["left_s"])) == left_s
        assert front.kinds() == ["suppression_began" if left_s else "suppression_ended"]
        front.later(left_s or 0)
        assert front.desk.suppression is None, "it ends by itself"
        assert bool(front.suppressed) is bool(left_s)
    file.write_text(json.dumps({**ISOLATION, "seconds": 1000}))
    front.later(1)
    assert (front.desk.suppression or NONE)["left_s"] == 1000, "one that comes while the agent runs begins now"


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b"[]", b'{"seconds": 99999, "kind": "maintenance"}', b"x" * 5000, b"[" * 4000]
)
def test_a_bad_file_is_named_once_and_changes_nothing(front: Front, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "suppress"
    front.later(1)
    file.write_text(json.dumps(MAINTENANCE))
    front.later(1)
    file.write_bytes(content)
    os.utime(file, ns=(1, 1))
    front.later(1)
    front.later(1)
    assert front.kinds() == ["suppression_began", "suppression_refused"]
    again = Front(tmp_path, notes=front.notes)
    again.now = front.now
    again.later(1)
    assert front.kinds() == ["suppression_began", "suppression_refused"], "named once, restarts included"
    assert (again.desk.suppression or NONE)["reason"] == "router swap"


def test_a_file_that_is_no_file_or_is_just_being_written(front: Front, tmp_path: Path) -> None:
    (tmp_path / "suppress").touch()
    front.later(1)
    assert front.kinds() == []
    (tmp_path / "suppress").unlink()
    secret = tmp_path / "secret"
    secret.write_text(json.dumps(MAINTENANCE))
    (tmp_path / "suppress").symlink_to(secret)
    front.later(1)
    assert front.kinds() == ["suppression_refused"], "a link is not followed"


def test_maintenance_wins_over_isolation_and_each_source_has_its_own(front: Front, tmp_path: Path) -> None:
    front.later(1)
    (tmp_path / "suppress").write_text(json.dumps({**ISOLATION, "seconds": 900}))
    front.later(1)
    front.ask("suppress", MAINTENANCE)
    assert [s.kind for s in front.suppressed if s] == ["isolation", "maintenance"]
    front.later(600)
    assert [s.kind for s in front.suppressed if s] == ["isolation", "maintenance", "isolation"]
    front.ask("suppress", {**MAINTENANCE, "seconds": 0})
    assert front.desk.suppression, "a command does not end what the file began"


def test_a_pace_holds_until_its_end_and_the_same_one_again_is_no_news(front: Front) -> None:
    front.pace(hold=True, late_rate=5, spread_s=60, exp=3600)
    front.later(10)
    front.pace(hold=True, late_rate=5, spread_s=60, exp=3590)
    assert front.paces == [(True, 5.0, 60.0)]
    front.later(3590)
    assert front.paces[1:] == [(False, None, None)]
    assert front.kinds() == ["pace_changed"] * 2
    front.pace(hold=True, exp=-1)
    assert len(front.paces) == 2, "an expired one that is still retained is passed over in silence"


def test_a_pace_that_is_removed_is_over(front: Front) -> None:
    front.pace(late_rate=5, exp=3600)
    front.desk.receive(PACE, b"", False)
    assert front.paces == [(False, 5.0, None), (False, None, None)]


@pytest.mark.parametrize(
    "body",
    [
        {"hold": True},
        {"hold": 1, "exp": 60},
        {"late_rate": -1, "exp": 60},
        {"late_rate": "5", "exp": 60},
        {"late_rate": True, "exp": 60},
        {"spread_s": 1e9, "exp": 60},
        {"hold": True, "exp": 86_401},
    ],
)
def test_a_bad_pace_is_ignored_with_an_event(front: Front, body: dict[str, Any]) -> None:
    front.pace(**body)
    assert (front.paces, front.kinds()) == ([], ["pace_refused"])


def test_a_clock_that_is_unset_and_ahead_does_not_end_a_pace(front: Front) -> None:
    front.now = replace(START, clock="unsynced")
    front.pace(hold=True, exp=-3600)
    front.later(60)
    assert front.paces == [(True, None, None)]


def test_paces_that_change_all_the_time_are_obeyed_and_do_not_flood_the_store(front: Front) -> None:
    for n in range(100):
        front.pace(late_rate=n, exp=3600)
        front.desk.receive(PACE, b"junk", True)
    assert len(front.paces) == 100
    assert len(front.notes.records) == PACES_A_MINUTE
    front.later(60)
    assert "190 more" in str(front.notes.records[-1].fields["detail"])


def test_while_the_clock_is_unset_a_pace_holds_for_a_day_at_most_and_is_judged_once_it_is_set(front: Front) -> None:
    front.now = replace(START, ts=0.0, clock="unsynced")
    exp = START.ts + 600
    front.pace(hold=True, exp=exp)
    front.later(60)
    assert front.paces == [(True, None, None)]
    front.now = replace(front.now, ts=exp + 1, clock="synced")
    front.later(1)
    assert front.paces[1:] == [(False, None, None)], "it had expired all along"
    front.now = replace(front.now, ts=0.0, clock="unsynced")
    front.pace(hold=True, exp=exp)
    front.later(86_399)
    assert len(front.paces) == 3
    front.later(1)
    assert len(front.paces) == 4

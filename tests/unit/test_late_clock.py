"""Times that were kept before the clock was set: put right in verdict and states, and said anew once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from agent.clock import Instant, put_right, rfc3339
from agent.health import Health
from agent.illness import Illness
from agent.loss import Loss
from agent.model import Record
from agent.verdict import SiteFacts
from tests.rigs.stories import STORIES, Play, answer, moment, unset

SET_S = 60


def of_verdict(play: Play) -> list[Record]:
    return [record for record in play.notebook.records if record.type == "verdict"]


def played(until_s: float, clock: Callable[[float], Instant] = unset) -> Play:
    """Play a story up to a second, by another clock if that is wanted."""
    play = Play(STORIES / "clock_set_late.yaml", clock)
    for step in play.story["steps"]:
        if "say" not in step and step["at"] < until_s:
            play.act(step)
    return play


def said_by(play: Play, step: dict[str, Any]) -> list[tuple[str, Any, int]]:
    play.posted = []
    play.act(step)
    return play.posted


# -- the rule


def test_a_moment_before_the_clock_was_set_gets_the_time_that_it_was_at() -> None:
    assert put_right(unset(5), moment(SET_S)) == replace(moment(5), clock="corrected")


@pytest.mark.parametrize(
    ("kept", "now"),
    [
        (unset(5), unset(SET_S)),  # nobody knows yet
        (moment(5), replace(moment(SET_S), ts=moment(SET_S).ts + 3600)),  # only stepped
        (replace(unset(5), boot="boot-0"), moment(SET_S)),  # its offset is gone with its boot
        (replace(unset(5), clock="corrected"), moment(SET_S)),
        (None, moment(SET_S)),
    ],
)
def test_other_moments_stay_as_they_are(kept: Instant | None, now: Instant) -> None:
    assert put_right(kept, now) == kept


def test_a_clock_that_was_right_before_anyone_vouched_for_it_moves_nothing() -> None:
    kept = replace(moment(5), clock="unsynced", ts=moment(5).ts + 1.5)
    assert put_right(kept, moment(SET_S)) == replace(kept, clock="corrected")


def test_every_moment_of_a_health_is_put_right() -> None:
    own = {one.name: unset(number) for number, one in enumerate(fields(Health)) if "Instant" in str(one.type)}
    assert len(own) == 4
    found = put_right(Health(**own, loss=Loss(since=unset(50)), illness=Illness(since=unset(51))), moment(SET_S))  # type: ignore[arg-type]
    for name, kept in own.items():
        assert getattr(found, name) == replace(kept, ts=moment(kept.ts - 120).ts, clock="corrected")
    assert (found.loss.since, found.illness.since) == tuple(replace(moment(s), clock="corrected") for s in (50, 51))


# -- what is said


def test_the_verdict_is_said_by_a_new_record_and_keeps_its_incident() -> None:
    play = played(SET_S)
    before, told = play.pipeline.verdict, len(of_verdict(play))
    old = dict(of_verdict(play)[-1].fields)
    posted = said_by(play, {"at": SET_S, "clock": "set"})
    now, *more = of_verdict(play)[told:]
    assert not more and of_verdict(play)[told - 1].fields == old
    assert (now.taken.clock, now.fields["since"]) == ("synced", rfc3339(moment(10).ts))
    assert now.fields["incident"] == before["incident"] is not None
    assert "since 11:06:50 UTC" in str(now.fields["summary"])
    assert play.pipeline.verdict["seq"] == len(play.notebook.records) > before["seq"]
    assert [card for suffix, card, _ in posted if suffix == "verdict"] == [play.pipeline.verdict]


def test_states_are_said_under_their_own_numbers() -> None:
    play = played(SET_S)
    before = dict(play.pipeline.states)
    posted = {suffix: (card, seq) for suffix, card, seq in said_by(play, {"at": SET_S, "clock": "set"})}
    since = {"link": 0, "peer": 0, "gateway": 10, "dc-a-1": 10, "epr": 10}
    for name, second in since.items():
        card, after_seq = posted[f"state/{name}"]
        assert card == {**before[name], "since": rfc3339(moment(second).ts)} == play.pipeline.states[name]
        assert after_seq == before[name]["seq"]
    assert len(posted) == len(since) + 1


def test_after_that_nothing_is_said_again() -> None:
    play = played(SET_S)
    play.act({"at": SET_S, "clock": "set"})
    assert [said_by(play, {"at": SET_S + 1 + second}) for second in range(5)] == [[]] * 5


def test_a_verdict_without_an_onset_of_its_own_is_put_right_too() -> None:
    play = played(10)
    assert (play.pipeline.verdict["verdict"], play.pipeline.verdict["since"]) == ("healthy", rfc3339(unset(0).ts))
    play.act({"at": SET_S, "clock": "set"})
    assert (play.pipeline.verdict["verdict"], play.pipeline.verdict["since"]) == ("healthy", rfc3339(moment(0).ts))
    assert len(of_verdict(play)) == 3, "starting, healthy, and healthy since a right time"


def test_a_check_that_began_before_the_clock_was_set_and_ended_after_it() -> None:
    play = played(1)
    play.act({"at": SET_S, "clock": "set"})
    play.posted = []
    for second in (57, 58, 59):
        record = Record("tcp", unset(second), answer(play.checks["epr"], 5, "fail refused"))
        play.pipeline.take(play.checks["epr"], record, ())
    play.pipeline.judge(SiteFacts(moment(SET_S + 2)))
    (card,) = (card for suffix, card, _ in play.posted if suffix == "state/epr")
    assert (card["state"], card["since"]) == ("down", rfc3339(moment(57).ts))
    assert play.pipeline.verdict["since"] == rfc3339(moment(57).ts)


def test_a_verdict_that_is_held_is_said_as_soon_as_it_is_not() -> None:
    play = played(SET_S)
    back = dict.fromkeys(play.checks, "pass")
    play.act({"at": SET_S - 1, **back})
    held = play.pipeline.verdict
    posted = said_by(play, {"at": SET_S, "clock": "set"})
    assert play.pipeline.verdict == held and {suffix for suffix, _, _ in posted} == {f"state/{n}" for n in back}
    play.act({"at": SET_S + 1, "gateway": "fail timeout", "dc-a-1": "fail timeout", "epr": "fail timeout"})
    assert play.pipeline.verdict["verdict"] == held["verdict"] == "lan_gateway_down"
    assert play.pipeline.verdict["since"] == rfc3339(moment(10).ts)


def test_a_state_shows_when_it_began_also_where_the_check_behind_it_has_changed() -> None:
    """A check that goes down behind a fault stays `unreachable`; one that comes back is shown `down` until it is up."""
    play = played(SET_S)
    shown = play.pipeline.states["epr"]
    play.pipeline.healths["epr"] = replace(play.pipeline.healths["epr"], since=unset(30))
    play.act({"at": SET_S, "clock": "set"})
    assert play.pipeline.states["epr"] == {**shown, "since": rfc3339(moment(10).ts)}


@pytest.mark.parametrize("by_s", [3600.0, -3600.0, 1.0])
def test_where_the_clock_is_only_stepped_nothing_is_said_again(by_s: float) -> None:
    play = played(SET_S, moment)
    before = play.pipeline.verdict, dict(play.pipeline.states)
    play.moment = lambda second: replace(moment(second), ts=moment(second).ts + by_s)
    assert said_by(play, {"at": SET_S}) == []
    assert (play.pipeline.verdict, play.pipeline.states) == before


def test_where_the_clock_ran_right_before_it_was_vouched_for_nothing_is_said_again() -> None:
    play = played(SET_S, lambda second: replace(moment(second + 0.5), clock="unsynced"))
    assert said_by(play, {"at": SET_S, "clock": "set"}) == []

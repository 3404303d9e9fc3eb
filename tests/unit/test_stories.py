"""Every story of tests/stories: the verdict, its domain, causes and states, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rigs.stories import STORIES, Play

FILES = sorted(STORIES.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_story(path: Path) -> None:
    play = Play(path)
    said = 0
    for number, step in enumerate(play.story["steps"], 1):
        if "say" in step:
            said += 1
            assert play.seen(step) == step, f"{path.name}, step {number}, at {play.now.ts}: {play.pipeline.verdict}"
        else:
            play.act(step)
    assert said >= 2, "a story says what was before and what came of it"


def test_a_verdict_record_and_card_carry_one_number() -> None:
    play = Play(STORIES / "gateway_dies.yaml")
    for step in play.story["steps"]:
        if "say" not in step:
            play.act(step)
    for suffix, card, after in play.posted:
        if suffix == "verdict":
            record = play.notebook.records[after - 1]
            assert record.type == "verdict"
            assert card["seq"] == after
            assert record.fields["verdict"] == card["verdict"]
        if suffix.startswith("state/"):
            record = play.notebook.records[after - 1]
            assert (record.type, record.fields["new"]) == ("transition", card["state"])


def test_a_new_epoch_says_verdict_and_states_again_under_its_own_numbers() -> None:
    play = Play(STORIES / "one_service_stops.yaml")
    play.act({"at": 0, **dict.fromkeys(play.checks, "pass")})
    before = dict(play.pipeline.states)
    play.notebook.ep, play.notebook.records, play.posted = "story2", [], []
    play.act({"at": 5})
    assert play.pipeline.verdict["ep"] == "story2"
    assert play.pipeline.verdict["verdict"] == "healthy"
    assert {suffix for suffix, _, _ in play.posted} == {"verdict"} | {f"state/{name}" for name in before}
    for name, card in play.pipeline.states.items():
        assert (card["ep"], card["seq"]) == ("story2", 1)
        assert card["since"] == before[name]["since"]


def test_a_check_not_asked_yet_has_a_card_too() -> None:
    play = Play(STORIES / "one_service_stops.yaml")
    play.act({"at": 0, "gateway": "pass"})
    cards = play.pipeline.all_states()
    assert {name: card["state"] for name, card in cards.items()} == dict.fromkeys(play.checks, "unknown") | {
        "gateway": "up"
    }
    assert cards["epr"]["ep"] == "story1"


def test_incident_names_the_record_that_opened_it_and_comes_back_within_ten_minutes() -> None:
    play = Play(STORIES / "one_service_stops.yaml")

    def fails(at: int) -> str:
        for second in range(3):
            play.act({"at": at + second, "epr": "fail refused"})
        return str(play.pipeline.verdict["incident"])

    def heals(at: int) -> None:
        for second in range(3):
            play.act({"at": at + second, "epr": "pass"})
        assert play.pipeline.verdict["verdict"] == "healthy"
        assert play.pipeline.verdict["incident"] is None

    play.act({"at": 0, **dict.fromkeys(play.checks, "pass")})
    first = fails(10)
    opened = int(first.rpartition("-")[2])
    assert play.notebook.records[opened - 1].fields["verdict"] == "remote_service_down"
    heals(60)
    assert fails(300) == first, "the same fault within ten minutes"
    heals(400)
    assert fails(1100) != first, "the same fault much later"

"""A large config on a real wire, held against `siteprobe manifest`; `make soak` hears it for minutes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rigs.large_site import (
    LINES,
    Heard,
    judge_budgets,
    judge_counts,
    judge_form,
    judge_places,
    listened,
    within,
)

SECONDS = 15


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    yield listened(tmp_path_factory.mktemp("large"), SECONDS)


def test_the_config_is_large_and_the_wire_was_heard(heard: Heard) -> None:
    assert sum(map(len, LINES.values())) >= 60
    assert len(heard.states) == sum(map(len, LINES.values()))
    assert len(heard.requests()) > 100
    delivery = heard.states["mqtt-1"]
    assert delivery["state"] == "up", delivery


def test_every_place_asked_is_in_the_manifest_and_every_one_in_it_was_asked(heard: Heard) -> None:
    judge_places(heard)


def test_only_well_formed_packets_leave(heard: Heard) -> None:
    judge_form(heard)


def test_no_stretch_of_time_holds_more_than_the_budgets(heard: Heard) -> None:
    judge_budgets(heard)


def test_the_day_of_the_manifest_is_the_pace_on_the_wire(heard: Heard) -> None:
    judge_counts(heard)


def test_names_that_lead_astray_are_refused_and_shown_so(heard: Heard) -> None:
    for name in ("icmp-33", "tcp-12", "http-6", "dns-3"):
        card = heard.states[name]
        assert (card["state"], card["reason"].partition(":")[0]) == ("unknown", "local_policy"), card


def test_the_judge_of_budgets_finds_one_packet_too_many() -> None:
    even = [number * 0.5 for number in range(40)]
    within(even, 2, 1)
    with pytest.raises(AssertionError):
        within([*even, *[20.0] * 4], 2, 1)

"""Ways: how they are written, when two are the same, when a change is told, and what a loop looks like."""

from __future__ import annotations

import pytest

from agent.net.ways import REMEMBERED, UNREST, Known, Way, loop_in, way_of

A, B, C, D, X = "10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.3.1", "10.9.9.9"


def way(*hops: str, reached: bool = True) -> Way:
    return Way(tuple(hops), reached)


def told(*ways: Way) -> list[bool]:
    known, found = Known(), []
    for one in ways:
        known, change = known.after(one)
        found.append(change)
    return found


def names(*ways: Way) -> list[str]:
    known, found = Known(), []
    for one in ways:
        known, _ = known.after(one)
        found.append(known.id)
    return found


@pytest.mark.parametrize(
    ("responders", "reached", "text"),
    [
        ({1: A, 2: B, 3: C}, 3, f"{A},{B},{C}"),
        ({1: A, 3: C}, 3, f"{A},*,{C}"),
        ({1: A, 3: C}, None, f"{A},*,{C}"),
        ({1: A, 2: A}, None, A),  # who says "no way" for the next hop too stands once
        ({1: A, 2: A}, 2, f"{A},{A}"),
        ({1: A, 2: B, 3: C, 4: C}, 3, f"{A},{B},{C}"),  # what came after the target is no hop
        ({}, None, ""),
    ],
)
def test_how_a_way_is_written(responders: dict[int, str], reached: int | None, text: str) -> None:
    found = way_of(responders, reached)
    assert (found.text, found.reached) == (text, reached is not None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (way(A, B, C), way(A, B, C), True),
        (way(A, B, C), way(A, "", C), True),
        (way("", B, C), way(A, "", C), True),
        (way(A, B, C), way(A, X, C), False),
        (way(A, B, C), way(A, B, X, C), False),
        (way(A, B, C), way(A, "", "", C), False),
        (way(A, B, C), way(A, B, reached=False), True),
        (way(A, B, C), way(A, X, reached=False), False),
        (way(A, B, C), way(A, B, C, D, reached=False), False),
        (way(A, reached=False), way(A, B, C), True),
    ],
)
def test_ways_are_the_same_where_nothing_contradicts(one: Way, other: Way, same: bool) -> None:
    assert one.fits(other) is same
    assert other.fits(one) is same


def test_the_name_is_of_the_hops_that_answered_and_stays_while_ways_fit() -> None:
    assert way(A, B, C).id == Way((A, B, C), False).id
    assert way(A, B, C).id != way(A, X, C).id != way(B, A, C).id
    assert len(set(names(way(A, "", C), way(A, B, C), way("", B, C), way(A, B, reached=False)))) == 1
    first, second, third = names(way(A, B, C), way(A, X, C), way(A, B, C))
    assert first == third != second


def test_a_change_is_told_once_and_so_is_the_way_back() -> None:
    main, backup = way(A, B, D), way(A, X, D)
    assert told(main, main, backup, backup, backup, main, main) == [False, False, True, False, False, True, False]


def test_what_is_known_of_a_silent_hop_is_not_forgotten() -> None:
    assert told(way(A, B, C), way(A, "", C), way(A, X, C)) == [False, False, True]


def test_what_changes_at_every_run_is_told_no_further_until_it_rests() -> None:
    one, other = way(A, B, D), way(A, X, D)
    found = told(*[one, other] * 10)
    assert sum(found) == UNREST - 1
    rested = told(*[one, other] * 10, *[other] * REMEMBERED, one)
    assert rested[-1] is True


def test_a_loop_is_what_answers_three_times() -> None:
    assert loop_in({1: A, 2: B, 3: C, 4: B, 5: C}) == ()
    assert loop_in({1: A, 2: B, 3: C, 4: B, 5: C, 6: B}) == (B, C)
    assert loop_in({1: A, 2: B, 4: B, 6: B}) == (B,)
    assert loop_in({}) == ()

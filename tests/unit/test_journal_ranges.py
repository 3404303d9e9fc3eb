"""Sets of ranges behave as sets of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.journal.ranges import Ranges

NUMBER = st.integers(1, 60)
SPANS = st.lists(st.tuples(NUMBER, NUMBER), max_size=12)


def numbers(ranges: Ranges) -> set[int]:
    for (_, end), (start, _) in zip(ranges.spans, ranges.spans[1:], strict=False):
        assert start > end + 1
    return {n for first, last in ranges.spans for n in range(first, last + 1)}


def plain(spans: list[tuple[int, int]]) -> set[int]:
    return {n for first, last in spans for n in range(first, last + 1)}


@given(SPANS, NUMBER, NUMBER)
def test_a_change_changes_the_same_numbers_as_in_a_set(spans: list[tuple[int, int]], a: int, b: int) -> None:
    ranges, model, span = Ranges.of(spans), plain(spans), plain([(a, b)])
    assert numbers(ranges) == model
    assert numbers(ranges.add(a, b)) == model | span
    assert numbers(ranges.remove(a, b)) == model - span
    assert numbers(ranges.within(a, b)) == model & span
    assert numbers(ranges.missing(a, b)) == span - model


@given(SPANS, SPANS, NUMBER)
def test_questions_are_answered_as_by_a_set(a: list[tuple[int, int]], b: list[tuple[int, int]], n: int) -> None:
    ranges = Ranges.of(a)
    assert numbers(ranges.union(Ranges.of(b))) == plain(a) | plain(b)
    assert (n in ranges) == (n in plain(a))
    assert len(ranges) == len(plain(a))
    assert numbers(ranges.head(n)) == set(sorted(plain(a))[:n])
    assert Ranges.parse(ranges.text()) == ranges


@given(SPANS, st.integers(1, 5))
def test_joining_closes_gaps_and_drops_nothing(spans: list[tuple[int, int]], most: int) -> None:
    ranges = Ranges.of(spans)
    joined = ranges.joined(most)
    assert len(joined.spans) <= most
    assert numbers(joined) >= numbers(ranges)


def test_joining_closes_the_smallest_gap() -> None:
    assert Ranges.of([(1, 2), (10, 11), (13, 14)]).joined(2).spans == ((1, 2), (10, 14))


def test_text_is_short_and_readable() -> None:
    assert Ranges.of([(7, 7), (1, 5)]).text() == "1-5,7"


@pytest.mark.parametrize("text", ["x", "1-", "1-2-3", "1;2"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Ranges.parse(text)

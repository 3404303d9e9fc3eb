"""A part of the lab (tests/lab): every fourth condition, and each day the next fourth; `make lab` plays all of them.

The day of the year (UTC) modulo 4 says which condition is the first; SITEPROBE_LAB_PART=0…3 chooses another part.
They are played side by side, each on a site of its own.

The lab's goal is that 95 % of all conditions come out right, in each run of the whole. A single condition may
therefore go wrong now and then on a busy machine, and is played once more before its test fails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.lab.__main__ import SIDE_BY_SIDE, line
from tests.lab.conditions import CONDITIONS, Condition
from tests.lab.play import Result, play
from tests.rigs import need

PARTS = 4
CHOSEN_BY = "SITEPROBE_LAB_PART"
TOOLS = ("ip", "nft", "tc", "mosquitto", "mosquitto_sub", "dnsmasq")
TIMES = 2


def part(environment: Mapping[str, str], day: datetime) -> int:
    """Say which part it is: as asked for, or that of the day."""
    asked = environment.get(CHOSEN_BY, "")
    if not asked:
        return day.timetuple().tm_yday % PARTS
    if asked not in map(str, range(PARTS)):
        raise pytest.UsageError(f"{CHOSEN_BY} is {asked!r}; it must be 0 to {PARTS - 1}, or left out")
    return int(asked)


SELECTED = {c.name: c for c in CONDITIONS[part(os.environ, datetime.now(UTC)) :: PARTS]}


def play_until_right(condition: Condition, folder: Path) -> list[Result]:
    """Play a condition, once more if it was not right; gives what came of each time."""
    results: list[Result] = []
    while len(results) < TIMES and all(result.wrong for result in results):
        place = folder / str(len(results))
        place.mkdir()
        try:
            results.append(play(condition, place))
        except AssertionError as error:  # the site did not come up
            results.append(Result(condition.name, condition.verdict, wrong=str(error)[:2000]))
    return results


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[list[Result]]]]:
    """Begin every condition that was selected, the longest first; a test waits for its own."""
    need.root()
    for tool in TOOLS:
        need.tool(tool)
    items = [i for i in request.session.items if isinstance(i, pytest.Function) and i.module is request.module]
    names = [str(item.callspec.params["name"]) for item in items if item.originalname == "test_condition"]
    names.sort(key=lambda name: -SELECTED[name].within_s)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield {n: pool.submit(play_until_right, SELECTED[n], tmp_path_factory.mktemp("lab")) for n in names}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(900)  # the first waits for its turn among all, and each may be played twice
@pytest.mark.parametrize("name", SELECTED)
def test_condition(name: str, played: dict[str, Future[list[Result]]]) -> None:
    results = played[name].result()
    assert not results[-1].wrong, "\n".join(map(line, results))


def test_every_condition_has_its_day() -> None:
    days = [datetime(2026, 12, number, tzinfo=UTC) for number in range(1, 1 + PARTS)]
    assert sorted(part({}, day) for day in days) == list(range(PARTS))
    assert part({CHOSEN_BY: "2"}, days[0]) == 2
    with pytest.raises(pytest.UsageError, match="0 to 3"):
        part({CHOSEN_BY: "all"}, days[0])

"""Cases that mostly wait, each in a network of its own, played at the same time; a test waits for its own.

CASES = {"a silent hop": a_silent_hop, ...}     # each takes a `Net`
played = side_by_side(CASES)

@pytest.mark.parametrize("name", CASES)
def test_case(name, played):
    played[name].result()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.rigs import need
from tests.rigs.netns import Net

AT_A_TIME = 6
"""They mostly wait; on two busy cores more would starve each other."""
Case = Callable[[Net], None]


def side_by_side(cases: Mapping[str, Case]) -> Any:
    """Make the module's fixture that begins every case that was selected (parameter `name`)."""

    @pytest.fixture(scope="module")
    def played(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
        need.root()
        for tool in ("ip", "nft"):
            need.tool(tool)
        items = [i for i in request.session.items if isinstance(i, pytest.Function) and i.module is request.module]
        names = [str(i.callspec.params["name"]) for i in items if "name" in getattr(i, "callspec", _NONE).params]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            yield {name: pool.submit(_play, cases[name]) for name in names}
            pool.shutdown(cancel_futures=True)

    return played


class _NONE:
    params: Mapping[str, object] = {}


def _play(case: Case) -> None:
    with Net() as net:
        case(net)

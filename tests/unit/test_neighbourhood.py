"""When the switch at our own port is looked for, what is told, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import pytest

from agent import neighbourhood
from agent.check import CheckOptions
from agent.checks import Toolbox
from agent.checks.link import Link
from agent.checks.tcp import Tcp
from agent.clock import Clock
from agent.messages import EVENT_KINDS
from agent.model import Failed, Failure, Record
from agent.neighbourhood import watch
from agent.packets import Neighbour
from agent.wording import OWN_RECORDS
from tests.rigs import virtual_time
from tests.unit.test_check_link import ETH0

SW1 = Neighbour("lldp", "sw1", "Gi1/0/1", 20, "02:00:00:00:00:01")
SW2 = Neighbour("cdp", "sw2", "Fa0/1", None, "sw2")
HOUR_S = 3600.0
Answer = tuple[Neighbour, ...] | Failed


def watched(
    monkeypatch: pytest.MonkeyPatch, answers: list[Answer], seconds: float, checks: Iterable[CheckOptions]
) -> tuple[list[Record], list[tuple[float, str]]]:
    """Watch for so long; gives what was told, and at which second it looked for which known neighbour."""
    told: list[Record] = []
    looked: list[tuple[float, str]] = []
    wanted: list[str] = []

    async def heard(child: object, interface: str, deadline: float, *, seconds: float, known: str) -> Any:
        now = asyncio.get_running_loop().time()
        assert deadline > now + seconds
        looked.append((round(now - began, 1), known))
        answer = answers.pop(0)
        await asyncio.sleep(seconds)
        if isinstance(answer, Failed):
            raise answer
        return answer

    def port(name: str) -> Any:
        wanted.append(name)
        return ETH0

    monkeypatch.setattr(neighbourhood, "neighbours", heard)
    monkeypatch.setattr(neighbourhood, "own_port", port)
    began = 0.0

    async def scene() -> None:
        nonlocal began
        began = asyncio.get_running_loop().time()
        task = asyncio.create_task(watch(Toolbox(), told.append, Clock("trusted").now, lambda: checks))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time.run(scene())
    assert set(wanted) <= {"eth1"}
    return told, looked


LINK = Link(name="link", interface="eth1")


def test_it_looks_at_the_start_and_each_hour_and_tells_only_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Answer] = [(SW1,), (SW1, SW2), (), (SW2,), (SW2,)]
    told, looked = watched(monkeypatch, answers, 4.5 * HOUR_S, [LINK])
    assert [at for at, _ in looked] == [10.0 + 3665.0 * n for n in range(5)]
    assert [known for _, known in looked] == ["", SW1.key, SW1.key, SW1.key, SW2.key]
    assert [r.fields["switch"] for r in told] == ["sw1", "sw2"], "an hour of silence is no change"
    assert told[0].fields["detail"] == "eth0 is connected to port Gi1/0/1 of sw1"
    assert told[1].fields["detail"] == "eth0 is connected to port Fa0/1 of sw2, before it was port Gi1/0/1 of sw1"
    assert (told[0].fields["switch_vlan"], "switch_vlan" in told[1].fields) == (20, False)


def test_what_is_told_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    told, _ = watched(monkeypatch, [(SW1,)], 100.0, [LINK])
    assert told[0].type == "event" and told[0].fields["kind"] in EVENT_KINDS
    assert set(told[0].fields) <= set(OWN_RECORDS["event"][1])


def test_where_no_link_is_checked_nothing_is_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, [], 3 * HOUR_S, [Tcp(name="a", target="10.1.0.1", port=80)]) == ([], [])


def test_a_try_that_cannot_listen_is_said_once_and_repeated_in_five_minutes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Answer] = [Failed(Failure.LOCAL_PERMISSION, "needs CAP_NET_RAW") for _ in range(3)]
    with caplog.at_level(logging.INFO):
        told, looked = watched(monkeypatch, [*answers, (SW1,)], 1500.0, [LINK])
    assert [at for at, _ in looked] == [10.0, 375.0, 740.0, 1105.0]
    assert caplog.text.count("needs CAP_NET_RAW") == 1 and len(told) == 1

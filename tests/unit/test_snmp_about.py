"""What devices say of themselves stands in `about`, published again when it is new."""

from __future__ import annotations

from typing import Any

from agent import cards
from agent.checks.snmp import SnmpCheck
from agent.messages import compact
from agent.model import Record
from agent.pipeline import Pipeline
from agent.replaying import Notebook
from tests.rigs.stories import config_of, moment


def check(name: str) -> SnmpCheck:
    return SnmpCheck(name=name, target="10.20.0.2", user="u", interval_s=30.0, layer="device")


def record(name: str, **fields: Any) -> Record:
    return Record("snmp", moment(0), {"check": name, "outcome": "pass", **fields})


def test_new_facts_are_published_once_and_added_to() -> None:
    posted: list[tuple[str, Any, int]] = []
    switch = check("switch")
    pipeline = Pipeline(config_of((switch,)), Notebook(), lambda *card: posted.append(card), moment(-1))

    def devices(**fields: Any) -> list[Any]:
        posted.clear()
        pipeline.take(switch, record("switch", **fields), ())
        return [card["devices"] for suffix, card, _ in posted if suffix == "about" and card]

    assert devices(health="ok") == []
    assert devices(model="C9300", serial="FOC1") == [[{"check": "switch", "model": "C9300", "serial": "FOC1"}]]
    assert devices(model="C9300") == []
    assert devices(firmware="17.9") == [[{"check": "switch", "model": "C9300", "serial": "FOC1", "firmware": "17.9"}]]


def test_many_devices_leave_room_for_the_checks() -> None:
    checks = tuple(check(f"switch-{i}") for i in range(400))
    facts = {one.name: {"model": "M" * 100, "serial": "S" * 30} for one in checks} | {"gone": {"model": "x"}}
    card = cards.about(config_of(checks), facts)
    assert len(compact(card).encode()) <= cards.ABOUT_LIMIT_BYTES
    assert 50 < len(card["devices"]) < 400 and len(card["checks"]) > 50
    assert "gone" not in {device["check"] for device in card["devices"]}

"""What is not known of a device is not called well, and a limit that does nothing is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import click
import pytest
from pysnmp.proto.api import v2c

from agent.checks.snmp import SnmpCheck
from agent.cli.check import _headline
from agent.clock import Clock
from agent.health import Health, limits_of, step
from agent.model import Record
from agent.once import Answer
from agent.pipeline import Pipeline
from agent.replaying import Notebook
from agent.runner import Run
from agent.snmp import oids
from agent.snmp.conclude import with_limits
from agent.snmp.profile import Symbol
from agent.verdict import Path, SiteFacts, locate
from tests.rigs.snmp_agent import agent as scripted_agent
from tests.rigs.snmp_agent import asked, from_table
from tests.rigs.stories import config_of, moment
from tests.unit.test_check_snmp import Bench, Known, device

UPS = "1.3.6.1.2.1.33.1"


def check(**options: Any) -> SnmpCheck:
    return SnmpCheck(name="sw", target="10.20.0.2", community=Known(), **options)


def test_a_device_whose_objects_are_not_answered_is_not_called_well() -> None:
    ups = device() | {oids.SYS_OBJECT_ID: v2c.ObjectIdentifier(f"{UPS}.9"), f"{UPS}.4.1.0": v2c.Integer32(3)}

    def script(request: bytes) -> list[bytes]:
        return [] if any(oid.startswith(UPS) for oid in asked(request)[2]) else from_table(ups)(request)

    async def play() -> Any:
        bench = Bench()
        try:
            async with scripted_agent(script) as peer:
                return await bench.run(peer.port, within=1.5)
        finally:
            await bench.tools.aclose()

    fields = asyncio.run(play()).fields
    assert (fields["health"], fields["unread"]) == ("warning", "single objects")
    assert "could not be read" in fields["reason"]


def test_a_device_of_which_nothing_is_judged_is_said_to_be_one() -> None:
    unknown = device() | {oids.SYS_OBJECT_ID: v2c.ObjectIdentifier("1.3.6.1.4.1.99999.1")}

    async def play() -> list[str]:
        bench = Bench()
        try:
            async with scripted_agent(from_table(unknown)) as peer:
                await bench.run(peer.port)
        finally:
            await bench.tools.aclose()
        return bench.said

    assert [line for line in asyncio.run(play()) if "nothing of it was judged" in line]


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("room_temprature_celsius", 'no number of any profile; did you mean "room_temperature_celsius"?'),
        ("ups_output_source", "no number of any profile"),
        ("room_temperature_celsius", ""),
        ("access_points_down", ""),
        ("fcs_error_ratio", ""),
    ],
)
def test_a_limit_for_a_field_that_no_profile_has_is_a_mistake(field: str, told: str) -> None:
    found = check(thresholds=((field, (24.0,)),)).problems()
    assert [option for option, _ in found] == ["thresholds"] * bool(told)
    assert not told or told in found[0][1]
    assert check(thresholds=((field, (24.0,)),), profiles=("/not/here",)).problems() == []


@pytest.mark.parametrize(
    ("name", "below"), [("battery_charge_ratio", True), ("memory_free_bytes", True), ("cpu_ratio", False)]
)
def test_one_limit_alone_is_on_the_side_that_the_name_says(name: str, below: bool) -> None:
    limits = with_limits(Symbol(oid="1.3.6.1.4.1.9", name=name), {name: (0.5,)}).thresholds
    assert limits is not None and limits.below is below


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"health": "ok", "reason": ""}, "✔ sw  snmp 10.20.0.2: pass"),
        ({"health": "critical", "reason": "fan 2 does not work"}, "▲ sw  snmp 10.20.0.2: pass, health critical: fan 2"),
    ],
)
def test_the_headline_of_check_says_how_the_device_is(fields: dict[str, Any], line: str) -> None:
    record = Record("snmp", Clock("trusted").now(), {"outcome": "pass", **fields})
    said = click.unstyle(_headline(Answer(check(), (Run(record),), Health())))
    assert said.startswith(line)


def test_a_mere_notice_is_something_to_do_and_a_fault_is_the_verdict() -> None:
    switch = replace(check(), interval_s=30.0, layer="device")

    def verdict(**fields: Any) -> Any:
        record = Record("snmp", moment(0), {"check": "sw", "outcome": "pass", **fields})
        healths = {"sw": step(Health(), record, limits_of(switch))}
        return locate(Path((switch,)), healths, SiteFacts(moment(0)))

    well, notice = verdict(health="ok", reason=""), verdict(health="warning", reason="toner low")
    ill = verdict(health="critical", reason="fan 2 does not work", findings="device_fault")
    assert (well.verdict, well.next) == ("healthy", "Nothing to do.")
    assert (notice.verdict, notice.next) == ("healthy", "Look at sw: not well by their own account.")
    assert (ill.verdict, ill.domain, ill.cause, ill.confidence) == ("device_fault", "device", ("sw",), 1.0)
    assert ill.summary.startswith("A device is not well (sw: fan 2 does not work), since ")
    assert ill.since == moment(0) and ill.evidence == ("sw: fan 2 does not work",)


def test_the_evidence_says_when_a_device_is_getting_well() -> None:
    switch = replace(check(), interval_s=30.0, layer="device")
    health = Health()
    said = []
    for second, fields in enumerate([{"health": "critical", "findings": "device_fault"}, *[{"health": "ok"}] * 2]):
        record = Record("snmp", moment(second), {"check": "sw", "outcome": "pass", "reason": "no fan", **fields})
        health = step(health, record, limits_of(switch))
        said.append(locate(Path((switch,)), {"sw": health}, SiteFacts(moment(second))).evidence)
    well = ("sw: no fan, but well in the last poll", "sw: no fan, but well in the last 2 polls")
    assert said == [("sw: no fan",), (well[0],), (well[1],)]


def test_the_retained_verdict_follows_such_a_device() -> None:
    posted: list[Any] = []
    switch = replace(check(), interval_s=30.0, layer="device")
    pipeline = Pipeline(config_of((switch,)), Notebook(), lambda *card: posted.append(card), moment(-1))

    def told(second: int, **fields: Any) -> list[str]:
        posted.clear()
        pipeline.take(switch, Record("snmp", moment(second), {"check": "sw", "outcome": "pass", **fields}), ())
        pipeline.judge(SiteFacts(moment(second)))
        return [str(card["next"]) for suffix, card, _ in posted if suffix == "verdict"]

    ill = "Look at sw: not well by their own account."
    assert told(1, health="ok", reason="")[-1:] == ["Nothing to do."]
    assert told(2, health="warning", reason="toner 9 % left") == [ill]
    assert told(3, health="warning", reason="toner 8 % left") == []
    assert told(4, health="ok", reason="") == ["Nothing to do."]

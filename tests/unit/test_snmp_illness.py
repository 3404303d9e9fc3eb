"""`device_fault`: which findings earn it, how it is counted, and that `snmp try`, `check` and the verdict agree."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pysnmp.proto.api import v2c

from agent.checks.snmp import SnmpCheck
from agent.cli.check import EXIT_CODES, _look
from agent.cli.snmp import _ask, _exit_code
from agent.health import Health, Limits, step
from agent.illness import DEVICE_FAULT, WELL, Illness, after
from agent.model import Record, State
from agent.once import ask_all, verdict_of
from agent.snmp import oids, profile
from agent.snmp.conclude import Row, few
from agent.snmp.meaning import Finding, word_for
from agent.snmp.profile_files import load
from agent.verdict import table
from agent.verdict.device_words import FINDINGS
from tests.rigs.snmp_agent import agent as scripted_agent
from tests.rigs.snmp_agent import from_tree
from tests.rigs.stories import config_of, moment
from tests.unit.test_check_snmp import Known, device

FAN, SUPPLY = "1.3.6.1.4.1.9.9.13.1.4.1", "1.3.6.1.4.1.9.9.13.1.5.1"
CPU = "1.3.6.1.4.1.9.9.109.1.1.1.1.8"
FAULT = {"health": "warning", "findings": "device_fault", "reason": "power supply 2 does not work"}
FINE = {"health": "ok", "reason": ""}


def told(*polls: dict[str, Any], fail_after: int = 3, recover_after: int = 3) -> Illness:
    illness = WELL
    for second, fields in enumerate(polls):
        illness = after(illness, fields, moment(second), fail_after, recover_after)
    return illness


def test_the_words_of_the_profiles_are_those_of_the_verdict() -> None:
    assert set(profile.FINDINGS) == set(FINDINGS) <= set(table.ROWS)
    assert profile.DEVICE_FAULT == DEVICE_FAULT


def test_a_word_of_its_own_comes_first_and_what_is_mild_after_it() -> None:
    place = FINDINGS.index(DEVICE_FAULT)
    assert set(FINDINGS[place + 1 :]) == {"device_rebooted", "printer_fault"}


@pytest.mark.parametrize(
    ("health", "finding", "word"),
    [
        ("critical", "", "device_fault"),
        ("critical", "switch_port_down", "switch_port_down"),
        ("warning", "device_fault", "device_fault"),
        ("warning", "", ""),
    ],
)
def test_what_is_critical_is_a_fault_and_a_warning_only_where_it_is_called_one(
    health: str, finding: str, word: str
) -> None:
    assert word_for(health, finding) == word


def test_notices_of_the_own_profiles_stay_notices() -> None:
    """A toner that is low, a busy processor, a sensor that does not answer: nobody has to come tonight."""
    notices = {
        f"{name}.{symbol.name}.{word}"
        for name, found in load().by_name.items()
        for symbol in found.symbols()
        for word, meaning in symbol.states
        if not word_for(meaning.health, meaning.finding)
    }
    assert {"printer.printer_errors.low_toner", "cisco.temperature_state.not_functioning"} <= notices
    assert not [name for name in notices if "fan" in name or "supply_state" in name or "access_point" in name]


def test_a_warning_is_counted_and_what_is_critical_believed_at_once() -> None:
    assert [told(*[FAULT] * times).stands for times in (1, 2, 3)] == [False, False, True]
    assert told(FAULT, FAULT, FINE, FAULT, FAULT).stands is False, "in a row"
    assert told(FAULT | {"health": "critical"}).stands
    assert told(FAULT, FAULT, FAULT).since == moment(0)
    assert told(FAULT, fail_after=1).stands


def test_the_end_is_counted_too_and_keeps_the_reason() -> None:
    ill = told(FAULT, FAULT, FAULT, FINE, FINE)
    assert (ill.stands, ill.reason, ill.since) == (True, "power supply 2 does not work", moment(0))
    assert told(FAULT, FAULT, FAULT, FINE, FINE, FAULT, FINE, FINE).stands
    assert not told(FAULT, FAULT, FAULT, FINE, FINE, FINE).stands


def test_a_poll_that_asks_only_whether_it_lives_says_nothing() -> None:
    assert told(FAULT, FAULT, {"uptime_s": 5.0}, FAULT).stands
    assert told(FAULT, {}).words == ["device_fault"]


def test_a_device_that_went_down_is_judged_anew() -> None:
    health = Health()
    silent = {"outcome": "fail", "failure": "timeout"}
    for second, fields in enumerate([{"outcome": "pass", **FAULT}] * 3 + [silent] * 3):
        assert not (second == 3 and health.illness == WELL)
        health = step(health, Record("snmp", moment(second), fields), Limits())
    assert (health.state, health.illness) == (State.DOWN, WELL)


def test_a_word_of_its_own_is_not_lost_among_many_faults_of_a_column() -> None:
    rows = [Row(str(i), "bad", (Finding("critical", f"part {i}", "device_fault"),)) for i in range(9)]
    hot = Row("9", "hot", (Finding("critical", "too hot", "temperature_high"),))
    assert [finding.finding for finding in few([*rows, hot])] == ["temperature_high", "device_fault", "device_fault"]


@pytest.mark.parametrize(
    ("objects", "verdict", "summary", "code"),
    [
        ({f"{FAN}.3.1": 1, f"{SUPPLY}.3.1": 1}, "healthy", "Everything", 0),
        ({f"{FAN}.3.1": 6}, "device_fault", "A device is not well (sw: fan part 1 does not work)", 1),
        ({f"{SUPPLY}.3.1": 6}, "device_fault", "A device is not well (sw: power supply part 1 does not work)", 1),
        ({f"{CPU}.1": 95}, "healthy", "Everything", 1),
    ],
    ids=["well", "critical", "warning that is a fault", "notice"],
)
def test_by_hand_and_in_the_verdict_the_same_is_said(
    objects: dict[str, int], verdict: str, summary: str, code: int
) -> None:
    values = {oid: v2c.Integer32(value) for oid, value in objects.items()}
    names = {f"{column}.2.1": v2c.OctetString("part 1") for column in (FAN, SUPPLY)}
    switch = from_tree(device() | {oids.SYS_OBJECT_ID: v2c.ObjectIdentifier("1.3.6.1.4.1.9.1.1208")} | names | values)

    async def go() -> None:
        async with scripted_agent(switch) as peer:
            made = SnmpCheck(name="sw", target="127.0.0.1", port=peer.port, community=Known())
            check = replace(made, timeout_s=5.0, interval_s=30.0, layer="device")
            run, lines = await _ask(check, 1, lambda line: None)
            answers = await ask_all(config_of((check,)), (check,), lambda answer: None)
        found = verdict_of(config_of((check,)), answers)
        assert found.verdict == verdict and found.summary.startswith(summary)
        tried = str(run.record.fields.get("findings") or "healthy")
        assert tried == verdict
        assert (f"the verdict's words for it: {verdict}" in lines) is (verdict != "healthy")
        assert _exit_code(dict(run.record.fields)) == EXIT_CODES[_look(answers[0])] == code

    asyncio.run(go())

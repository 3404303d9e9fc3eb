"""Every verdict: a row in the table, a story, a condition in the lab; and their page in docs/."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
import yaml

from agent.describe import files
from agent.describe.verdicts import MOST_EVIDENCE, brief, cell, filled, italic, verdict_page
from agent.verdict import HEALTHY, ROWS
from agent.verdict.limits import LIMITS
from tests.lab.conditions import CENTRE, CONDITIONS, PROBE, Condition
from tests.lab.play import Result
from tests.rigs.stories import STORIES

SECTION_4 = """
healthy starting undetermined suppressed
local_interface_admin_down local_link_down local_address_missing address_conflict gateway_address_conflict lan_isolated
lan_gateway_down default_route_missing lan_degraded
wan_uplink_down wan_uplink_unresponsive wan_route_missing carrier_path_down wan_degraded wan_capacity_low
path_mtu_black_hole internet_unreachable datacentre_unreachable
remote_policy_reject isolated_by_policy remote_host_down remote_filtered_or_down remote_service_down
remote_port_filtered tls_certificate_invalid remote_service_unresponsive remote_service_error remote_service_slow
dns_resolver_down dns_resolver_unreachable dns_resolution_failure dns_name_missing dns_wrong_answer rogue_dhcp_server
dhcp_no_offer time_offset captive_portal
switch_port_down switch_port_err_disabled device_rebooted snmp_agent_unresponsive device_down port_errors_high
duplex_mismatch stp_instability poe_fault ups_on_battery ups_battery_low
temperature_high printer_fault collector_unreachable probe_degraded
"""
"""The verdicts of the contract, without those it calls (later): `directory_service_fault`, `wan_failover_active`."""
ADDED = ["device_fault"]
"""Ours beside those of the contract, which lets words be added: what is broken in a device and has none there."""
CONTRACT = [*SECTION_4.split(), *ADDED]

NOT_IN_THE_LAB = {
    "starting": "no fault: each condition passes through it before its first `healthy`, and two begin in it",
    "undetermined": "what fits no row cannot be injected on purpose: an injection that led to it would get a row",
    "suppressed": "an order, not a fault: tests/real/test_commands.py gives it to a running agent over MQTT",
}
"""Why a verdict has no condition in the lab."""


@cache
def in_stories() -> set[str]:
    steps = [step for path in STORIES.glob("*.yaml") for step in yaml.safe_load(path.read_text())["steps"]]
    return {step["say"] for step in steps if "say" in step}


def in_the_lab() -> set[str]:
    return {condition.verdict for condition in CONDITIONS}


def test_the_table_has_the_verdicts_of_the_contract_and_no_other() -> None:
    assert set(ROWS) == set(CONTRACT)
    assert len(CONTRACT) == len(set(CONTRACT))


@pytest.mark.parametrize("verdict", CONTRACT)
def test_a_verdict_has_a_story_and_a_condition_in_the_lab(verdict: str) -> None:
    assert verdict in in_stories(), "write a story of it: tests/stories"
    assert (verdict in in_the_lab()) != (verdict in NOT_IN_THE_LAB), "a condition in tests/lab, or a reason, not both"


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_a_condition_names_verdicts_that_exist(condition: Condition) -> None:
    assert {condition.verdict, *condition.allowed} <= set(ROWS)
    assert condition.also in ("", *ROWS)
    assert condition.seen_by in (CENTRE, PROBE)


def test_the_lab_is_large_enough_and_its_names_are_unique() -> None:
    names = [condition.name for condition in CONDITIONS]
    assert len(names) == len(set(names)) >= 50
    assert len([c for c in CONDITIONS if c.is_look_alike]) >= 6, "healthy look-alikes"


def test_the_page_is_one_of_the_generated_files() -> None:
    made = {path.name: text for path, text in files().items()}
    assert all(f"| `{verdict}` |" in made["verdicts.md"] for verdict in CONTRACT)


@pytest.mark.parametrize("verdict", CONTRACT)
def test_the_gaps_of_a_sentence_are_filled(verdict: str) -> None:
    for sentence in (ROWS[verdict].summary, ROWS[verdict].next):
        text = filled(verdict, sentence)
        assert not set("{}") & set(text)
        words = [word for word, gap, _, _ in Formatter().parse(sentence) if word and gap is None]
        assert all(cell(word) in text for word in words), "its own words stand"
        assert text.count("*") == 2 * sum(gap is not None for _, gap, _, _ in Formatter().parse(sentence))


def test_italics_leave_a_leading_comma_outside() -> None:
    assert italic(", while dc-b answers") == ", *while dc-b answers*"
    assert italic("eth0") == "*eth0*"


def test_a_limit_names_verdicts_that_exist() -> None:
    assert {name for limit in LIMITS for name in limit.said} <= set(ROWS)
    assert all(limit.alike and limit.why and limit.decides for limit in LIMITS)


def written(tmp_path: Path, *results: Result) -> str:
    lab = tmp_path / "lab.json"
    lab.write_text(json.dumps([result.as_row() for result in results]))
    return verdict_page(lab).partition("## What the lab measured")[2]


def test_a_page_without_a_run_says_how_to_make_one(tmp_path: Path) -> None:
    page = verdict_page(tmp_path / "lab.json")
    assert "make lab ARGS=--write" in page
    assert "| condition |" not in page


def test_the_figures_are_those_of_the_run(tmp_path: Path) -> None:
    found: dict[str, Any] = {"evidence": "link: local_link | carrier 0", "confidence": 1.0}
    page = written(
        tmp_path,
        Result("cable out", "local_link_down", "local_link_down", 1.5, 20.0, **found),
        Result("uplink cut", "wan_uplink_down", "wan_uplink_down", 9.0, 30.0, **found),
        Result("gateway dead", "lan_gateway_down", "lan_isolated", 12.2, None, wrong="did not stay"),
        Result("one lost packet", HEALTHY, HEALTHY),
    )
    assert "- right: 3 of 4 conditions (75.0%); 1 are healthy look-alikes" in page
    assert "- fault to verdict: median 9.0 s, worst 12.2 s" in page
    assert "- of the local link: median 1.5 s, worst 1.5 s" in page
    assert "- mended to healthy: median 25.0 s, worst 30.0 s" in page
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert (
        "| cable out | `local_link_down` | `local_link_down` | 1.5 | 20.0 | link: local_link \\| carrier 0 |" in lines
    )
    assert "| gateway dead | `lan_gateway_down` | **lan_isolated** | 12.2 |  | not right: did not stay |" in lines
    assert "| one lost packet | `healthy` | `healthy` |  |  |  |" in lines


def test_evidence_is_brief_and_does_not_name_the_folder_of_the_run() -> None:
    store = "the store /tmp/labdtb9r6zw/56/store/journal.sqlite cannot be written"
    assert brief(store) == "the store …/store/journal.sqlite cannot be written"
    assert brief("epr: refused\nfrom  here") == "epr: refused from here"
    assert len(brief("long " * 400)) == MOST_EVIDENCE

"""Profiles as files: which one is chosen, what is taken over, and every mistake with its place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.checks.snmp import SnmpCheck
from agent.model import Failure
from agent.snmp.device_fields import DEVICE_FACTS
from agent.snmp.profile_files import PACKAGED, ProfileError, Shelf, fits, load, problems_of
from tests.rigs.snmp_agent import from_table
from tests.unit.test_check_snmp import device, failure

GOOD = """\
title: Acme sensor
sysobjectid: 1.3.6.1.4.1.99999.7.*
metrics:
  - symbol: {OID: 1.3.6.1.4.1.99999.7.1.0, name: room_temperature_celsius, scale_factor: 0.1}
"""


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name.replace('_', '-')}.yaml").write_text(text)
    return tmp_path


def mistakes(tmp_path: Path, text: str) -> list[str]:
    found = problems_of((str(folder(tmp_path, mine=text)),))
    return [sentence.removeprefix(f"{tmp_path}/") for sentence in found]


def with_symbol(symbol: str) -> str:
    return f"title: a device\nmetrics:\n  - symbol: {{{symbol}}}\n"


def with_table(options: str) -> str:
    symbols = "symbols: [{OID: 1.3.6.1.4.1.9.1, name: a}]"
    return f"title: a device\nmetrics:\n  - table: {{name: t, {options}}}\n    {symbols}\n"


def test_the_packaged_profiles_are_right_and_their_fields_described() -> None:
    profiles = load().by_name
    assert {path.stem for path in PACKAGED.glob("*.yaml")} == set(profiles)
    for profile in profiles.values():
        for symbol in profile.symbols():
            fact = DEVICE_FACTS[symbol.name]
            is_text = bool(symbol.form in ("text", "bits") or (symbol.mapping and symbol.folding != "count"))
            assert (fact.kind is str) == is_text, (profile.name, symbol.name)


def test_every_word_of_the_verdict_that_devices_give_is_given_by_some_profile_or_port() -> None:
    given = set()
    for profile in load().by_name.values():
        for symbol in profile.symbols():
            given |= {meaning.finding for _, meaning in symbol.states}
            given |= {symbol.thresholds.finding} if symbol.thresholds else set()
    by_profiles = {"switch_port_err_disabled", "stp_instability", "poe_fault", "ups_on_battery", "ups_battery_low"}
    assert by_profiles | {"temperature_high", "printer_fault", "device_fault"} == given - {""}


@pytest.mark.parametrize(
    ("object_id", "name"),
    [
        ("1.3.6.1.4.1.9.1.617", "cisco"),
        ("1.3.6.1.4.1.9.1.1069", "wifi-cisco"),
        ("1.3.6.1.4.1.318.1.3.4.6", "pdu-apc"),
        ("1.3.6.1.4.1.318.1.3.27.1", "ups-apc"),
        ("1.3.6.1.4.1.705.1", "ups-eaton"),
        ("1.3.6.1.4.1.11.2.3.7.11.107", "hp-procurve"),
        ("1.3.6.1.4.1.99.1", None),
        ("1.3.6.1.4.1.90.1", None),
        (None, None),
    ],
)
def test_the_longest_match_wins(object_id: str | None, name: str | None) -> None:
    choice = load().by_object_id(object_id)
    assert (choice.profile.name if choice else None) == name


def test_an_unknown_device_is_told_by_what_it_answers() -> None:
    profiles = load()
    ups, host = "1.3.6.1.2.1.33.1.4.1.0", "1.3.6.1.2.1.25.1.1.0"
    assert {ups, host} <= set(profiles.questions())
    assert profiles.by_answers("1.3.6.1.4.1.8072.3.2.10", {ups, host}).profile.name == "ups"
    assert profiles.by_answers("1.3.6.1.4.1.8072.3.2.10", {host}).profile.name == "host"
    nothing = profiles.by_answers(None, set())
    assert (nothing.profile.name, "(none)" in nothing.why) == ("generic", True)


def test_a_pattern_ends_at_a_dot() -> None:
    assert fits("1.3.6.1.4.1.9.*", "1.3.6.1.4.1.9.1") and fits("1.3.6.1.4.1.9.*", "1.3.6.1.4.1.9")
    assert not fits("1.3.6.1.4.1.9.*", "1.3.6.1.4.1.99") and not fits("1.3.6.1.4.1.9", "1.3.6.1.4.1.9.1")


def test_a_folder_of_ones_own_adds_and_replaces(tmp_path: Path) -> None:
    more = "title: my switch\nextends: switch\nsysobjectid: 1.3.6.1.4.1.9.1.617\n"
    profiles = load([str(folder(tmp_path, acme=GOOD, my_switch=more, geist=GOOD.replace("Acme", "My")))])
    assert profiles.by_name["geist"].title == "My sensor"
    found = profiles.by_object_id("1.3.6.1.4.1.9.1.617")
    assert found and found.profile.name == "my-switch"
    assert "entity-sensor" in found.profile.ancestors and found.profile.neighbours
    # An equal match: the user's own profile wins.
    equal = profiles.by_object_id("1.3.6.1.4.1.99999.7.5")
    assert equal and equal.profile.name in ("acme", "geist")


def test_a_field_of_ones_own_takes_the_place_of_an_inherited_one() -> None:
    eaton = load().by_name["ups-eaton"]
    assert [s.oid for s in eaton.scalars if s.name == "battery_left_s"] == ["1.3.6.1.4.1.534.1.2.1.0"]
    assert [s.oid for s in eaton.scalars if s.name == "ups_battery_status"] == ["1.3.6.1.2.1.33.1.2.1.0"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("titel: x\n", 'mine.yaml:1:1: titel: unknown key; did you mean "title"?'),
        ("- 1\n", "mine.yaml:1:1: expected a map of options"),
        ("title: x\nextends: [swich]\n", "mine.yaml:2:11: extends[0]: no profile is named swich"),
        ("title: x\nextends: mine\n", "mine.yaml:2:10: extends[0]: mine extends itself in the end"),
        ("title: x\nmetrics:\n  - {MIB: A}\n", "mine.yaml:3:5: metrics[0]: needs either `symbol`, or"),
        (
            "title: x\nmetrics:\n  - table: {name: t}\n",
            "mine.yaml:3:5: metrics[0]: a table needs `symbols`",
        ),
        (
            with_table("OID: 1.3.6.1.2.1.43.16.5.1.2"),
            "metrics[0].table.OID: 1.3.6.1.2.1.43.16.5.1.2 reaches the printer",
        ),
        (with_table("label: 1.3.6.1.2.1.25.4.2.1.2"), "mine.yaml:3:29: metrics[0].table.label: 1.3.6.1.2.1.25.4.2.1.2"),
        ("title: x\nanswers: 1.3.6.1.2.1.4.22.1.2.1\n", "answers[0]: 1.3.6.1.2.1.4.22.1.2.1 reaches the ARP table"),
        (with_symbol("OID: 1.3.x, name: a"), "mine.yaml:3:19: metrics[0].symbol.OID: expected an OID in numbers"),
        (with_symbol("OID: 1.3.6.1.2.1.4.22.1.2, name: a"), "reaches the ARP table, which is never read"),
        (with_symbol("OID: 1.3.6.1.2.1.17, name: a"), "reaches the table of learnt addresses"),
        (with_symbol("OID: 1.3.6.1.2.1.43.16.5.1.2.1.1, name: a"), "the printer's display"),
        (with_symbol("OID: 1.3.6.1.9.0, name: Temp"), "metrics[0].symbol.name: expected a record field"),
        (with_symbol("OID: 1.3.6.1.9.0, name: health"), "health is a field of every record"),
        (with_symbol("OID: 1.3.6.1.9.0, name: a, fold: max"), "metrics[0].symbol.fold: belongs to the columns"),
        (with_symbol("OID: 1.3.6.1.9.0, name: a, window: 5m"), "metrics[0].symbol.window: belongs to a counter"),
        (with_symbol("OID: 1.3.6.1.9.0, name: a, form: bits"), "bits need a `mapping`"),
        (
            with_symbol("OID: 1.3.6.1.9.0, name: a, mapping: {1: ok, 2: bad}, states: {bat: {health: warning}}"),
            'metrics[0].symbol.states.bat: is no word of the mapping; did you mean "bad"?',
        ),
        (
            with_symbol("OID: 1.3.6.1.9.0, name: a, thresholds: {warning: hot}"),
            "metrics[0].symbol.thresholds.warning: expected a number, not `hot`",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    assert [found for found in mistakes(tmp_path, text) if sentence in found], mistakes(tmp_path, text)


def test_a_ring_of_profiles_and_a_missing_folder(tmp_path: Path) -> None:
    ring = {"a": "title: a\nextends: b\n", "b": "title: b\nextends: a\n"}
    assert any("extends itself in the end" in found for found in problems_of([str(folder(tmp_path, **ring))]))
    assert "cannot be read: No such file" in problems_of([str(tmp_path / "none")])[0]


def test_the_config_tells_a_mistake_in_a_profile(tmp_path: Path) -> None:
    options = {"name": "a", "target": "sw.example", "user": "u"}
    folder(tmp_path, mine="titel: x\n")
    (key, sentence), *_ = SnmpCheck(**options, profiles=(str(tmp_path),)).problems()  # type: ignore[arg-type]
    assert key == "profiles" and f"{tmp_path}/mine.yaml:1:1" in sentence


def test_the_shelf_reads_once_and_again_after_a_mistake_was_mended(tmp_path: Path) -> None:
    async def go() -> None:
        shelf = Shelf()
        first, second = await asyncio.gather(shelf.profiles(()), shelf.profiles(()))
        assert first is second
        folder(tmp_path, mine="titel: x\n")
        with pytest.raises(ProfileError):
            await shelf.profiles((str(tmp_path),))
        folder(tmp_path, mine=GOOD)
        assert "mine" in (await shelf.profiles((str(tmp_path),))).by_name

    asyncio.run(go())


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").symlink_to(tmp_path / "nowhere")
    assert "mine.yaml: cannot be read" in problems_of([str(tmp_path)])[0]


def test_a_profile_that_cannot_be_used_is_our_fault_and_named(tmp_path: Path) -> None:
    folder(tmp_path, mine="titel: x\n")
    for profiles, words in ((str(tmp_path), "mine.yaml:1:1"), (str(tmp_path / "none"), "cannot be read")):
        found = failure(from_table(device()), profiles=(profiles,), within=20.0)
        assert (found.failure, words in found.detail) == (Failure.INTERNAL, True)

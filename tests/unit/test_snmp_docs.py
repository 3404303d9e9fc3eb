"""docs/snmp.md: the device that it adds in ten lines works as written."""

from __future__ import annotations

import re
from pathlib import Path

from pysnmp.proto.api import v2c

from agent.options import options_of
from agent.snmp.profile import Metric, Profile, Symbol, TableName, Thresholds
from agent.snmp.profile_files import problems_of
from tests.rigs.snmp_agent import from_table
from tests.unit.test_check_snmp import ask, device

PAGE = Path(__file__).parents[2] / "docs" / "snmp.md"
OBJECTS = {
    "1.3.6.1.2.1.1.2.0": v2c.ObjectIdentifier("1.3.6.1.4.1.99999.7.1"),
    "1.3.6.1.4.1.99999.7.1.1.0": v2c.Gauge32(285),
    "1.3.6.1.4.1.99999.7.1.2.0": v2c.Gauge32(40),
    "1.3.6.1.4.1.99999.7.1.3.0": v2c.OctetString("AC-7"),
}


def example() -> str:
    found = re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    return found[1]


def test_a_device_is_added_in_ten_lines(tmp_path: Path) -> None:
    text = example()
    assert len(text.splitlines()) <= 10
    (tmp_path / "acme-sensor.yaml").write_text(text)
    assert problems_of((str(tmp_path),)) == ()
    facts = ask(from_table(device() | OBJECTS), profiles=(str(tmp_path),), within=20.0)
    fields = facts.fields
    assert (fields["profile"], fields["serial"], fields["humidity_ratio"]) == ("acme-sensor", "AC-7", 0.4)
    assert (fields["health"], fields["findings"]) == ("warning", "temperature_high")
    assert fields["reason"] == "room temperature 28.5 °C"


def test_the_limits_of_a_check_take_the_place_of_the_profiles(tmp_path: Path) -> None:
    (tmp_path / "acme-sensor.yaml").write_text(example())
    limits = (("room_temperature_celsius", (20.0, 28.0)),)
    facts = ask(from_table(device() | OBJECTS), profiles=(str(tmp_path),), thresholds=limits, within=20.0)
    assert facts.fields["health"] == "critical"


def test_the_tables_of_the_page_name_keys_that_there_are_and_no_key_is_left_out() -> None:
    cells = re.findall(r"^\| (`[^|]*) \|", PAGE.read_text(), re.MULTILINE)
    told = {word.split(":")[0] for cell in cells for word in re.findall(r"`([A-Za-z_: ]+)`", cell)}
    there = {o.key for of in (Profile, Symbol, Metric) for o in options_of(of)}
    assert told <= there
    explained = PAGE.read_text()
    wanted = {o.key for of in (Profile, Symbol, TableName, Thresholds) for o in options_of(of)}
    without_words = {"last", "unproven", "sensor_scale", "sensor_precision"}
    assert not [key for key in wanted - without_words if f"`{key}" not in explained and f"{key}:" not in explained]

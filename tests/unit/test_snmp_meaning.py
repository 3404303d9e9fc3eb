"""From an answer to a value and a finding: units, words, limits, and sentences that people can use."""

from __future__ import annotations

from typing import Any

import pytest

from agent.snmp.conclude import Row, few, fold, with_limits
from agent.snmp.gather import Counted, Gathered, gained
from agent.snmp.meaning import Finding, beyond, judged, measured, sentence, shown, worst
from agent.snmp.profile import StateMeaning, Symbol, Thresholds, When

OID = "1.3.6.1.4.1.99999.1"


def symbol(**options: Any) -> Symbol:
    return Symbol(**({"oid": OID, "name": "a_celsius"} | options))


def nothing(oid: str) -> None:
    return None


@pytest.mark.parametrize(
    ("options", "answer", "value"),
    [
        ({}, 24, 24),
        ({}, b"24.5 ", 24.5),
        ({}, b"85%", 85),
        ({}, b"warm", None),
        ({}, b"nan", None),
        ({}, b"-inf", None),
        ({}, b"1e999", None),
        ({"mapping": ((1, "on"),)}, b"inf", None),
        ({}, None, None),
        ({"scale_factor": 0.1}, 215, 21.5),
        ({"scale_factor": 0.01}, 132000, 1320),
        ({"scale_factor": 0.5556, "add": -17.78}, 68, 20.0008),
        ({"unknown": (-1, 0)}, -1, None),
        ({"most": 1000.0}, 2369, None),
        ({}, -40, -40),
        ({}, -300, None),
        ({}, 2**31 - 1, None),
        ({"name": "a_ratio", "scale_factor": 0.01}, -5, None),
        ({"name": "a_ratio", "scale_factor": 0.01}, 2**31 - 1, None),
        ({"name": "a_left_s", "scale_factor": 60}, 2**31 - 1, None),
        ({"name": "on_battery_s"}, -7, None),
        ({"name": "a_volts"}, -48, -48),
        ({"form": "text"}, b" Smart-UPS\n 1500\x00", "Smart-UPS 1500"),
        ({"form": "text"}, b"  ", None),
        ({"form": "text"}, "1.3.6.1", "1.3.6.1"),
        ({"mapping": ((1, "on"), (2, "off"))}, 2, "off"),
        ({"mapping": ((1, "on"),)}, 9, "other_9"),
        ({"form": "bits", "mapping": ((0, "low_paper"), (3, "no_toner"))}, b"\x10", "no_toner"),
        ({"form": "bits", "mapping": ((0, "low_paper"), (3, "no_toner"))}, b"\x90\x01", "low_paper,no_toner,other_15"),
        ({"form": "bits", "mapping": ((0, "low_paper"),)}, b"\x00", ""),
        ({"form": "bits", "mapping": ((0, "low_paper"),)}, 5, None),
    ],
)
def test_an_answer_becomes_a_value(options: dict[str, Any], answer: Any, value: Any) -> None:
    assert measured(symbol(**options), answer, nothing) == value


@pytest.mark.parametrize(("scale", "precision"), [(2**31, 0), (0, 0), (18, 0), (9, 2**40), (9, -300)])
def test_a_sensor_with_an_impossible_scale_or_precision_has_no_value(scale: int, precision: int) -> None:
    asked = {f"{OID}.2": scale, f"{OID}.3": precision}
    sensor = symbol(sensor_scale=f"{OID}.2", sensor_precision=f"{OID}.3")
    assert measured(sensor, 5, asked.get) is None


@pytest.mark.parametrize(
    ("value", "scale", "precision", "real"),
    [
        (23, 9, 0, 23),
        (235, 9, 1, 23.5),
        (23500, 8, 0, 23.5),
        (1200, 8, 2, 0.012),
        (5, 10, 0, 5000),
        (10**9, 9, 0, None),
    ],
)
def test_a_sensor_is_read_by_its_scale_and_precision(value: int, scale: int, precision: int, real: float) -> None:
    found = measured(
        symbol(sensor_scale="1.3.1", sensor_precision="1.3.2"), value, {"1.3.1": scale, "1.3.2": precision}.get
    )
    assert found == real


def test_a_part_of_a_whole_and_a_whole_that_is_none() -> None:
    ratio = symbol(divide_by="1.3.8")
    assert measured(ratio, 30, {"1.3.8": 120}.get) == 0.25
    for whole in (0, -2, None):
        assert measured(ratio, 30, {"1.3.8": whole}.get) is None
    assert measured(ratio, -3, {"1.3.8": 100}.get) is None


def test_a_value_counts_only_where_its_condition_holds() -> None:
    only = symbol(when=When(oid="1.3.1", values=("8",)))
    assert (measured(only, 5, {"1.3.1": 8}.get), measured(only, 5, {"1.3.1": 9}.get)) == (5, None)
    disk = symbol(valid=When(oid="1.3.1", values=("1.3.6.1.4",)))
    assert (measured(disk, 5, {"1.3.1": "1.3.6.1.4"}.get), measured(disk, 5, nothing)) == (5, None)


def test_a_word_that_is_bad_is_a_finding() -> None:
    source = symbol(
        name="ups_output_source",
        mapping=((5, "battery"),),
        states=(
            ("battery", StateMeaning(health="warning", finding="ups_on_battery", say="on battery[, {x_left_s} left]")),
        ),
    )
    assert judged(source, "battery", "", nothing, {"x_left_s": 1320}, set()) == [
        Finding("warning", "on battery, 22 min left", "ups_on_battery")
    ]
    assert judged(source, "battery", "", nothing, {}, set())[0].words == "on battery"
    assert judged(source, "normal", "", nothing, {}, set()) == []
    fan = symbol(name="fan_state", mapping=((2, "bad"),), states=(("bad", StateMeaning(health="critical")),))
    assert judged(fan, "bad", "3", nothing, {}, set())[0].words == "fan state of 3 is bad"


def test_a_limit_has_two_steps_and_a_clear_way_back() -> None:
    room = symbol(name="room_temperature_celsius", thresholds=Thresholds(warning=27, critical=32))
    raised: set[tuple[str, str]] = set()

    def health(value: float) -> str:
        return worst(judged(room, value, "", nothing, {}, raised))

    steps = [(27, "ok"), (27.5, "warning"), (26.8, "warning"), (26, "ok"), (26.8, "ok"), (33, "critical")]
    assert [health(value) for value, _ in steps] == [wanted for _, wanted in steps]
    assert [health(value) for value in (31.5, 30)] == ["critical", "warning"]
    assert judged(room, 33, "", nothing, {}, set())[0].words == "room temperature 33 °C"


def test_a_limit_from_below_and_one_that_waits_for_its_condition() -> None:
    left = symbol(
        name="battery_left_s",
        thresholds=Thresholds(critical=900, below=True, when=When(oid="1.3.1", values=("5",)), say="{value} left"),
    )
    assert judged(left, 600, "", {"1.3.1": 5}.get, {}, set()) == [Finding("critical", "10 min left", "device_fault")]
    assert judged(left, 600, "", {"1.3.1": 3}.get, {}, set()) == []
    assert beyond(0.0, 0.0, False, True) is False


def test_the_limits_of_a_check() -> None:
    room = symbol(thresholds=Thresholds(warning=27, critical=32, finding="temperature_high"))
    found = with_limits(room, {"a_celsius": (20.0,)}).thresholds
    assert found and (found.warning, found.critical, found.finding) == (20.0, None, "temperature_high")
    below = with_limits(symbol(), {"a_celsius": (0.5, 0.2)}).thresholds
    assert below and below.below


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("battery_left_s", 1320, "22 min"),
        ("supply_left_ratio", 0.034, "3.4 %"),
        ("room_temperature_celsius", 31.25, "31.2 °C"),
        ("input_voltage_volts", 230, "230 V"),
        ("power_watts", 1230, "1230 W"),
        ("fan_rpm", 999.6, "1000 rpm"),
        ("memory_free_bytes", 8_335_368, "8335368"),
        ("on_battery_s", 40, "40"),
        ("on_battery_s", 600, "10 min"),
        ("device_alarms", 3, "3"),
        ("value", "no_toner", "no_toner"),
        ("value", None, "unknown"),
    ],
)
def test_a_value_is_written_for_people(name: str, value: Any, words: str) -> None:
    assert shown(name, value) == words


def test_a_sentence_drops_what_is_not_known() -> None:
    assert sentence("a[ {b_ratio}][ {c}] {d}", {"b_ratio": 0.5, "d": "x"}) == "a 50 % x"


def test_rows_become_one_field() -> None:
    bad = (Finding("critical", "no fan"),)
    rows = [Row("1", 3, ()), Row("2", 9, bad), Row("3", 6, ())]
    folds = {"max": 9, "min": 3, "sum": 18, "mean": 6, "first": 3, "count": 1, "rows": 3, "worst": 9}
    assert {how: fold(symbol(fold=how), rows) for how in folds} == folds
    assert all(fold(symbol(fold=how), []) is None for how in folds)


def test_many_alike_are_counted() -> None:
    rows = [Row(str(i), "bad", (Finding("warning", f"fan {i}", "printer_fault"),)) for i in range(9)]
    assert [finding.words for finding in few(rows)] == ["fan 0", "fan 1", "fan 2, and 6 more like it"]


@pytest.mark.parametrize(
    ("readings", "gains"),
    [
        ([(0, 5), (60, 9), (120, 9)], [None, 4, 0]),
        ([(0, 2**32 - 2), (60, 3)], [None, 5]),
        ([(0, 3_000_000_000), (60, 100), (120, 130)], [None, None, 30]),
        ([(0, 5), (60, None), (120, 30)], [None, None, None]),
        ([(0, 5), (0, 9)], [None, None]),
        ([(0, 2**33), (60, 2**33 + 4), (120, 3)], [None, 4, None]),
    ],
)
def test_a_counter_gives_its_increase_or_nothing(readings: list[tuple[float, Any]], gains: list[int | None]) -> None:
    known = Gathered()
    assert [gained(known, OID, value, 0.0, at) for at, value in readings] == gains


def test_a_counter_within_a_window_forgets_what_is_old() -> None:
    known = Gathered()
    found = [gained(known, OID, value, 300.0, at) for at, value in ((0, 0), (60, 2), (120, 4), (400, 4), (460, 4))]
    assert found == [None, 2, 4, 2, 0]
    assert isinstance(known.counters[OID], Counted) and len(known.counters[OID].gains) <= 3


def test_what_rose_over_an_hour_is_not_told_as_if_it_rose_within_the_window() -> None:
    known = Gathered()
    assert [gained(known, OID, value, 300.0, at) for at, value in ((0, 0), (3600, 12), (3630, 13))] == [None, 1, 2]

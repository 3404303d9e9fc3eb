"""Two polls of a device: reboots, rates, wraps. Never a spike, never a negative number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.snmp.counters import UPTIME_WRAP_S, Change, DeviceSample, PortSample, change, increase, reboot, utilisation

PORT = PortSample(
    100.0, "Gi1", 1, 1, 1000, in_octets=1000, out_octets=2000, in_errors=5, out_errors=6, in_discards=7, out_discards=8
)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (DeviceSample(0, 1000.0, 4), DeviceSample(30, 1030.0, 4), None),
        (DeviceSample(0, 1000.0, 4), DeviceSample(30, 5.0, 5), "went from 4 to 5"),
        (DeviceSample(0, 1000.0, 4), DeviceSample(3000, 2900.0, 5), "went from 4 to 5"),
        (DeviceSample(0, 1000.0, 4), DeviceSample(30, 1030.0, 1), "went from 4 to 1"),
        (DeviceSample(0, 1000.0, None), DeviceSample(30, 12.0, None), "uptime fell from 1000 s to 12 s"),
        (DeviceSample(0, 1000.0, 4), DeviceSample(30, 12.0, 4), "uptime fell"),
        (DeviceSample(0, UPTIME_WRAP_S - 10, 4), DeviceSample(30, 20.0, 4), None),
        (DeviceSample(0, UPTIME_WRAP_S - 10, None), DeviceSample(3600, 3590.0, None), None),
        (DeviceSample(0, UPTIME_WRAP_S - 10, None), DeviceSample(36000, 20.0, None), "uptime fell"),
        (DeviceSample(0, UPTIME_WRAP_S - 90000, None), DeviceSample(30, 20.0, None), "uptime fell"),
        (DeviceSample(0, 60.0, None), DeviceSample(3600, 100.0, None), "up for 100 s, and we last asked it 3600 s ago"),
        (DeviceSample(0, 60.0, None), DeviceSample(3600, 3500.0, None), None),
        (DeviceSample(0, 60.0, None), DeviceSample(3600, 60.0, None), None),
        (DeviceSample(0, None, None), DeviceSample(30, 12.0, 3), None),
        (DeviceSample(0, 12.0, 3), DeviceSample(30, None, None), None),
    ],
)
def test_a_reboot_is_known_by_boots_or_uptime_but_not_by_the_wrap_after_497_days(
    before: DeviceSample, after: DeviceSample, words: str | None
) -> None:
    found = reboot(before, after)
    assert (found is None) == (words is None)
    assert words is None or (found and words in found)


@pytest.mark.parametrize(
    ("before", "after", "bits", "gained"),
    [
        (10, 25, 32, 15),
        (10, 10, 64, 0),
        (2**32 - 10, 5, 32, 15),
        (3_000_000_000, 100, 32, None),
        (2**32 - 10, 2**31, 32, None),
        (2**64 - 10, 5, 64, None),
        (5 * 10**12, 100, 64, None),
        (None, 5, 32, None),
        (5, None, 32, None),
    ],
)
def test_a_counter_that_fell_wrapped_or_was_reset(
    before: int | None, after: int | None, bits: int, gained: int | None
) -> None:
    assert increase(before, after, bits) == gained


def test_rates_and_counts_of_an_ordinary_interval() -> None:
    after = replace(PORT, at=110.0, in_octets=1000 + 12_500_000, out_octets=3000, in_errors=9)
    assert change(PORT, after) == Change(10_000_000.0, 800.0, 0.01, 4, 0, 0, 0)


@pytest.mark.parametrize(
    "after",
    [
        replace(PORT, at=110.0, in_octets=5, discontinuity=77),
        replace(PORT, at=110.0, in_octets=2000, discontinuity=77),
        replace(PORT, at=100.0, in_octets=9999),
        replace(PORT, at=90.0, in_octets=9999),
    ],
)
def test_an_interval_that_is_not_certain_gives_nothing(after: PortSample) -> None:
    assert change(PORT, after) == Change()


def test_the_first_reading_gives_nothing() -> None:
    assert change(None, PORT) == Change()


def test_one_counter_that_was_reset_does_not_hide_the_others() -> None:
    since = change(PORT, replace(PORT, at=101.0, in_octets=10, out_octets=2100))
    assert (since.in_bits_per_s, since.out_bits_per_s, since.utilisation_ratio) == (None, 800.0, 0.0000008)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.sampled_from([32, 64]))
def test_no_pair_of_readings_gives_a_negative_or_a_jump_over_a_quarter_of_the_range(a: int, b: int, bits: int) -> None:
    a, b = a % 2**bits, b % 2**bits
    gained = increase(a, b, bits)
    assert gained is None or gained == b - a >= 0 or 0 <= gained < 2**bits // 4


@pytest.mark.parametrize(
    ("incoming", "outgoing", "speed", "ratio"),
    [
        (1e6, 5e6, 10_000_000, 0.5),
        (None, 5e6, 10_000_000, 0.5),
        (4e7, 0.0, 10_000_000, 1.0),
        (1.0, 1.0, None, None),
        (None, None, 10, None),
    ],
)
def test_utilisation(incoming: float | None, outgoing: float | None, speed: int | None, ratio: float | None) -> None:
    assert utilisation(incoming, outgoing, speed) == ratio


def test_words_and_speed_of_a_port() -> None:
    port = replace(PORT, oper=7, high_speed=0)
    assert (port.admin_word, port.oper_word, port.speed_bits_per_s, port.is_down) == (
        "up",
        "lower_layer_down",
        None,
        True,
    )
    assert PORT.speed_bits_per_s == 10**9
    assert replace(PORT, oper=99).oper_word == "other 99"
    assert not replace(PORT, admin=2, oper=2).is_down


def test_a_rate_that_no_port_of_its_speed_can_have_is_none() -> None:
    jumped = replace(PORT, at=110.0, in_octets=1000 + 10**12, out_octets=2000 + 1_300_000_000)
    assert (change(PORT, jumped).in_bits_per_s, change(PORT, jumped).out_bits_per_s) == (None, 1_040_000_000.0)
    slower = replace(PORT, at=110.0, high_speed=100, in_octets=1000 + 10**9)
    assert change(PORT, slower).in_bits_per_s == 800_000_000.0

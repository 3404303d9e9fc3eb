"""The train check: what is taken from the replies, and the minimum as a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from random import Random

import pytest

from agent.checks.train import PACKET_BYTES, Train, bits_per_s, gaps, judged, measured
from agent.clock import Instant
from agent.health import Health, beyond, limits_of, step
from agent.model import Failure, Record, State
from agent.net.icmp import Echo, IcmpError

NOW = Instant(1_795_000_000.0, 3_600_000, "synced", "boot-1")
SLOT_S = PACKET_BYTES * 8 / 256_000  # what one packet takes of a 256 kbit/s line
ERROR = IcmpError("10.0.0.1", 1, "10.9.9.9", 3, 1)


def train(rtts_s: Sequence[float | None], error: IcmpError | None = None) -> list[Echo]:
    """Make echoes that left together, 10 µs apart."""
    made = []
    for number, rtt_s in enumerate(rtts_s):
        echo = Echo(ip_address("10.0.0.1"), number, b"", 0, 0.0, 0, lambda _: None)
        echo.rtt_s, echo.left_ns, echo.error = rtt_s, 1_795_000_000_000_000_000 + number * 10_000, error
        made.append(echo)
    return made


def slow(*lost: int) -> list[Echo]:
    return train([None if n in lost else 0.02 + n * (SLOT_S - 0.00001) for n in range(8)])


@pytest.mark.parametrize("lost", [(), (0,), (7,), (3,), (1, 2), (0, 4, 7)])
def test_the_capacity_is_that_of_the_slowest_line_whatever_is_lost(lost: tuple[int, ...]) -> None:
    found = measured(slow(*lost))
    assert found["bits_per_s"] == pytest.approx(256_000, rel=0.001)
    assert judged(slow(*lost), 0.0, 3) is None


def test_one_packet_of_somebody_else_in_between_does_little_harm() -> None:
    rtts = [0.02 + n * SLOT_S + (0.3 if n > 4 else 0) for n in range(8)]
    assert measured(train(rtts))["bits_per_s"] == pytest.approx(256_000, rel=0.01)


def test_a_line_whose_delay_varies_is_hardly_ever_taken_for_a_slow_one() -> None:
    """50 ms of jitter each way, frames in order: three slow trains in a row make the way degraded."""
    random = Random(5)
    found = [measured(train(jittered(random)))["bits_per_s"] for _ in range(2000)]
    slow_ones = sum(rate < 2_000_000 for rate in found if isinstance(rate, int))
    assert slow_ones / len(found) < 0.03


def jittered(random: Random) -> list[float]:
    rtts, latest = [], 0.0
    for _ in range(8):
        latest = max(latest, 0.06 + random.uniform(-0.05, 0.05))
        rtts.append(latest)
    back, latest = [], 0.0
    for rtt in rtts:
        latest = max(latest, rtt + 0.06 + random.uniform(-0.05, 0.05))
        back.append(latest)
    return back


def test_what_a_shaper_lets_through_at_once_does_not_make_the_line_fast() -> None:
    rtts = [0.02, 0.02, *(0.02 + n * SLOT_S for n in range(1, 7))]
    assert measured(train(rtts))["bits_per_s"] == pytest.approx(256_000, rel=0.01)


def test_more_than_a_gigabit_is_a_gigabit() -> None:
    assert bits_per_s([0.0000001] * 7) == 1_000_000_000
    assert bits_per_s([0.0, 0.0, -0.00001]) == 1_000_000_000
    assert bits_per_s([0.0112] * 7) == 1_000_000


def test_a_gap_in_which_a_packet_was_lost_says_nothing() -> None:
    assert len(gaps(slow(3))) == 5
    assert gaps(slow(1, 3, 5, 7)) == []


@pytest.mark.parametrize(
    ("echoes", "late_s", "failure"),
    [
        (slow(1, 3, 5, 7), 0.0, Failure.TIMEOUT),
        (train([None] * 8), 0.0, Failure.TIMEOUT),
        (train([None] * 8), 2.0, Failure.OVERLOAD),
        (train([None] * 8, ERROR), 0.0, Failure.UNREACHABLE),
        (train([0.01, 0.02] + [None] * 6), 0.0, Failure.TIMEOUT),
    ],
)
def test_too_few_replies_in_a_row_are_a_failure(echoes: list[Echo], late_s: float, failure: Failure) -> None:
    found = judged(echoes, late_s, 3)
    assert found is not None and found.failure is failure
    assert "bits_per_s" not in measured(echoes)


def test_the_minimum_is_a_limit_below_which_the_way_is_degraded() -> None:
    check = Train(name="a", target="198.51.100.1", minimum_bits_per_s=1_000_000.0)
    assert check.degraded == (("bits_per_s", 1_000_000.0),)
    assert replace(check, interval_s=60.0).degraded == check.degraded, "said once, however often it is copied"
    health = Health()
    for rate in (5_000_000, 256_000, 256_000, 256_000):
        record = Record("train", NOW, {"outcome": "pass", "bits_per_s": rate})
        health = step(health, record, limits_of(check))
    assert (health.state, health.reason) == (State.DEGRADED, "bits_per_s 256000 below 1e+06")
    own = Train(name="a", target="198.51.100.1", minimum_bits_per_s=1.0, degraded=(("bits_per_s", 5.0),))
    assert own.degraded == (("bits_per_s", 5.0),)
    assert beyond(Record("train", NOW, {"bits_per_s": 10}), own.degraded) == ""


def test_what_it_declares() -> None:
    (sent,) = Train(name="a", target="gateway").sends()
    assert (sent.destination, sent.protocol, sent.port, sent.requests) == ("gateway", "icmp", None, 8)
    assert sent.whole_agent_only

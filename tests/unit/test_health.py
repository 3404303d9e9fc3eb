"""The state of one check: tables of outcomes in a row, and the state after each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.clock import Instant
from agent.health import Health, Limits, beyond, step
from agent.model import Record, Scalar, State

LIMITS = Limits(3, 2, (("rtt_mean_s", 0.1), ("certificate_left_s", 86400.0)))
WORDS = {"U": State.UP, "D": State.DOWN, "?": State.UNKNOWN, "S": State.DEGRADED}
FIELDS: dict[str, dict[str, Scalar]] = {
    "p": {"outcome": "pass", "rtt_mean_s": 0.01},
    "s": {"outcome": "pass", "rtt_mean_s": 0.5},
    "f": {"outcome": "fail", "failure": "timeout", "detail": "no answer"},
    "u": {"outcome": "unknown", "failure": "overload"},
}


def record(letter: str, second: int) -> Record:
    return Record("icmp", Instant(1e9 + second, second * 1000, "synced", "b"), FIELDS[letter])


@pytest.mark.parametrize(
    ("outcomes", "states"),
    [
        ("pppp", "UUUU"),  # one pass makes it up from unknown
        ("fff", "??D"),
        ("pffp", "UUUU"),  # two fails are not enough, and a pass ends the streak
        ("pffpff", "UUUUUU"),
        ("pfffpfpp", "UUUDDDDU"),  # a fail while coming back starts the count anew
        ("pfuuff", "UUUUUD"),  # an unknown neither adds nor clears
        ("puuu", "UUU?"),
        ("puupuu", "UUUUUU"),
        ("pfuff", "UUUUD"),
        ("fffuuu", "??DDD?"),
        ("fffuuup", "??DDD?U"),
        ("psss", "UUUS"),
        ("pssps", "UUUUU"),
        ("psssppp", "UUUSSUU"),  # degraded ends after recover_after good passes
        ("psssps", "UUUSSS"),
        ("psssfff", "UUUSSSD"),
        ("pfffss", "UUUDDU"),  # slow passes bring it back, slowness is counted on
        ("sss", "UUS"),
    ],
)
def test_outcomes_in_a_row_make_the_state(outcomes: str, states: str) -> None:
    health, found = Health(), ""
    for second, letter in enumerate(outcomes):
        health = step(health, record(letter, second), LIMITS)
        found += next(k for k, v in WORDS.items() if v is health.state)
    assert found == states


def test_silence_is_no_loss_but_what_is_lost_between_answers_is() -> None:
    def echo(second: int, lost: int) -> Record:
        said: dict[str, Scalar] = {"outcome": "fail", "failure": "timeout"} if lost else {"outcome": "pass"}
        return replace(record("p", second), fields={**said, "sent": 1, "received": 1 - lost})

    health = Health()
    for second, lost in enumerate((0, 1, 1, 1, 1, 1)):
        health = step(health, echo(second, lost), LIMITS)
    assert (health.state, health.loss.lost) == (State.DOWN, 0), "an outage"
    for second, lost in enumerate((0, 1, 0, 1), 6):
        health = step(health, echo(second, lost), LIMITS)
    assert (health.state, health.loss.lost) == (State.DOWN, 2), "it comes and goes"


@pytest.mark.parametrize("last", ["fail", "unknown"])
def test_who_is_silent_for_good_loses_nothing_any_more(last: str) -> None:
    fields: dict[str, dict[str, Scalar]] = {
        "pass": {"outcome": "pass", "sent": 1, "received": 1},
        "fail": {"outcome": "fail", "failure": "timeout", "sent": 1, "received": 0},
        "unknown": {"outcome": "unknown", "failure": "overload"},
    }
    health = Health()
    for second, said in enumerate(["pass", *["fail"] * 4, "pass", "fail", *[last] * 15]):
        health = step(health, replace(record("p", second), fields=fields[said]), LIMITS)
    assert not health.losing


def test_onset_is_the_first_fail_of_the_streak() -> None:
    health = Health()
    for second, letter in enumerate("ppffff"):
        health = step(health, record(letter, second), LIMITS)
    assert health.onset and health.onset.mono_ms == 2000
    assert health.since and health.since.mono_ms == 2000
    assert health.passed and health.passed.mono_ms == 1000
    assert health.reason == "timeout: no answer"


def test_health_is_a_value() -> None:
    before = step(Health(), record("p", 0), LIMITS)
    kept = replace(before)
    step(before, record("f", 1), LIMITS)
    assert before == kept


@pytest.mark.parametrize(
    ("fields", "trouble"),
    [
        ({"rtt_mean_s": 0.2}, "rtt_mean_s 0.2 above 0.1"),
        ({"rtt_mean_s": -0.2}, "rtt_mean_s -0.2 above 0.1"),  # signs are ignored
        ({"rtt_mean_s": 0.1}, ""),
        ({"certificate_left_s": 10}, "certificate_left_s 10 below 86400"),
        ({"certificate_left_s": 90000}, ""),
        ({"rtt_mean_s": "slow"}, ""),
        ({}, ""),
    ],
)
def test_limits_of_record_fields(fields: dict[str, object], trouble: str) -> None:
    taken = Instant(0, 0, "synced", "b")
    assert beyond(Record("icmp", taken, fields), LIMITS.degraded) == trouble  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "limit", "trouble"),
    [
        (-80, -70, "signal_dbm -80 above -70 (signs are ignored)"),
        (-65, -70, ""),
        (0.05, -0.1, ""),
        (0.2, -0.1, "signal_dbm 0.2 above -0.1 (signs are ignored)"),
    ],
)
def test_the_sign_of_a_limit_is_ignored_too(value: float, limit: float, trouble: str) -> None:
    taken = Record("link", Instant(0, 0, "synced", "b"), {"signal_dbm": value})
    assert beyond(taken, (("signal_dbm", limit),)) == trouble

"""Longer pauses for what has been silent for long: a pure step over the records of one check.

Rules (contract, section 1; field.md 3.2, rules 5 and 6):
- A target that has failed for more than 15 min without a pass in between is asked at twice the interval, then at
  four times…, up to 15 min between two runs; a device over SNMP already after three silent polls, from 1 min on.
- Each longer pause is 20 % shorter or longer at random, so that what fell silent together is not asked together.
- One pass ends it at once. An unknown says nothing of the target and changes nothing.
- The places on the way itself, from the gateway to the data centres, are asked as before: that they work again is
  what everything behind them waits for, and they are routers, not fragile devices. When one of them passes again
  after a fault, or our own delivery does, or a device answers its ping again, all that was put off is asked again
  at once.
- That it begins, and that it is over, is an event each (`agent.restraint`).
- A confirmation, a command and the rule above may ask earlier than planned; only the plan itself is longer.

So nothing here delays the finding of a fault, nor the end of one shorter than 15 min.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.check import CheckOptions
from agent.model import Failure, Layer, Outcome, Scalar

PATIENCE_S = 900.0
LONGEST_S = 900.0
JITTER = 0.2
SNMP_SILENT = 3
SNMP_FIRST_S = 60.0
WAY = (Layer.LINK, Layer.ADDRESS, Layer.LAN, Layer.GATEWAY, Layer.UPLINK, Layer.CARRIER)
WAY_LAYERS = frozenset({*WAY, Layer.INTERNET, Layer.DATACENTRE})
SILENT = frozenset({Failure.TIMEOUT, Failure.UNREACHABLE})
"""What a device that has fallen silent looks like; a wrong password is an answer."""


@dataclass(frozen=True, slots=True)
class Silence:
    """What is remembered of one check: when its present row of fails began (loop clock), how many they are, how
    many of the last polls in a row were silent, and how often its pause was lengthened.
    """

    since: float | None = None
    fails: int = 0
    silent: int = 0
    longer: int = 0


def step(silence: Silence, check: CheckOptions, fields: Mapping[str, Scalar], now: float) -> Silence:
    """Take one record of the check into account."""
    if fields["outcome"] == Outcome.PASS:
        return Silence()
    if fields["outcome"] == Outcome.UNKNOWN:
        return silence
    since = now if silence.since is None else silence.since
    silent = silence.silent + 1 if fields.get("failure") in SILENT else 0
    counted = replace(silence, since=since, fails=silence.fails + 1, silent=silent)
    return replace(counted, longer=counted.longer + 1) if _long(counted, check, now) else counted


def _long(silence: Silence, check: CheckOptions, now: float) -> bool:
    if check.layer_or_default in WAY_LAYERS or not check.sends() or silence.since is None:
        return False
    if check.type == "snmp" and silence.silent >= SNMP_SILENT:
        return True
    return silence.fails >= check.fail_after and now - silence.since > PATIENCE_S


def pause_s(silence: Silence, check: CheckOptions, chance: float) -> float:
    """Give the pause before the next run, 0 for the usual one; `chance` is a random number from 0 to 1."""
    if not silence.longer or check.interval_s >= LONGEST_S:
        return 0.0
    base_s = max(check.interval_s, SNMP_FIRST_S / 2) if check.type == "snmp" else check.interval_s
    longer_s = min(base_s * 2.0 ** min(silence.longer, 30), LONGEST_S)
    return max(longer_s * (1 + JITTER * (2 * chance - 1)), check.interval_s)


def reopens(silence: Silence, check: CheckOptions, fields: Mapping[str, Scalar]) -> bool:
    """Tell whether this record says that the way, or a device, is back: what was put off is worth asking now."""
    layer = check.layer_or_default
    tells = layer in WAY_LAYERS or check.hearsay or (layer is Layer.DEVICE and check.type != "snmp")
    return tells and fields["outcome"] == Outcome.PASS and silence.fails >= check.fail_after

"""What a poll says about the watched ports: their records, findings and events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.model import Fact, Scalar
from agent.snmp.counters import Change, PortSample, change
from agent.snmp.meaning import Finding
from agent.snmp.oids import TICKS_PER_SECOND
from agent.snmp.ports import ROWS_MOST, Names
from agent.snmp.profile import CRITICAL, FINDINGS, WARNING

QUIET = ("up", "dormant", None)
"""Operational states that are no reason to look; dormant waits for a caller."""
FCS_RATIOS = (1e-7, 1e-5)
"""Warning and critical part of damaged frames (field.md 2.4); `thresholds` may say otherwise."""
FCS_LEAST = 3
"""So few damaged frames in one interval are no trend, whatever part they are."""
DAYS_FROM_S = 259_200
"""From three days on people count days."""
HALF_DUPLEX_FASTEST = 10_000_000
"""A port of 100 Mbit/s or more that runs half duplex does so because its two ends do not agree."""

PORT_FACTS: Mapping[str, Fact] = {
    "port": Fact(int, "Interface index (ifIndex)."),
    "name": Fact(str, "Name of the port (ifName)."),
    "alias": Fact(str, "What its owner calls it (ifAlias); only with `personal_text`."),
    "admin": Fact(str, "Whether it is switched on: up, down or testing."),
    "oper": Fact(str, "Its operational state (ifOperStatus), such as up or lower_layer_down."),
    "oper_for_s": Fact(float, "Seconds for which it has been in that state (ifLastChange)."),
    "speed_bits_per_s": Fact(int, "Its speed, bits per second."),
    "duplex": Fact(str, "Whether it sends and receives at the same time.", words=("half", "full")),
    "in_bits_per_s": Fact(float, "Bits per second received since the last poll."),
    "out_bits_per_s": Fact(float, "Bits per second sent since the last poll."),
    "utilisation_ratio": Fact(float, "The busier direction as a part of the speed, 0 to 1."),
    "in_errors": Fact(int, "Receive errors since the last poll."),
    "out_errors": Fact(int, "Send errors since the last poll."),
    "in_discards": Fact(int, "Packets received and dropped since the last poll."),
    "out_discards": Fact(int, "Packets dropped instead of sent since the last poll."),
    "fcs_errors": Fact(int, "Damaged frames received since the last poll."),
    "fcs_error_ratio": Fact(float, "Damaged frames as a part of the frames received, 0 to 1."),
    "late_collisions": Fact(int, "Late collisions since the last poll: the two ends do not agree on duplex."),
    "findings": Fact(str, "What is the matter with it, as words of the verdict, comma-joined: " + ", ".join(FINDINGS)),
}
"""The fields of an `snmp_port` record."""
More = tuple[str, Mapping[str, Scalar]]


@dataclass(frozen=True, slots=True)
class Around:
    """What a port's report needs besides the port: the device's uptime, our wall time (None = not set), limits."""

    uptime_s: float | None
    wall_s: float | None
    limits: Mapping[str, tuple[float, ...]]


def port_reports(
    indexes: Mapping[str, int | None],
    found: Mapping[int, PortSample | None],
    before: dict[int, PortSample],
    names: Names,
    around: Around,
) -> tuple[list[More], list[Finding]]:
    """Make one `snmp_port` record a port that is there, events, and what is to be said about all of them.

    A port that is watched both by name and by index is told once. `before` is brought up to date.
    """
    more: list[More] = []
    findings: list[Finding] = []
    told = set()
    for port, index in indexes.items():
        sample = found.get(index) if index is not None else None
        if index is None or sample is None:
            findings.append(Finding(WARNING, missing(port, index, names)))
            continue
        if index in told:
            continue
        told.add(index)
        since = change(before.get(index), sample)
        own = port_findings(sample, since, around)
        findings += own + _shared(port, names)
        more.append(("snmp_port", port_fields(index, sample, since, own, around)))
        more += port_event(before.get(index), sample)
        before[index] = sample
    return more, findings


def _shared(port: str, names: Names) -> list[Finding]:
    """Say that a port is not the only one of its name: the others are not watched, whatever happens to them."""
    sharing = names.sharing(port)
    if not sharing:
        return []
    words = f"{len(sharing)} ports are called {port} and only the first is watched: write their indexes "
    return [Finding(WARNING, words + f"({', '.join(map(str, sharing))}) in watch_ports")]


def missing(port: str, index: int | None, names: Names) -> str:
    """Say why there is no reading of a watched port."""
    if max(names.name.rows, names.alias.rows) >= ROWS_MOST:
        return f"port {port} is not among the first {ROWS_MOST} ports of this device"
    if index is not None or names.complete:
        like = next(filter(None, names.name.index_of), "") if index is None else ""
        return f"port {port} is not on this device" + (f", whose ports have names such as {like}" if like else "")
    return f"port {port} not found yet ({names.name.rows + names.alias.rows} names read)"


def oper_for_s(sample: PortSample, uptime_s: float | None) -> float | None:
    """Give for how long a port has been in its state; None where ifLastChange does not say.

    That is where it does not fit sysUpTime, and where it is 0: before the device's start (RFC 2863), or the
    device does not keep it (D-Link).
    """
    if uptime_s is None or not sample.last_change:
        return None
    age_s = uptime_s - sample.last_change / TICKS_PER_SECOND
    return round(age_s, 2) if age_s >= 0 else None


def since_words(age_s: float | None, wall_s: float | None) -> str:
    """Say since when, by our clock where it is set, else for how long; "" where it is not known."""
    if age_s is None:
        return ""
    if wall_s is None:
        if age_s >= DAYS_FROM_S:
            return f" for {age_s / 86400:.0f} days"
        return f" for {age_s / 60:.0f} min" if age_s < 7200 else f" for {age_s / 3600:.0f} h"
    return f" since {datetime.fromtimestamp(wall_s - age_s, UTC):%Y-%m-%d %H:%M} UTC"


def port_findings(sample: PortSample, since: Change, around: Around) -> list[Finding]:
    """Judge one port; one that is switched off on purpose (admin down) is no fault."""
    if sample.is_down:
        words = since_words(oper_for_s(sample, around.uptime_s), around.wall_s)
        return [Finding(CRITICAL, f"port {sample.name} is down{words}", "switch_port_down")]
    if sample.admin == 1 and sample.oper_word not in QUIET:
        return [Finding(WARNING, f"port {sample.name} is {(sample.oper_word or '').replace('_', ' ')}")]
    return [*_errors(sample, since, around), *_duplex(sample, since)]


def _errors(sample: PortSample, since: Change, around: Around) -> list[Finding]:
    ratio, count = since.fcs_error_ratio, since.fcs_errors
    limits = around.limits.get("fcs_error_ratio", FCS_RATIOS)
    if ratio is None or count is None or count < FCS_LEAST or ratio <= limits[0]:
        return []
    health = CRITICAL if len(limits) > 1 and ratio > limits[1] else WARNING
    words = f"port {sample.name} received {count} damaged frames since the last poll: look at cable and transceiver"
    return [Finding(health, words, "port_errors_high")]


def _duplex(sample: PortSample, since: Change) -> list[Finding]:
    fast = (sample.speed_bits_per_s or 0) > HALF_DUPLEX_FASTEST
    if since.late_collisions:
        words = f"port {sample.name} has late collisions: set duplex alike at both ends"
    elif fast and sample.oper == 1 and sample.duplex_word == "half":
        words = f"port {sample.name} runs half duplex: set duplex alike at both ends"
    else:
        return []
    return [Finding(WARNING, words, "duplex_mismatch")]


def port_event(before: PortSample | None, after: PortSample) -> list[More]:
    """Tell that a port changed its state; one of another name that has its index now did not."""
    if before is None or before.name != after.name or (before.admin, before.oper) == (after.admin, after.oper):
        return []
    if before.oper != after.oper:
        words = f"port {after.name} went from {before.oper_word} to {after.oper_word}"
    else:
        words = f"port {after.name} was switched {'on' if after.admin == 1 else 'off'}"
    return [("event", {"kind": "port_changed", "detail": words})]


def port_fields(
    index: int, sample: PortSample, since: Change, findings: list[Finding], around: Around
) -> dict[str, Scalar]:
    """Make the fields of an `snmp_port` record; errors and discards are counts since the last poll."""
    return {
        "port": index,
        "name": sample.name,
        **({"alias": sample.alias} if sample.alias else {}),
        "admin": sample.admin_word,
        "oper": sample.oper_word,
        "oper_for_s": oper_for_s(sample, around.uptime_s),
        "speed_bits_per_s": sample.speed_bits_per_s,
        "duplex": sample.duplex_word,
        "in_bits_per_s": since.in_bits_per_s,
        "out_bits_per_s": since.out_bits_per_s,
        "utilisation_ratio": since.utilisation_ratio,
        "in_errors": since.in_errors,
        "out_errors": since.out_errors,
        "in_discards": since.in_discards,
        "out_discards": since.out_discards,
        "fcs_errors": since.fcs_errors,
        "fcs_error_ratio": since.fcs_error_ratio,
        "late_collisions": since.late_collisions,
        "findings": ",".join(f.finding for f in findings if f.finding) or None,
    }


def counts(found: Mapping[int, PortSample | None]) -> dict[str, Scalar]:
    """Count the watched ports that are up, and those that should be and are not."""
    samples = [sample for sample in found.values() if sample is not None]
    return {
        "ports_up": sum(sample.oper == 1 for sample in samples),
        "ports_down": sum(sample.is_down for sample in samples),
    }

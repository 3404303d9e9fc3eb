"""What two polls of a device say together: reboots, rates, errors since the last poll. Pure.

A rate is given only where it is certain: not across a reboot, not where the device says that its
counters began anew (ifCounterDiscontinuityTime), never negative, never from a counter that was reset
(RFC 2863 3.1.5, RFC 2578 7.1.6). Where it is not certain it is None, and the next poll gives one.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.snmp.oids import ADMIN_WORDS, OPER_WORDS, TICKS_PER_SECOND

UPTIME_WRAP_S = 2**32 / TICKS_PER_SECOND
"""sysUpTime wraps after 497.1 days."""
WRAP_SLACK_S = 120.0
"""How far the uptime after a wrap may lie from where it should: clocks of cheap devices are bad."""
WRAP_SLACK_RATIO = 0.05
WRAP_ZONE = 8
"""A 32-bit counter that fell is taken as wrapped only from its last eighth into its first; else it was reset."""
RATE_SLACK = 1.05
"""A port is no faster than its speed, but its clock and ours differ a little; beyond it the counter was reset."""

SPIKE = 2.0
"""Devices bring their counters up to date every few seconds, so a rate may lie above the speed; one twice as fast
as the port is none: another port has the index now, or the counter was set."""


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """One answer of the system group: `at` in seconds of a monotonic clock, None = not answered."""

    at: float
    uptime_s: float | None
    boots: int | None


@dataclass(frozen=True, slots=True)
class PortSample:
    """One reading of one port; counters as the device gave them, None = not answered."""

    at: float
    name: str
    admin: int | None = None
    oper: int | None = None
    high_speed: int | None = None
    in_octets: int | None = None
    out_octets: int | None = None
    in_errors: int | None = None
    out_errors: int | None = None
    in_discards: int | None = None
    out_discards: int | None = None
    discontinuity: int | None = None
    alias: str = ""
    octet_bits: int = 64
    speed: int | None = None
    fcs_errors: int | None = None
    late_collisions: int | None = None
    duplex: int | None = None
    last_change: int | None = None
    in_packets: int | None = None

    @property
    def speed_bits_per_s(self) -> int | None:
        """The speed in bits per second (ifHighSpeed, else ifSpeed); None where the device says 0 (unknown)."""
        return self.high_speed * 1_000_000 if self.high_speed else self.speed or None

    @property
    def duplex_word(self) -> str | None:
        """Half or full; None where the port does not tell (dot3StatsDuplexStatus)."""
        return {2: "half", 3: "full"}.get(self.duplex or 0)

    @property
    def is_down(self) -> bool:
        """Tell whether the port should carry traffic (admin up) and does not."""
        return self.admin == 1 and self.oper in (2, 6, 7)

    @property
    def admin_word(self) -> str | None:
        """The admin status as a word; None where it was not answered."""
        return None if self.admin is None else ADMIN_WORDS.get(self.admin, f"other {self.admin}")

    @property
    def oper_word(self) -> str | None:
        """The operational status as a word; None where it was not answered."""
        return None if self.oper is None else OPER_WORDS.get(self.oper, f"other {self.oper}")


@dataclass(frozen=True, slots=True)
class Change:
    """What happened on a port between two polls; None = not certain. Errors are counts of that time."""

    in_bits_per_s: float | None = None
    out_bits_per_s: float | None = None
    utilisation_ratio: float | None = None
    in_errors: int | None = None
    out_errors: int | None = None
    in_discards: int | None = None
    out_discards: int | None = None
    fcs_errors: int | None = None
    late_collisions: int | None = None
    fcs_error_ratio: float | None = None


def reboot(before: DeviceSample, after: DeviceSample) -> str | None:
    """Say by what a reboot between two polls is known, or None if there was none.

    snmpEngineBoots changed (RFC 3414 2.3; it falls where another device answers now, or the old one
    lost its memory), or sysUpTime fell and did not just wrap, or it is shorter than the time since we last
    asked: then the device was started anew unseen, however long it has been up again.
    """
    if before.boots is not None and after.boots is not None and after.boots != before.boots:
        return f"snmpEngineBoots went from {before.boots} to {after.boots}"
    if before.uptime_s is None or after.uptime_s is None or after.uptime_s == before.uptime_s:
        return None
    elapsed_s = after.at - before.at
    if _wrapped(before.uptime_s, after.uptime_s, elapsed_s):
        return None
    if after.uptime_s < before.uptime_s:
        return f"uptime fell from {before.uptime_s:.0f} s to {after.uptime_s:.0f} s"
    if after.uptime_s < elapsed_s - WRAP_SLACK_S - WRAP_SLACK_RATIO * elapsed_s:
        return f"it is up for {after.uptime_s:.0f} s, and we last asked it {elapsed_s:.0f} s ago"
    return None


def _wrapped(before_s: float, after_s: float, elapsed_s: float) -> bool:
    expected_s = before_s + elapsed_s - UPTIME_WRAP_S
    return abs(after_s - expected_s) <= WRAP_SLACK_S + WRAP_SLACK_RATIO * elapsed_s


def increase(before: int | None, after: int | None, bits: int) -> int | None:
    """Count what a counter of `bits` (32 or 64) gained; None where one is missing or it was reset.

    A 64-bit octet counter takes decades to wrap at 100 Gbit/s, so one that fell was reset.
    """
    if before is None or after is None:
        return None
    if after >= before:
        return after - before
    zone = 2**32 // WRAP_ZONE
    if bits == 32 and before >= 2**32 - zone and after < zone:
        return after + 2**32 - before
    return None


def change(before: PortSample | None, after: PortSample) -> Change:
    """Compare two readings of one port; `before` is None at the first one and after a reboot.

    Another name is another port: devices renumber them without a restart, as when a card is plugged in.
    """
    if before is None or before.name != after.name or after.at <= before.at:
        return Change()
    if before.discontinuity != after.discontinuity:
        return Change()
    elapsed_s = after.at - before.at
    incoming = _bits_per_s(before.in_octets, after.in_octets, elapsed_s, before, after)
    outgoing = _bits_per_s(before.out_octets, after.out_octets, elapsed_s, before, after)
    fcs_errors = increase(before.fcs_errors, after.fcs_errors, 32)
    return Change(
        in_bits_per_s=incoming,
        out_bits_per_s=outgoing,
        utilisation_ratio=utilisation(incoming, outgoing, after.speed_bits_per_s),
        in_errors=increase(before.in_errors, after.in_errors, 32),
        out_errors=increase(before.out_errors, after.out_errors, 32),
        in_discards=increase(before.in_discards, after.in_discards, 32),
        out_discards=increase(before.out_discards, after.out_discards, 32),
        fcs_errors=fcs_errors,
        late_collisions=increase(before.late_collisions, after.late_collisions, 32),
        fcs_error_ratio=_part(fcs_errors, increase(before.in_packets, after.in_packets, 64)),
    )


def _part(errors: int | None, good: int | None) -> float | None:
    """Give the errors as a part of all frames; None where either is unknown or there were none."""
    return errors / (errors + good) if errors is not None and good is not None and errors + good else None


def _bits_per_s(
    before: int | None, after: int | None, elapsed_s: float, first: PortSample, second: PortSample
) -> float | None:
    """Make a rate of two octet counts, where they leave no doubt.

    A 32-bit counter is certain only while it cannot have come round unseen: 34 s at 1 Gbit/s.
    """
    speed = second.speed_bits_per_s
    if first.octet_bits != second.octet_bits:
        return None
    if second.octet_bits == 32 and (not speed or elapsed_s * speed / 8 >= 2**32):
        return None
    octets = _octets(before, after, elapsed_s, second)
    if octets is None:
        return None
    fastest = max(speed or 0, first.speed_bits_per_s or 0)
    rate = octets * 8 / elapsed_s
    return None if fastest and rate > fastest * SPIKE else rate


def _octets(before: int | None, after: int | None, elapsed_s: float, port: PortSample) -> int | None:
    """Count octets; a 32-bit counter of certain interval may wrap from anywhere to anywhere its speed allows."""
    if port.octet_bits == 64 or before is None or after is None or after >= before:
        return increase(before, after, 64)
    gained, speed = after + 2**32 - before, port.speed_bits_per_s or 0
    return gained if gained * 8 <= elapsed_s * speed * RATE_SLACK else None


def utilisation(incoming: float | None, outgoing: float | None, speed_bits_per_s: int | None) -> float | None:
    """Give the fuller direction as a part (0 to 1) of the speed; None where something is unknown."""
    known = [rate for rate in (incoming, outgoing) if rate is not None]
    if not known or not speed_bits_per_s:
        return None
    return min(1.0, max(known) / speed_bits_per_s)

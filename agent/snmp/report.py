"""What a poll says about a device: the fields of its record, its health and the reason, its events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.model import Fact, Failed, Failure, Scalar
from agent.snmp import oids
from agent.snmp.conclude import Concluded
from agent.snmp.counters import DeviceSample, PortSample, reboot
from agent.snmp.device_fields import DEVICE_FACTS
from agent.snmp.gather import SCALARS_STALE_S, SINGLE_OBJECTS, Gathered
from agent.snmp.meaning import Finding, worst
from agent.snmp.neighbours import Neighbours
from agent.snmp.port_report import More
from agent.snmp.ports import Names, text, whole
from agent.snmp.profile import FINDINGS, ORDER
from agent.snmp.profile_files import Choice

if TYPE_CHECKING:
    from agent.snmp.message import Value

FACTS: Mapping[str, Fact] = {
    "sys_name": Fact(str, "The device's own name (sysName)."),
    "sys_object_id": Fact(str, "What kind of device it is (sysObjectID)."),
    "uptime_s": Fact(float, "Seconds since its SNMP agent started (sysUpTime); wraps at 497 days."),
    "boots": Fact(int, "How often its SNMP agent started (snmpEngineBoots)."),
    "sys_contact": Fact(str, "Who looks after it; only with `personal_text`."),
    "sys_location": Fact(str, "Where it stands; only with `personal_text`."),
    "profile": Fact(str, "The profile by which it was asked."),
    **DEVICE_FACTS,
    "ports_up": Fact(int, "Watched ports that are up."),
    "ports_down": Fact(int, "Watched ports that are switched on and down."),
    "neighbours": Fact(int, "Devices at the other ends of its cables (LLDP)."),
    "unread": Fact(str, "What this poll could not finish, comma-joined: `watched ports`, and tables of the profile."),
    "findings": Fact(str, "What is the matter, as words of the verdict, comma-joined: " + ", ".join(FINDINGS)),
    "health": Fact(str, "The worst that was found.", words=ORDER),
    "reason": Fact(str, "What was found, worst first; empty where all is well."),
}
"""The fields of an `snmp` record."""
TOLD_AT_ONCE = {
    "ups_on_battery": ("ups_on_battery", "ups_on_mains"),
    "switch_port_err_disabled": ("port_err_disabled", "port_err_enabled"),
}
"""Findings whose beginning and end are events of their own."""


@dataclass(slots=True)
class Memory:
    """What is kept of a device from run to run; `rebooted` waits until a record has told it."""

    device: DeviceSample | None = None
    object_id: str = ""
    rebooted: str = ""
    choice: Choice | None = None
    gathered: Gathered = field(default_factory=Gathered)
    raised: set[tuple[str, str]] = field(default_factory=set)
    neighbours: Neighbours = field(default_factory=Neighbours)
    facts: dict[str, Scalar] = field(default_factory=dict)
    findings: frozenset[str] | None = None
    ports: dict[int, PortSample] = field(default_factory=dict)
    names: Names = field(default_factory=Names)


def system_oids(personal_text: bool) -> tuple[str, ...]:
    """List the system group; contact and location only where personal text is wanted."""
    asked = (oids.SYS_OBJECT_ID, oids.SYS_UP_TIME, oids.SYS_NAME, oids.ENGINE_BOOTS)
    return (*asked, oids.SYS_CONTACT, oids.SYS_LOCATION) if personal_text else asked


def device_sample(system: Mapping[str, Value], at: float) -> DeviceSample:
    """Take uptime and boots; raises `Failed`: auth where a view hides all, mismatch for wrong types."""
    if all(system[oid] is None for oid in (oids.SYS_OBJECT_ID, oids.SYS_UP_TIME, oids.SYS_NAME)):
        raise Failed(Failure.AUTH, "the device answers but shows nothing of its system group: look at its SNMP view")
    ticks = whole(system[oids.SYS_UP_TIME], oids.SYS_UP_TIME)
    boots = whole(system[oids.ENGINE_BOOTS], oids.ENGINE_BOOTS)
    return DeviceSample(at, None if ticks is None else ticks / oids.TICKS_PER_SECOND, boots)


def note_device(memory: Memory, system: Mapping[str, Value], device: DeviceSample) -> str:
    """Remember the device; gives by what a reboot since the last poll is known, or ""."""
    cause = (reboot(memory.device, device) if memory.device else None) or ""
    found = object_id(system)
    memory.device = device
    if cause:
        memory.rebooted = cause
    if cause or found != memory.object_id:
        memory.object_id, memory.choice = found, None
        memory.names = Names()
        memory.gathered.forget()
        memory.ports.clear()
    return cause


def object_id(system: Mapping[str, Value]) -> str:
    """Give sysObjectID, "" where the device has none."""
    found = system[oids.SYS_OBJECT_ID]
    return found if isinstance(found, str) else ""


def system_fields(system: Mapping[str, Value], device: DeviceSample) -> dict[str, Scalar]:
    """Make the fields of the `snmp` record that come from the system group."""
    fields: dict[str, Scalar] = {
        "sys_name": text(system[oids.SYS_NAME]) or None,
        "sys_object_id": object_id(system) or None,
        "uptime_s": device.uptime_s,
        "boots": device.boots,
    }
    personal = {"sys_contact": oids.SYS_CONTACT, "sys_location": oids.SYS_LOCATION}
    return fields | {key: text(system[oid]) for key, oid in personal.items() if oid in system}


def new_facts(memory: Memory, found: Concluded) -> dict[str, Scalar]:
    """Give the facts about the device (model, serial, firmware) when they are first read or changed."""
    new = {key: value for key, value in found.facts.items() if memory.facts.get(key) != value}
    memory.facts = {**memory.facts, **new}
    return new


def summed_up(findings: list[Finding]) -> dict[str, Scalar]:
    """Make `findings`, `health` and `reason`: the worst of all, and all of them, worst first."""
    ranked = sorted(findings, key=lambda finding: -ORDER.index(finding.health))
    words = dict.fromkeys(finding.finding for finding in ranked if finding.finding)
    reason = "; ".join(dict.fromkeys(finding.words for finding in ranked))
    return {"findings": ",".join(words) or None, "health": worst(findings), "reason": reason}


def reboot_event(name: str, memory: Memory) -> list[More]:
    """Tell a reboot once, in the first record after it."""
    cause, memory.rebooted = memory.rebooted, ""
    return [("event", {"kind": "device_rebooted", "detail": f"{name} was started anew: {cause}"})] if cause else []


def unread_finding(known: Gathered, now: float) -> list[Finding]:
    """Say that nothing is known of the device's health, rather than call it well; a poll or two may be missed."""
    if SINGLE_OBJECTS not in known.unread or now - known.scalars_at <= SCALARS_STALE_S:
        return []
    words = "how it is could not be read: it does not answer what its profile asks, or not within the check's timeout"
    return [Finding("warning", words)]


def reboot_finding(cause: str) -> list[Finding]:
    """Say in the first record after it that the device was started anew."""
    return [Finding("warning", f"was started anew: {cause}", "device_rebooted")] if cause else []


def finding_events(name: str, memory: Memory, findings: list[Finding]) -> list[More]:
    """Tell the beginning and the end of what should be known at once, such as a UPS on battery.

    While something could not be read nothing is called over.
    """
    now = frozenset(finding.finding for finding in findings if finding.finding)
    before = memory.findings
    if memory.gathered.unread:
        now |= before or frozenset()
    memory.findings = now
    more: list[More] = []
    for word, (begun, over) in TOLD_AT_ONCE.items():
        if word in now and word not in (before or ()):
            words = next(finding.words for finding in findings if finding.finding == word)
            more.append(("event", {"kind": begun, "detail": f"{name}: {words}"}))
        elif before and word in before and word not in now:
            more.append(("event", {"kind": over, "detail": f"{name}: {word.replace('_', ' ')} is over"}))
    return more


def neighbour_events(name: str, words: list[str]) -> list[More]:
    """Tell that another device is at the other end of a cable."""
    return [("event", {"kind": "neighbour_changed", "detail": f"{name}: {each}"}) for each in words]


def facts_event(name: str, before: Mapping[str, Scalar], now: Mapping[str, Scalar]) -> list[More]:
    """Tell that model, serial number or firmware are others than before."""
    moved = [f"{key} was {before.get(key)}, is {value}" for key, value in now.items() if before.get(key)]
    return [("event", {"kind": "device_changed", "detail": f"{name}: {'; '.join(moved)}"})] if moved else []

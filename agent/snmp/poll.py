"""One poll of a device: system group, profile, watched ports, the profile's objects, neighbours, conclusions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from agent.model import Failed, Outcome, Scalar, outcome_of
from agent.snmp import neighbours, port_report, ports, report
from agent.snmp.conclude import conclude
from agent.snmp.counters import PortSample
from agent.snmp.gather import gather, scalar_oids, time_left
from agent.snmp.meaning import Finding
from agent.snmp.port_report import More
from agent.snmp.profile import WARNING, Profile
from agent.snmp.profile_files import Choice, Profiles
from agent.snmp.session import Session

UNPROVEN = "was never tried on a real device or its recording: compare what it says with the device"
WATCHED_PORTS = "watched ports"
"""What stands in `unread` for them, beside what the profile asks."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a check wants to know of a device; `wall_s` is our wall time, None while it is not set."""

    name: str
    watch_ports: tuple[str, ...]
    limits: Mapping[str, tuple[float, ...]]
    personal_text: bool
    max_repetitions: int
    only_alive: bool
    wall_s: float | None
    say: Callable[[str], None]
    profiles: Callable[[], Awaitable[Profiles]]


async def poll(session: Session, memory: report.Memory, order: Order) -> tuple[dict[str, Scalar], list[More]]:
    """Ask a device everything that this poll has time for; gives the record's fields and the further records.

    Raises what the session raises where the system group cannot be read. Watched ports that cannot, from a device
    that answers, are a finding: a confirmation asks the system group only and would call the device well.
    """
    system = await session.get(report.system_oids(order.personal_text))
    device = report.device_sample(system, asyncio.get_running_loop().time())
    cause = report.note_device(memory, system, device)
    if cause:
        order.say(f"the device was started anew: {cause}")
    fields = report.system_fields(system, device)
    findings = report.reboot_finding(memory.rebooted)
    more = report.reboot_event(order.name, memory)
    if not order.only_alive:
        profile = await _profile(session, memory, order)
        fields["profile"] = profile.name
        around = port_report.Around(device.uptime_s, order.wall_s, order.limits)
        more += await _ports(session, memory, order, around, fields, findings)
        more += await _by_profile(session, profile, memory, order, fields, findings)
        more += await _neighbours(session, profile, memory, order, fields)
        more += report.finding_events(order.name, memory, findings)
        if not profile.judges and not order.watch_ports:
            order.say("nothing of it was judged: ok says no more than that it answers; name its ports in watch_ports")
    if order.only_alive and not findings:  # how it is was not asked: neither well nor ill
        return fields, more
    fields |= report.summed_up(findings)
    order.say(f"health {fields['health']}" + (f": {fields['reason']}" if findings else ""))
    if fields["findings"]:
        order.say(f"the verdict's words for it: {fields['findings']}")
    return fields, more


async def _profile(session: Session, memory: report.Memory, order: Order) -> Profile:
    """Choose the profile, once for each device that answers; say which, and why."""
    if memory.choice is None:
        profiles = await order.profiles()
        memory.choice = profiles.by_object_id(memory.object_id) or await _by_answers(session, profiles, memory)
    choice = memory.choice
    order.say(f"profile {choice.profile.name} ({choice.profile.title}): {choice.why}")
    if choice.profile.ancestors:
        order.say(f"it extends {', '.join(choice.profile.ancestors)}")
    if choice.profile.unproven:
        order.say(f"this profile {UNPROVEN}")
    for name in choice.unproven_parts:
        order.say(f"its part {name} {UNPROVEN}")
    return choice.profile


async def _by_answers(session: Session, profiles: Profiles, memory: report.Memory) -> Choice:
    questions = profiles.questions()
    try:
        found = await session.get(questions)
    except Failed:
        found = {}
    return profiles.by_answers(memory.object_id, {oid for oid in questions if found.get(oid) is not None})


async def _ports(
    session: Session,
    memory: report.Memory,
    order: Order,
    around: port_report.Around,
    fields: dict[str, Scalar],
    findings: list[Finding],
) -> list[More]:
    if not order.watch_ports:
        return []
    try:
        indexes, found = await _read_ports(session, memory.names, order)
    except Failed as failed:
        if outcome_of(failed.failure, "snmp") is not Outcome.FAIL:
            raise
        order.say(f"the watched ports could not be read: {failed.detail}")
        fields["unread"] = WATCHED_PORTS
        findings.append(Finding(WARNING, f"the watched ports could not be read: {failed.detail}"))
        return []
    more, said = port_report.port_reports(indexes, found, memory.ports, memory.names, around)
    findings += said
    fields |= port_report.counts(found)
    return more


async def _read_ports(
    session: Session, names: ports.Names, order: Order
) -> tuple[dict[str, int | None], dict[int, PortSample | None]]:
    indexes = await ports.look_up(session, names, order.watch_ports, order.max_repetitions)
    there = [index for index in indexes.values() if index is not None]
    with_alias = order.personal_text or any(map(names.by_alias, indexes))
    found = await ports.read(session, there, with_alias, names)
    moved = [port for port, index in indexes.items() if index and names.moved(port, index, found[index])]
    if moved:
        names.forget()
    if not order.personal_text:  # an alias may name people: asked to know the port by it, never told
        found = {index: sample and replace(sample, alias="") for index, sample in found.items()}
    return indexes | dict.fromkeys(moved), found


async def _by_profile(
    session: Session,
    profile: Profile,
    memory: report.Memory,
    order: Order,
    fields: dict[str, Scalar],
    findings: list[Finding],
) -> list[More]:
    known = memory.gathered
    asked = len(scalar_oids(profile, order.personal_text, True))
    order.say(f"the profile asks {asked} single objects and {len(profile.tables)} tables")
    await gather(session, profile, known, order.personal_text)
    now = asyncio.get_running_loop().time()
    found = conclude(profile, known, order.limits, order.personal_text, memory.raised, now)
    for line in found.lines:
        order.say(line)
    before = memory.facts
    facts = report.new_facts(memory, found)
    fields |= found.fields | facts
    unread = [WATCHED_PORTS] if fields.get("unread") else []
    fields["unread"] = ",".join([*unread, *known.unread]) or None
    findings += [*found.findings, *report.unread_finding(known, now)]
    return report.facts_event(order.name, before, facts)


async def _neighbours(
    session: Session, profile: Profile, memory: report.Memory, order: Order, fields: dict[str, Scalar]
) -> list[More]:
    if not profile.neighbours or not time_left(session):
        return []
    fields["neighbours"], words = await neighbours.look(session, memory.neighbours)
    return report.neighbour_events(order.name, words)

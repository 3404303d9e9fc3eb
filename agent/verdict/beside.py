"""What is wrong beside the path: names, addresses, time, devices, and who claims an address that is not his."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.health import Health
from agent.illness import DEVICE_FAULT
from agent.model import Failure, Layer, Scalar, State
from agent.verdict.device_words import FINDINGS
from agent.verdict.graph import GATEWAY_WORD, ON_SITE, UNASKED, Distance, Node, Says
from agent.verdict.naming import Headline, failure_of, headline, service_headline, shown_target
from agent.verdict.table import (
    DEVICE_FAILURES,
    DHCP_FAILURES,
    DNS_FAILURES,
    TIME_FAILURES,
    UNDETERMINED,
    Domain,
)
from agent.verdict.view import View

CLAIMED = (Failure.DUPLICATE_ADDRESS, Failure.MISMATCH)
"""Two machines answered for one address, or one with a MAC address that is not the pinned one."""
DEVICES_NAMED = 3
"""More of them than one sentence can hold are on the states of the checks."""
TABLES: Mapping[Layer, Mapping[Failure, str]] = {
    Layer.DNS: DNS_FAILURES,
    Layer.DHCP: DHCP_FAILURES,
    Layer.TIME: TIME_FAILURES,
}
POWER = ("ups_battery_low", "ups_on_battery")
"""First: a site on battery has minutes, and what falls silent then has most likely lost its power."""
URGENCY = (*POWER, "device_down", "snmp_agent_unresponsive", *(word for word in FINDINGS if word not in POWER))
RANKS = (Layer.DHCP, Layer.DNS, Layer.TIME, Layer.SIGNIN)
"""Who is named first of those beside the path: what more people depend on."""


def beside_headline(view: View, node: Node) -> Headline:
    """Name what is wrong with a check beside the path that is down."""
    last = view.newest(node)
    if node.layer is Layer.DEVICE:
        return _silent_device(view, node, last)
    if node.layer is Layer.COLLECTOR:
        return headline("collector_unreachable", [node], target=shown_target(last))
    if node.layer is Layer.SIGNIN:
        return service_headline(view, node)
    name = TABLES.get(node.layer, {}).get(failure_of(last), UNDETERMINED)
    near = view.distances.get(node.checks[0].name) in (Distance.HERE, Distance.NEAR) and node.layer is Layer.DNS
    domain = Domain.SITE if near or node.group == ON_SITE else None
    found = headline(name, [node], target=shown_target(last), domain=domain)
    return replace(found, place=str(last.get("servers") or last.get("detail") or ""))


def beside_headlines(view: View) -> list[Headline]:
    """List everything beside the path, in the order of who depends on it."""
    down = sorted(view.beside, key=_rank)
    named = [beside_headline(view, node) for node in down if node.layer not in (Layer.DEVICE, Layer.COLLECTOR)]
    return [*named, *_wrong_time(view)]


def device_headlines(view: View) -> list[Headline]:
    """List what is wrong with devices: silent ones, and what the others say of themselves, the most urgent first."""
    silent = [beside_headline(view, node) for node in view.beside if node.layer is Layer.DEVICE]
    told = [
        headline(word, [node], target=node.checks[0].name, place=reason)
        for node, health in _devices(view)
        for word, reason in findings(health)
    ]
    return sorted([*silent, *told], key=lambda head: _urgency(head.verdict))


def devices_to_look_at(view: View) -> str:
    """Name the devices that have something to say which is no fault, such as a toner that is low.

    Not their reasons, whose numbers change with each poll: they stand in the records.
    """
    said = [node.checks[0].name for node, health in _devices(view) if health.illness.said.get("health", "ok") != "ok"]
    more = f" and {len(said) - DEVICES_NAMED} more" if len(said) > DEVICES_NAMED else ""
    return f"Look at {', '.join(said[:DEVICES_NAMED])}{more}: not well by their own account." if said else ""


def findings(health: Health) -> list[tuple[str, str]]:
    """List the verdict's words for what a device said of itself last, each with the reason in words.

    A limit of the config for its check (`degraded`) that is passed makes it ill too, where it has no word for that.
    """
    if health.state is State.UNKNOWN:
        return []
    illness = health.illness
    reason = str(illness.said.get("reason") or "")
    found = [(word, reason) for word in illness.words if word in FINDINGS and word != DEVICE_FAULT]
    if illness.stands:
        found.append((DEVICE_FAULT, illness.reason))
    elif health.state is State.DEGRADED and not found:
        found.append((DEVICE_FAULT, health.reason))
    return found


def _devices(view: View) -> list[tuple[Node, Health]]:
    """List the devices that are not silent; what one said stands while a single poll is missed."""
    found = (node for node in view.nodes.values() if node.layer is Layer.DEVICE)
    answering = (node for node in found if view.said[node.key] is not Says.DOWN)
    return [(node, view.healths.get(node.checks[0].name, UNASKED)) for node in answering]


def conflict_headlines(view: View) -> list[Headline]:
    """Name whoever claims an address that is not his: our own, or the gateway's.

    A success further on clears nothing here: the impostor answers too, or only some are misled.
    """
    found = []
    for node in view.nodes.values():
        for check in node.checks:
            health = view.healths.get(check.name, UNASKED)
            if check.type != "arp" or health.state is not State.DOWN or failure_of(health.failed) not in CLAIMED:
                continue
            name = {Layer.ADDRESS: "address_conflict"}.get(node.layer, "")
            name = "gateway_address_conflict" if check.asked == GATEWAY_WORD else name
            if name:
                whole = headline(name, [node], target=str(health.failed.get("address") or check.asked))
                found.append(replace(whole, place=str(health.failed.get("macs") or "")))
    return found


def claimed(view: View) -> list[str]:
    """Name the checks that have begun to see a second machine under one address: to be asked again at once."""
    checks = [check for node in view.nodes.values() for check in node.checks if check.type == "arp"]
    found = ((check.name, view.healths.get(check.name, UNASKED)) for check in checks)
    return [name for name, health in found if health.suspect and failure_of(health.failed) in CLAIMED]


def _silent_device(view: View, node: Node, last: Mapping[str, Scalar]) -> Headline:
    """A device whose other checks fail too is down; one that answers them has only lost its SNMP agent."""
    others = [(check, health) for check, health in view.same_address(node) if check.type != "snmp"]
    name = DEVICE_FAILURES.get(failure_of(last), UNDETERMINED)
    if name != UNDETERMINED and others and all(health.fault_onset for _, health in others):
        name = "device_down"
    answering = sorted({check.type for check, health in others if health.passed and not health.fails})
    answers = f", while it answers {' and '.join(answering)}" if answering else ""
    return replace(headline(name, [node], target=shown_target(last)), others=answers)


def _wrong_time(view: View) -> list[Headline]:
    """List the time servers whose answers are beyond a limit of the config (`degraded`, such as offset_s)."""
    found = []
    for node in view.nodes.values():
        health = view.healths.get(node.checks[0].name, UNASKED)
        if node.layer is Layer.TIME and health.state is State.DEGRADED:
            target = shown_target(health.last)
            found.append(replace(headline("time_offset", [node], target=target), place=health.reason))
    return found


def _rank(node: Node) -> int:
    return RANKS.index(node.layer) if node.layer in RANKS else 0


def _urgency(verdict: str) -> int:
    return URGENCY.index(verdict) if verdict in URGENCY else len(URGENCY)

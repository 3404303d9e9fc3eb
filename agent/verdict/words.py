"""How sure a verdict is, and what it rests on, in words that can be checked against the records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from agent.clock import Instant
from agent.health import Health
from agent.illness import Illness
from agent.model import Layer, State
from agent.verdict.device_words import FINDINGS
from agent.verdict.graph import FAR, Node, down_members
from agent.verdict.naming import Headline
from agent.verdict.view import View

ONE_WITNESS = 0.7
"""Highest confidence that a single check can carry (field.md 4.2)."""
BLIND_WITNESS = 0.5
"""Highest confidence where the checks cannot tell the verdict from its neighbour (contract, section 4)."""

BACK_S = 600.0
"""So long after it came back a check is named among what recovered."""
MOST_BACK = 20
UNREACHED = ("internet_unreachable", "datacentre_unreachable", "wan_uplink_unresponsive", "carrier_path_down")


def sentence(summary: str, since: Instant | None) -> str:
    """End the summary with the time of onset."""
    if since is None:
        return f"{summary}."
    return f"{summary}, since {datetime.fromtimestamp(since.ts, UTC):%H:%M:%S} UTC."


def confidence(view: View, head: Headline) -> float:
    """Weigh the evidence: own fails 0.4, and 0.2 each for a parent that passes, a second witness,
    and what lies beyond failing too; minus 0.2 for each contradiction.
    """
    if not head.nodes:
        return ONE_WITNESS
    node = head.nodes[0]
    if node.layer is Layer.LINK or head.verdict in FINDINGS:
        return 1.0  # our own kernel, or the device itself, says it
    checks = [check for n in head.nodes for check in n.checks]
    beyond = [n for n in view.beyond(node.key) if n.key in view.failing]
    weight = 0.4
    weight += 0.2 * any(view.passing(key) for stage in node.way[-1:] for key in stage)
    weight += 0.2 * bool(head.responder or head.place or len(checks) > 1)
    weight += 0.2 * bool(beyond or node.layer is Layer.SERVICE)
    weight -= 0.2 * len(contradicting(view, head))
    return round(max(0.1, min(weight, _cap(view, head))), 2)


def _cap(view: View, head: Headline) -> float:
    if head.verdict == "lan_gateway_down" and not view.passing(Layer.LAN):
        return BLIND_WITNESS
    if head.nodes[0].layer in FAR and head.verdict in UNREACHED and len(view.far) == 1:
        return BLIND_WITNESS
    if head.verdict in ("wan_uplink_unresponsive", "carrier_path_down") and Layer.UPLINK not in view.nodes:
        return ONE_WITNESS
    return ONE_WITNESS if sum(len(n.checks) for n in head.nodes) == 1 else 1.0


def evidence(view: View, head: Headline) -> tuple[str, ...]:
    """List what speaks for the headline, one short sentence a check."""
    own = [_fails(view, node) for node in head.nodes]
    if not head.nodes:
        return (head.target,) if head.target else ()
    parents = [key for stage in head.nodes[0].way[-1:] for key in stage if view.passing(key)]
    beyond = [n for n in view.beyond(head.nodes[0].key) if n.key in view.failing]
    found = [line for lines in own for line in lines]
    if head.verdict == "wan_uplink_down":
        found += _told_by(view, head.responder, [*head.nodes, *beyond])[:1]
    found += [f"{view.nodes[key].word} passes" for key in parents]
    return tuple(found + ([f"{len(beyond)} beyond it fail too"] if beyond else []))


def _told_by(view: View, responder: str, nodes: list[Node]) -> list[str]:
    fails = [health.told for node in nodes for health in down_members(node, view.healths)]
    return [f"{f['check']}: {f['failure']} from {responder}" for f in fails if f.get("responder") == responder]


def _fails(view: View, node: Node) -> list[str]:
    return [line for check in node.checks for line in _told_of(check.name, view.healths.get(check.name, Health()))]


def _told_of(name: str, health: Health) -> list[str]:
    """Say what a check itself contributes: its fails, the limit it passes, the echoes it lost, what a device said."""
    told = _told_by_device(name, health.illness)
    if health.state is State.DOWN or health.fails:
        said = f" from {health.failed['responder']}" if health.failed.get("responder") else ""
        count = f"{health.fails} in a row" if health.fails else f"passes again, {health.passes} in a row"
        return [f"{name}: {health.failed.get('failure')}{said}, {count}", *told]
    if health.loss.lost:
        return [f"{name}: {health.loss.lost:.0f} of {health.loss.sent:.0f} echoes lost"]
    if health.state is State.DEGRADED:
        return [f"{name}: {health.reason}", *told]
    return told


def _told_by_device(name: str, illness: Illness) -> list[str]:
    if illness.words:
        return [f"{name}: {illness.said.get('reason') or ', '.join(illness.words)}"]
    polls = "poll" if illness.streak == 1 else f"{illness.streak} polls"
    return [f"{name}: {illness.reason}, but well in the last {polls}"] if illness.stands else []


def recovered(healths: Mapping[str, Health], now: Instant) -> tuple[str, ...]:
    """List what came back within the last ten minutes, and when: the proof of a recovery."""
    back = [
        (health.since, name)
        for name, health in healths.items()
        if health.state is State.UP
        and health.failed
        and health.since
        and now.mono_ms - health.since.mono_ms < BACK_S * 1000
    ]
    back.sort(key=lambda found: found[0].mono_ms)
    return tuple(f"{name} came back {datetime.fromtimestamp(at.ts, UTC):%H:%M:%S} UTC" for at, name in back[:MOST_BACK])


def contradicting(view: View, head: Headline) -> tuple[str, ...]:
    """List what speaks against the headline: checks beyond the fault that pass, though not asked since."""
    if not head.nodes:
        return ()
    stale = view.not_asked_since(head.nodes[0])
    return tuple(f"{node.word} passed before and has not been asked since" for node in stale)

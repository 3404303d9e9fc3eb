"""What is slow or loses packets while it works: the loss gate, and the verdicts that end in `degraded` or `slow`.

The loss gate (field.md 4.2): where a segment loses 5 to 90 % of its packets, that is the verdict, and what is merely
silent behind it is withheld; one lost packet otherwise looks like a dead service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum

from agent.check import CheckOptions
from agent.health import Health
from agent.loss import USUAL, USUAL_ON_LAN, Loss, fails_needed
from agent.model import Failure, Layer, State
from agent.verdict.graph import EVIDENCE_TYPES, ON_SITE, PATH_LAYERS, UNASKED, Node
from agent.verdict.naming import Headline, failure_of, headline, shown_target
from agent.verdict.view import View


class Segment(StrEnum):
    """A stretch of the way whose loss is measured as one."""

    LAN = "lan"
    WAN = "wan"


LAYERS: Mapping[Layer, Segment] = {
    Layer.LAN: Segment.LAN,
    Layer.GATEWAY: Segment.LAN,
    Layer.UPLINK: Segment.WAN,
    Layer.CARRIER: Segment.WAN,
    Layer.INTERNET: Segment.WAN,
    Layer.DATACENTRE: Segment.WAN,
}
SILENCE = (Failure.TIMEOUT, Failure.DNS_TIMEOUT, Failure.STALLED, Failure.NO_ANSWER, Failure.RESET)
"""What loss alone can look like."""
DEGRADED = {Segment.LAN: "lan_degraded", Segment.WAN: "wan_degraded"}
NONE = Loss()
ENOUGH, CLEARLY = 12, 3
"""A third of the loss, over so many echoes or more, is another loss than that of the whole way: where 36 % are lost
(20 % each way) so many come through in a row once in 200 times."""
WORTH_ASKING = 3.0
"""More than one lost echo on a WAN gives (ln 7.5): before that only those who lost it are asked."""
MOST_DOUBTFUL = 8
"""So many echoes a second, one a place, decide within seconds and leave the budget to others."""
FEW_FAILS = 2
"""With a second kind of evidence so many fails in a row are enough (contract, section 4)."""


def segment_of(check: CheckOptions) -> Segment | None:
    """Name the segment whose loss the echoes of a check measure; None for what measures none."""
    if check.type != "icmp" or check.group == ON_SITE:
        return None
    return LAYERS.get(Layer(check.layer))


def usual_loss(segment: Segment) -> float:
    """Give the part of its echoes that a segment may lose while it is well."""
    return USUAL_ON_LAN if segment is Segment.LAN else USUAL


def losing(view: View, losses: Mapping[str, Loss]) -> Segment | None:
    """Name the nearest segment that loses packets beyond doubt, and lets others through."""
    for segment in Segment:
        loss, nearer = losses.get(segment, NONE), losses.get(Segment.LAN, NONE)
        if not loss.degrading or not any(_lets_through(view, node) for node in _measuring(view, segment)):
            continue
        lan = _measuring(view, Segment.LAN)
        if segment is Segment.LAN or not lan or (cleared(nearer, loss) and not any(_in_doubt(view, n) for n in lan)):
            return segment
    return None


def _lets_through(view: View, node: Node) -> bool:
    """Whether anything comes back from a place: it passes, or is down and has just answered."""
    return view.passing(node.key) or any(view.healths.get(c.name, UNASKED).mending for c in node.checks)


def _in_doubt(view: View, node: Node) -> bool:
    """Whether echoes of a place were lost, and it is not decided yet whether that is an outage or loss."""
    found = (view.healths.get(check.name, UNASKED) for check in node.checks if segment_of(check))
    return any(health.suspect or health.mending or health.held[1] for health in found)


def cleared(nearer: Loss, farther: Loss) -> bool:
    """Whether what the nearer segment loses cannot be why the farther does; until it is sure, the nearer is asked."""
    if nearer.doubtful:
        return nearer.sent >= ENOUGH and nearer.ratio * CLEARLY < farther.ratio
    return nearer.clean >= ENOUGH


def loss_headline(view: View, segment: Segment, ratio: float) -> Headline | None:
    """Name a segment that loses packets, and who noticed; None if only one place of many does."""
    measuring = _measuring(view, segment)
    noticed = [node for node in measuring if any(_loss(view, c).lost for c in node.checks)]
    if not noticed or 2 * len(noticed) < len(measuring):
        return None
    return headline(DEGRADED[segment], noticed, layer=_layer(segment), target=f"loses {ratio:.0%} of the packets")


def withheld(found: Iterable[Headline], view: View) -> list[Headline]:
    """Leave out what is merely silent behind a segment that loses packets; the segment's own nodes speak for it."""
    kept = []
    for head in found:
        silent = head.nodes and all(failure_of(view.newest(node)) in SILENCE for node in head.nodes)
        if not silent or any(node.layer in LAYERS or node.layer in (Layer.LINK, Layer.ADDRESS) for node in head.nodes):
            kept.append(head)
    return kept


def silent_behind(view: View, node: Node, segment: Segment) -> bool:
    """Whether a node is merely silent, and lies in a segment that loses packets or behind it."""
    if failure_of(view.newest(node)) not in SILENCE or node.layer not in PATH_LAYERS:
        return False
    first = Layer.LAN if segment is Segment.LAN else Layer.UPLINK
    here = segment is Segment.LAN or node.group != ON_SITE
    return here and PATH_LAYERS.index(node.layer) >= PATH_LAYERS.index(first)


def slow_headline(view: View) -> Headline | None:
    """Name the nearest segment that works, but beyond the limits that the config sets (`degraded`)."""
    lan = [n for n in view.degraded if LAYERS.get(n.layer) is Segment.LAN]
    far = [n for n in view.degraded if LAYERS.get(n.layer) is Segment.WAN]
    if lan:
        return headline("lan_degraded", lan, layer=_layer(Segment.LAN), target=_limits(view, lan))
    if far and 2 * len(far) > len([n for n in view.far if view.passing(n.key)]):
        return headline("wan_degraded", far, layer=_layer(Segment.WAN), target=_limits(view, far))
    return None


def slow_services(view: View) -> list[Headline]:
    """Name the services that answer too slowly while the way to them is free."""
    slow = [n for n in view.degraded if n.layer is Layer.SERVICE and view.blocker(n) is None]
    heads = [(headline("remote_service_slow", [n], target=_target(view, n)), _limits(view, [n])) for n in slow]
    return [replace(head, place=limits) for head, limits in heads]


def evidence_headlines(view: View) -> list[Headline]:
    """Name what the measurements of the way itself found: a black hole for large packets, too little capacity."""
    found = []
    for node in view.nodes.values():
        health = view.healths.get(node.checks[0].name, UNASKED)
        if node.checks[0].type not in EVIDENCE_TYPES or view.blocker(node) is not None:
            continue
        if health.state is State.DOWN and health.failed.get("black_hole") is True:
            size = health.failed.get("mtu_bytes")
            found.append(
                headline("path_mtu_black_hole", [node], target=f"more than {size} bytes" if size else "some size")
            )
        elif health.state is State.DEGRADED and health.reason.startswith("bits_per_s "):
            rate = float(health.reason.split()[1])  # as it was when it was too low
            found.append(headline("wan_capacity_low", [node], target=f"{rate / 1e6:.2g} Mbit/s"))
    return found


def fails_wanted(view: View, segment: Segment | None, ratio: float) -> dict[str, int]:
    """Say how many fails in a row make each failing check down, where that is not its own `fail_after`.

    More where packets are lost on the way to it (field.md 4.2), fewer where a second kind of evidence agrees: a black
    hole is found by small packets that pass, again and again, beside large ones that never do, and a service that
    falls silent in the middle of an answer is a kind of its own.
    """
    stalling = segment is None and any(view.stalled(node) for node in view.frontier)
    wanted = {check.name: 1 for node in view.sizes for check in node.checks if stalling}
    for node in view.nodes.values():
        kinds = {check.type for check in node.checks if view.fails(check.name)}
        for check in node.checks:
            if not view.fails(check.name):
                continue
            silent = failure_of(view.healths[check.name].failed) in SILENCE
            if silent and segment and not (segment is Segment.WAN and LAYERS.get(node.layer) is Segment.LAN):
                wanted[check.name] = fails_needed(check.fail_after, ratio)
            elif (len(kinds) > 1 and node.on_path) or view.healths[check.name].failed.get("black_hole") is True:
                wanted[check.name] = min(check.fail_after, wanted.get(check.name, FEW_FAILS))
    return wanted


def doubtful(view: View, losses: Mapping[str, Loss]) -> list[str]:
    """Name whom to ask while lost echoes are not decided yet, in the nearest segment that lost any.

    First those that lost some; once that is more than a single echo all who measure the segment: together they decide
    in seconds what one of them would take a minute for, either way.
    """
    for segment in Segment:
        names = _answering(view, segment)
        losing = [name for name in names if view.healths.get(name, UNASKED).losing]
        if losing:
            together = losses.get(segment, NONE).score >= WORTH_ASKING
            others = [name for name in names if name not in losing] if together else []
            found = [*losing, *others][:MOST_DOUBTFUL]
            clear = cleared(losses.get(Segment.LAN, NONE), losses.get(segment, NONE))
            return found if clear else [*found, *_answering(view, Segment.LAN)[:MOST_DOUBTFUL]]
    return []


def _answering(view: View, segment: Segment) -> list[str]:
    """Name the checks that measure a segment and are not silent as a whole."""
    checks = (check for node in _measuring(view, segment) for check in node.checks if segment_of(check) is segment)
    found = ((check.name, view.healths.get(check.name, UNASKED)) for check in checks)
    return [name for name, health in found if health.losing or not health.fails]


def _limits(view: View, nodes: Iterable[Node]) -> str:
    reasons = (view.healths.get(c.name, UNASKED).reason for n in nodes for c in n.checks)
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason))


def _target(view: View, node: Node) -> str:
    return shown_target(view.healths.get(node.checks[0].name, Health()).last)


def _measuring(view: View, segment: Segment) -> list[Node]:
    """List the nodes of the path whose echoes measure a segment."""
    return [n for n in view.nodes.values() if n.on_path and any(segment_of(c) is segment for c in n.checks)]


def _loss(view: View, check: CheckOptions) -> Loss:
    return view.healths.get(check.name, UNASKED).loss


def _layer(segment: Segment) -> str:
    return str(Layer.LAN if segment is Segment.LAN else Layer.UPLINK)

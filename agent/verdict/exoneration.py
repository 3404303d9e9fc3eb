"""Exoneration (field.md 4.2): a success beyond a place clears it, as far as its way leads through there."""

from __future__ import annotations

from collections.abc import Mapping, Set

from agent.health import Health
from agent.model import Failure, Layer
from agent.verdict.graph import (
    ON_SITE,
    PATH_LAYERS,
    Distance,
    Node,
    Says,
    down_members,
    onset_ms,
    passed_ms,
)

OF_THIS_MACHINE = frozenset({Failure.LOCAL_LINK, Failure.LOCAL_ADDRESS, Failure.LOCAL_ROUTE})
"""What the kernel says of our own port: a service on this very machine answers all the same, and proves nothing."""
WITHOUT_ROUTE = frozenset({Failure.LOCAL_ROUTE})
"""For want of a default route: places on this side of the gateway answer all the same, and prove nothing."""


def cleared_nodes(
    nodes: Mapping[str, Node],
    healths: Mapping[str, Health],
    said: Mapping[str, Says],
    distances: Mapping[str, Distance],
) -> frozenset[str]:
    """Find the nodes that a later success beyond them clears (field.md 4.2, exoneration)."""
    cleared = set()
    for node in nodes.values():
        if said[node.key] is Says.PASS:
            passed = passed_ms(node, healths)
            found = {k for k in node.cleared_by_success if passed >= onset_ms(nodes[k], healths)}
            away = {distances.get(check.name) for check in node.checks}
            if node.group == ON_SITE and away <= {Distance.NEAR, Distance.HERE}:
                found.discard(str(Layer.GATEWAY))  # on our own subnet: its success says nothing of the gateway
            standing = _standing(node, away)
            cleared |= {k for k in found if standing.isdisjoint(_failures(nodes[k], healths))}
    return frozenset(cleared)


def _standing(node: Node, away: Set[Distance | None]) -> frozenset[Failure]:
    """Name the failures of a place on its way that a node's success does not clear; `away` is where it was reached."""
    if away == {Distance.HERE}:
        return OF_THIS_MACHINE
    return frozenset() if _beyond_gateway(node) else WITHOUT_ROUTE


def _failures(node: Node, healths: Mapping[str, Health]) -> set[object]:
    return {health.failed.get("failure") for health in down_members(node, healths)}


def _beyond_gateway(node: Node) -> bool:
    layers = PATH_LAYERS[PATH_LAYERS.index(Layer.GATEWAY) + 1 :]
    return node.layer in layers and node.group != ON_SITE

"""Exoneration (field.md 4.2): a success beyond a place clears it, as far as its way leads through there."""

from __future__ import annotations

from collections.abc import Mapping

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
            if node.group == ON_SITE and distances.get(node.checks[0].name) is Distance.NEAR:
                found.discard(str(Layer.GATEWAY))  # on our own subnet: its success says nothing of the gateway
            cleared |= {k for k in found if _beyond_gateway(node) or not _without_route(nodes[k], healths)}
    return frozenset(cleared)


def _without_route(node: Node, healths: Mapping[str, Health]) -> bool:
    """Whether the node fails for want of a default route: near places answer all the same, and prove nothing."""
    return any(health.failed.get("failure") == Failure.LOCAL_ROUTE for health in down_members(node, healths))


def _beyond_gateway(node: Node) -> bool:
    layers = PATH_LAYERS[PATH_LAYERS.index(Layer.GATEWAY) + 1 :]
    return node.layer in layers and node.group != ON_SITE

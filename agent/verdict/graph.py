"""The path from the probe to a service as a graph of nodes, and what each node's checks say.

A node is a layer of the path, a data centre, a single service, or a single check beside the path.
The way to a node is a tuple of stages, nearest to the probe first; a stage is one node, or several of
which one is enough (all data centres, for a service without a group). Stages that no check covers are
left out, so the last stage is the nearest covered ancestor (contract, section 1, `layer`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from ipaddress import ip_interface

from agent.check import CheckOptions
from agent.health import Health
from agent.model import Layer, State
from agent.policy import parsed

TRUNK = (Layer.LINK, Layer.ADDRESS, Layer.LAN, Layer.GATEWAY, Layer.UPLINK, Layer.CARRIER)
"""The layers before the path divides into the internet and the data centres."""
LOCAL = TRUNK[:3]
PATH_LAYERS = (*TRUNK, Layer.INTERNET, Layer.DATACENTRE, Layer.SERVICE)
BEYOND_GATEWAY = PATH_LAYERS[PATH_LAYERS.index(Layer.GATEWAY) + 1 :]
"""Nearest first."""
FAR = (Layer.INTERNET, Layer.DATACENTRE)
STRONG_TYPES = ("icmp", "arp", "tcp")
"""A layer is down only when all its checks of these types are; where it has none, all it has."""
EVIDENCE_TYPES = ("path", "mtu", "train")
"""They explain a fault of the path, and are never the parent of anything (contract, section 4)."""
ON_SITE = "site"
GATEWAY_WORD = "gateway"
UNASKED = Health()
Stage = tuple[str, ...]


class Says(StrEnum):
    """What the checks of a node say together."""

    PASS = "pass"
    DOWN = "down"
    SUSPECT = "suspect"
    UNKNOWN = "unknown"
    STARTING = "starting"


class Distance(StrEnum):
    """How far away an address is, as far as it shows."""

    HERE = "here"  # this machine itself: not even a cable on the way
    NEAR = "near"  # in our own subnet: no gateway on the way
    BEHIND_GATEWAY = "behind_gateway"
    FAR = "far"  # a public address: beyond the uplink


@dataclass(frozen=True)
class Node:
    """One place that can be at fault: its checks, and the way to it.

    `hearsay`: nobody asked anything there now. A connection that stands may be half-open for a minute, so our
    own delivery is neither a success that clears others nor a headline; `SiteFacts` tells of it.
    """

    key: str
    layer: Layer
    group: str
    checks: tuple[CheckOptions, ...]
    way: tuple[Stage, ...] = ()
    strong: tuple[str, ...] = ()
    hearsay: bool = False

    @cached_property
    def witnesses(self) -> tuple[str, ...]:
        """The names of the checks that decide: those of a strong type, else all."""
        return self.strong or tuple(check.name for check in self.checks)

    @cached_property
    def on_path(self) -> bool:
        """Whether it lies on the path (not beside it, and no mere evidence)."""
        return self.layer in PATH_LAYERS and self.checks[0].type not in EVIDENCE_TYPES

    @property
    def cleared_by_success(self) -> frozenset[str]:
        """The nodes that must work when this one does."""
        return frozenset() if self.hearsay else frozenset(stage[0] for stage in self.way if len(stage) == 1)

    @property
    def word(self) -> str:
        """Its name in `working`: the layer, the group, or the check."""
        if self.layer is Layer.DATACENTRE and self.group:
            return self.group
        return self.key.partition(":")[2] or self.key


def node_key(check: CheckOptions) -> str:
    """Name the node that a check belongs to; who asks for the gateway's MAC speaks for the gateway."""
    if check.type in EVIDENCE_TYPES:
        return f"check:{check.name}"
    layer = Layer(check.layer)
    if check.type == "arp" and layer is Layer.LAN and check.asked == GATEWAY_WORD:
        layer = Layer.GATEWAY
    if layer in TRUNK or layer is Layer.INTERNET:
        return str(layer)
    if layer is Layer.DATACENTRE:
        return f"{layer}:{check.group}"
    return f"check:{check.name}"


@lru_cache(maxsize=8192)
def distance(address: str, own_networks: tuple[str, ...]) -> Distance:
    """Tell how far an address is from what it is; `own_networks` are addresses with prefix."""
    if not address:
        return Distance.BEHIND_GATEWAY
    found, own = parsed(address), [ip_interface(network) for network in own_networks]
    if found.is_loopback or any(found == interface.ip for interface in own):
        return Distance.HERE
    if any(found in interface.network for interface in own):
        return Distance.NEAR
    return Distance.FAR if found.is_global else Distance.BEHIND_GATEWAY


def build(checks: Iterable[CheckOptions], distances: Mapping[str, Distance]) -> dict[str, Node]:
    """Sort the enabled checks into nodes, in path order; `distances` are by check name."""
    members: dict[str, list[CheckOptions]] = {}
    for check in checks:
        if check.enabled:
            members.setdefault(node_key(check), []).append(check)
    order = [*PATH_LAYERS, *(layer for layer in Layer if layer not in PATH_LAYERS)]
    keys = sorted(members, key=lambda key: order.index(_layer(key, members[key][0])))
    centres = tuple(key for key in keys if key.startswith(f"{Layer.DATACENTRE}:"))
    return {key: _node(key, members, centres, distances) for key in keys}


def _node(
    key: str, members: Mapping[str, list[CheckOptions]], centres: Stage, distances: Mapping[str, Distance]
) -> Node:
    first = members[key][0]
    away = distances.get(first.name, Distance.BEHIND_GATEWAY)
    layer = _layer(key, first)
    stages = (tuple(k for k in stage if k in members and k != key) for stage in _way(first, layer, centres, away))
    way = tuple(stage for stage in stages if stage)
    strong = tuple(check.name for check in members[key] if check.type in STRONG_TYPES)
    hearsay = all(check.hearsay for check in members[key])
    return Node(key, layer, first.group, tuple(members[key]), way, strong, hearsay)


def _layer(key: str, check: CheckOptions) -> Layer:
    """Give the layer of a node: its key names it, where it is one of the trunk."""
    return Layer(key) if key in TRUNK else Layer(check.layer)


def _way(check: CheckOptions, layer: Layer, centres: Stage, away: Distance) -> list[Stage]:
    """List all stages on the way to a check, whether something covers them or not."""
    trunk: list[Stage] = [(str(layer),) for layer in TRUNK]
    to_gateway = trunk[: TRUNK.index(Layer.GATEWAY) + 1]
    if layer in TRUNK:
        return trunk[: TRUNK.index(layer)]
    if check.group == ON_SITE:
        return to_gateway
    if layer in FAR:
        return trunk
    if check.group:
        return [*trunk, (f"{Layer.DATACENTRE}:{check.group}",)]
    if layer is Layer.SERVICE:
        return [*trunk, centres]
    local = trunk[: len(LOCAL)]
    beside = {Distance.HERE: local, Distance.NEAR: local, Distance.FAR: trunk}
    return beside.get(away, to_gateway)


def says(node: Node, healths: Mapping[str, Health]) -> Says:
    """Combine the checks of a node: any pass is a pass; down is it only when all that could measure say so."""
    found = [healths.get(name, UNASKED) for name in node.witnesses]
    if any(health.state in (State.UP, State.DEGRADED) and not health.suspect for health in found):
        return Says.PASS
    if any(health.suspect for health in found):
        return Says.SUSPECT
    if any(not health.decided for health in found):
        return Says.STARTING
    return Says.DOWN if any(health.state is State.DOWN for health in found) else Says.UNKNOWN


def down_members(node: Node, healths: Mapping[str, Health]) -> list[Health]:
    """Give the health of the node's checks that fail, or are down and only begin to pass again."""
    found = [healths.get(check.name, UNASKED) for check in node.checks]
    return [health for health in found if health.fault_onset]


def onset_ms(node: Node, healths: Mapping[str, Health]) -> int:
    """Say when a failing node began to fail (milliseconds since boot)."""
    return min((h.fault_onset.mono_ms for h in down_members(node, healths) if h.fault_onset), default=0)


def passed_ms(node: Node, healths: Mapping[str, Health]) -> int:
    """Say when any check of the node last passed (milliseconds since boot); -1 for never."""
    passes = (healths.get(check.name, UNASKED).passed for check in node.checks)
    return max((p.mono_ms for p in passes if p), default=-1)


class Path:
    """The nodes of a config's checks, drawn anew only when an address shows itself nearer or farther away."""

    def __init__(self, checks: Iterable[CheckOptions]) -> None:
        """Take the checks that run."""
        self.checks = tuple(check for check in checks if check.enabled)
        self._distances: Mapping[str, Distance] = {}
        self._nodes = build(self.checks, {})

    def nodes(self, distances: Mapping[str, Distance]) -> Mapping[str, Node]:
        """Give the nodes, in path order, for these distances by check name."""
        if distances != self._distances:
            self._distances, self._nodes = distances, build(self.checks, distances)
        return self._nodes

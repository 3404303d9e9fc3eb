"""One look at the whole path: what fails, what a success beyond has cleared, and where the frontier is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from agent.check import CheckOptions
from agent.health import Health
from agent.model import Failure, Layer, Scalar, State
from agent.verdict.exoneration import cleared_nodes
from agent.verdict.graph import (
    EVIDENCE_TYPES,
    FAR,
    PATH_LAYERS,
    UNASKED,
    Distance,
    Node,
    Path,
    Says,
    distance,
    down_members,
    onset_ms,
    passed_ms,
    says,
)

SETTLED_MS = 5000
"""After the way came back this long is given to what lies behind it: neighbours and routes are found one by one."""


@dataclass(frozen=True)
class View:
    """The nodes with what they say; `failing` are down or suspect, and no success beyond has cleared them.

    What a judgement asks for again and again is worked out once, when it is first asked for.
    """

    nodes: Mapping[str, Node]
    healths: Mapping[str, Health]
    said: Mapping[str, Says]
    failing: frozenset[str]
    distances: Mapping[str, Distance]

    def blocker(self, node: Node) -> str | None:
        """Name the nearest stage on the way to a node that fails as a whole; None if the way is free."""
        for stage in node.way if self.failing else ():
            if all(key in self.failing for key in stage):
                return stage[0]
        return None

    @cached_property
    def frontier(self) -> list[Node]:
        """The failing nodes of the path whose way is free, nearest first."""
        return [n for n in self.nodes.values() if n.on_path and n.key in self.failing and self.blocker(n) is None]

    @cached_property
    def beside(self) -> list[Node]:
        """The nodes beside the path that are down while their way is free, but for our own delivery.

        One that was asked last while the path was still broken waits until it was asked again: see `stale`.
        """
        return [n for n in self._down_beside if not self._outlived(n)]

    @cached_property
    def stale(self) -> list[Node]:
        """The nodes beside the path that were found down before something came back, and not asked since."""
        return [n for n in self._down_beside if self._outlived(n)]

    @cached_property
    def _down_beside(self) -> list[Node]:
        own = (n for n in self.nodes.values() if not (n.on_path or n.hearsay or n.checks[0].type in EVIDENCE_TYPES))
        down = (n for n in own if self.said[n.key] is Says.DOWN)
        return [n for n in down if self.blocker(n) is None]

    def _outlived(self, node: Node) -> bool:
        """Whether something came back after the node was asked last."""
        return node.checks[0].asked_again and self.outlived(_newest_fail(node, self.healths))

    def outlived(self, health: Health) -> bool:
        """Whether something came back after a check was asked last."""
        return self.back_ms + SETTLED_MS > _seen_ms(health)

    @cached_property
    def far(self) -> list[Node]:
        """The nodes where the path divides: the internet and each data centre."""
        return [node for node in self.nodes.values() if node.layer in FAR]

    @cached_property
    def trunk(self) -> list[Node]:
        """The nodes between the gateway and there."""
        return [node for node in self.nodes.values() if node.key in (Layer.UPLINK, Layer.CARRIER)]

    def fails(self, name: str) -> int:
        """Count the fails in a row of a check; 0 for one that was not asked yet."""
        return self.healths.get(name, UNASKED).fails

    def passing(self, key: str) -> bool:
        """Tell whether a node passes."""
        return self.said.get(key) is Says.PASS

    def beyond(self, key: str) -> list[Node]:
        """List the nodes that lie behind a node."""
        return self._behind.get(key, [])

    @cached_property
    def _behind(self) -> Mapping[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            for stage in node.way:
                if len(stage) == 1:
                    found.setdefault(stage[0], []).append(node)
        return found

    def same_address(self, node: Node) -> list[tuple[CheckOptions, Health]]:
        """List the other checks that were last asked at the address at which a node failed, with their health."""
        address = _newest_fail(node, self.healths).failed.get("address")
        return [(c, h) for c, h in self._by_address.get(str(address), []) if c not in node.checks] if address else []

    @cached_property
    def _by_address(self) -> Mapping[str, list[tuple[CheckOptions, Health]]]:
        found: dict[str, list[tuple[CheckOptions, Health]]] = {}
        for node in self.nodes.values():
            for check in node.checks:
                if address := _address(self.healths, check.name):
                    found.setdefault(address, []).append((check, self.healths[check.name]))
        return found

    def onset_ms(self, node: Node) -> int:
        """Say when a node began to fail (milliseconds since boot)."""
        return onset_ms(node, self.healths)

    def not_asked_since(self, node: Node) -> list[Node]:
        """List nodes behind a failing one that passed before its fault and were not asked since.

        None where our own kernel says it (the link), and none once another node behind it fails too.
        """
        beyond = [] if node.layer is Layer.LINK else self.beyond(node.key)
        if any(n.key in self.failing for n in beyond):
            return []
        began = self.onset_ms(node)
        return [n for n in beyond if self.passing(n.key) and passed_ms(n, self.healths) < began]

    def outdated(self, node: Node) -> list[Node]:
        """List whom to ask before a failing node is believed: nodes behind it that were not asked since it
        began to fail, or the node itself if anything came back after it was asked last.
        """
        return [node] if self._outlived(node) else self.not_asked_since(node)

    def unproven(self, node: Node) -> list[Node]:
        """List the places that must be asked before a failing one is believed to be alone, and were not asked since.

        A router that has lost the way says so at once: three fails of a service come before any other place is asked
        once. Where the path divides all must be asked, and the way up to there: which of them fail is the verdict. A
        service that stalls in the middle of an answer may only suffer from a way that swallows large packets.
        """
        began = self.onset_ms(node)
        if self.stalled(node):
            return [n for n in self.sizes if self.said[n.key] is Says.SUSPECT or passed_ms(n, self.healths) < began]
        if node.layer in FAR:
            places = [*self.trunk, *(n for n in self.far if n.key != node.key)]
        elif node.layer is Layer.SERVICE and self.newest(node).get("failure") == Failure.UNREACHABLE:
            places = [*(self.nodes[key] for stage in node.way[-1:] for key in stage), *self.far]
        else:
            return []
        return list({n.key: n for n in places if self.passing(n.key) and passed_ms(n, self.healths) < began}.values())

    def stalled(self, node: Node) -> bool:
        """Tell whether a service takes the connection and then says nothing, or not all."""
        newest = self.newest(node) if node.layer is Layer.SERVICE else {}
        return newest.get("failure") in (Failure.STALLED, Failure.TIMEOUT) and newest.get("connect_s") is not None

    @cached_property
    def sizes(self) -> list[Node]:
        """The nodes that measure how large packets may be on the way, while they may be asked."""
        found = (n for n in self.nodes.values() if n.checks[0].type == "mtu" and self.blocker(n) is None)
        return [n for n in found if self.said[n.key] in (Says.PASS, Says.SUSPECT)]

    def newest(self, node: Node) -> Mapping[str, Scalar]:
        """Give the record fields of the newest fail of a node's checks; none where none fails."""
        return _newest_fail(node, self.healths).failed

    def asked_ms(self, node: Node) -> int:
        """Say when the newest fail of a node was asked for (milliseconds since boot); 0 where none fails."""
        return _seen_ms(_newest_fail(node, self.healths))

    @cached_property
    def degraded(self) -> list[Node]:
        """The nodes of the path that pass, all their deciding checks beyond a limit of the config."""
        slow = {name for name, health in self.healths.items() if health.state is State.DEGRADED}
        return [n for n in self.nodes.values() if slow and n.on_path and slow.issuperset(n.witnesses)]

    def services_of(self, group: str) -> list[Node]:
        """List the services of a data centre."""
        return self._services.get(group, [])

    @cached_property
    def _services(self) -> Mapping[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            if node.layer is Layer.SERVICE:
                found.setdefault(node.group, []).append(node)
        return found

    @cached_property
    def back_ms(self) -> int:
        """When anything last came back after it had failed (milliseconds since boot); 0 if nothing ever did.

        Whatever brought one thing back may have brought all: what is still down must be asked again.
        """
        back = (h.onset for h in self.healths.values() if h.failed and h.passes)
        return max((onset.mono_ms for onset in back if onset), default=0)

    def counting(self, node: Node) -> list[str]:
        """Name the checks of a node whose fails are being counted."""
        return [c.name for c in node.checks if self.healths.get(c.name, UNASKED).fails]

    def mending(self) -> list[str]:
        """Name the checks that are down and have begun to pass again: the next passes are worth asking for."""
        found = (c.name for n in self.nodes.values() for c in n.checks)
        return [name for name in found if name in self.healths and self.healths[name].mending]

    def undecided(self) -> list[CheckOptions]:
        """List the checks of the path that never had a state."""
        on_path = (n for n in self.nodes.values() if n.on_path)
        return [c for n in on_path for c in n.checks if not self.healths.get(c.name, UNASKED).decided]

    def words(self, wanted: Says) -> list[str]:
        """Name the layers and groups of the path that say this, nearest first, each once."""
        found = (n for n in self.nodes.values() if n.on_path and self.said[n.key] is wanted)
        return list(dict.fromkeys("service" if n.layer is Layer.SERVICE else n.word for n in found))

    def blind(self) -> list[str]:
        """Name the layers of the path that no check covers."""
        covered = {node.layer for node in self.nodes.values()}
        return [str(layer) for layer in PATH_LAYERS if layer not in covered]


def _newest_fail(node: Node, healths: Mapping[str, Health]) -> Health:
    return max(down_members(node, healths), key=_seen_ms, default=UNASKED)


def _seen_ms(health: Health) -> int:
    return health.seen.mono_ms if health.seen else 0


def look(path: Path, healths: Mapping[str, Health]) -> View:
    """Combine checks and their health into a view."""
    networks = own_networks(healths)
    distances = {c.name: distance(_address(healths, c.name), networks) for c in path.checks}
    nodes = path.nodes(distances)
    said = {key: says(node, healths) for key, node in nodes.items()}
    failing = frozenset(key for key, word in said.items() if word in (Says.DOWN, Says.SUSPECT))
    if failing:
        failing -= cleared_nodes(nodes, healths, said, distances)
    return View(nodes, healths, said, failing, distances)


def own_networks(healths: Mapping[str, Health]) -> tuple[str, ...]:
    """Take our own subnets from the `addresses` that the link checks reported."""
    texts = (str(health.last.get("addresses") or "") for health in healths.values())
    return tuple(part for text in texts for part in text.split(",") if "/" in part)


def _address(healths: Mapping[str, Health], name: str) -> str:
    return str(healths[name].last.get("address") or "") if name in healths else ""


def unreachable(view: View) -> dict[str, str]:
    """Lay `unreachable` over what fails behind a fault: check name → name of the check that is the cause."""
    found = {}
    for node in view.nodes.values():
        blocker = view.blocker(node)
        if blocker is None or view.said[blocker] is not Says.DOWN:
            continue
        for check in node.checks:
            health = view.healths.get(check.name, UNASKED)
            if health.state in (State.DOWN, State.UNKNOWN):
                found[check.name] = view.nodes[blocker].checks[0].name
    return found

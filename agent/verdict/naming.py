"""Which verdict a failing node is: rows of the decision table (field.md 4.3), first match wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from agent.model import Failure, Layer, Scalar
from agent.verdict.graph import LOCAL, ON_SITE, Distance, Node, down_members
from agent.verdict.table import (
    ADDRESS_FAILURES,
    ISOLATED,
    LINK_FAILURES,
    REMOTE_FAILURES,
    ROWS,
    UNDETERMINED,
    Domain,
)
from agent.verdict.view import View

ICMP_UNREACHABLE = (1, 3)
"""Type of a destination-unreachable message: 1 of ICMPv6 (RFC 4443), 3 of ICMP (RFC 792)."""


@dataclass(frozen=True, slots=True)
class Headline:
    """A verdict with the nodes that caused it and the words for its sentence."""

    verdict: str
    domain: Domain
    layer: str = ""
    nodes: tuple[Node, ...] = ()
    target: str = ""
    place: str = ""
    responder: str = ""
    others: str = ""


def trunk_headline(view: View, node: Node) -> Headline:
    """Name a fault of the path before it divides."""
    last = view.newest(node)
    name = {
        Layer.LINK: _link(last),
        Layer.ADDRESS: ADDRESS_FAILURES.get(failure_of(last), UNDETERMINED),
        Layer.LAN: "lan_isolated" if Layer.GATEWAY in view.failing else UNDETERMINED,
        Layer.GATEWAY: "lan_gateway_down",
        Layer.UPLINK: _uplink(view, [node]),
        Layer.CARRIER: _carrier(view, node),
    }.get(node.layer, UNDETERMINED)
    own = {Layer.LINK: last.get("interface"), Layer.GATEWAY: last.get("address")}.get(node.layer)
    target = str(own or shown_target(last))
    return headline(name, [node], target=target, responder=_gateway(view))


def far_headline(view: View, down: list[Node]) -> list[Headline]:
    """Name what is wrong where the path divides: the uplink if all places fail, else the place itself."""
    if not down:
        return []
    everything = len(down) == len(view.far)
    if everything and (len(down) > 1 or _uplink(view, down) == "wan_uplink_down"):
        if view.passing(Layer.CARRIER):
            return [headline("carrier_path_down", down, layer=Layer.CARRIER)]
        if view.passing(Layer.UPLINK):
            return [headline(_beyond_uplink(view, down), down, layer=Layer.CARRIER, responder=_gateway(view))]
        return [headline(_uplink(view, down), down, layer=Layer.UPLINK, responder=_gateway(view))]
    centres = [node for node in down if node.layer is Layer.DATACENTRE]
    working = [node.word for node in view.far if view.passing(node.key)]
    others = f", while {' and '.join(working)} answer{'s' * (len(working) == 1)}" if working else ""
    found = []
    if centres:
        place = ", ".join(node.group or "-" for node in centres)
        found.append(replace(headline("datacentre_unreachable", centres, place=place), others=others))
    internet = [node for node in down if node.layer is Layer.INTERNET]
    return found + [replace(headline("internet_unreachable", [node]), others=others) for node in internet]


def service_headline(view: View, node: Node) -> Headline:
    """Name what is wrong with one service while the way to it is free: by who spoke, if anybody did."""
    last = view.newest(node)
    if failure_of(last) is Failure.TIMEOUT:
        told = (health.told for health in down_members(node, view.healths) if health.told)
        last = next(told, last)
    name = REMOTE_FAILURES.get(failure_of(last), UNDETERMINED)
    if name == "remote_filtered_or_down" and "connect_s" in last:
        name = "remote_service_unresponsive"
    if name == "remote_filtered_or_down" and _others_answer(view, node):
        name = "remote_port_filtered"
    if name == "remote_host_down" and not last.get("responder"):
        name = "remote_filtered_or_down"
    whose = _whose(view, node) if node.group == ON_SITE or name.startswith("remote_") else None
    return headline(name, [node], target=shown_target(last), responder=str(last.get("responder") or ""), domain=whose)


def _others_answer(view: View, node: Node) -> bool:
    """Whether another check of the same address passed while this one failed: before and after its last fail began."""
    began, asked = view.onset_ms(node), view.asked_ms(node)
    passing = (health for _, health in view.same_address(node) if not health.fails)
    return any(h.passed.mono_ms >= began and h.onset.mono_ms < asked for h in passing if h.passed and h.onset)


def isolate(view: View, found: Iterable[Headline], reason: str) -> list[Headline]:
    """Call everything that fails beyond the gateway one thing, which is meant: isolated by policy.

    What fails up to the gateway, and on the site, keeps its name and comes first.
    """
    listed = list(found)
    beyond = [head for head in listed if all(beyond_gateway(view, node) for node in head.nodes)]
    if not beyond:
        return listed
    nodes = tuple(dict.fromkeys(node.key for head in beyond for node in head.nodes))
    own = headline(ISOLATED, [view.nodes[key] for key in nodes], target=reason, domain=_cut_off(view))
    at = listed.index(beyond[0])
    return [*(h for h in listed[:at] if h not in beyond), own, *(h for h in listed[at:] if h not in beyond)]


def beyond_gateway(view: View, node: Node) -> bool:
    """Tell whether the way to a node leads through the gateway and off the site."""
    if node.layer in LOCAL or node.layer is Layer.GATEWAY or node.group == ON_SITE:
        return False
    return node.on_path or any(view.distances.get(check.name) is Distance.FAR for check in node.checks)


def _cut_off(view: View) -> Domain:
    """Isolation is a data centre's matter where one is cut off as a whole, else a service's."""
    failing = [view.nodes[key] for key in view.failing]
    whole = any(n.layer is Layer.DATACENTRE or (n.layer is Layer.SERVICE and _whose(view, n)) for n in failing)
    return Domain.DATACENTRE if whole else Domain.SERVICE


def headline(
    name: str,
    nodes: Iterable[Node],
    *,
    layer: str = "",
    target: str = "",
    place: str = "",
    responder: str = "",
    domain: Domain | None = None,
) -> Headline:
    """Make a headline; the layer is that of its first node, the domain that of the table."""
    found = tuple(nodes)
    whose = ROWS[name].domain if domain is None or name == UNDETERMINED else domain
    target = target or ", ".join(c.name for n in found for c in n.checks)
    return Headline(name, whose, str(layer or found[0].layer), found, target, place, responder)


def failure_of(last: Mapping[str, Scalar]) -> Failure:
    """Read the failure of a record's fields; `internal` where there is none."""
    return Failure(str(last.get("failure") or Failure.INTERNAL))


def shown_target(last: Mapping[str, Scalar]) -> str:
    """Write a target for people: the check's name, with the address used."""
    name, address = str(last.get("check") or ""), str(last.get("address") or last.get("target") or "")
    return f"{name} ({address})" if address and address != name else name


def _link(last: Mapping[str, Scalar]) -> str:
    if last.get("admin_up") is False:
        return "local_interface_admin_down"
    return LINK_FAILURES.get(failure_of(last), UNDETERMINED)


def _carrier(view: View, node: Node) -> str:
    if view.passing(Layer.UPLINK):
        return _beyond_uplink(view, [node])
    return "wan_uplink_down" if _uplink(view, [node]) == "wan_uplink_down" else "carrier_path_down"


def _beyond_uplink(view: View, down: Iterable[Node]) -> str:
    """While the first hop answers, a gateway that knows no way further lacks a route."""
    return "wan_route_missing" if _uplink(view, down) == "wan_uplink_down" else "carrier_path_down"


def _uplink(view: View, down: Iterable[Node]) -> str:
    """Tell by who answered: the gateway itself says there is no way, or nobody says anything.

    What it says of a place further on counts too: it may have no word left for the nearest one (`Health.told`).
    """
    gateway = _gateway(view)
    nodes = [found for node in down for found in (node, *view.beyond(node.key))]
    told = [health.told for node in nodes for health in down_members(node, view.healths)]
    said = any(fail.get("responder") == gateway and fail.get("icmp_type") in ICMP_UNREACHABLE for fail in told)
    return "wan_uplink_down" if gateway and said else "wan_uplink_unresponsive"


def _gateway(view: View) -> str:
    node = view.nodes.get(Layer.GATEWAY)
    lasts = (view.healths[c.name].last for c in node.checks if c.name in view.healths) if node else iter(())
    return next((str(last.get("address")) for last in lasts if last.get("address")), "")


def _whose(view: View, node: Node) -> Domain | None:
    """A service is its data centre's fault when every service of the group fails."""
    if node.group == ON_SITE:
        return Domain.SITE
    group = view.services_of(node.group)
    all_fail = node.group and len(group) > 1 and all(n.key in view.failing for n in group)
    return Domain.DATACENTRE if all_fail else None

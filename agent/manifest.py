"""Everything that a config makes this probe send, listen on and tell, as one value with one digest, for approval.

It follows from the checks' own declarations (`sends`, `reaches`), so that it cannot forget one. The same config
gives the same manifest on every machine: words such as `gateway` and `resolver` stay words. The digest is the
sha256 of the canonical form: the JSON of the manifest without `sha256`, keys sorted, no white space, UTF-8.
Anyone can check it: `siteprobe manifest --json | jq -jcS 'del(.sha256)' | sha256sum`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent import wording
from agent.check import CheckOptions
from agent.checks.path import Path, trace_of
from agent.config import Config
from agent.messages import HEARTBEAT_S
from agent.model import Fact
from agent.net.resolve import DNS_PORT, FRESH_S, QUERIES_A_LOOKUP
from agent.net.trace_packets import MOST_HOPS
from agent.options import is_address
from agent.policy import Policy
from agent.safety import SNMP_PDUS_PER_SECOND
from agent.verdict.graph import BEYOND_GATEWAY, ON_SITE

FORM = 1
"""Version of the manifest's own form."""
DAY_S = 86400
COLLECTOR = "collector"
LOOKUPS = "name lookups"
RESOLVER = "resolver"
"""The system's own name servers, in the order of resolv.conf."""
KNOWN_HERE = re.compile("localhost|gateway|resolver(-[1-9])?")
"""What needs no name server (agent.net.resolve)."""
CARDS: tuple[tuple[str, Mapping[str, Fact]], ...] = (
    ("status", wording.STATUS),
    ("about", wording.ABOUT),
    ("heartbeat", wording.HEARTBEAT),
    ("verdict", wording.VERDICT),
    ("state", wording.STATE),
    ("response", wording.RESPONSE),
)


@dataclass(frozen=True, slots=True)
class Flow:
    """What leaves for one port of one destination, as configured; `of` names who sends it (checks, lookups…).

    `packets_per_day` counts what the budgets count: an echo, a datagram, a connection, a who-has; to the
    collector, a message.
    """

    destination: str
    protocol: str
    port: int | None
    packets_per_day: float
    of: str


def manifest(config: Config) -> dict[str, Any]:
    """Give the manifest of a config, with its `sha256`; all values are JSON's."""
    told = {
        "manifest": FORM,
        "org": config.identity.org,
        "site": config.identity.site,
        "node": config.identity.node,
        "sends": _rows((*_checks(config), *_lookups(config), _collector(config))),
        "traced": {"checks": sorted(check.name for check in _traced(config)), "packets_a_trace": MOST_HOPS},
        "asked_through_a_proxy": _rows(_through_a_proxy(config)),
        "listens": _listeners(config),
        "commands": sorted(config.commands.enabled),
        "limits": _limits(config.safety),
        "fields": _fields(config),
    }
    return told | {"sha256": hashlib.sha256(canonical(told)).hexdigest()}


def digest(config: Config) -> str:
    """Give the sha256 of the manifest, as `about` tells it."""
    return str(manifest(config)["sha256"])


def canonical(told: Mapping[str, Any]) -> bytes:
    """Write a manifest without its digest as the bytes that are hashed."""
    bare = {key: value for key, value in told.items() if key != "sha256"}
    return json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _checks(config: Config) -> Iterator[Flow]:
    for check in config.active:
        for traffic in check.sends():
            a_day = traffic.requests * DAY_S / check.interval_s
            yield Flow(traffic.destination, traffic.protocol, traffic.port, a_day, check.name)


def _traced(config: Config) -> list[CheckOptions]:
    """List the checks that the agent traces the way of when they go down (agent.tracer), or on command."""
    beyond = [c for c in config.active if c.layer in BEYOND_GATEWAY and c.group != ON_SITE and c.type != Path.type]
    asked = config.active if "traceroute" in config.commands.enabled else beyond
    return [check for check in asked if trace_of(check)]


def _through_a_proxy(config: Config) -> Iterator[Flow]:
    for check in config.active:
        for traffic in check.reaches():
            yield Flow(traffic.destination, traffic.protocol, traffic.port, DAY_S / check.interval_s, check.name)


def _lookups(config: Config) -> Iterator[Flow]:
    """Give the questions for names: two datagrams a name, at most once a minute; TCP only after a cut answer."""
    paces = _names(config)
    if paces:
        a_day = sum(QUERIES_A_LOOKUP * DAY_S / max(pause_s, FRESH_S) for pause_s in paces.values())
        yield Flow(RESOLVER, "udp", DNS_PORT, a_day, LOOKUPS)
        yield Flow(RESOLVER, "tcp", DNS_PORT, 0, LOOKUPS)


def _names(config: Config) -> dict[str, float]:
    """Give each name that must be looked up with the shortest pause between two lookups, in seconds."""
    asked = [(t.destination, check.interval_s) for check in config.active for t in check.sends()]
    paces: dict[str, float] = {}
    for name, pause_s in [*asked, (config.mqtt.host, float(DAY_S))]:
        if not (is_address(name) or KNOWN_HERE.fullmatch(name)):
            paces[name] = min(pause_s, paces.get(name, pause_s))
    return paces


def _collector(config: Config) -> Flow:
    """Give the one connection that stays open: a message for each run, and the heartbeats."""
    messages = DAY_S / HEARTBEAT_S + sum(DAY_S / check.interval_s for check in config.active)
    return Flow(config.mqtt.host, "tcp", config.mqtt.port, messages, COLLECTOR)


def _rows(flows: Iterable[Flow]) -> list[dict[str, Any]]:
    """Join the flows to the same port, in a fixed order; fractions of a packet are rounded up."""
    joined: dict[tuple[str, str, int], list[Flow]] = {}
    for flow in flows:
        joined.setdefault((flow.destination, flow.protocol, flow.port or 0), []).append(flow)
    return [
        {
            "destination": destination,
            "protocol": protocol,
            "port": port or None,
            "packets_per_day": math.ceil(sum(flow.packets_per_day for flow in found) - 1e-6),
            "for": sorted({flow.of for flow in found}),
        }
        for (destination, protocol, port), found in sorted(joined.items())
    ]


def _listeners(config: Config) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"protocol": "unix", "address": f"{config.buffer.directory}/siteprobe.sock", "port": None, "for": "status"}
    ]
    for protocol, section, name in (("tcp", config.status, "local page"), ("udp", config.traps, "SNMP notifications")):
        if section.listen:
            address, port = section.listen
            found.append({"protocol": protocol, "address": address, "port": port, "for": name})
    return [*found, *_overheard(config)]


def _overheard(config: Config) -> Iterator[dict[str, Any]]:
    """Give what is heard at our own port beside answers: the switch (agent.neighbourhood), and by consent the rest."""
    link = next((check for check in config.active if check.type == "link"), None)
    heard = [("lldp, cdp", link, "the switch at our own port")] if link else []
    heard += sorted(((c.hears, c, c.name) for c in config.active if c.hears), key=lambda each: each[2])
    for what, check, name in heard:
        port = str(getattr(check, "interface", "")) or "own port"
        yield {"protocol": what, "address": port, "port": None, "for": name}


def _limits(policy: Policy) -> dict[str, Any]:
    """Give the fence and the budgets; whole numbers without a point, so that every JSON writer agrees."""
    rates = ("packets_per_second", "burst", "target_per_second", "target_burst")
    paces = {name: getattr(policy, name) for name in rates}
    whole = {name: int(pace) if pace == int(pace) else pace for name, pace in paces.items()}
    fence = {"allow": sorted(map(str, policy.allow)), "deny": sorted(map(str, policy.deny))}
    return fence | whole | {"snmp_pdus_per_second_a_device": SNMP_PDUS_PER_SECOND}


def _fields(config: Config) -> dict[str, list[str]]:
    """Name every field that leaves the site: of the retained messages, of the answers, and of each record type."""
    found = {name: _names_of(facts) for name, facts in CARDS}
    for check in {check.type: check for check in config.active}.values():
        found |= _fields_of(check)
    if _traced(config):
        found["record path"] = _names_of(_record_facts(Path))
    for name, (_, facts) in wording.OWN_RECORDS.items():
        found[f"record {name}"] = _names_of({**wording.HEAD, "late": wording.LATE, **facts})
    for name in config.commands.enabled:
        found[f"result of {name}"] = _names_of(wording.RESULTS.get(name, {}))
    return found


def _fields_of(check: CheckOptions) -> dict[str, list[str]]:
    head = {**wording.HEAD, "late": wording.LATE, **wording.CHECK}
    own = {f"record {check.type}": _names_of(_record_facts(type(check)))}
    return own | {f"record {name}": _names_of({**head, **facts}) for name, facts in check.more_facts.items()}


def _record_facts(kind: type[CheckOptions]) -> Mapping[str, Fact]:
    return {**wording.HEAD, "late": wording.LATE, **wording.CHECK, **wording.OUTCOME, **kind.facts}


def _names_of(facts: Mapping[str, Fact]) -> list[str]:
    """List the names of fields, those of an inner object after a point."""
    inner = (f"{name}.{part}" for name, fact in facts.items() for part in fact.of or ())
    return sorted([*facts, *inner])

"""Warnings: what the config cannot know, cannot afford, or had better not do. The file still works."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from agent.config.load import Config
from agent.config.nodes import Problem
from agent.config.secret import SecretSource
from agent.model import Layer
from agent.options import is_address, options_of
from agent.policy import ARP_PER_SECOND, is_loopback

WEAK_PROTOCOLS = ("MD5", "SHA", "DES")
"""Accepted because old devices have nothing better (RFC 7860 and RFC 3826 came after them)."""
Warnings = Iterator[tuple[str, str]]


def warnings(config: Config) -> list[Problem]:
    """List all warnings of a config, with the place where each is about something written."""
    found = [*_blind(config), *_afford(config), *_secrets(config), *_weak(config), *_delivery(config)]
    found += [*_traps(config), *_not_built(config)]
    once: dict[tuple[int, int, str], Problem] = {}
    for problem in (_placed(config, path, reason) for path, reason in found):
        # What stands in `defaults` is told once, not for each check that takes it.
        once.setdefault((problem.line, problem.column, problem.reason), problem)
    return list(once.values())


def _placed(config: Config, path: str, reason: str) -> Problem:
    """Give the place where a path was written, or the nearest part of it; the begin of the file where nothing was."""
    written = path
    while written and written not in config.places:
        written = written[: max(written.rfind("."), written.rfind("["), 0)]
    mark = config.places[written].start_mark
    return Problem(mark.line + 1, mark.column + 1, path, f"warning: {reason}")


def _blind(config: Config) -> Warnings:
    if not config.active:
        yield "checks", "no check runs: nothing will be measured"
    covered = {check.layer for check in config.active}
    if Layer.INTERNET not in covered:
        yield "anchors", "no internet anchor: carrier and data centre cannot be told apart"
    if Layer.DATACENTRE not in covered:
        yield "anchors", "no data-centre anchor: a dead host and a dead data centre cannot be told apart"
    if Layer.GATEWAY not in covered:
        yield "checks", "no gateway check: the local network and the uplink cannot be told apart"
    if Layer.LAN not in covered:
        yield "anchors", "no LAN peer: a dead gateway and a probe that is cut off cannot be told apart"
    if Layer.TIME not in covered:
        yield "standard", "no ntp check: this machine names no time server that may be asked; a wrong clock is not seen"


def _afford(config: Config) -> Warnings:
    whole, targets = 0.0, defaultdict[str, float](float)
    for check in config.active:
        for t in check.sends():
            if t.own_budget or (is_address(t.destination) and is_loopback(t.destination)):
                continue
            whole += t.requests / check.interval_s
            if not t.whole_agent_only:
                targets[t.destination] += t.requests / check.interval_s
    policy = config.safety
    if policy.packets_per_second and whole > policy.packets_per_second:
        yield "safety.packets_per_second", f"needs {whole:.3g} packets/s, budget {policy.packets_per_second:g}"
    arp = sum(t.requests / check.interval_s for check in config.active for t in check.sends() if t.protocol == "arp")
    if arp > ARP_PER_SECOND:
        yield "checks", f"all arp checks need {arp:.3g} requests/s, the agent sends {ARP_PER_SECOND:g}; ask less often"
    for target, rate in targets.items():
        if policy.target_per_second and rate > policy.target_per_second:
            budget = policy.target_per_second
            yield "safety.target_per_second", f"{target} needs {rate:.3g} packets/s, budget {budget:g} a target"


def _secrets(config: Config) -> Warnings:
    holders = [("mqtt", config.mqtt), *((config.paths[check.name], check) for check in config.checks)]
    for path, holder in holders:
        for o in options_of(type(holder)):
            secret = getattr(holder, o.field)
            if isinstance(secret, SecretSource) and secret.source == "literal":
                yield (
                    f"{path}.{o.key}",
                    "a secret stands in the file itself; use {credential: NAME}, {file: PATH} or {env: NAME}",
                )


def _weak(config: Config) -> Warnings:
    """Name what SNMP checks use though it protects little (field.md 3.2): one line a weakness, however many checks."""
    users = defaultdict[str, list[str]](list)
    for check in config.active:
        if check.type == "snmp":
            for weakness in _weaknesses(check):
                users[weakness].append(check.name)
    for weakness, names in users.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        reason = f"snmp check {', '.join(names[:3])}{more}: {weakness}; use it only where the device has no better"
        yield config.paths[names[0]], reason


def _weaknesses(check: Any) -> Iterator[str]:
    if check.version_used != "3":
        yield "the community crosses the network in clear text"
    elif check.auth_key is None:
        yield "without auth_key nobody is sure who answers"
    for key, protocol in (("auth_key", "auth_protocol"), ("priv_key", "priv_protocol")):
        if getattr(check, key) is not None and (name := getattr(check, protocol)) in WEAK_PROTOCOLS:
            yield f"{name} can be broken"


def _delivery(config: Config) -> Warnings:
    if config.mqtt.protocol == "3.1.1":
        yield "mqtt.protocol", "with MQTT 3.1.1 a broker's refusals are invisible: refused records count as sent"
    if config.mqtt.allow_plaintext and not config.mqtt.tls:
        yield "mqtt.allow_plaintext", "results and password travel unencrypted"


def _traps(config: Config) -> Warnings:
    if config.traps.listen and not any(check.type == "snmp" for check in config.active):
        yield "traps.listen", "no snmp check runs: notifications are taken from the devices of such checks only"


def _not_built(config: Config) -> Warnings:
    if config.status.listen:
        yield "status.listen", "the local page is not built yet; use `siteprobe status`"

"""The retained messages of an agent, as plain values: about, state, verdict, heartbeat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent import __version__, manifest
from agent.check import CheckOptions
from agent.clock import Instant, rfc3339
from agent.config import Buffer, Config, Identity
from agent.health import Health
from agent.messages import HEARTBEAT_S, VERSION, compact
from agent.model import Record, State
from agent.verdict import Finding

ABOUT_LIMIT_BYTES = 32 * 1024
DEVICE_FACTS = ("model", "serial", "firmware")
Payload = Mapping[str, Any]


def about(config: Config, devices: Mapping[str, Payload]) -> Payload:
    """Say who this agent is and what it asks; the check list is cut where it passes 32 KiB.

    `devices` has what devices say of themselves, by check; they take at most half of the room.
    """
    listed = [_listed(check) for check in config.active]
    card = {
        "v": VERSION,
        "node": config.identity.node,
        "org": config.identity.org,
        "site": config.identity.site,
        "title": config.identity.title,
        "version": __version__,
        "config_digest": config.digest,
        "manifest_digest": manifest.digest(config),
        "tags": dict(config.identity.tags),
        "checks_total": len(listed),
        "limits": _limits(config),
    }
    room = ABOUT_LIMIT_BYTES - len(compact(card).encode()) - 48
    active = {check.name for check in config.active}
    known = ({"check": name, **facts} for name, facts in sorted(devices.items()) if name in active)
    told = list(_fitting(known, room // 2))
    room -= len(compact(told).encode())
    return card | {"checks": list(_fitting(listed, room)), "devices": told}


def device_facts(record: Record) -> Payload:
    """Give what a record says about the device itself, which it does when that is new."""
    return {key: record.fields[key] for key in DEVICE_FACTS if key in record.fields}


def _listed(check: CheckOptions) -> dict[str, Any]:
    shown = {"name": check.name, "type": check.type, "layer": check.layer, "group": check.group}
    return shown | {"target": check.asked, "interval_s": check.interval_s}


def _limits(config: Config) -> dict[str, Any]:
    policy, buffer = config.safety, config.buffer
    return {
        "packets_per_second": policy.packets_per_second,
        "burst": policy.burst,
        "target_per_second": policy.target_per_second,
        "target_burst": policy.target_burst,
        "buffer_bytes": buffer.max_bytes,
        "buffer_age_s": buffer.max_age_s,
        "late_rate": config.mqtt.late_rate,
    }


def _fitting(listed: Iterable[dict[str, Any]], room_bytes: int) -> Iterable[dict[str, Any]]:
    for item in listed:
        room_bytes -= len(compact(item).encode()) + 1
        if room_bytes < 0:
            return
        yield item


def state(
    node: str, check: CheckOptions, shown: State, health: Health, because: str, number: tuple[str, int]
) -> Payload:
    """Write the state of a check; `because` names the check that is the fault of an unreachable one."""
    return {
        "v": VERSION,
        "node": node,
        "check": check.name,
        "type": check.type,
        "layer": check.layer,
        "group": check.group or None,
        "state": str(shown),
        "since": rfc3339(health.since.ts) if health.since else None,
        "reason": health.reason or None,
        "because": because or None,
        "ep": number[0],
        "seq": number[1],
    }


def verdict(identity: Identity, finding: Finding, since: str, incident: str | None, now: Instant) -> Payload:
    """Write a verdict, without its number (`ep`, `seq`), lists as lists."""
    return {
        "v": VERSION,
        "node": identity.node,
        "title": identity.title,
        "verdict": finding.verdict,
        "fault_domain": str(finding.domain),
        "layer": finding.layer or None,
        "since": since,
        "incident": incident,
        "confidence": finding.confidence,
        "summary": finding.summary,
        "next": finding.next,
        "cause": list(finding.cause),
        "impacted": list(finding.impacted),
        "working": list(finding.working),
        "blind": list(finding.blind),
        "evidence": list(finding.evidence),
        "contradicting": list(finding.contradicting),
        "also": list(finding.also),
        "ts": rfc3339(now.ts),
    }


def heartbeat(config: Config, verdict_card: Payload, counts: Mapping[str, int], now: Instant, own: Payload) -> Payload:
    """Write the site's card; `own` holds what store, delivery and process say of themselves."""
    identity = config.identity
    return {
        "v": VERSION,
        "node": identity.node,
        "org": identity.org,
        "site": identity.site,
        "title": identity.title,
        "ts": rfc3339(now.ts),
        "verdict": verdict_card["verdict"],
        "fault_domain": verdict_card["fault_domain"],
        "since": verdict_card["since"],
        "incident": verdict_card["incident"],
        **counts,
        "clock": str(now.clock),
        "version": __version__,
        "config_digest": config.digest,
        **own,
        "next_heartbeat_s": HEARTBEAT_S,
    }


def own(kept: Any, unheard: int, limits: Buffer, uptime_s: float, records: int) -> dict[str, Any]:
    """Write the part of the heartbeat that tells of the store."""
    return {
        "ep": kept.ep,
        "next_seq": kept.committed_seq + 1,  # what is not on disk yet is not told
        "first_seq": min(kept.first_seq, kept.committed_seq + 1),
        "pending": max(0, kept.pending - (kept.next_seq - 1 - kept.committed_seq)),
        "unheard": unheard,
        "lost_total": kept.lost_total,
        "oldest_pending_ts": rfc3339(kept.oldest_pending_ts) if kept.oldest_pending_ts else None,
        "buffer_bytes": kept.buffer_bytes,
        "buffer_limit": limits.max_bytes,
        "buffer_hours": buffer_hours(kept, limits, records / uptime_s if uptime_s > 0 else 0.0),
        "uptime_s": round(uptime_s, 1),
    }


def buffer_hours(kept: Any, limits: Buffer, records_per_s: float) -> float | None:
    """Say how many hours the store holds at the present pace; None before anything can be said."""
    held = kept.next_seq - kept.first_seq
    if not held or not records_per_s or not kept.buffer_bytes:
        return None
    by_bytes_s: float = limits.max_bytes / (kept.buffer_bytes / held) / records_per_s
    return round(min(by_bytes_s, limits.max_age_s) / 3600, 1)


def buffer(kept: Any, limits: Buffer) -> dict[str, Any]:
    """Write how the store stands, for `status`."""
    return {
        "directory": limits.directory,
        "in_memory": kept.in_memory,
        "trouble": kept.trouble or None,
        "ep": kept.ep,
        "first_seq": kept.first_seq,
        "next_seq": kept.next_seq,
        "pending": kept.pending,
        "lost_total": kept.lost_total,
        "oldest_pending_ts": rfc3339(kept.oldest_pending_ts) if kept.oldest_pending_ts else None,
        "buffer_bytes": kept.buffer_bytes,
        "buffer_limit": limits.max_bytes,
    }


def delivery(delivered: Any, now: float, url: str) -> dict[str, Any]:
    """Write how delivery stands, for `status`."""
    heard = delivered.last_acknowledged
    return {
        "url": url,
        "connected": delivered.connected,
        "for_s": round(now - delivered.since, 1),
        "address": delivered.address or None,
        "reason": delivered.reason or None,
        "unheard": delivered.unheard,
        "connections": delivered.connections,
        "last_acknowledged_s": None if heard is None else round(now - heard, 1),
    }

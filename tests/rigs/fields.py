"""The names that the contract (section 3) promises in each message: a reader relies on them being there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ALWAYS = {"v", "node", "ep", "seq", "ts", "clock", "boot", "mono_ms", "type"}
OF_A_CHECK = {"check", "layer", "target", "address", "outcome", "duration_s"}
HEARTBEAT = """
    v node org site title ts ep next_seq first_seq pending unheard lost_total oldest_pending_ts verdict fault_domain
    since incident up degraded down unreachable unknown clock version config_digest buffer_bytes buffer_limit
    buffer_hours uptime_s rss_bytes cpu_ratio overdue_checks next_heartbeat_s
"""
VERDICT = """
    v node title verdict fault_domain layer since incident confidence summary next cause impacted working blind
    evidence contradicting also ep seq ts
"""
STATE = "v node check type layer group state since reason because ep seq"
ABOUT = "title version config_digest manifest_digest tags checks checks_total limits"


def has(names: str, found: Mapping[str, Any]) -> bool:
    """Tell whether all the names are there."""
    return found.keys() >= set(names.split())

"""Records and cards on the wire: topics and JSON, exactly as the contract's section 3 has them."""

from __future__ import annotations

import json
from typing import Any

from agent.clock import rfc3339
from agent.model import Record, Scalar

VERSION = 1
TOPIC_ROOT = "siteprobe"
LATE_MARK = ',"late":true}'
HEARTBEAT_S = 60.0
RECORD_LIMIT_BYTES = 8192
"""A record is a flat row of short facts; what is longer than this is cut, so that it fits any broker."""
TEXT_LIMIT = 1000

EVENT_KINDS = {
    "agent_started": "The agent began a run; detail names the version and the config digest.",
    "agent_stopped": "The agent ended in an orderly way.",
    "config_reloaded": "A changed config is in use.",
    "config_refused": "A changed config was refused and the old one kept; detail has the first error.",
    "store_set_aside": "The store could not be used; it was renamed and a new one begun.",
    "store_in_memory": "The store is not writable; records are kept in memory under a new epoch.",
    "store_back": "The store is writable again; detail names the epoch used in memory.",
    "epoch_changed": "A new epoch began; detail names the old one and its last known number.",
    "device_rebooted": "A device was started anew (SNMP).",
    "path_changed": "Another way leads to a target than before; `old` and `new` are the hops, `*` for a silent one.",
    "probe_safety_quarantine": "A target, or our own port, went down twice right after a check of ours, which is not"
    " run there any more; detail names both.",
    "target_left_alone": "What a check asks has been silent, or down, for so long that it is asked less and less often;"
    " detail says which, since when, and when it is asked again. Told once, at the beginning.",
    "target_answers_again": "What was left alone passes again and is asked as usual; detail says how long it failed.",
    "link_down": "An own network interface lost its carrier, was switched off or is gone; detail says which and how.",
    "link_up": "An own network interface has a carrier again.",
    "link_renamed": "An own network interface got another name.",
    "link_speed_changed": "Speed or duplex of an own network interface changed; detail has both.",
    "own_address_changed": "The addresses of an own network interface changed; detail has both lists.",
    "default_route_changed": "The default routes of this machine changed; detail has both lists.",
    "address_moved": "Another machine than before answers for an address of our own network; detail has both MACs.",
    "trap_link_down": "A device says (SNMP notification) that a port went down; it is asked at once.",
    "trap_link_up": "A device says that a port came up.",
    "trap_started": "A device says that it, or its SNMP agent, started.",
    "trap_authentication_failure": "A device says that somebody asked it with a wrong community or key.",
    "trap_on_battery": "A UPS says that it runs on battery.",
    "trap_battery_low": "A UPS says that its battery is low.",
    "trap_on_mains": "A UPS says that it runs on mains power again, or its battery is no longer low.",
    "traps_dropped": "SNMP notifications that were not taken; detail has their number and why, every 10 minutes.",
    "traps_off": "The listener for SNMP notifications could not be opened; detail says why.",
    "device_changed": "Model, serial number or firmware of a device are others than before (SNMP).",
    "port_changed": "A watched port changed its state between two polls (SNMP).",
    "port_err_disabled": "A switch took a port out of service by itself (SNMP).",
    "port_err_enabled": "No port is out of service by the switch's own decision any more (SNMP).",
    "neighbour_changed": "Another device, or none, is at the other end of a switch's cable (LLDP over SNMP).",
    "ups_on_battery": "A UPS began to run on its battery (SNMP).",
    "ups_on_mains": "A UPS no longer runs on its battery (SNMP).",
    "stalled": "The whole process stood still; detail says for how long. Nothing was measured meanwhile.",
    "clock_step": "The wall clock was set by more than 2 s (`seconds`); detail has both times. Timers do not follow.",
    "clock_behind": "At the start the clock stood before a time already known (`known_ts`): it is not set.",
    "duplicate_identity": "Another agent uses the same client id.",
    "command": "The centre sent a command; name, id and code say which and what was answered.",
    "commands_dropped": "So many commands or paces came that not each has its event; detail has the number.",
    "pace_changed": "The centre set a pace for the backlog, or it is over.",
    "pace_refused": "What came as the centre's pace was not one; detail says why.",
    "suppression_began": "Maintenance or isolation began; detail has its source, length and reason.",
    "suppression_ended": "Maintenance or isolation is over.",
    "suppression_refused": "The file `suppress` was ignored; detail says why.",
    "delivery_refused": "The broker refused a message or a subscription; detail has its reason.",
    "record_quarantined": "A record cannot be delivered and is declared lost; detail has the reason and the first one.",
    "own_neighbour_changed": "Another switch or port is at our cable's end (LLDP, CDP), or is known for the first"
    " time since the start; `switch`, `switch_port`, `switch_vlan`, `heard_by` say which.",
    "indicator": "The passive listener saw a sign that somebody should look; `indicator` says which, `count` how much."
    " A sign, not a finding.",
    "certificate_expiring": "The agent's own certificate ends in 30, 14 or 3 days, or has ended; detail says when.",
}
"""The closed list of event kinds, with the sentence for the reader's manual."""

INDICATORS = ("possible_worm_scan", "arp_storm", "broadcast_storm", "second_gateway_mac", "unsolicited_connection")
"""What an event `indicator` may be about: signs of the passive listener (check type `listen`), never a finding."""


def base_topic(org: str, site: str, node: str) -> str:
    """Give the topic under which everything of one agent lies."""
    return f"{TOPIC_ROOT}/v{VERSION}/{org}/{site}/{node}"


def pace_topic(org: str) -> str:
    """Name the topic on which the centre sets the pace of all agents of an organisation."""
    return f"{TOPIC_ROOT}/v{VERSION}/{org}/fleet/pace"


def live_suffix(record_type: str, check: str) -> str:
    """Name the topic of one fresh record, below the base."""
    return f"live/{record_type}/{check}"


def late_suffix(record_type: str) -> str:
    """Name the topic of the backlog of one record type, below the base."""
    return f"late/{record_type}"


def state_suffix(check: str) -> str:
    """Name the topic of the retained state of a check, below the base."""
    return f"state/{check}"


def encode(record: Record, node: str, ep: str, seq: int) -> str:
    """Write a numbered record as its JSON object: the head, then its own fields in their order."""
    taken = record.taken
    head: dict[str, Scalar] = {
        "v": VERSION,
        "node": node,
        "ep": ep,
        "seq": seq,
        "ts": rfc3339(taken.ts),
        "clock": str(taken.clock),
        "boot": taken.boot,
        "mono_ms": taken.mono_ms,
        "type": record.type,
    }
    fields = {k: flat(v) for k, v in record.fields.items() if v is not None and k not in head}
    text, room = compact(head | fields), TEXT_LIMIT
    while not fits(text) and room:
        room //= 2
        text = compact(head | {k: v[:room] if isinstance(v, str) else v for k, v in fields.items()})
    return text


def fits(text: str) -> bool:
    """Tell whether the JSON text of a record is short enough; a letter takes up to four bytes."""
    return len(text) <= RECORD_LIMIT_BYTES // 4 or len(text.encode()) <= RECORD_LIMIT_BYTES


def flat(value: Any) -> Scalar:
    """Make a value a JSON scalar: lists become comma-joined strings, texts printable and bounded."""
    if isinstance(value, float):
        return round(value, 9) if value == value and abs(value) != float("inf") else None
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, list | tuple):
        value = ",".join(str(v) for v in value)
    text = str(value)[:TEXT_LIMIT]
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def late(text: str) -> str:
    """Mark the JSON text of a record as sent late."""
    return text[:-1] + LATE_MARK


ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
"""Made once: json.dumps with settings makes a new one for each record."""


def compact(value: Any) -> str:
    """Write JSON without white space; NaN and infinity, which JSON lacks, raise ValueError."""
    return ENCODER.encode(value)

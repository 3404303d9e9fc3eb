"""What a notification says, for those that we know: which event it is, and its sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from agent.snmp.message import SNMP_TRAP_OID, Bindings, Value

LINK_DOWN, LINK_UP, STARTED, REFUSED = (
    "trap_link_down",
    "trap_link_up",
    "trap_started",
    "trap_authentication_failure",
)
ON_BATTERY, BATTERY_LOW, ON_MAINS = "trap_on_battery", "trap_battery_low", "trap_on_mains"

STANDARD = "1.3.6.1.6.3.1.1.5"  # SNMPv2-MIB, IF-MIB
UPS = "1.3.6.1.2.1.33.2"  # UPS-MIB, RFC 1628
APC = "1.3.6.1.4.1.318"  # PowerNet-MIB
KNOWN = MappingProxyType(
    {
        f"{STANDARD}.1": (STARTED, "the device started (coldStart)"),
        f"{STANDARD}.2": (STARTED, "the device's SNMP agent started again (warmStart)"),
        f"{STANDARD}.3": (LINK_DOWN, "{port} went down"),
        f"{STANDARD}.4": (LINK_UP, "{port} came up"),
        f"{STANDARD}.5": (REFUSED, "somebody asked the device with a wrong community or key{asker}"),
        f"{UPS}.1": (ON_BATTERY, "the UPS runs on battery{minutes}"),
        f"{APC}.5": (ON_BATTERY, "the UPS runs on battery"),
        f"{APC}.7": (BATTERY_LOW, "the battery of the UPS is low"),
        f"{APC}.9": (ON_MAINS, "the UPS runs on mains power again"),
        f"{APC}.11": (ON_MAINS, "the battery of the UPS is no longer low"),
    }
)
"""By the OID of the notification, without the zero that v1 and some v2 traps have before the last number."""
ALARM_ADDED, ALARM_REMOVED = f"{UPS}.3", f"{UPS}.4"
ALARM_ON_BATTERY = "1.3.6.1.2.1.33.1.6.3.2"
ALARMS_LOW = ("1.3.6.1.2.1.33.1.6.3.3", "1.3.6.1.2.1.33.1.6.3.4")  # low, depleted
ALARM_TEXT = "1.3.6.1.2.1.33.1.6.2.1.2"  # upsAlarmDescr

IF_INDEX, IF_DESCR = "1.3.6.1.2.1.2.2.1.1", "1.3.6.1.2.1.2.2.1.2"
IF_NAME = "1.3.6.1.2.1.31.1.1.1.1"
MINUTES_LEFT = "1.3.6.1.2.1.33.1.2.3"
AUTH_ADDRESS = "1.3.6.1.4.1.9.2.1.5"  # authAddr of OLD-CISCO-SYSTEM-MIB, which many makers send along
TEXT_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Notice:
    """A known notification: its event kind and a sentence for people."""

    kind: str
    detail: str


def read(bindings: Bindings) -> Notice | None:
    """Say what a notification means; None for one that we do not know."""
    name = next((value for oid, value in bindings if oid == SNMP_TRAP_OID), None)
    if not isinstance(name, str):
        return None
    start, _, last = name.rpartition(".")
    name = f"{start.removesuffix('.0')}.{last}"
    if name in (ALARM_ADDED, ALARM_REMOVED):
        return _alarm(_value(bindings, ALARM_TEXT), name == ALARM_ADDED)
    if name not in KNOWN:
        return None
    kind, sentence = KNOWN[name]
    return Notice(kind, sentence.format_map(_words(bindings)))


def _alarm(alarm: Value, added: bool) -> Notice | None:
    """Read upsTrapAlarmEntryAdded and Removed, which name the alarm by an OID."""
    if alarm == ALARM_ON_BATTERY:
        return Notice(*KNOWN[f"{APC}.5"]) if added else Notice(*KNOWN[f"{APC}.9"])
    if alarm in ALARMS_LOW:
        return Notice(*KNOWN[f"{APC}.7"]) if added else Notice(*KNOWN[f"{APC}.11"])
    return None


def _words(bindings: Bindings) -> Mapping[str, str]:
    index, minutes, asker = (_value(bindings, oid) for oid in (IF_INDEX, MINUTES_LEFT, AUTH_ADDRESS))
    name = _text(_value(bindings, IF_NAME)) or _text(_value(bindings, IF_DESCR))
    port = f"port {name}" if name else f"port {index}" if isinstance(index, int) else "a port"
    return {
        "port": port,
        "minutes": f", about {minutes} min left" if isinstance(minutes, int) else "",
        "asker": f", from {asker}" if isinstance(asker, str) else "",
    }


def _value(bindings: Bindings, column: str) -> Value:
    return next((value for oid, value in bindings if f"{oid}.".startswith(f"{column}.")), None)


def _text(value: Value) -> str:
    if not isinstance(value, bytes):
        return ""
    return "".join(c for c in value.decode("utf-8", "replace") if c.isprintable())[:TEXT_LONGEST]

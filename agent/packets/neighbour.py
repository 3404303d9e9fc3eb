"""Who is at the other end of our own cable: LLDP (IEEE 802.1AB) and CDP frames, heard and read in the child.

Nothing is sent. Only what calls itself a bridge, a router or an access point is told: the name of a
workstation behind a small switch is nobody's business.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import Any

from agent.packets.wire import (
    DROP,
    IF_EQUAL,
    KEEP,
    LOAD_BYTE,
    LOAD_HALF,
    LOAD_WORD,
    OUTGOING,
    PACKET_TYPE_AT,
    Ear,
    Filter,
    Step,
    open_wire,
)

LLDP_TYPE = 0x88CC
LLDP_GROUPS = ("01:80:c2:00:00:0e", "01:80:c2:00:00:03", "01:80:c2:00:00:00")  # IEEE 802.1AB-2016, table 7-1
CDP_GROUP = "01:00:0c:cc:cc:cc"
CDP_SNAP = bytes.fromhex("aaaa0300000c2000")  # LLC and SNAP header of CDP
FRAME_BYTES = 1600
MOST_READ = 256
"""Frames read of one question; a port hears a handful a minute."""
TEXT = 64
"""Longest name or port told; 802.1AB allows 255."""
FRAMES_ONLY = Filter(
    (
        Step(LOAD_BYTE, PACKET_TYPE_AT),
        Step(IF_EQUAL, OUTGOING, yes=DROP),
        Step(LOAD_HALF, 12),
        Step(IF_EQUAL, LLDP_TYPE, yes=KEEP),
        Step(LOAD_WORD, 0),
        Step(IF_EQUAL, 0x01000CCC, no=DROP),
        Step(LOAD_HALF, 4),
        Step(IF_EQUAL, 0xCCCC, no=DROP),
        Step(LOAD_HALF, 20),
        Step(IF_EQUAL, 0x2000, yes=KEEP, no=DROP),
    ),
    FRAME_BYTES,
)
END, CHASSIS, PORT, LIFE, PORT_TEXT, NAME, CAPABILITIES, ORGANISATION = 0, 1, 2, 3, 4, 5, 7, 127  # LLDP TLVs
SUBTYPE_MAC = {CHASSIS: 4, PORT: 3}
SUBTYPE_ADDRESS = {CHASSIS: 5, PORT: 4}
PORT_VLAN = bytes.fromhex("0080c201")  # IEEE 802.1Q, D.2.1
LLDP_SWITCHING = 0x02 | 0x04 | 0x08 | 0x10  # repeater, bridge, WLAN access point, router
CDP_NAME, CDP_PORT, CDP_CAPABILITIES, CDP_VLAN = 0x01, 0x03, 0x04, 0x0A
CDP_SWITCHING = 0x01 | 0x02 | 0x04 | 0x08 | 0x40  # router, bridges, switch, repeater


def read_frame(frame: bytes) -> dict[str, Any] | None:
    """Read an LLDP or CDP frame: protocol, switch, port, vlan (None if not told), chassis.

    None for what is malformed, and for what is no switch, router or access point.
    """
    try:
        if frame[12:14] == LLDP_TYPE.to_bytes(2):
            return _lldp(frame[14:])
        if frame[14:22] == CDP_SNAP:
            return _cdp(frame[22:])
    except (struct.error, ValueError, IndexError):
        return None
    return None


def _lldp(data: bytes) -> dict[str, Any] | None:
    found: dict[int, bytes] = {}
    vlan = None
    order = []
    for kind, value in _lldp_parts(data):
        order.append(kind)
        found.setdefault(kind, value)
        if kind == ORGANISATION and value[:4] == PORT_VLAN:
            vlan = struct.unpack("!H", value[4:6])[0] or None
    if order[:3] != [CHASSIS, PORT, LIFE] or not _is_switch(found.get(CAPABILITIES), LLDP_SWITCHING):
        return None
    if found[LIFE] == b"\0\0":  # a farewell: the port is being shut down
        return None
    chassis, port = (_identifier(kind, found[kind]) for kind in (CHASSIS, PORT))
    if not (chassis and port):
        return None
    named = _text(found[PORT_TEXT]) if PORT_TEXT in found and found[PORT][0] == SUBTYPE_MAC[PORT] else ""
    name = _text(found.get(NAME, b"")) or chassis
    return {"protocol": "lldp", "switch": name, "port": named or port, "vlan": vlan, "chassis": chassis}


def _lldp_parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split into (type, value); raises where a part is cut short."""
    at = 0
    while at < len(data):
        head = struct.unpack_from("!H", data, at)[0]
        kind, length = head >> 9, head & 0x1FF
        if kind == END:
            return
        if at + 2 + length > len(data):
            raise ValueError("cut short")
        yield kind, data[at + 2 : at + 2 + length]
        at += 2 + length


def _is_switch(value: bytes | None, wanted: int) -> bool:
    """Tell whether the enabled capabilities (the second half) are those of a switch; silence counts as yes."""
    if value is None:
        return True
    return bool(int.from_bytes(value[len(value) // 2 :]) & wanted)


def _identifier(kind: int, value: bytes) -> str:
    """Write a chassis or port id by its subtype; IEEE 802.1AB-2016, tables 8-2 and 8-3."""
    subtype, body = value[0], value[1:]
    if subtype == SUBTYPE_MAC[kind] and len(body) == 6:
        return body.hex(":")
    if subtype == SUBTYPE_ADDRESS[kind] and len(body) == 5 and body[0] == 1:
        return ".".join(str(byte) for byte in body[1:])
    return _text(body)


def _cdp(data: bytes) -> dict[str, Any] | None:
    found: dict[int, bytes] = {}
    at = 4  # version, time to live, checksum
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("!HH", data, at)
        if length < 4 or at + length > len(data):
            break  # padding of the frame, or cut short
        found.setdefault(kind, data[at + 4 : at + length])
        at += length
    name, port = _text(found.get(CDP_NAME, b"")), _text(found.get(CDP_PORT, b""))
    capabilities = found.get(CDP_CAPABILITIES, b"\0\0\0\x01")
    if not (name and port) or not int.from_bytes(capabilities) & CDP_SWITCHING:
        return None
    vlan = struct.unpack("!H", found[CDP_VLAN])[0] if CDP_VLAN in found else None
    return {"protocol": "cdp", "switch": name, "port": port, "vlan": vlan, "chassis": name}


def _text(raw: bytes) -> str:
    """Read a text, printable and bounded."""
    text = raw.rstrip(b"\0").decode("utf-8", "replace")[:TEXT]
    return "".join(c if c.isprintable() else "?" for c in text).strip()


async def listen(interface: str, seconds: float, known: str) -> dict[str, Any]:
    """Hear who is there for so long, less if the one with the chassis and port `known` is heard by LLDP.

    Gives `neighbours`, best first: LLDP before CDP. Raises OSError.
    """
    heard: dict[str, dict[str, Any]] = {}
    ignored = 0
    until = asyncio.get_running_loop().time() + seconds
    wire = open_wire(interface, FRAMES_ONLY, groups=(*LLDP_GROUPS, CDP_GROUP))
    with Ear(wire, FRAME_BYTES) as ear:
        while len(heard) + ignored < MOST_READ and (frame := await ear.hear(until)):
            found = read_frame(frame)
            ignored += found is None
            if found:
                heard[key_of(found)] = found
                if key_of(found) == known:
                    break
    best = sorted(heard.values(), key=lambda n: (n["protocol"] != "lldp", n["switch"], n["port"]))
    return {"neighbours": best[:8], "ignored": ignored}


def key_of(neighbour: dict[str, Any]) -> str:
    """Name a neighbour so that the same one, heard again, has the same name."""
    return "|".join(str(neighbour[part]) for part in ("protocol", "chassis", "switch", "port", "vlan"))

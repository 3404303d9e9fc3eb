"""SNMP v1 and v2c messages (RFC 1157, RFC 3416): questions written, answers and notifications read. Pure.

There are three questions: GET, GETNEXT and GETBULK. There is no other, so nothing here can write to a device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.snmp import ber

Value = int | str | bytes | None
"""A number (TimeTicks in 1/100 s), an OID or IPv4 address as text, octets, or None for "not there"."""
Bindings = list[tuple[str, Value]]

VERSIONS = {"1": 0, "2c": 1}
"""The number of a version in the message."""
QUESTIONS = {"get": 0xA0, "next": 0xA1, "bulk": 0xA5}
RESPONSE, TRAP_V1, INFORM, TRAP_V2, REPORT = 0xA2, 0xA4, 0xA6, 0xA7, 0xA8
IP_ADDRESS, COUNTER32, GAUGE32, TIME_TICKS, OPAQUE, NSAP, COUNTER64, UINTEGER32 = range(0x40, 0x48)
UNSIGNED = (COUNTER32, GAUGE32, TIME_TICKS, COUNTER64, UINTEGER32)
ABSENT = (ber.NULL, 0x80, 0x81, 0x82)
"""noSuchObject, noSuchInstance, endOfMibView (RFC 3416, section 3)."""

SYS_UP_TIME = "1.3.6.1.2.1.1.3.0"
SNMP_TRAP_OID = "1.3.6.1.6.3.1.1.4.1.0"
STANDARD_TRAPS = "1.3.6.1.6.3.1.1.5"
ENTERPRISE_SPECIFIC = 6
"""generic-trap of v1 by which the enterprise names the trap (RFC 3584, 3.1)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came. `kind` is the tag of its PDU; `status` and `index` of a v1 trap are 0."""

    version: int
    community: bytes
    kind: int
    request: int
    status: int
    index: int
    bindings: Bindings


def question(
    kind: str, version: str, community: bytes, request: int, oids: Sequence[str], repetitions: int = 0
) -> bytes:
    """Write a question: `kind` is get, next or bulk (not in v1); `request` a positive number of 31 bits."""
    head = ber.number(VERSIONS[version]), ber.tlv(ber.OCTETS, community)
    return ber.tlv(ber.SEQUENCE, *head, pdu(kind, request, oids, repetitions))


def pdu(kind: str, request: int, oids: Sequence[str], repetitions: int = 0) -> bytes:
    """Write what is asked, without who asks."""
    objects = [ber.tlv(ber.SEQUENCE, ber.tlv(ber.OID, ber.oid_bytes(oid)), b"\x05\x00") for oid in oids]
    numbers = ber.number(request), ber.number(0), ber.number(repetitions)
    return ber.tlv(QUESTIONS[kind], *numbers, ber.tlv(ber.SEQUENCE, *objects))


def acknowledgement(inform: bytes) -> bytes:
    """Answer an inform: the same message as a response without an error (RFC 3416, 4.2.7); it has been read before."""
    start, end = ber.expect(inform, 0, len(inform), ber.SEQUENCE)
    for _ in ("version", "community"):
        _, _, start = ber.element(inform, start, end)
    return inform[:start] + bytes((RESPONSE,)) + inform[start + 1 :]


def parse(datagram: bytes) -> Message:
    """Read a message of v1 or v2c; raises `ber.Unreadable` saying what is wrong with it."""
    at, end = ber.expect(datagram, 0, len(datagram), ber.SEQUENCE)
    if end != len(datagram):
        raise ber.Unreadable("has more bytes than it says")
    start, at = ber.expect(datagram, at, end, ber.INTEGER)
    version = ber.integer(datagram, start, at)
    if version not in VERSIONS.values():
        raise ber.Unreadable("is of another SNMP version")
    start, at = ber.expect(datagram, at, end, ber.OCTETS)
    community = datagram[start:at]
    kind, start, stop = ber.element(datagram, at, end)
    if kind == TRAP_V1:
        return Message(version, community, kind, 0, 0, 0, _trap_v1(datagram, start, stop))
    return Message(version, community, *read_pdu(datagram, at, end))


def read_pdu(data: bytes, at: int, end: int) -> tuple[int, int, int, int, Bindings]:
    """Read the PDU at `at`, which is none of a v1 trap: kind, request, status, index, objects; raises Unreadable."""
    kind, at, end = ber.element(data, at, end)
    numbers = []
    for _ in ("request", "status", "index"):
        start, at = ber.expect(data, at, end, ber.INTEGER)
        numbers.append(ber.integer(data, start, at))
    request, status, index = numbers
    return kind, request, status, index, list(_bindings(data, at, end))


def _bindings(data: bytes, at: int, end: int) -> Iterator[tuple[str, Value]]:
    at, end = ber.expect(data, at, end, ber.SEQUENCE)
    while at < end:
        start, stop = ber.expect(data, at, end, ber.SEQUENCE)
        first, start = ber.expect(data, start, stop, ber.OID)
        tag, begin, finish = ber.element(data, start, stop)
        yield ber.oid_text(data[first:start]), _value(data, tag, begin, finish)
        at = stop


def _value(data: bytes, tag: int, start: int, stop: int) -> Value:
    if tag in UNSIGNED:
        return ber.unsigned(data, start, stop)
    if tag in (ber.OCTETS, OPAQUE, NSAP):
        return data[start:stop]
    if tag == ber.INTEGER:
        return ber.integer(data, start, stop)
    if tag == ber.OID:
        return ber.oid_text(data[start:stop])
    if tag == IP_ADDRESS and stop - start == 4:
        return ".".join(map(str, data[start:stop]))
    if tag in ABSENT:
        return None
    raise ber.Unreadable("holds a value that is not SNMP")


def _trap_v1(data: bytes, at: int, end: int) -> Bindings:
    """Read a v1 trap as the v2 notification that it stands for (RFC 3584, 3.1)."""
    start, at = ber.expect(data, at, end, ber.OID)
    enterprise = ber.oid_text(data[start:at])
    _, at = ber.expect(data, at, end, IP_ADDRESS)
    start, at = ber.expect(data, at, end, ber.INTEGER)
    generic = ber.integer(data, start, at)
    start, at = ber.expect(data, at, end, ber.INTEGER)
    specific = ber.integer(data, start, at)
    start, at = ber.expect(data, at, end, TIME_TICKS)
    name = f"{enterprise}.0.{specific}" if generic == ENTERPRISE_SPECIFIC else f"{STANDARD_TRAPS}.{generic + 1}"
    head: Bindings = [(SYS_UP_TIME, ber.unsigned(data, start, at)), (SNMP_TRAP_OID, name)]
    return head + list(_bindings(data, at, end))

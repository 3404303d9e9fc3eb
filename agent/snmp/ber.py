"""Basic encoding rules (X.690, as SNMP uses them: RFC 3417, section 8), read strictly and without recursion. Pure.

Here because pyasn1 takes 60 to 90 µs an object and has had five denial-of-service faults that any reply could
reach; this takes a twentieth of it, and its work is bounded by the length of the datagram.
"""

from __future__ import annotations

from functools import lru_cache

CONSTRUCTED = 0x20
LONG_FORM = 0x80
HIGH_TAG = 0x1F
DEPTH_MOST = 10
"""SNMPv3 nests six deep; what is deeper was made to cost time."""
INTEGER_BYTES = 9
"""Counter64 has 8 bytes and a leading zero."""
ARCS_MOST = 128
"""Arcs of an OID (RFC 2578, 3.5)."""
ARC_BITS = 32
OIDS_REMEMBERED = 8192
"""Polls ask the same objects again and again; 8,192 of them take about 2 MB, and no device can make it more."""

INTEGER, OCTETS, NULL, OID, SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30


class Unreadable(ValueError):
    """The bytes are not what they should be; the text says how, for people."""


def readable(datagram: bytes) -> bool:
    """Tell whether the bytes are one SEQUENCE whose parts, at every depth, fill it exactly."""
    return not flaw(datagram)


def flaw(datagram: bytes) -> str:
    """Say what keeps the bytes from being one SEQUENCE filled exactly by its parts; "" where nothing does."""
    if datagram[:1] != b"\x30":
        return "is not SNMP"
    pending = [(0, len(datagram), 0)]
    while pending:
        at, end, depth = pending.pop()
        while at < end:
            try:
                tag, start, stop = element(datagram, at, end)
            except Unreadable as error:
                return str(error)
            if tag & CONSTRUCTED:
                pending.append((start, stop, depth + 1))
            at = stop
        if depth > DEPTH_MOST:
            return "is nested too deep"
    return ""


def element(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Give the tag of the element at `at` and where its content starts and stops; raises `Unreadable`."""
    if at + 2 > end:
        raise Unreadable("is cut short")
    tag, start, length = data[at], at + 2, data[at + 1]
    if tag & HIGH_TAG == HIGH_TAG:
        raise Unreadable("holds a tag that SNMP does not have")
    if length & LONG_FORM:
        size = length & ~LONG_FORM
        if not 0 < size <= 4:
            raise Unreadable("holds a length that SNMP does not allow")
        start, length = start + size, int.from_bytes(data[start : start + size])
    if start + length > end:
        raise Unreadable("is cut short")
    return tag, start, start + length


def expect(data: bytes, at: int, end: int, wanted: int) -> tuple[int, int]:
    """Give where the content of the element at `at` starts and stops; raises `Unreadable` if it is another one."""
    tag, start, stop = element(data, at, end)
    if tag != wanted:
        raise Unreadable("is not SNMP")
    return start, stop


def integer(data: bytes, start: int, stop: int) -> int:
    """Read a signed number; raises `Unreadable`."""
    if not 0 < stop - start <= INTEGER_BYTES:
        raise Unreadable("holds a number of a wrong length")
    return int.from_bytes(data[start:stop], signed=True)


def unsigned(data: bytes, start: int, stop: int) -> int:
    """Read a counter; some devices leave out the leading zero, which must not make it negative."""
    if not 0 < stop - start <= INTEGER_BYTES:
        raise Unreadable("holds a number of a wrong length")
    return int.from_bytes(data[start:stop])


@lru_cache(maxsize=OIDS_REMEMBERED)
def oid_text(content: bytes) -> str:
    """Write the content of an OBJECT IDENTIFIER as 1.3.6…; raises `Unreadable`."""
    arcs: list[int] = []
    value = 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if value >> ARC_BITS:
            raise Unreadable("holds an OID with too large a number")
        if not byte & 0x80:
            arcs.append(value)
            value = 0
    if not content or content[-1] & 0x80 or len(arcs) > ARCS_MOST:
        raise Unreadable("holds a broken OID")
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


@lru_cache(maxsize=OIDS_REMEMBERED)
def oid_bytes(text: str) -> bytes:
    """Make the content of an OBJECT IDENTIFIER from its text, such as 1.3.6.1."""
    first, second, *rest = map(int, text.split("."))
    out = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        out += bytes(reversed(groups))
    return bytes(out)


def tlv(tag: int, *parts: bytes) -> bytes:
    """Write an element: tag, length, content."""
    content = b"".join(parts)
    size = len(content)
    if size < LONG_FORM:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, LONG_FORM | len(length))) + length + content


def number(value: int) -> bytes:
    """Write an INTEGER element."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, signed=True))

"""The envelope of an SNMPv3 message (RFC 3412, section 6; RFC 3414, 2.4), written and read. Pure.

What is in it is a PDU as in v2c (message.py); who may have written it is decided in usm.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.snmp import ber
from agent.snmp.line import DATAGRAM_LIMIT_BYTES

VERSION = USM = 3
"""The version of the message and the number of the user-based security model."""
SIGNED, ENCRYPTED, REPORTABLE = 1, 2, 4
"""The bits of msgFlags."""
LEVEL_BITS = SIGNED | ENCRYPTED
LEVELS = (0, SIGNED, SIGNED | ENCRYPTED)
NUMBER_MOST = 2**31 - 1
"""The most that boots, time and the id of a message may be."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a message says of itself; `digest` and `body` are places (start, stop) in the datagram."""

    message: int
    level: int
    engine: bytes
    boots: int
    time: int
    user: bytes
    digest: tuple[int, int]
    salt: bytes
    body: tuple[int, int]


def written(about: Envelope, digest: bytes, body: bytes) -> bytes:
    """Write a message that may be answered with a report; of `about` its places in the datagram are not used.

    `body` is a whole element: the scoped PDU, or the octets of the encrypted one.
    """
    flags = ber.tlv(ber.OCTETS, bytes((about.level | REPORTABLE,)))
    head = ber.tlv(ber.SEQUENCE, ber.number(about.message), ber.number(DATAGRAM_LIMIT_BYTES), flags, ber.number(USM))
    authority = ber.tlv(ber.OCTETS, about.engine), ber.number(about.boots), ber.number(about.time)
    sender = (ber.tlv(ber.OCTETS, octets) for octets in (about.user, digest, about.salt))
    security = ber.tlv(ber.SEQUENCE, *authority, *sender)
    return ber.tlv(ber.SEQUENCE, ber.number(VERSION), head, ber.tlv(ber.OCTETS, security), body)


def read(datagram: bytes) -> Envelope:
    """Read what a message says of itself; raises `ber.Unreadable`."""
    at, end = ber.expect(datagram, 0, len(datagram), ber.SEQUENCE)
    version, at = _integer(datagram, at, end)
    if version != VERSION or end != len(datagram):
        raise ber.Unreadable("is of another SNMP version, or has more bytes than it says")
    start, at = ber.expect(datagram, at, end, ber.SEQUENCE)
    message, level = _head(datagram, start, at)
    start, at = ber.expect(datagram, at, end, ber.OCTETS)
    tag, body, stop = ber.element(datagram, at, end)
    if stop != end or tag != (ber.OCTETS if level & ENCRYPTED else ber.SEQUENCE):
        raise ber.Unreadable("is encrypted otherwise than it says")
    return _secured(datagram, *ber.expect(datagram, start, at, ber.SEQUENCE), message, level, (body, stop))


def scoped(engine: bytes, pdu: bytes) -> bytes:
    """Write a PDU with its context: the engine's own, which has no name."""
    return ber.tlv(ber.SEQUENCE, ber.tlv(ber.OCTETS, engine), ber.tlv(ber.OCTETS), pdu)


def unscoped(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """Give the context engine of the scoped PDU whose content is at `at`, and where its PDU begins."""
    engine, at = _octets(data, at, end)
    _, at = _octets(data, at, end)
    return engine, at


def _head(data: bytes, at: int, end: int) -> tuple[int, int]:
    message, at = _integer(data, at, end)
    _, at = _integer(data, at, end)  # the largest message that the sender takes: our questions are small
    flags, at = _octets(data, at, end)
    model, at = _integer(data, at, end)
    if len(flags) != 1 or model != USM or flags[0] & LEVEL_BITS not in LEVELS:
        raise ber.Unreadable("has a security that SNMP does not have")
    return message, flags[0] & LEVEL_BITS


def _secured(data: bytes, at: int, end: int, message: int, level: int, body: tuple[int, int]) -> Envelope:
    engine, at = _octets(data, at, end)
    boots, at = _integer(data, at, end)
    time, at = _integer(data, at, end)
    user, at = _octets(data, at, end)
    digest = ber.expect(data, at, end, ber.OCTETS)
    salt, _ = _octets(data, digest[1], end)
    if not (0 <= boots <= NUMBER_MOST and 0 <= time <= NUMBER_MOST):
        raise ber.Unreadable("holds a time that SNMP does not have")
    return Envelope(message, level, engine, boots, time, user, digest, salt, body)


def _integer(data: bytes, at: int, end: int) -> tuple[int, int]:
    start, stop = ber.expect(data, at, end, ber.INTEGER)
    return ber.integer(data, start, stop), stop


def _octets(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    start, stop = ber.expect(data, at, end, ber.OCTETS)
    return data[start:stop], stop

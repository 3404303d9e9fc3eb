"""Our own reading and writing of v1 and v2c, held against pyasn1, and against rubbish."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pyasn1.codec.ber import decoder, encoder
from pysnmp.proto.api import v1, v2c

from agent.snmp import ber, envelope, message

OID = "1.3.6.1.2.1.2.2.1.10.4294967295"
VALUES: list[tuple[Any, message.Value]] = [
    (v2c.Integer32(-2147483648), -2147483648),
    (v2c.Integer32(127), 127),
    (v2c.Counter32(4294967295), 4294967295),
    (v2c.Gauge32(0), 0),
    (v2c.TimeTicks(4294967295), 4294967295),
    (v2c.Counter64(18446744073709551615), 18446744073709551615),
    (v2c.OctetString(b"\x00\xff" * 100), b"\x00\xff" * 100),
    (v2c.OctetString(""), b""),
    (v2c.ObjectIdentifier("2.100.3"), "2.100.3"),
    (v2c.ObjectIdentifier("0.0"), "0.0"),
    (v2c.IpAddress("192.0.2.1"), "192.0.2.1"),
    (v2c.Opaque(b"\x9f\x78"), b"\x9f\x78"),
    (v2c.NoSuchObject(""), None),
    (v2c.NoSuchInstance(""), None),
    (v2c.EndOfMibView(""), None),
]


def v2c_message(pdu: Any, values: list[Any], request: int = 7) -> bytes:
    v2c.apiPDU.set_defaults(pdu)
    v2c.apiPDU.set_request_id(pdu, request)
    v2c.apiPDU.set_varbinds(pdu, [(v2c.ObjectIdentifier(OID), value) for value in values])
    whole = v2c.Message()
    v2c.apiMessage.set_defaults(whole)
    v2c.apiMessage.set_community(whole, "public")
    v2c.apiMessage.set_pdu(whole, pdu)
    return bytes(encoder.encode(whole))


def test_every_type_of_value_is_read() -> None:
    found = message.parse(v2c_message(v2c.ResponsePDU(), [value for value, _ in VALUES]))
    assert found.bindings == [(OID, plain) for _, plain in VALUES]
    assert (found.version, found.community, found.kind, found.request) == (1, b"public", message.RESPONSE, 7)


@pytest.mark.parametrize("kind", message.QUESTIONS)
def test_pyasn1_reads_our_questions(kind: str) -> None:
    oids = [OID, "1.3.6.1.2.1.1.3.0", "2.999.1"]
    data = message.question(kind, "2c", b"c" * 200, 2**31 - 1, oids, 10 if kind == "bulk" else 0)
    whole, rest = decoder.decode(data, asn1Spec=v2c.Message())
    pdu = v2c.apiMessage.get_pdu(whole)
    assert (rest, [str(name) for name, _ in v2c.apiPDU.get_varbinds(pdu)]) == (b"", oids)
    assert int(v2c.apiPDU.get_request_id(pdu)) == 2**31 - 1
    assert bytes(v2c.apiMessage.get_community(whole)) == b"c" * 200
    if kind == "bulk":
        assert (v2c.apiBulkPDU.get_non_repeaters(pdu), v2c.apiBulkPDU.get_max_repetitions(pdu)) == (0, 10)


def test_a_counter_without_its_leading_zero_is_not_negative() -> None:
    data = v2c_message(v2c.ResponsePDU(), [v2c.Counter32(2**32 - 1)]).replace(b"\x41\x05\x00", b"\x41\x04")
    start, end = 2, len(data) - 1
    shorter = bytearray(data)
    for place in range(start, end):  # every length around it is one less now
        if data[place - 1] in (0x30, 0xA2) and data[place] == len(data) - place:
            shorter[place] -= 1
    shorter[1] = len(data) - 2
    assert message.parse(bytes(shorter)).bindings == [(OID, 2**32 - 1)]


def v1_trap(generic: int, specific: int = 0, enterprise: str = "1.3.6.1.4.1.318") -> bytes:
    pdu = v1.TrapPDU()
    v1.apiTrapPDU.set_defaults(pdu)
    v1.apiTrapPDU.set_enterprise(pdu, v1.ObjectIdentifier(enterprise))
    v1.apiTrapPDU.set_generic_trap(pdu, generic)
    v1.apiTrapPDU.set_specific_trap(pdu, specific)
    v1.apiTrapPDU.set_timestamp(pdu, 99)
    v1.apiTrapPDU.set_varbinds(pdu, [(v1.ObjectIdentifier("1.3.6.1.2.1.2.2.1.1.7"), v1.Integer(7))])
    whole = v1.Message()
    v1.apiMessage.set_defaults(whole)
    v1.apiMessage.set_pdu(whole, pdu)
    return bytes(encoder.encode(whole))


def test_a_v1_trap_is_read_as_the_notification_it_stands_for() -> None:
    found = message.parse(v1_trap(2))
    assert (found.version, found.kind) == (0, message.TRAP_V1)
    assert found.bindings == [
        (message.SYS_UP_TIME, 99),
        (message.SNMP_TRAP_OID, "1.3.6.1.6.3.1.1.5.3"),
        ("1.3.6.1.2.1.2.2.1.1.7", 7),
    ]
    assert message.parse(v1_trap(6, 5)).bindings[1][1] == "1.3.6.1.4.1.318.0.5"


def test_an_inform_is_answered_with_itself_as_a_response() -> None:
    inform = v2c_message(v2c.InformRequestPDU(), [v2c.Integer32(1)], request=4711)
    whole, _ = decoder.decode(message.acknowledgement(inform), asn1Spec=v2c.Message())
    pdu = v2c.apiMessage.get_pdu(whole)
    assert isinstance(pdu, v2c.ResponsePDU)
    assert (int(v2c.apiPDU.get_request_id(pdu)), int(v2c.apiPDU.get_error_status(pdu))) == (4711, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: b"", "cut short"),
        (lambda d: d[:-1], "cut short"),
        (lambda d: d + b"\x00", "more bytes than it says"),
        (lambda d: d.replace(b"\x02\x01\x01\x04", b"\x02\x01\x03\x04"), "another SNMP version"),
        (lambda d: b"\x31" + d[1:], "is not SNMP"),
        (lambda d: d.replace(b"\x41\x01", b"\x61\x01"), "value that is not SNMP"),
        (lambda d: d.replace(b"\x02\x01\x07", b"\x02\x81\x07"), "cut short"),
        (lambda d: d.replace(b"\x02\x01\x07", b"\x1f\x01\x07"), "tag that SNMP"),
        (lambda d: d.replace(b"\x8f\xff\xff\xff\x7f", b"\x9f\xff\xff\xff\x7f"), "too large a number"),
        (lambda d: d.replace(b"\x8f\xff\xff\xff\x7f", b"\x8f\xff\xff\xff\xff"), "broken OID"),
    ],
)
def test_what_is_wrong_with_a_message_is_told(change: Any, words: str) -> None:
    data = v2c_message(v2c.ResponsePDU(), [v2c.Counter32(5)])
    with pytest.raises(ber.Unreadable, match=words):
        message.parse(change(data))


def test_mutated_messages_raise_nothing_else_and_agree_with_pyasn1() -> None:
    rng, whole, read = random.Random(50), v2c_message(v2c.ResponsePDU(), [value for value, _ in VALUES]), 0
    for number in range(4000):
        data = bytearray(whole if number % 2 else v1_trap(6, 5))
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = bytes(data[: rng.randint(1, len(data))]) if number % 5 == 0 else bytes(data)
        try:
            message.parse(cut)
            read += 1
        except ber.Unreadable as error:
            assert str(error)
        try:
            envelope.read(cut)
        except ber.Unreadable as error:
            assert str(error)
    assert 0 < read < 4000


def test_deep_nesting_is_refused_without_recursion() -> None:
    data = b""
    for _ in range(1500):
        data = b"\x30\x82" + len(data).to_bytes(2) + data
    assert ber.flaw(data) == "is nested too deep"

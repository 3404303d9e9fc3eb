"""An SNMP agent's answers (v2c) from a table of values, for the lab: GET, GETNEXT and GETBULK, never more than 60 rows.

The table is JSON: `{"1.3.6.1.2.1.1.3.0": ["ticks", 12345]}`; the types are in TYPES.
"""

from __future__ import annotations

import time
from typing import Any

from pyasn1.codec.ber import decoder, encoder
from pysnmp.proto.api import v2c

TYPES = {
    "int": v2c.Integer,
    "text": v2c.OctetString,
    "hex": lambda value: v2c.OctetString(hexValue=value),
    "oid": v2c.ObjectIdentifier,
    "ticks": v2c.TimeTicks,
    "gauge": v2c.Gauge32,
    "counter": v2c.Counter32,
    "counter64": v2c.Counter64,
    "ip": v2c.IpAddress,
}
MOST_ROWS = 60
BEGUN_AT = 1000
"""Where the counters of tests.lab.values stand while all is well."""


def numbers(oid: str) -> tuple[int, ...]:
    return tuple(map(int, oid.split(".")))


def replied(request: bytes, values: dict[str, Any]) -> bytes | None:
    """Answer a request from the table; nothing for another community or version."""
    message, _ = decoder.decode(request, asn1Spec=v2c.Message())
    if bytes(v2c.apiMessage.get_community(message)) != b"public":
        return None
    pdu = v2c.apiMessage.get_pdu(message)
    asked = [str(name) for name, _ in v2c.apiPDU.get_varbinds(pdu)]
    ordered = sorted(values, key=numbers)
    if isinstance(pdu, v2c.GetBulkRequestPDU):
        once, rows = int(v2c.apiBulkPDU.get_non_repeaters(pdu)), int(v2c.apiBulkPDU.get_max_repetitions(pdu))
        found = bulk(asked, once, rows, ordered)
    elif isinstance(pdu, v2c.GetNextRequestPDU):
        found = [after(oid, ordered) for oid in asked]
    else:
        found = [(oid, oid in values) for oid in asked]
    response = v2c.apiPDU.get_response(pdu)
    next_kind = not isinstance(pdu, v2c.GetRequestPDU)
    missing = v2c.EndOfMibView("") if next_kind else v2c.NoSuchInstance("")
    v2c.apiPDU.set_varbinds(
        response, [(v2c.ObjectIdentifier(oid), made(values[oid]) if there else missing) for oid, there in found]
    )
    v2c.apiMessage.set_pdu(message, response)
    return bytes(encoder.encode(message))


def made(value: list[Any]) -> Any:
    """Make a value; `["rising", per second, since]` is a counter that goes on rising (seconds since 1970)."""
    if value[0] == "rising":
        return v2c.Counter32(BEGUN_AT + int(value[1] * (time.time() - value[2])))
    return TYPES[value[0]](value[1])


def after(oid: str, ordered: list[str]) -> tuple[str, bool]:
    return next(((found, True) for found in ordered if numbers(found) > numbers(oid)), (oid, False))


def bulk(asked: list[str], once: int, rows: int, ordered: list[str]) -> list[tuple[str, bool]]:
    found = [after(oid, ordered) for oid in asked[:once]]
    columns = asked[once:]
    for _ in range(min(rows, MOST_ROWS // max(len(columns), 1))):
        row = [after(oid, ordered) for oid in columns]
        found += row
        columns = [oid for oid, _ in row]
        if not any(there for _, there in row):
            break
    return found

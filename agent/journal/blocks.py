"""Records as lines of text, and many of them as one compressed block. Pure.

A block is the zlib stream (RFC 1950, whose Adler-32 finds damage) of the JSON texts joined by line
feeds, which compact JSON never contains. A preset dictionary spares each small block the names of
the fields. The dictionary is part of the format: whoever changes it raises `store.SCHEMA_VERSION`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

LEVEL = 9
"""Measured on a mixture of 400-byte records in blocks of 500 (bench.journal): 5 % smaller than level 6, for 4 µs more
each; a site takes five a second, and its buffer must last two weeks."""

UNDATED_MARK = '"clock":"unsynced"'
LOSS_MARK = '"type":"loss"'

DICTIONARY = (
    b'"type":"verdict","verdict":"healthy","fault_domain":"none","summary":"","incident":"","confidence":'
    b'"type":"event","kind":"","detail":"","type":"loss","from_seq":,"to_seq":,"reason":"thinned"'
    b'"type":"transition","check":"","old":"unknown","new":"down","reason":"","degraded","unreachable"'
    b'"failure":"timeout","failure":"refused","failure":"unreachable","detail":"no answer","responder":"'
    b'"type":"snmp","layer":"device","sys_name":"","sys_object_id":"1.3.6.1.4.1.","uptime_s":,"boots":'
    b'"type":"snmp_port","port":,"name":"","admin":"up","oper":"up","speed_bits_per_s":1000000000'
    b'"in_bits_per_s":,"out_bits_per_s":,"utilisation_ratio":0.0,"in_errors":0,"out_errors":0'
    b'"type":"link","layer":"link","link_up":true,"admin_up":true,"duplex":"full","addresses":"'
    b'"default_route":true,"rx_errors":0,"tx_errors":0,"type":"ntp","offset_s":-0.000,"delay_s":0.0'
    b'"type":"http","dns_s":0.00,"connect_s":0.00,"tls_s":0.0,"first_byte_s":0.0,"total_s":0.,"status":200'
    b'"body_bytes":,"certificate_left_s":,"type":"tls","handshake_s":0.0,"protocol":"TLSv1.3"'
    b'"type":"dns","layer":"dns","response_s":0.00,"rcode":"NOERROR","answers":"'
    b'"type":"tcp","layer":"service","connect_s":0.00,"outcome":"fail","outcome":"unknown"'
    b'{"v":1,"node":"","ep":"","seq":1,"ts":"2026-01-01T00:00:00.000Z","clock":"unsynced","boot":"'
    b'","mono_ms":1,"type":"icmp","check":"gateway","layer":"gateway","target":"gateway","address":"10.'
    b'","outcome":"pass","duration_s":0.4,"sent":3,"received":3,"loss_ratio":0.0,"rtt_min_s":0.000'
    b',"rtt_mean_s":0.000,"rtt_max_s":0.000,"ipdv_s":0.0000,"duplicates":0,"reordered":0,"timestamping":"kernel"}'
    b'\n{"v":1,"node":"","ep":"","seq":1,"ts":"2026-01-01T00:00:00.000Z","clock":"synced","boot":"'
)


@dataclass(frozen=True, slots=True)
class Line:
    """One numbered record as it is kept and sent.

    `ts` is in seconds since 1970, `mono_ms` in milliseconds since boot; `text` is the JSON object. `held`: its time
    may still be put right, and so it must not be sent like this; `Journal.unsent` gives it as it may be.
    """

    ep: str
    seq: int
    type: str
    check: str
    ts: float
    mono_ms: int
    text: str
    held: bool = False


class Damaged(ValueError):
    """A block that does not contain what was put in."""


def pack(texts: Sequence[str]) -> bytes:
    """Compress the JSON texts of consecutive records."""
    packer = zlib.compressobj(LEVEL, zdict=DICTIONARY)
    return packer.compress("\n".join(texts).encode()) + packer.flush()


def unpack(packed: bytes, count: int) -> list[str]:
    """Give back the `count` texts of a block; raises `Damaged`."""
    unpacker = zlib.decompressobj(zdict=DICTIONARY)
    try:
        texts = (unpacker.decompress(packed) + unpacker.flush()).decode().split("\n")
    except (zlib.error, UnicodeDecodeError) as error:
        raise Damaged(str(error)) from error
    if not unpacker.eof or len(texts) != count:
        raise Damaged(f"{len(texts)} records instead of {count}")
    return texts


def line_of(text: str) -> Line:
    """Read the head of a record back from its JSON text; raises `Damaged`."""
    try:
        found = json.loads(text)
        ts = datetime.fromisoformat(found["ts"]).timestamp()
        check = str(found.get("check") or "site")
        return Line(found["ep"], found["seq"], found["type"], check, ts, found["mono_ms"], text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"no record: {error}") from error


def newest_dated(lines: Sequence[Line]) -> float | None:
    """Give the latest time (seconds since 1970) that a set clock has given, None if there is none.

    A record of an unset clock has no age: by its date of 1970 it would be thrown away at once.
    """
    return max((line.ts for line in lines if UNDATED_MARK not in line.text), default=None)


def declared_lost(text: str) -> tuple[int, int] | None:
    """Give (from_seq, to_seq) if the text is a `loss` record."""
    if LOSS_MARK not in text:
        return None
    found = json.loads(text)
    return (found["from_seq"], found["to_seq"]) if found["type"] == "loss" else None

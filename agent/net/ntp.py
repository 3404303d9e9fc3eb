"""NTP packets: our question and the server's answer (RFC 5905, 7.3), without any socket.

A timestamp is a 64-bit number, seconds since 1900 in its upper half, which begins anew in 2036. So only
differences are taken, as signed numbers: right for clocks that are less than 68 years apart.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

PACKET = struct.Struct(">BBbbII4sQQQQ")  # the 48 bytes that every packet begins with
PORT = 123
VERSION = 4
CLIENT, SERVER = 3, 4  # modes
UNIX_EPOCH_S = 2_208_988_800  # seconds from 1900 to 1970
UNIT = 1 << 32  # parts of a second in a timestamp
WRAP = 1 << 64
ORIGIN_AT = slice(24, 32)
NANO = 1_000_000_000
SHORT_UNIT = 1 << 16  # parts of a second in root delay and root dispersion


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's packet. Root delay and dispersion in seconds; the other times are 64-bit NTP timestamps."""

    leap: int
    version: int
    mode: int
    stratum: int
    root_delay_s: float
    root_dispersion_s: float
    reference_id: bytes
    reference: int
    received: int
    sent: int


def question(nonce: int) -> bytes:
    """Write a client's packet that says nothing of us: a random number stands where our time would.

    The server gives it back as the origin timestamp, which proves that its answer is one to this question
    (draft-ietf-ntp-data-minimization, RFC 9109 for the port).
    """
    return PACKET.pack(VERSION << 3 | CLIENT, 0, 0, 0, 0, 0, bytes(4), 0, 0, 0, nonce)


def answers(nonce: int, data: bytes) -> bool:
    """Tell whether a datagram gives our random number back."""
    return data[ORIGIN_AT] == nonce.to_bytes(8, "big")


def read(data: bytes) -> Answer:
    """Read a packet; what follows the 48 bytes is not ours to judge. Raises ValueError for a shorter one."""
    if len(data) < PACKET.size:
        raise ValueError(f"{len(data)} bytes are no NTP packet")
    first, stratum, _, _, delay, dispersion, reference_id, reference, _, received, sent = PACKET.unpack_from(data)
    return Answer(
        leap=first >> 6,
        version=first >> 3 & 7,
        mode=first & 7,
        stratum=stratum,
        root_delay_s=delay / SHORT_UNIT,
        root_dispersion_s=dispersion / SHORT_UNIT,
        reference_id=reference_id,
        reference=reference,
        received=received,
        sent=sent,
    )


def stamp(unix_ns: int) -> int:
    """Write a wall time (nanoseconds since 1970) as an NTP timestamp."""
    return (unix_ns * UNIT // NANO + UNIX_EPOCH_S * UNIT) % WRAP


def apart_s(later: int, earlier: int) -> float:
    """Give the seconds from one timestamp to another, negative where `later` is the earlier one."""
    steps = (later - earlier) % WRAP
    return (steps - WRAP if steps >= WRAP // 2 else steps) / UNIT


def offset_and_delay_s(answer: Answer, sent_ns: int, received_ns: int) -> tuple[float, float]:
    """Give how far the server's clock is ahead of ours, and the time on the way there and back (RFC 5905, 8)."""
    ours_sent, ours_received = stamp(sent_ns), stamp(received_ns)
    there, back = apart_s(answer.received, ours_sent), apart_s(answer.sent, ours_received)
    return (there + back) / 2, apart_s(ours_received, ours_sent) - apart_s(answer.sent, answer.received)

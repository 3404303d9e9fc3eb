"""The few MQTT packets that a question to a broker takes: CONNECT, CONNACK, PINGREQ, PINGRESP, DISCONNECT.

MQTT 5.0 and 3.1.1 (OASIS), chapters 2 and 3. What comes from the broker is read as if from an enemy: a packet
that is longer than any honest answer, or is not what MQTT allows here, ends the reading.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

from agent.model import Failed, Failure
from agent.net.streams import Stream

CONNECT, CONNACK, PINGRESP, DISCONNECT = 1, 2, 13, 14
PINGREQ_PACKET, DISCONNECT_PACKET = b"\xc0\x00", b"\xe0\x00"
FIVE, THREE_ONE_ONE = 5, 4
"""Protocol levels: 5 is MQTT 5.0, 4 is MQTT 3.1.1."""
LARGEST_BYTES = 8192
"""Of a packet to us: a CONNACK has some dozens of bytes, with long user properties some hundreds."""
MAXIMUM_PACKET_SIZE = b"\x05\x27" + struct.pack("!I", LARGEST_BYTES)
"""The properties of our CONNECT (3.1.2.11.4): their length, and the largest packet that we take."""
CLEAN, USER, PASSWORD = 0x02, 0x80, 0x40
KEEPALIVE_S = 60
LENGTH_BYTES = 4
"""A length has four bytes at most (2.1.4)."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: its kind, the flags beside it, and what follows the fixed header."""

    kind: int
    flags: int
    body: bytes


def connect_packet(level: int, client_id: str, username: str, password: str) -> bytes:
    """Write a CONNECT for a clean session without a Will; `level` is FIVE or THREE_ONE_ONE."""
    flags = CLEAN | (USER if username else 0) | (PASSWORD if password else 0)
    head = _text("MQTT") + struct.pack("!BBH", level, flags, KEEPALIVE_S)
    properties = MAXIMUM_PACKET_SIZE if level == FIVE else b""
    logins = b"".join(_text(word) for word in (username, password) if word)
    body = head + properties + _text(client_id) + logins
    return bytes([CONNECT << 4]) + _length(len(body)) + body


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("!H", len(raw)) + raw


def _length(count: int) -> bytes:
    """Write a variable byte integer (1.5.5)."""
    found = bytearray()
    while True:
        count, digit = divmod(count, 128)
        found.append(digit | (128 if count else 0))
        if not count:
            return bytes(found)


class Packets:
    """Reads packets from a stream, one after the other."""

    def __init__(self, stream: Stream) -> None:
        """Read from `stream`; nothing is read yet."""
        self._stream = stream
        self._waiting = b""

    @property
    def begun(self) -> bool:
        """Whether a part of a packet has come and the rest has not."""
        return bool(self._waiting)

    async def next(self, kinds: Collection[int], deadline: float) -> Packet | None:
        """Give the next packet; None where the other side ended before its first byte.

        Raises `Failed`: protocol (of none of these kinds, too long, ended half-way), timeout, reset and
        what else `Stream.read` raises.
        """
        if not await self._has(1, deadline):
            return None
        if self._waiting[0] >> 4 not in kinds:  # its length would mean nothing: there is no use in waiting for it
            raise Failed(Failure.PROTOCOL, "what came back is not what an MQTT broker answers here")
        digits = count = 0
        while True:
            digits += 1
            await self._need(1 + digits, deadline)
            digit = self._waiting[digits]
            count |= (digit & 127) << (7 * (digits - 1))
            if digit < 128:
                break
            if digits == LENGTH_BYTES:
                raise Failed(Failure.PROTOCOL, "what came back is no MQTT: its length has more than four bytes")
        if count > LARGEST_BYTES:
            raise Failed(Failure.PROTOCOL, f"what came back is no answer to us: a packet of {count} bytes")
        size = 1 + digits + count
        await self._need(size, deadline)
        first, body = self._waiting[0], self._waiting[1 + digits : size]
        self._waiting = self._waiting[size:]
        return Packet(first >> 4, first & 15, body)

    async def _need(self, count: int, deadline: float) -> None:
        if not await self._has(count, deadline):
            raise Failed(Failure.PROTOCOL, "the broker ended the connection in the middle of a packet")

    async def _has(self, count: int, deadline: float) -> bool:
        while len(self._waiting) < count:
            more = await self._stream.read(LARGEST_BYTES, deadline)
            if not more:
                return False
            self._waiting += more
        return True


def connack_code(packet: Packet, level: int) -> int:
    """Give the reason code of a CONNACK (3.2), 0 for success; raises `Failed` with protocol where it is none."""
    body = packet.body
    whole = len(body) == 2 or (level == FIVE and len(body) > 2 and _properties_fit(body[2:]))
    if packet.kind != CONNACK or packet.flags or not whole or body[0] > 1:
        raise Failed(Failure.PROTOCOL, "what came back is no CONNACK; does an MQTT broker listen there?")
    return body[1]


def _properties_fit(data: bytes) -> bool:
    """Tell whether the properties are as long as they say, and nothing follows them."""
    count = 0
    for place, digit in enumerate(data[:LENGTH_BYTES]):
        count |= (digit & 127) << (7 * place)
        if digit < 128:
            return len(data) == place + 1 + count
    return False

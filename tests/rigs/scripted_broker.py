"""An MQTT broker that does as the test says: any CONNACK, any PUBACK or none, ends at a chosen message.

    async with ScriptedBroker(puback=lambda topic: 0x97) as broker:
        … connect to 127.0.0.1, broker.port …
        broker.publishes        # what arrived, as Publish

Speaks MQTT 5 and 3.1.1, whichever CONNECT asks for. Wire format: MQTT 5.0, chapters 2 and 3.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT, PINGREQ = 1, 3, 8, 14, 12
MAXIMUM_QOS_0 = b"\x24\x00"  # property identifiers: MQTT 5.0, 2.2.2.2
RETAIN_UNAVAILABLE = b"\x25\x00"


def receive_maximum(count: int) -> bytes:
    """Write the CONNACK property Receive Maximum."""
    return b"\x21" + struct.pack("!H", count)


def maximum_packet_size(size_bytes: int) -> bytes:
    """Write the property Maximum Packet Size."""
    return b"\x27" + struct.pack("!I", size_bytes)


def server_keep_alive(seconds: int) -> bytes:
    """Write the CONNACK property Server Keep Alive."""
    return b"\x13" + struct.pack("!H", seconds)


def disconnect(reason_code: int) -> bytes:
    """Write a DISCONNECT of the server (MQTT 5.0, 3.14)."""
    return bytes([0xE0, 2, reason_code, 0])


def message(topic: str, payload: bytes, retain: bool = False, five: bool = True) -> bytes:
    """Write a PUBLISH at QoS 0 (MQTT 5.0, 3.3)."""
    body = struct.pack("!H", len(topic.encode())) + topic.encode() + (b"\x00" if five else b"") + payload
    length, size = len(body), b""
    while True:
        size += bytes([length % 128 | (128 if length > 127 else 0)])
        length //= 128
        if not length:
            return bytes([0x31 if retain else 0x30]) + size + body


@dataclass(frozen=True)
class Connect:
    """What a CONNECT said."""

    protocol: int
    client_id: str
    clean: bool
    keepalive_s: int
    properties: bytes
    will_topic: str
    will: Any
    will_qos: int
    will_retain: bool
    username: str | None
    password: str | None
    certificate: Any = None


@dataclass(frozen=True)
class Publish:
    """One message as it arrived: its connection counts from 0."""

    connection: int
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    size: int

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


@dataclass
class ScriptedBroker:
    """The script; each field may be changed while it runs.

    `connack` None never answers CONNECT; `puback(topic)` gives a reason code or None to withhold;
    `end_at` = after so many messages of a connection TCP is cut instead of acknowledging;
    `deadly(publish)` cuts TCP at the messages it likes, unacknowledged; `first` = raw bytes sent right after
    CONNACK; `silent` reads and never answers a byte; `stalled` reads on, and answers nothing any more;
    `suback` = reason code for every subscription; `subscribed` = raw bytes sent right after SUBACK.
    """

    connack: int | None = 0
    properties: bytes = b""
    puback: Callable[[str], int | None] = lambda topic: 0
    end_at: int | None = None
    first: bytes = b""
    silent: bool = False
    stalled: bool = False
    deadly: Callable[[Publish], bool] = lambda publish: False
    suback: int = 1
    subscribed: bytes = b""
    subscriptions: list[tuple[str, int]] = field(default_factory=list)
    pings: list[float] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    connects: list[Connect] = field(default_factory=list)
    publishes: list[Publish] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    most_in_flight: int = 0
    port: int = 0

    async def __aenter__(self) -> Self:
        self._writers: list[asyncio.StreamWriter] = []
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        self._server.close()
        self.send_all(None)
        await self._server.wait_closed()

    def send_all(self, data: bytes | None) -> None:
        """Send raw bytes on every connection; None cuts them."""
        for writer in self._writers:
            if data is None:
                writer.transport.abort()
            else:
                writer.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        number, self._pending = len(self._writers) - 1, 0
        end = "lost"
        try:
            while self.silent and await reader.read(65536):
                continue
            while True:
                kind, flags, body = await read_packet(reader)
                if kind == DISCONNECT:
                    end = "clean"
                    break
                if not self._answer(writer, number, kind, flags, body):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            end = "lost"
        finally:
            self.ends.append(end)
            writer.transport.abort()

    def _answer(self, writer: asyncio.StreamWriter, number: int, kind: int, flags: int, body: bytes) -> bool:
        if self.stalled:
            return True
        if kind == CONNECT:
            self.connects.append(replace(parse_connect(body), certificate=writer.get_extra_info("peercert")))
            if self.connack is not None:
                writer.write(self._connack_packet() + self.first)
        elif kind == PUBLISH:
            return self._published(writer, number, flags, body)
        elif kind == SUBSCRIBE:
            self._subscribe(writer, body)
        elif kind == PINGREQ:
            self.pings.append(asyncio.get_running_loop().time())
            writer.write(b"\xd0\x00")
        return True

    def _subscribe(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        five = self.connects[-1].protocol == 5
        mid, rest = body[:2], take_properties(body[2:], five)[1]
        granted = b""
        while rest:
            topic, rest = take_text(rest)
            self.subscriptions.append((topic, rest[0]))
            granted, rest = granted + bytes([self.suback]), rest[1:]
        answer = mid + (b"\x00" if five else b"") + granted
        writer.write(bytes([0x90, len(answer)]) + answer + self.subscribed)

    def _connack_packet(self) -> bytes:
        assert self.connack is not None
        if self.connects[-1].protocol == 5:
            rest = bytes([0, self.connack, len(self.properties)]) + self.properties
        else:
            rest = bytes([0, self.connack])
        return bytes([0x20, len(rest)]) + rest

    def _published(self, writer: asyncio.StreamWriter, number: int, flags: int, body: bytes) -> bool:
        five = self.connects[-1].protocol == 5
        topic, rest = take_text(body)
        mid, payload = rest[:2], rest[2:]
        if five:
            payload = payload[1 + payload[0] :]
        size = len(body) + 2 + (len(body) > 127) + (len(body) > 16383)
        qos, retain, dup = (flags >> 1) & 3, bool(flags & 1), bool(flags & 8)
        self.publishes.append(Publish(number, topic, payload, qos, retain, dup, size))
        self._pending += 1
        self.most_in_flight = max(self.most_in_flight, self._pending)
        if self.deadly(self.publishes[-1]):
            return False
        if self.end_at is not None and sum(p.connection == number for p in self.publishes) >= self.end_at:
            return False
        code = self.puback(topic)
        if code is not None:
            # On the next turn, so that messages that arrive together are seen as in flight together.
            asyncio.get_running_loop().call_later(0.002, self._acknowledge, writer, mid, code if five else None)
        return True

    def _acknowledge(self, writer: asyncio.StreamWriter, mid: bytes, code: int | None) -> None:
        self._pending -= 1
        if not writer.transport.is_closing():
            writer.write(b"\x40\x02" + mid if code is None else b"\x40\x03" + mid + bytes([code]))


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    """Read one MQTT packet: kind, flags, what follows the fixed header."""
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return first >> 4, first & 15, await reader.readexactly(length)


def take_bytes(data: bytes) -> tuple[bytes, bytes]:
    """Split off a field with its two length bytes."""
    end = 2 + int.from_bytes(data[:2], "big")
    return data[2:end], data[end:]


def take_text(data: bytes) -> tuple[str, bytes]:
    """Split off an UTF-8 field."""
    text, rest = take_bytes(data)
    return text.decode(), rest


def take_properties(data: bytes, five: bool) -> tuple[bytes, bytes]:
    """Split off the properties (shorter than 128 bytes) of MQTT 5."""
    return (data[1 : 1 + data[0]], data[1 + data[0] :]) if five else (b"", data)


def parse_connect(body: bytes) -> Connect:
    """Read a CONNECT (MQTT 5.0, 3.1)."""
    _, rest = take_text(body)
    protocol, flags, keepalive_s = struct.unpack("!BBH", rest[:4])
    five = protocol == 5
    properties, rest = take_properties(rest[4:], five)
    client_id, rest = take_text(rest)
    will_topic, will = "", None
    if flags & 4:
        _, rest = take_properties(rest, five)
        will_topic, rest = take_text(rest)
        payload, rest = take_bytes(rest)
        will = json.loads(payload)
    username, rest = take_text(rest) if flags & 0x80 else (None, rest)
    password, rest = take_text(rest) if flags & 0x40 else (None, rest)
    qos, retain = (flags >> 3) & 3, bool(flags & 0x20)
    clean = bool(flags & 2)
    return Connect(
        protocol, client_id, clean, keepalive_s, properties, will_topic, will, qos, retain, username, password
    )

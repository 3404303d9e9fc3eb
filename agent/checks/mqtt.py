"""The `mqtt` check: does a broker take us in and answer; and the agent's own way to its broker, as records."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from agent.check import Traffic
from agent.checks import Check, Context
from agent.delivery import OwnDelivery, OwnWay
from agent.model import Fact, Facts, Failed, Failure, Layer, Scalar
from agent.net.mqtt_packets import (
    CONNACK,
    DISCONNECT,
    DISCONNECT_PACKET,
    FIVE,
    PINGREQ_PACKET,
    PINGRESP,
    THREE_ONE_ONE,
    Packet,
    Packets,
    connack_code,
    connect_packet,
)
from agent.net.streams import Stream, TlsContexts, connect
from agent.options import Secret, Text, Url, is_address, option
from agent.policy import is_loopback

PORTS = {"mqtt": 1883, "mqtts": 8883}
CLIENT_ID = "SiteprobeCheck"
"""Eight random digits follow. Nodes have no capital letters in their ids, so it can never be that of an agent; 22
letters and digits are what every broker must take (MQTT 3.1.1, 3.1.3.1)."""
VERSIONS = {FIVE: "5", THREE_ONE_ONE: "3.1.1"}
OTHER_VERSION = {FIVE: (0x01, 0x84), THREE_ONE_ONE: (0x01,)}
"""Codes of a broker that does not speak the version asked for (5.0, 3.2.2.2; 3.1.1, 3.2.2.3)."""
NO_ENTRY = {FIVE: (0x85, 0x86, 0x87, 0x8A, 0x8C), THREE_ONE_ONE: (2, 4, 5)}
"""Codes that refuse the client: its id, its user or password, its rights."""
NOT_NOW = {FIVE: (0x88, 0x89, 0x97, 0x9C, 0x9D, 0x9F), THREE_ONE_ONE: (3,)}
"""Codes of a broker that takes nobody in: unavailable, busy, full, moved elsewhere."""
LOOK_AGAIN_S = 0.1
ENDING_S = 0.2
"""For our DISCONNECT to leave, where the broker takes nothing any more."""
PUBACK_PATIENCE_S = 5.0
"""A broker that acknowledges nothing for so long is stalled; the publisher itself gives up after 30 s."""


@dataclass(frozen=True, kw_only=True)
class Mqtt(Check):
    """Asks an MQTT broker to take us in (CONNECT, CONNACK) and to answer once (PINGREQ, PINGRESP), then leaves.

    It passes when both answers come: the broker runs, its certificate is good, it takes clients in, and it
    works on what they send. Nothing is published and nothing subscribed: that would need rights, and on a
    foreign broker it could wake other subscribers or be kept. The session is clean, without a Will, under a
    client id that begins with `SiteprobeCheck`. MQTT 5 is tried first and 3.1.1 where the broker does not
    speak it; `mqtt_version` tells which it was.

    Before the broker it may fail as `tcp` and `http` do: `dns_…`, `refused timeout unreachable prohibited
    reset`, `tls_…`. Then: `timeout`, it took the connection and said nothing; `auth`, it does not let this
    user (or nobody without a name) in; `refused`, it is busy, full or moved; `stalled`, an answer that
    stopped half-way, or a broker that took us in and then fell silent; `protocol`, it hung up on us, or what came back
    is not what MQTT allows there.

    Without `url` it asks nothing at all: it tells how the agent's own connection to its broker is, as the
    publisher measures it anyway (`connack_s`, `puback_s`), and fails as that does. The config makes one such
    check, `delivery`. It is no part of the verdict: `collector_unreachable` follows from the connection itself.

    Each run is a line in the broker's log. A password is sent only where `url` is mqtts:// or this machine.
    """

    type: ClassVar[str] = "mqtt"
    default_layer: ClassVar[Layer] = Layer.COLLECTOR
    main_field: ClassVar[str] = "connack_s"
    facts: ClassVar[Mapping[str, Fact]] = {
        "connect_s": Fact(float, "Seconds from the request to the established TCP connection."),
        "tls_s": Fact(float, "Seconds that the TLS handshake took."),
        "certificate_left_s": Fact(float, "Seconds until the broker's certificate ends."),
        "connack_s": Fact(
            float, "Seconds from CONNECT to CONNACK; of our own delivery: from the beginning of the connection."
        ),
        "round_trip_s": Fact(float, "Seconds from PINGREQ to PINGRESP."),
        "mqtt_version": Fact(str, "Version of MQTT that was spoken.", words=tuple(VERSIONS.values())),
        "puback_s": Fact(float, "Own delivery: mean seconds from a message to its PUBACK, of the last 100 at most."),
        "puback_max_s": Fact(float, "Own delivery: the longest of these."),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {
        "connect_s": 0.0108,
        "tls_s": 0.0312,
        "certificate_left_s": 5_184_000.0,
        "connack_s": 0.0127,
        "round_trip_s": 0.0111,
        "mqtt_version": "5",
    }

    url: str = option(
        Url(("mqtts", "mqtt")),
        "Broker to ask; left out, the agent's own delivery is told.",
        default="",
        example="mqtts://broker.example.org",
    )
    ca_file: str = option(
        Text(), "CA certificates (PEM) in place of the system's.", default="", example="/etc/siteprobe/ca.pem"
    )
    username: str = option(Text(), "User name, where the broker asks for one.", default="", example="probe")
    password: Any = option(Secret(), "Its password, by reference.", default=None, example="{credential: broker}")

    def problems(self) -> list[tuple[str, str]]:
        """Give what does not go together, as (option, reason)."""
        found = []
        keys = [key for key in ("ca_file", "username", "password") if getattr(self, key)]
        if not self.url:
            found += [(key, "belongs to a broker; write its url") for key in keys]
        elif self.password is not None and not self._private():
            found.append(("password", "would cross the network unencrypted; use mqtts://"))
        if self.password is not None and not self.username:
            found.append(("password", "needs a username"))
        return found

    def _private(self) -> bool:
        host, _ = self.place()
        return self.url.startswith("mqtts:") or host == "localhost" or (is_address(host) and is_loopback(host))

    def place(self) -> tuple[str, int]:
        """Give the host and port of `url`."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or PORTS[parts.scheme]

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the connection, and the second one that a broker of the older version takes the first time."""
        if not self.url:
            return ()
        host, port = self.place()
        return (Traffic(host, "tcp", port, 2),)

    @property
    def asked(self) -> str:
        """The URL as configured."""
        return self.url

    async def run(self, ctx: Context) -> Facts:
        """Ask the broker, or tell of our own delivery; see the class for the failures."""
        return await _Run(self, ctx).facts() if self.url else await _own_delivery(ctx)


async def _own_delivery(ctx: Context) -> Facts:
    """Tell how the publisher's connection stands; its first attempt is waited for."""
    source = ctx.tools.get(OwnDelivery).source
    if source is None:
        raise Failed(Failure.ABORTED, "only the running agent knows its own delivery; ask `siteprobe status`")
    loop = asyncio.get_running_loop()
    # The first attempt of the process is waited for; nobody tells of its end, and it is once in a life.
    while not ((way := source()).connected or way.failure) and loop.time() + LOOK_AGAIN_S < ctx.deadline:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_AGAIN_S)
    failure, detail = _judged(way)
    ctx.say(f"the agent's own connection: {detail or 'works'}")
    measured = {"connack_s": way.connack_s, "puback_s": way.puback_s, "puback_max_s": way.puback_max_s}
    return Facts({k: round(v, 6) for k, v in measured.items() if v is not None}, way.address, failure, detail)


def _judged(way: OwnWay) -> tuple[Failure | None, str]:
    if not way.connected:
        return way.failure or Failure.TIMEOUT, way.reason or "the broker has not taken us in yet"
    if way.waiting_s > PUBACK_PATIENCE_S:
        return Failure.STALLED, f"the broker has acknowledged nothing for {way.waiting_s:.0f} s"
    return None, ""


class _OtherVersion(Exception):
    """The broker does not speak the version that it was asked in."""


@dataclass
class _Run:
    """One run, with what is known so far."""

    check: Mqtt
    ctx: Context
    address: str = ""
    fields: dict[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.now = asyncio.get_running_loop().time

    async def facts(self) -> Facts:
        level = self.ctx.memory.get("level", FIVE)
        try:
            await self._either(level, password_of(self.check))
        except Failed as failed:
            return Facts({**self.fields, **failed.fields}, self.address, failed.failure, failed.detail)
        return Facts(self.fields, self.address)

    async def _either(self, level: int, password: str) -> None:
        """Ask in this version, and in the other one where the broker does not speak it."""
        try:
            await self._ask(level, password)
        except _OtherVersion:
            other = THREE_ONE_ONE if level == FIVE else FIVE
            self.ctx.say(f"the broker does not speak MQTT {VERSIONS[level]}; asking in {VERSIONS[other]}")
            self.ctx.memory["level"] = other
            try:
                await self._ask(other, password)
            except _OtherVersion:
                self.ctx.memory.clear()
                raise Failed(Failure.PROTOCOL, "the broker hung up on CONNECT, in MQTT 5 and in 3.1.1") from None

    async def _ask(self, level: int, password: str) -> None:
        secure = self._secure_context()
        async with aclosing(await self._connect()) as stream:
            if secure:
                await self._secure(stream, secure)
            packets = Packets(stream)
            began = self.now()
            client_id = CLIENT_ID + secrets.token_hex(4)
            packet = connect_packet(level, client_id, self.check.username, password)
            await stream.write(packet, self.ctx.deadline)
            self._taken_in(await self._answer(packets, "CONNECT", CONNACK), level)
            self.fields |= {"connack_s": self.now() - began, "mqtt_version": VERSIONS[level]}
            self.ctx.say(f"taken in as {client_id}, MQTT {VERSIONS[level]}, in {self.now() - began:.4f} s")
            began = self.now()
            await stream.write(PINGREQ_PACKET, self.ctx.deadline)
            self._pinged(await self._answer(packets, "PINGREQ", PINGRESP, DISCONNECT), level)
            self.fields["round_trip_s"] = self.now() - began
            with suppress(Failed):  # both answers are there; a broker that has already hung up changes nothing
                await stream.write(DISCONNECT_PACKET, min(self.ctx.deadline, self.now() + ENDING_S))

    async def _connect(self) -> Stream:
        host, port = self.check.place()
        self.address = await self.ctx.resolve(host)
        stream = await connect(await self.ctx.permit(self.address, port, "tcp"), self.ctx.deadline)
        self.fields["connect_s"] = stream.connect_s
        return stream

    def _secure_context(self) -> ssl.SSLContext | None:
        if not self.check.url.startswith("mqtts:"):
            return None
        return self.ctx.tools.get(TlsContexts).get(self.check.ca_file, self.ctx.judge_certificate_dates)

    async def _secure(self, stream: Stream, context: ssl.SSLContext) -> None:
        tls = await stream.start_tls(context, self.check.place()[0], self.ctx.deadline)
        self.fields["tls_s"] = tls.handshake_s
        if tls.certificate_left_s is not None:
            self.fields["certificate_left_s"] = tls.certificate_left_s

    async def _answer(self, packets: Packets, question: str, *kinds: int) -> Packet | None:
        """Wait for the next packet; silence is a stall once the broker has begun to answer."""
        try:
            return await packets.next(kinds, self.ctx.deadline)
        except Failed as failed:
            if failed.failure is not Failure.TIMEOUT:
                raise
            if packets.begun or "connack_s" in self.fields:
                raise Failed(Failure.STALLED, f"the broker's answer to {question} did not come in time") from None
            raise Failed(Failure.TIMEOUT, f"the broker took the connection and did not answer {question}") from None

    def _taken_in(self, packet: Packet | None, level: int) -> None:
        if packet is None:
            raise _OtherVersion  # some older brokers just hang up on a version that they do not know
        code = connack_code(packet, level)
        if code in OTHER_VERSION[level]:
            raise _OtherVersion
        _judge(code, level, "refused to take us in")

    def _pinged(self, packet: Packet | None, level: int) -> None:
        if packet is None:
            raise Failed(Failure.PROTOCOL, "the broker took us in and then hung up")
        if packet.kind == DISCONNECT and level == FIVE:
            _judge(packet.body[0] if packet.body else 0x80, level, "took us in and then ended the connection")
        if packet.kind != PINGRESP or packet.flags or packet.body:
            raise Failed(Failure.PROTOCOL, "what came back is no PINGRESP")


def password_of(check: Mqtt) -> str:
    """Read the password; raises `Failed` with local_permission where it cannot be."""
    if check.password is None:
        return ""
    try:
        return str(check.password.reveal())
    except ValueError as error:
        raise Failed(Failure.LOCAL_PERMISSION, f"password: {error}") from None


def _judge(code: int, level: int, what: str) -> None:
    """Raise `Failed` for a reason code other than success."""
    if code in NO_ENTRY[level]:
        raise Failed(Failure.AUTH, f"the broker {what}: client, user or password is not allowed (code {code:#04x})")
    if code in NOT_NOW[level]:
        raise Failed(Failure.REFUSED, f"the broker {what}: it is busy, full or moved (code {code:#04x})")
    if code:
        raise Failed(Failure.PROTOCOL, f"the broker {what} (code {code:#04x})")

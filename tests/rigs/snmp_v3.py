"""A scripted SNMPv3 device: discovery, time and reports as RFC 3414 has them, and a twist where a test wants one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agent.snmp import ber, crypto, envelope, message
from agent.snmp.credentials import Credentials
from agent.snmp.envelope import ENCRYPTED, SIGNED, Envelope

UNKNOWN_ENGINE, NOT_IN_TIME = "1.3.6.1.6.3.15.1.1.4.0", "1.3.6.1.6.3.15.1.1.2.0"
Twist = Callable[["Device", Envelope, bytes], bytes | None]


def pdu(kind: int, request: int, bindings: list[tuple[str, bytes]]) -> bytes:
    """Write a PDU that answers; the values are whole elements."""
    rows = [ber.tlv(ber.SEQUENCE, ber.tlv(ber.OID, ber.oid_bytes(oid)), value) for oid, value in bindings]
    numbers = ber.number(request), ber.number(0), ber.number(0)
    return ber.tlv(kind, *numbers, ber.tlv(ber.SEQUENCE, *rows))


@dataclass
class Device:
    """A device that knows one user and has a name; `twist` may replace its answer to a question that holds."""

    who: Credentials
    engine: bytes = b"\x80\x00\x1f\x88\x04rig"
    boots: int = 3
    time: int = 1000
    twist: Twist | None = None
    signs_reports: bool = True
    heard: list[Envelope] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.masters = crypto.master_keys(self.who)

    @property
    def level(self) -> int:
        return (SIGNED if self.who.auth_key else 0) | (ENCRYPTED if self.who.priv_key else 0)

    def about(self, asked: Envelope, level: int) -> Envelope:
        user = self.who.user.encode()
        return replace(asked, level=level, engine=self.engine, boots=self.boots, time=self.time, user=user, salt=b"")

    def sealed(self, about: Envelope, body: bytes, context: bytes | None = None, key: str = "") -> bytes:
        """Put a PDU into its envelope; with another `key` it is signed wrongly."""
        who = self.who
        scoped = envelope.scoped(about.engine if context is None else context, body)
        keys = crypto.localized(
            who, crypto.master_keys(replace(who, auth_key=key)) if key else self.masters, self.engine
        )
        if about.level & ENCRYPTED:
            own = crypto.localized(who, self.masters, self.engine)
            octets, salt = crypto.encrypted(who.priv_protocol, own, about.boots, about.time, scoped)
            about, scoped = replace(about, salt=salt), ber.tlv(ber.OCTETS, octets)
        if not about.level & SIGNED:
            return envelope.written(about, b"", scoped)
        unsigned = envelope.written(about, bytes(crypto.digest_bytes(who.auth_protocol)), scoped)
        return envelope.written(about, crypto.signature(who.auth_protocol, keys, unsigned), scoped)

    def report(self, asked: Envelope, oid: str, level: int = 0) -> bytes:
        body = pdu(message.REPORT, 0, [(oid, ber.tlv(message.COUNTER32, b"\x01"))])
        return self.sealed(self.about(asked, level), body)

    def question(self, data: bytes, asked: Envelope) -> tuple[int, list[str]]:
        """Give the id and the OIDs of a question."""
        start, stop = asked.body
        if asked.level & ENCRYPTED:
            own = crypto.localized(self.who, self.masters, self.engine)
            protocol = self.who.priv_protocol
            data = crypto.decrypted(protocol, own, asked.boots, asked.time, asked.salt, data[start:stop])
            start, stop = ber.expect(data, 0, len(data), ber.SEQUENCE)
        _, start = envelope.unscoped(data, start, stop)
        _, request, _, _, found = message.read_pdu(data, start, stop)
        return request, [oid for oid, _ in found]

    def named(self, request: int, oids: list[str], name: bytes = b"sw") -> bytes:
        return pdu(message.RESPONSE, request, [(oid, ber.tlv(ber.OCTETS, name)) for oid in oids])

    def __call__(self, data: bytes) -> list[bytes]:
        asked = envelope.read(data)
        self.heard.append(asked)
        if asked.engine != self.engine:
            return [self.report(asked, UNKNOWN_ENGINE)]
        if asked.level and (asked.boots != self.boots or abs(asked.time - self.time) > 150):
            return [self.report(asked, NOT_IN_TIME, SIGNED if self.signs_reports else 0)]
        if self.twist:
            answer = self.twist(self, asked, data)
            return [] if answer is None else [answer]
        return [self.sealed(self.about(asked, self.level), self.named(*self.question(data, asked)))]

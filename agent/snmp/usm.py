"""A device that is asked over SNMPv3: who it is, what its clock shows, and which answers hold (RFC 3414, section 3).

Keys and ciphers are pysnmp's; its engine is not used, which takes 10 MB and 100 µs an object. Imported at the
first v3 question.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from pysnmp.error import PySnmpError

from agent.snmp import ber, crypto, envelope, failures, message
from agent.snmp.credentials import Credentials
from agent.snmp.envelope import ENCRYPTED, NUMBER_MOST, SIGNED, Envelope
from agent.snmp.line import Line
from agent.snmp.plain import REQUEST_BITS, Answer

ENGINE_BYTES = range(5, 33)
"""RFC 3411, SnmpEngineID."""
WINDOW_S = 150
SILENT_QUESTIONS = 2
"""After so many in a row the engine is discovered anew: some devices only drop what is for another one."""
NOT_IN_TIME = "NotInTimeWindow"
REPORTS = {
    "1.3.6.1.6.3.15.1.1.1.0": "UnsupportedSecurityLevel",
    "1.3.6.1.6.3.15.1.1.2.0": NOT_IN_TIME,
    "1.3.6.1.6.3.15.1.1.3.0": "UnknownUserName",
    "1.3.6.1.6.3.15.1.1.4.0": "UnknownEngineID",
    "1.3.6.1.6.3.15.1.1.5.0": "WrongDigest",
    "1.3.6.1.6.3.15.1.1.6.0": "DecryptionError",
}
"""usmStats of RFC 3414, by the names that `failures` explains."""


@dataclass(slots=True)
class DeviceClock:
    """What the clock of a device shows: `time` was so at `at` (seconds of the loop clock).

    It is `sure` once a signed message told it. Until then any signed message corrects it: who forges an
    unsigned report must not lock us out.
    """

    boots: int
    time: int
    at: float
    sure: bool = False

    def now(self, now: float) -> int:
        """Say what it shows now."""
        return min(self.time + int(now - self.at), NUMBER_MOST)

    def accepts(self, boots: int, time: int, now: float) -> bool:
        """Tell whether a signed message is of now and not an old one played again (RFC 3414, 3.2.7 b)."""
        if boots == NUMBER_MOST:  # the end of all: RFC 3414, 2.2.2
            return False
        if not self.sure or (boots, time) > (self.boots, self.time):
            self.boots, self.time, self.at, self.sure = boots, time, now, True
        return boots == self.boots and time >= self.now(now) - WINDOW_S


class Ear(Line):
    """The wire of such a device."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        """Give each datagram to `hear`."""
        super().__init__()
        self._hear = hear

    def take(self, data: bytes) -> None:
        """Hear a datagram; what is no answer stays in `last` and is told apart when no answer comes."""
        try:
            self._hear(data)
        except ber.Unreadable:
            return


class Peer:
    """One device and the user by whom we are known there."""

    def __init__(self, credentials: Credentials, masters: crypto.Keys) -> None:
        """Open nothing yet; the user's keys are made by `crypto.master_keys`."""
        self.wire = Ear(self._hear)
        self._credentials, self._masters = credentials, masters
        self._level = (SIGNED if credentials.auth_key else 0) | (ENCRYPTED if credentials.priv_key else 0)
        self._user = credentials.user.encode()
        self._request = self._unanswered = 0
        self._answer: asyncio.Future[Answer] | None = None
        self.forget_device()

    def forget_device(self) -> None:
        """Discover the device's engine id anew."""
        self._engine, self._keys, self._clock = b"", self._masters, DeviceClock(0, 0, 0.0)

    async def ask(self, kind: str, oids: tuple[str, ...], repetitions: int) -> Answer:
        """Ask once, without a deadline; `kind` is get, next or bulk. Raises `Failed` where we cannot even ask."""
        if self._unanswered >= SILENT_QUESTIONS:
            self.forget_device()
        self._unanswered += 1
        if not self._engine:
            await self._send(0, "get", (), 0)
        answer = await self._send(self._level, kind, oids, repetitions)
        if answer[0] == NOT_IN_TIME:  # its report told us its time
            answer = await self._send(self._level, kind, oids, repetitions)
        self._unanswered = 0
        return answer

    async def _send(self, level: int, kind: str, oids: tuple[str, ...], repetitions: int) -> Answer:
        self._request = secrets.randbelow(2**REQUEST_BITS - 1) + 1
        self._answer = asyncio.get_running_loop().create_future()
        pdu = message.pdu(kind, self._request, oids, repetitions)
        try:
            self.wire.wanted.put_nowait(self._sealed(level, envelope.scoped(self._engine, pdu)))
        except PySnmpError as error:
            raise failures.from_own_side(error, self._credentials) from None
        return await self._answer

    def _sealed(self, level: int, body: bytes) -> bytes:
        """Put a question into its envelope: encrypted first, then signed. The message has the id of the request."""
        who = self._credentials
        user, time = (self._user, self._clock.now(_now())) if self._engine else (b"", 0)
        about = Envelope(self._request, level, self._engine, self._clock.boots, time, user, (0, 0), b"", (0, 0))
        if level & ENCRYPTED:
            octets, salt = crypto.encrypted(who.priv_protocol, self._keys, about.boots, time, body)
            about, body = replace(about, salt=salt), ber.tlv(ber.OCTETS, octets)
        if not level & SIGNED:
            return envelope.written(about, b"", body)
        unsigned = envelope.written(about, bytes(crypto.digest_bytes(who.auth_protocol)), body)
        return envelope.written(about, crypto.signature(who.auth_protocol, self._keys, unsigned), body)

    def _hear(self, data: bytes) -> None:
        """Take the answer to the open question; raises `ber.Unreadable` for what is none."""
        about = envelope.read(data)
        if self._answer is None or self._answer.done() or about.message != self._request:
            return
        context, (kind, request, status, index, found) = self._opened(about, data)
        right = message.RESPONSE, self._request, self._level, self._engine, self._user, self._engine
        if kind == message.REPORT:
            self._heed(about, found)
        elif (kind, request, about.level, about.engine, about.user, context) == right:
            self._answer.set_result(("", status, index, found))

    def _opened(self, about: Envelope, data: bytes) -> tuple[bytes, tuple[int, int, int, int, message.Bindings]]:
        """Check the signature and the time of a message, and decrypt it."""
        start, stop = about.body
        if about.level:
            self._verify(about, data)
        if about.level & ENCRYPTED:
            data = self._decrypted(about, data[start:stop])
            start, stop = ber.expect(data, 0, len(data), ber.SEQUENCE)
        context, start = envelope.unscoped(data, start, stop)
        return context, message.read_pdu(data, start, stop)

    def _verify(self, about: Envelope, data: bytes) -> None:
        if self._keys.auth is None or (about.engine, about.user) != (self._engine, self._user):
            raise ber.Unreadable("is not signed by the device")
        start, stop = about.digest
        unsigned = data[:start] + bytes(stop - start) + data[stop:]
        right = crypto.signature(self._credentials.auth_protocol, self._keys, unsigned)
        if not hmac.compare_digest(right, data[start:stop]):
            raise ber.Unreadable("has a wrong signature")
        if not self._clock.accepts(about.boots, about.time, _now()):
            raise ber.Unreadable("is too old")

    def _decrypted(self, about: Envelope, octets: bytes) -> bytes:
        if self._keys.priv is None:
            raise ber.Unreadable("is encrypted, and we have no key")
        protocol = self._credentials.priv_protocol
        return crypto.decrypted(protocol, self._keys, about.boots, about.time, about.salt, octets)

    def _heed(self, about: Envelope, found: message.Bindings) -> None:
        """Learn from a report: the engine if we do not know it, the time if ours is wrong."""
        name = REPORTS.get(found[0][0], "") if found else ""
        if not self._engine:
            if len(about.engine) not in ENGINE_BYTES:
                raise ber.Unreadable("has no engine id")
            self._engine = about.engine
            self._keys = crypto.localized(self._credentials, self._masters, about.engine)
            self._clock = DeviceClock(about.boots, about.time, _now())
        elif name == NOT_IN_TIME and not about.level:  # some devices do not sign it, although they must
            self._clock = DeviceClock(about.boots, about.time, _now())
        if self._answer:
            self._answer.set_result((name or "UnknownReport", 0, 0, []))


def _now() -> float:
    return asyncio.get_running_loop().time()

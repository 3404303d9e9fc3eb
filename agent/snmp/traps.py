"""Who may tell us something, and how often: judges each notification before it becomes an event.

A source address can be forged (UDP), and a community stands in clear text, so a notification changes no
state: it is told as what the device says, and the device is asked. Only v3 with an auth_key proves its sender.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.safety import Budget
from agent.snmp import ber, envelope, message, notices
from agent.snmp.credentials import Credentials
from agent.snmp.line import DATAGRAM_LIMIT_BYTES

if TYPE_CHECKING:
    from agent.snmp.trap_engine import TrapEngine

DATAGRAMS_PER_S, DATAGRAMS_BURST = 5, 60
"""What one device may cost: an inform of v3 takes three datagrams."""
EVENTS_PER_S, EVENTS_BURST = 0.2, 20
"""A switch with a flapping port says so twice a second for hours: an event each 5 s, after the first 20, is enough."""
VERSION_3 = 3
NOTIFICATIONS = (message.TRAP_V1, message.TRAP_V2, message.INFORM)


@dataclass(frozen=True, slots=True)
class Sender:
    """A device that may send us notifications: the check that asks it, and who we are to each other."""

    check: str
    credentials: Credentials


Senders = Mapping[str, tuple[Sender, ...]]
"""By address; one device may be asked by several checks."""
Read = tuple[Sender | None, list[message.Bindings], list[bytes]]
"""Who sent it (None = nobody that may), what it says, and what is to be answered."""
NOBODY: Read = (None, [], [])
Tell = Callable[[Sender, str, notices.Notice], None]
"""Takes (who, address, what)."""


class Judge:
    """Takes datagrams and tells of those that a configured device sent; counts the rest."""

    def __init__(self, tell: Tell, engine: TrapEngine | None = None) -> None:
        """Trust nobody yet: `senders` is set from outside; without an `engine` v3 is not understood."""
        self.senders: Senders = {}
        self.dropped: Counter[str] = Counter()
        self.last_unknown = ""
        self._tell, self.engine = tell, engine
        self._datagrams: dict[str, Budget] = {}
        self._events: dict[str, Budget] = {}

    def use(self, senders: Senders) -> None:
        """Take notifications of these devices from now on."""
        self.senders = senders
        for book in (self._datagrams, self._events):
            for gone in book.keys() - senders.keys():
                del book[gone]

    def take(self, data: bytes, address: str, now: float) -> list[bytes]:
        """Judge one datagram (`now`: seconds of the loop clock); gives what is to be answered to its sender."""
        known = self.senders.get(address)
        if not known:
            self.last_unknown = address
            return self._drop("unknown")
        if not _spent(self._datagrams.setdefault(address, Budget(DATAGRAMS_PER_S, DATAGRAMS_BURST)), now):
            return self._drop("too_fast")
        try:
            return self._read(data, address, known, now)
        except ber.Unreadable:
            return self._drop("unreadable")

    def _read(self, data: bytes, address: str, known: tuple[Sender, ...], now: float) -> list[bytes]:
        if len(data) > DATAGRAM_LIMIT_BYTES:
            raise ber.Unreadable("is too long")
        read = self._version_3 if _version(data) == VERSION_3 else self._plain
        sender, found, answers = read(data, address, known)
        if sender is None:
            if not answers:
                self._drop("not_allowed")
            return answers
        for bindings in found:
            self._note(sender, address, bindings, now)
        return answers

    def _drop(self, why: str) -> list[bytes]:
        self.dropped[why] += 1
        return []

    def _plain(self, data: bytes, address: str, known: tuple[Sender, ...]) -> Read:
        found = message.parse(data)
        if found.kind not in NOTIFICATIONS:
            raise ber.Unreadable("is no notification")
        sender = next((s for s in known if _community_fits(s.credentials, found)), None)
        answers = [message.acknowledgement(data)] if sender and found.kind == message.INFORM else []
        return sender, [found.bindings], answers

    def _version_3(self, data: bytes, address: str, known: tuple[Sender, ...]) -> Read:
        about = envelope.read(data)
        if self.engine is None:
            return NOBODY
        if not about.engine:  # an inform begins with asking for our engine id
            return None, [], self.engine.receive(data)[0]
        sender = next((s for s in known if _user_fits(s.credentials, about)), None)
        if sender is None or not self.engine.introduce(address, about.engine, sender.credentials):
            return NOBODY
        answers, found = self.engine.receive(data)
        return (sender if found else None), found, answers

    def _note(self, sender: Sender, address: str, bindings: message.Bindings, now: float) -> None:
        notice = notices.read(bindings)
        if notice is None:
            self.dropped["not_known"] += 1
        elif _spent(self._events.setdefault(address, Budget(EVENTS_PER_S, EVENTS_BURST)), now):
            self._tell(sender, address, notice)
        else:
            self._drop("too_fast")


def _spent(budget: Budget, now: float) -> bool:
    """Take one of the budget, if there is one."""
    if budget.earliest(now) > now:
        return False
    budget.spend(now)
    return True


def dropped_words(dropped: Mapping[str, int], last_unknown: str) -> str:
    """Say for people what was not taken, and why."""
    words = {
        "unknown": f"from addresses of no snmp check (the last {last_unknown})",
        "too_fast": "that came too fast",
        "not_allowed": "with a wrong community, user, key or level",
        "unreadable": "that were no readable notification",
    }
    return ", ".join(f"{dropped[why]} {text}" for why, text in words.items() if dropped.get(why))


def _version(data: bytes) -> int:
    at, end = ber.expect(data, 0, len(data), ber.SEQUENCE)
    start, stop = ber.expect(data, at, end, ber.INTEGER)
    return ber.integer(data, start, stop)


def _community_fits(credentials: Credentials, found: message.Message) -> bool:
    """Compare in constant time; a device that is asked with v2c may send v1 traps, and the other way round."""
    ours = credentials.community.encode()
    return credentials.version != "3" and bool(ours) and hmac.compare_digest(ours, found.community)


def _user_fits(credentials: Credentials, about: envelope.Envelope) -> bool:
    """Hold a message to the user and to the whole protection that is configured: less would let anybody in."""
    wanted = (envelope.SIGNED if credentials.auth_key else 0) | (envelope.ENCRYPTED if credentials.priv_key else 0)
    return credentials.version == "3" and (about.user, about.level) == (credentials.user.encode(), wanted)

"""What the passive listener makes of packet headers: counts, and signs that somebody should look.

Pure over (frame, direction, seconds). It sees what a switch sends to every port: broadcasts, and what is
meant for us. So ARP is what tells a machine that asks for all its neighbours, as a worm does (field.md, 5.2);
replies to others are not heard, which is why a target counts as unanswered while it was not heard itself.

Every table is bounded: a flood pushes out the oldest and costs no memory.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from agent.packets.wire import BROADCAST, TO_US

ARP, IPV4, IPV6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
ARP_HEAD = bytes.fromhex("0001080006 04".replace(" ", ""))  # Ethernet, IPv4, their lengths; RFC 826
REQUEST, REPLY = 1, 2
FAN_OUT, FAN_OUT_S = 30, 60.0
"""So many targets of one source in a minute, most of them not there: nobody's normal work (field.md, 5.2)."""
ARP_PER_S, BROADCASTS_PER_S, STORM_S = 200, 1000, 5
"""More than this in each of five seconds is a storm (field.md, 5.2)."""
ALIVE_S = 600.0
"""Who was heard within ten minutes is there."""
QUIET_S = 600.0
"""The same sign of the same source is told once in ten minutes."""
MOST_SOURCES, MOST_TARGETS, MOST_ALIVE, MOST_TOLD, MOST_MACS = 256, 128, 4096, 50, 8
HASH_CHARACTERS = 16
"""64 bits: no two machines of a site meet, and the key makes it worthless to anyone else."""


@dataclass(frozen=True)
class Around:
    """What the service knows: addresses of its own, of the gateways, of listed machines, and the key of the day."""

    own: frozenset[str] = frozenset()
    gateways: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    key: bytes = b""

    def listed(self, address: str) -> bool:
        """Tell whether an address stands in the config, or is part of our own way."""
        return address in self.known or address in self.gateways or address in self.own

    def hashed(self, raw: bytes) -> str:
        """Give the keyed hash that stands for an address that is not listed."""
        return hmac.new(self.key, raw, hashlib.sha256).hexdigest()[:HASH_CHARACTERS]


@dataclass
class Counts:
    """What was heard since the last report."""

    arp_requests: int = 0
    arp_replies: int = 0
    broadcasts: int = 0
    connection_attempts: int = 0
    malformed: int = 0
    dropped: int = 0
    arp_most_per_second: int = 0
    broadcast_most_per_second: int = 0


@dataclass
class _Second:
    """The counts of the present second, of those frames that were looked at."""

    began: float = 0.0
    handled: int = 0
    arp: int = 0
    broadcasts: int = 0


@dataclass
class Watch:
    """The listener's memory; `take` each frame, `second` once a second, `report` when asked."""

    around: Around = field(default_factory=Around)
    counts: Counts = field(default_factory=Counts)
    _second: _Second = field(default_factory=_Second)
    _storms: Counter[str] = field(default_factory=Counter)
    _asked: OrderedDict[bytes, OrderedDict[bytes, float]] = field(default_factory=OrderedDict)
    _alive: OrderedDict[bytes, float] = field(default_factory=OrderedDict)
    _gateway_macs: dict[str, OrderedDict[bytes, float]] = field(default_factory=dict)
    _attempts: Counter[tuple[bytes, int]] = field(default_factory=Counter)
    _told: OrderedDict[tuple[str, str], float] = field(default_factory=OrderedDict)
    _waiting: list[dict[str, Any]] = field(default_factory=list)

    def take(self, frame: bytes, direction: int, now: float) -> None:
        """Look at the header of one frame; `direction` is the kernel's packet type."""
        self._second.handled += 1
        if direction == BROADCAST:
            self.counts.broadcasts += 1
            self._second.broadcasts += 1
        kind = frame[12:14]
        if kind == ARP:
            self._second.arp += 1
            self._take_arp(frame[14:42], now)
        elif direction == TO_US and kind in (IPV4, IPV6):
            self._take_attempt(frame, kind)

    def _take_arp(self, arp: bytes, now: float) -> None:
        operation = int.from_bytes(arp[6:8])
        if len(arp) < 28 or arp[:6] != ARP_HEAD or operation not in (REQUEST, REPLY):
            self.counts.malformed += 1
            return
        mac, sender, target = arp[8:14], arp[14:18], arp[24:28]
        self.counts.arp_requests += operation == REQUEST
        self.counts.arp_replies += operation == REPLY
        if any(sender):
            put(self._alive, sender, now, MOST_ALIVE)
            self._gateway(str(ip_address(sender)), mac, now)
        if operation == REQUEST and target != sender and not self.around.listed(str(ip_address(sender))):
            self._fan_out(mac, target, now)

    def _gateway(self, address: str, mac: bytes, now: float) -> None:
        if address not in self.around.gateways:
            return
        macs = self._gateway_macs.setdefault(address, OrderedDict())
        is_new = mac not in macs
        put(macs, mac, now, MOST_MACS)
        if is_new and len(macs) > 1:
            sentence = f"the gateway's address {address} was used by a second MAC"
            self._tell("second_gateway_mac", self.around.hashed(mac), sentence, now, count=len(macs))

    def _fan_out(self, mac: bytes, target: bytes, now: float) -> None:
        targets = self._asked.setdefault(mac, OrderedDict())
        self._asked.move_to_end(mac)
        if len(self._asked) > MOST_SOURCES:
            self._asked.popitem(last=False)
        put(targets, target, now, MOST_TARGETS)
        while targets and next(iter(targets.values())) < now - FAN_OUT_S:
            targets.popitem(last=False)
        if len(targets) < FAN_OUT:
            return
        unanswered = sum(self._alive.get(t, -ALIVE_S) < now - ALIVE_S for t in targets)
        if unanswered * 2 > len(targets):
            sentence = f"one machine asked for {len(targets)} addresses in {FAN_OUT_S:g} s, {unanswered} not there"
            self._tell("possible_worm_scan", self.around.hashed(mac), sentence, now, count=len(targets))

    def _take_attempt(self, frame: bytes, kind: bytes) -> None:
        """Count a connection attempt; the kernel's filter let through only those to the watched ports."""
        if kind == IPV4:
            length = (frame[14] & 0x0F) * 4
            source, to, port = frame[26:30], frame[30:34], frame[14 + length + 2 : 14 + length + 4]
        else:
            source, to, port = frame[22:38], frame[38:54], frame[56:58]
        if len(port) < 2:
            self.counts.malformed += 1
            return
        if str(ip_address(to)) not in self.around.own or self.around.listed(str(ip_address(source))):
            return
        self.counts.connection_attempts += 1
        attempt = source, int.from_bytes(port)
        if attempt in self._attempts or len(self._attempts) < MOST_TOLD:
            self._attempts[attempt] += 1

    def second(self, now: float, dropped: int) -> None:
        """Close a second; `dropped` frames were let through by the filter and found no room."""
        handled, self._second = self._second, _Second(began=now)
        self.counts.dropped += dropped
        if dropped and not handled.handled:
            return  # this machine was too busy to look at a single one: nothing can be said of this second
        seconds = max(now - handled.began, 1.0) if handled.began else 1.0
        share = (handled.handled + dropped) / max(handled.handled, 1) / seconds
        arp, broadcasts = round(handled.arp * share), round(handled.broadcasts * share)
        self.counts.arp_most_per_second = max(self.counts.arp_most_per_second, arp)
        self.counts.broadcast_most_per_second = max(self.counts.broadcast_most_per_second, broadcasts)
        self._storm("arp_storm", "ARP packets", arp, ARP_PER_S, now)
        self._storm("broadcast_storm", "broadcasts", broadcasts, BROADCASTS_PER_S, now)

    def _storm(self, name: str, words: str, rate: int, limit: int, now: float) -> None:
        self._storms[name] = self._storms[name] + 1 if rate > limit else 0
        if self._storms[name] >= STORM_S:
            self._tell(name, "", f"more than {limit} {words} a second for {STORM_S} s, last {rate}", now, count=rate)

    def report(self, now: float) -> dict[str, Any]:
        """Give counts and signs since the last report, and begin anew."""
        for (source, port), count in self._attempts.items():
            sentence = f"{count} unasked connection attempts to our own TCP port {port}"
            self._tell("unsolicited_connection", self.around.hashed(source), sentence, now, count=count, port=port)
        counts, told = self.counts, self._waiting
        self.counts, self._waiting, self._attempts = Counts(), [], Counter()
        return {"counts": vars(counts), "indicators": told}

    def _tell(self, indicator: str, source: str, sentence: str, now: float, **more: int) -> None:
        last = self._told.get((indicator, source))
        if (last is not None and now - last < QUIET_S) or len(self._waiting) >= MOST_TOLD:
            return
        put(self._told, (indicator, source), now, MOST_SOURCES)
        self._waiting.append({"indicator": indicator, "source": source, "detail": f"indicator: {sentence}", **more})


def put(table: OrderedDict[Any, float], key: Any, now: float, most: int) -> None:
    """Note that a key was seen now, as the newest; the oldest goes where the table is full."""
    table[key] = now
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)


def frozen(addresses: Iterable[str]) -> frozenset[str]:
    """Make a set of addresses, each in its shortest form and without an interface."""
    return frozenset(str(ip_address(address.partition("%")[0])) for address in addresses)

"""What the publisher needs from outside: a wire to the broker, and the store of numbered records.

The publisher decides, a wire does. `agent.mqtt` makes wires with paho; tests make them in ten lines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent.model import Failure, Record

LARGEST_PACKET_BYTES = 268_435_460
"""MQTT's own limit (5.0, 2.1.4: four length bytes), where the broker names none."""


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT application message at QoS 1; also the form of the Will."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker's CONNACK allows us (MQTT 5.0, 3.2.2.3); 3.1.1 brokers name no limits."""

    receive_maximum: int = 65_535
    packet_bytes: int = LARGEST_PACKET_BYTES
    retain: bool = True


@dataclass(frozen=True, slots=True)
class Acked:
    """The broker answered message `mid`: the PUBACK's reason code, 0 with MQTT 3.1.1."""

    mid: int
    reason_code: int


@dataclass(frozen=True, slots=True)
class Received:
    """The broker sent a message."""

    message: Message


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over, the last event of a wire: one sentence, and a `kind` to branch on.

    Kinds: taken_over (another client with our id), closed (the broker or the network just ended it),
    server (the broker said it must), refused (the broker said we may not), protocol (it broke MQTT),
    stalled (no PUBACK or no ping answer), renewed (ended by us, to use changed files), suspect (it ended
    when a suspected record was alone in flight).
    """

    reason: str
    kind: str = "closed"


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker answered our subscriptions; `refused` has one sentence where it did not grant all of them."""

    refused: str = ""


Event = Acked | Received | Subscribed | Closed


@dataclass(frozen=True, slots=True)
class Papers:
    """The files that a connection was made with (CA, certificate, key, password), as they are on disk now.

    `renewed`: they differ from those in use and can be used. `trouble`: they differ and cannot be used, one
    sentence. `certificate_ends_ts`: when our own certificate ends (seconds since 1970); None where we have
    none, or while the clock is not good enough to judge dates by.
    """

    renewed: bool = False
    trouble: str = ""
    certificate_ends_ts: float | None = None


FAILURES = {
    "network": Failure.TIMEOUT,
    "tls": Failure.TLS_HANDSHAKE,
    "certificate": Failure.LOCAL_PERMISSION,
    "policy": Failure.LOCAL_POLICY,
    "retain": Failure.PROTOCOL,
    "refused": Failure.AUTH,
    "busy": Failure.REFUSED,
    "taken_over": Failure.RESET,
    "closed": Failure.RESET,
    "server": Failure.RESET,
    "suspect": Failure.RESET,
    "dropped": Failure.ABORTED,
    "renewed": Failure.ABORTED,
    "protocol": Failure.PROTOCOL,
    "stalled": Failure.STALLED,
}
"""What each kind of end is in a record of the agent's own delivery."""


class NotConnected(Exception):
    """No connection came about; `reason` is one clear sentence without secrets.

    Kinds: network, tls, certificate (own files or secrets), policy, retain (the broker keeps nothing: no
    Will may be retained), refused (the broker's no), busy (the broker's not now).
    """

    def __init__(
        self,
        reason: str,
        kind: str = "network",
        papers: Callable[[], Awaitable[Papers]] | None = None,
        failure: Failure | None = None,
    ):
        """Keep the sentence for people, the word to branch on, and how to look at the files again.

        `failure` is the contract's word for a record; without it the kind decides.
        """
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
        self.papers = papers
        self.failure = failure or FAILURES[kind]


class Wire(Protocol):
    """One MQTT connection, accepted by the broker; thrown away when it ends."""

    @property
    def address(self) -> str:
        """Address as connected."""

    @property
    def limits(self) -> Limits:
        """What the broker allows."""

    def publish(self, message: Message) -> int:
        """Hand over a message at QoS 1 and give its number; raises ConnectionError once it is over."""

    def subscribe(self, filters: Sequence[str]) -> None:
        """Ask for messages at QoS 1, retained ones too; `Subscribed` follows. Raises ConnectionError once it is over.

        With MQTT 5 the retain flag of a message stays as it was published; 3.1.1 shows it at subscribing only.
        """

    async def papers(self) -> Papers:
        """Look at the files that this connection was made with."""

    async def event(self) -> Event:
        """Wait for what happens next. After `Closed` nothing follows."""

    async def close(self) -> None:
        """End with a clean DISCONNECT, so that the broker drops the Will; waits a second at most."""

    def abort(self) -> None:
        """Drop the TCP connection at once, so that the broker publishes the Will."""


WireFactory = Callable[[Message], Awaitable[Wire]]
"""Opens a wire with the given Will; raises `NotConnected`."""


class Line(Protocol):
    """One numbered record as kept and sent (agent.journal.Line)."""

    @property
    def ep(self) -> str:
        """Epoch of the number."""

    @property
    def seq(self) -> int:
        """Number within the epoch."""

    @property
    def type(self) -> str:
        """Record type, as in the topic."""

    @property
    def check(self) -> str:
        """Check name, or `site`."""

    @property
    def mono_ms(self) -> int:
        """When it was taken, in milliseconds since boot."""

    @property
    def text(self) -> str:
        """The record as one JSON object."""

    @property
    def held(self) -> bool:
        """Whether it must not be sent like this: `Store.unsent` gives it with the right time."""


class Store(Protocol):
    """The part of `agent.journal.Journal` that the publisher uses."""

    @property
    def ep(self) -> str:
        """Present epoch."""

    @property
    def committed_seq(self) -> int:
        """Highest number that is durable."""

    def append(self, record: Record, urgent: bool = False) -> int:
        """Keep a record and give its number."""

    async def unsent(self, after: int, limit: int) -> Sequence[Line]:
        """Give committed records that are not marked sent, ascending."""

    async def read(self, ranges: Iterable[tuple[int, int]], limit: int = 1000) -> Sequence[Line]:
        """Give the first records of these ranges of the present epoch that are held, sent or not, ascending."""

    def declare_lost(self, ep: str, spans: Iterable[tuple[int, int]], reason: str) -> None:
        """Give up numbers of the present epoch, by a `loss` record each span."""

    def mark_sent(self, ep: str, seqs: Iterable[int]) -> None:
        """Note that the broker acknowledged these."""

    async def flush(self) -> None:
        """Wait until everything appended and remembered so far is committed."""

    def remember(self, key: str, value: str) -> None:
        """Keep a small value over restarts."""

    def recall(self, key: str) -> str | None:
        """Give a remembered value."""


@dataclass(frozen=True, slots=True)
class Card:
    """A retained message: what it says now is all that matters.

    Topic = base/`suffix`. `payload` None is the empty retained message that removes the topic. It is sent
    once the record numbered `after_seq` is committed, so that a card never tells what a crash takes back.
    """

    suffix: str
    payload: Mapping[str, Any] | None
    after_seq: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """How delivery stands, for `status`, the heartbeat and the verdict. Times are of the loop clock.

    `since` = when `connected` last changed; `reason` = why nothing (or not all) is delivered, one
    sentence; `unheard` = records that the broker took notice of while nobody was subscribed, waiting.
    """

    connected: bool = False
    since: float = 0.0
    address: str = ""
    reason: str = ""
    unheard: int = 0
    connections: int = 0
    in_flight: int = 0
    last_acknowledged: float | None = None

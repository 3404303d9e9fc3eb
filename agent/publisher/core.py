"""The publisher: connects, serves, waits, connects again; what is decided on one connection is in `session`.

It runs beside the measuring and is never waited for: the pipeline hands it committed records and
changed cards, and both calls return at once, connected or not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

from agent.clock import Instant, rfc3339
from agent.delivery import OwnWay
from agent.messages import VERSION, base_topic, compact
from agent.model import Failure, event
from agent.publisher.backlog import Replay
from agent.publisher.backoff import KICKED_S, Backoff
from agent.publisher.given import Pace, Place, ignore, nothing, untold
from agent.publisher.inbox import Inbox
from agent.publisher.lanes import Cards, Lanes
from agent.publisher.papers import PAPERS_S, OwnCertificate
from agent.publisher.session import Session
from agent.publisher.window import ACK_TIMEOUT_S
from agent.publisher.wire import (
    FAILURES,
    Card,
    Closed,
    Delivery,
    Line,
    Message,
    NotConnected,
    Papers,
    Store,
    Wire,
    WireFactory,
)

Look = Callable[[], Awaitable[Papers]]
CONNECTIONS = "conn"
"""Key under which the journal keeps the number of connections."""
KEPT_WITHIN_S = 5.0
"""A disk that hangs for longer must not keep the centre from hearing of it."""
DUPLICATE = (
    "duplicate_identity: another agent seems to be connected under the same node name;"
    f" trying again after {KICKED_S:g} s or more"
)


class Publisher:
    """Delivers records and cards over one MQTT connection at a time."""

    def __init__(
        self,
        identity: Place,
        mqtt: Pace,
        journal: Store,
        cards: Callable[[], Iterable[Card]],
        open_wire: WireFactory,
        now: Callable[[], Instant],
        random: Random,
        subscriptions: Callable[[], Iterable[str]] = nothing,
        on_message: Callable[[Message], None] = ignore,
        warn: Callable[[str], None] = untold,
        inform: Callable[[str], None] = untold,
    ) -> None:
        """Deliver from `journal`; `cards()` gives the present about, heartbeat, verdict and states.

        `subscriptions()` gives the topic filters to ask the broker for, at each connect anew; `on_message`
        gets every message that comes of it, on the event loop; it must not raise. `warn` gets one sentence for the
        log when the reason why there is no connection changes, `inform` one for the connection after it.
        """
        self._node = identity.node
        self._base = base_topic(identity.org, identity.site, identity.node)
        self._mqtt = mqtt
        self._journal = journal
        self._present_cards = cards
        self._open_wire = open_wire
        self._now = now
        self._backoff = Backoff(mqtt.spread_s, mqtt.retry_max_s, random)
        self._lanes = Lanes(Cards(journal), Replay(journal), mqtt.late_rate)
        self._inbox = Inbox(subscriptions, on_message)
        self._certificate = OwnCertificate(journal, now)
        self._session: Session | None = None
        self._ep = ""
        self._since = 0.0
        self._reason = "not connected yet"
        self._connections = 0
        self._last_acknowledged: float | None = None
        self._failure: Failure | None = None
        self._warn, self._inform, self._warned = warn, inform, ""
        self._connack_s = 0.0

    @property
    def delivery(self) -> Delivery:
        """A snapshot of how delivery stands."""
        session = self._session
        if session is None:
            return Delivery(
                since=self._since,
                reason=self._reason,
                unheard=self._lanes.unheard.count,
                connections=self._connections,
                last_acknowledged=self._last_acknowledged,
            )
        return Delivery(
            connected=True,
            since=self._since,
            address=session.wire.address,
            reason=next(iter(session.problems.values()), ""),
            unheard=self._lanes.unheard.count,
            connections=self._connections,
            in_flight=len(session.window),
            last_acknowledged=session.acknowledged_at or self._last_acknowledged,
        )

    def way(self) -> OwnWay:
        """Say how the way to the broker is, as measured on the present connection."""
        session = self._session
        if session is None:
            return OwnWay(failure=self._failure, reason=self._reason if self._failure else "")
        delays_s, overdue_at = session.window.delays_s, session.window.overdue_at()
        sent_at = None if overdue_at is None else overdue_at - ACK_TIMEOUT_S
        return OwnWay(
            connected=True,
            address=session.wire.address,
            connack_s=self._connack_s,
            puback_s=sum(delays_s) / len(delays_s) if delays_s else None,
            puback_max_s=max(delays_s, default=None),
            waiting_s=0.0 if sent_at is None else asyncio.get_running_loop().time() - sent_at,
        )

    def committed(self, lines: Sequence[Line]) -> None:
        """Take newly committed records, in order: they are published while fresh, else with the backlog."""
        if not lines:
            return
        if lines[-1].ep != self._ep:
            self._new_epoch(lines[-1].ep)
        self._lanes.live.add(line for line in lines if not line.held)
        if held := next((line.seq for line in lines if line.held), 0):
            self._lanes.backlog.unsent_again(held)
        if self._session:
            self._session.wake()
        else:
            self._lanes.live.expire(self._now().mono_ms)

    def post(self, card: Card) -> None:
        """Publish a changed card; while there is no connection, `cards()` will give it at the next one."""
        if self._session:
            self._lanes.cards.post(card)
            self._session.wake()

    def respond(self, suffix: str, payload: Mapping[str, Any]) -> None:
        """Publish a message that is not retained under base/`suffix`; given up after 60 s without a connection."""
        self._lanes.answers.add(suffix, payload, asyncio.get_running_loop().time())
        self._wake()

    def pace(self, hold: bool, late_rate: float | None, spread_s: float | None) -> None:
        """Set the centre's pace, at once: `hold` stops the backlog and replay; None = as configured.

        Of `late_rate` (records/s, 0 = unlimited) and the configured rate the smaller one wins.
        """
        rates = [rate for rate in (self._mqtt.late_rate, late_rate) if rate]
        rate = min(rates, default=0.0)
        if rate != self._lanes.late_rate:
            self._lanes.backlog.hurry()
        self._lanes.hold, self._lanes.late_rate = hold, rate
        self._backoff.spread(self._mqtt.spread_s if spread_s is None else spread_s)
        self._wake()

    def replay(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Send numbers (first, last) of the present epoch again with the backlog, although they are marked sent.

        What is not held is left out; what is not sent when the process ends is forgotten: the centre asks again.
        """
        lowest = self._lanes.replay.want(ranges)
        if lowest is not None:
            self._lanes.backlog.again_from(lowest)
            self._wake()

    def _wake(self) -> None:
        if self._session:
            self._session.wake()

    async def run(self) -> None:
        """Deliver for the life of the process; cancelling it says `stopped` and disconnects cleanly."""
        self._since = asyncio.get_running_loop().time()
        while True:
            wait_s, look = await self._one_connection()
            await self._pause(wait_s, look)

    async def _pause(self, wait_s: float, look: Look | None) -> None:
        """Wait before the next attempt; changed certificates or a changed password cut it short."""
        until = asyncio.get_running_loop().time() + wait_s
        while (left_s := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left_s, PAPERS_S) if look else left_s)
            if look and (await look()).renewed:
                return

    async def _one_connection(self) -> tuple[float, Look | None]:
        """Connect and serve until the end; gives the seconds to wait, and how to look at our files meanwhile."""
        number, started = self._last_number() + 1, asyncio.get_running_loop().time()
        try:
            wire = await self._open_wire(self._status_message("lost", number))
        except NotConnected as failure:
            self._reason, self._failure = failure.reason, failure.failure
            self._tell_reason()
            return self._backoff.failed(failure.kind), failure.papers
        self._journal.remember(CONNECTIONS, str(number))
        began = self._since = asyncio.get_running_loop().time()
        self._connack_s = began - started
        self._connections += 1
        self._tell_connected(wire.address)
        closed = await self._serve(wire)
        return self._after(closed, began), wire.papers

    async def _serve(self, wire: Wire) -> Closed:
        session = Session(
            wire,
            self._base,
            self._journal,
            self._lanes,
            self._inbox,
            self._all_cards,
            self._mqtt.retry_max_s,
            self._now,
            self._certificate,
        )
        self._session = session
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEPT_WITHIN_S):
                    await self._journal.flush()  # else a crash would give this connection's number to the next one
            return session.learn(await session.serve())
        except asyncio.CancelledError:
            await session.farewell(self._status("stopped", self._last_number()))
            raise
        finally:
            wire.abort()
            self._session = None
            self._since = asyncio.get_running_loop().time()
            self._last_acknowledged = session.acknowledged_at or self._last_acknowledged
            self._reason = "disconnected: the agent stops"

    def _after(self, closed: Closed, began: float) -> float:
        acknowledged = self._last_acknowledged is not None and self._last_acknowledged >= began
        was_duplicate = self._backoff.duplicate
        wait_s = self._backoff.lost(closed.kind, self._since - began, acknowledged)
        self._reason, self._failure = closed.reason, FAILURES[closed.kind]
        if self._backoff.duplicate:
            self._reason = f"{DUPLICATE} ({closed.reason})"
            if not was_duplicate:
                self._journal.append(event("duplicate_identity", self._reason, self._now()))
        if closed.kind != "renewed":  # ended by ourselves, to connect again at once
            self._tell_reason()
        return wait_s

    def _tell_reason(self) -> None:
        """Tell the log why there is no connection; once, however many attempts end like this."""
        if self._reason != self._warned:
            self._warned = self._reason
            self._warn(f"results are kept, and not delivered: {self._reason}")

    def _tell_connected(self, address: str) -> None:
        """Tell the log that what was wrong is over; a later loss is told again, whatever its reason."""
        if self._warned:
            self._warned = ""
            self._inform(f"connected to the broker at {address}")

    def _new_epoch(self, ep: str) -> None:
        """Tell readers at once which epoch `status` speaks of."""
        if self._ep:
            self.post(self._status("online", self._last_number()))
        self._ep = ep

    def _last_number(self) -> int:
        return int(self._journal.recall(CONNECTIONS) or 0)

    def _all_cards(self) -> tuple[Card, ...]:
        return (self._status("online", self._last_number()), *self._present_cards())

    def _status(self, state: str, number: int) -> Card:
        ts = rfc3339(self._now().ts)
        ep = self._journal.ep
        return Card("status", {"v": VERSION, "node": self._node, "state": state, "ep": ep, "conn": number, "ts": ts})

    def _status_message(self, state: str, number: int) -> Message:
        card = self._status(state, number)
        return Message(f"{self._base}/{card.suffix}", compact(card.payload).encode(), retain=True)

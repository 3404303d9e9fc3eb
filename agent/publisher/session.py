"""One connection from its CONNACK to its end: sends from the lanes, and hands what comes back to its judge.

Rules (contract, section 3): answers and cards, then fresh records, then the backlog (3); the window (4); a
missing PUBACK ends the connection (6); changed certificates and passwords end it gently (8).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace

from agent.clock import Instant
from agent.publisher.backlog import READ_LINES, Key, read_page
from agent.publisher.inbox import Inbox
from agent.publisher.lanes import Cards, Lanes
from agent.publisher.papers import OwnCertificate, watch
from agent.publisher.replies import Replies
from agent.publisher.trials import PROOFS
from agent.publisher.window import ACK_TIMEOUT_S, Lane, Outgoing, Window
from agent.publisher.wire import Acked, Card, Closed, Line, Message, Received, Store, Subscribed, Wire

PACKET_OVERHEAD_BYTES = 10
"""Of a PUBLISH beside topic and payload: 5 fixed header, 2 topic length, 2 packet id, 1 properties."""
LONGEST_WAIT_S = 30.0
RESCAN_S = 30.0
"""The journal is looked through for unsent records this often even if none is known: a net under the lanes."""
NEXT_EPOCH_S = 1.0
"""After the last records of one epoch, before the next is begun: time for their PUBACKs."""
DRAIN_S = 1.5
"""Of the two seconds at the end: for what is in flight and still fresh; the rest is for `stopped`."""
GOODBYE_S = 0.5
RENEWED_DRAIN_S = 5.0


class Session:
    """The publisher's side of one wire."""

    def __init__(
        self,
        wire: Wire,
        base: str,
        store: Store,
        lanes: Lanes,
        inbox: Inbox,
        all_cards: Callable[[], Iterable[Card]],
        retry_max_s: float,
        now: Callable[[], Instant],
        certificate: OwnCertificate,
    ) -> None:
        """Serve `wire`; `base` is the topic of the node, `retry_max_s` the longest back-off of a refused lane."""
        self.wire = wire
        self.window = Window(wire.limits.receive_maximum)
        self.replies = Replies(lanes, store, retry_max_s, now)
        self.acknowledged_at: float | None = None
        self._base, self._store, self._lanes, self._inbox = base, store, lanes, inbox
        self._all_cards, self._now, self._certificate = all_cards, now, certificate
        self._changed = asyncio.Event()
        self._hungry = asyncio.Event()
        self._subscribed = False
        self._ending = False
        self._rescan_at = 0.0
        self._closed: Closed | None = None

    @property
    def problems(self) -> dict[str, str]:
        """Why not all is delivered although there is a connection, one sentence a key."""
        return self.replies.problems

    async def serve(self) -> Closed:
        """Publish until the connection ends, and say why it did."""
        self._lanes.cards.begin(self._all_cards(), self._time())
        self._lanes.answers.begin()
        self._lanes.trials.begin(self._time())
        self._lanes.backlog.begin()
        self._subscribed = self._inbox.subscribe(self.wire, self.problems)
        async with asyncio.TaskGroup() as group:
            papers = watch(self.wire, self._certificate, self.problems, self._renew)
            work = self._send(), self._read_journal(), papers
            helpers = [group.create_task(part) for part in work]
            closed = await self._receive()
            for helper in helpers:
                helper.cancel()
        return closed

    async def farewell(self, stopped: Card) -> None:
        """Send what is in the window and still fresh, then `stopped`, then a clean DISCONNECT: two seconds.

        Without room for `stopped` the connection is dropped instead, so that the Will tells of the end.
        """
        self._ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._drain()
        if self._closed or self.window.full:
            self.wire.abort()
            return
        self._transmit(Cards.outgoing(stopped), self._time())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                while self._closed is None and len(self.window):
                    await self._handle_event()
        await self.wire.close()

    def learn(self, closed: Closed) -> Closed:
        """Learn from the end of the connection which record it may have died of; that was nobody else's doing then."""
        trials = self._lanes.trials
        if closed.kind == "renewed":
            return closed
        guilty = trials.ended(self.window.flights())
        if guilty:
            reason = f"the connection ended {len(PROOFS)} times in a row when this record was alone in flight"
            self.replies.quarantine([guilty], "deadly", reason, self._time())
        proven = self.acknowledged_at is not None
        trial = trials.running or (self._lanes.cards.one_at_a_time and proven)
        if deadly := self._lanes.cards.ended(self.window.flights(), proven, self._time()):
            reason = f"the connection ends whenever {self._base}/{deadly} is published; the others go on without it"
            self.replies.tell(deadly, "delivery_refused", reason)
        return replace(closed, kind="suspect") if trial and closed.kind == "closed" else closed

    def wake(self) -> None:
        """Something new waits in a lane."""
        self._changed.set()

    async def _receive(self) -> Closed:
        while self._closed is None:
            await self._handle_event()
        return self._closed

    async def _handle_event(self) -> None:
        match await self.wire.event():
            case Acked(mid, reason_code):
                self._answered(mid, reason_code)
            case Received(message) if self._subscribed:
                self._inbox.on_message(message)
            case Received():
                self._drop("the broker sent a message although nothing is subscribed", "protocol")
            case Subscribed(refused):
                if refused:
                    self.problems["subscriptions"] = refused
                    self.replies.tell("subscriptions", "delivery_refused", refused)
            case Closed() as closed:
                self._closed = self._closed or closed
        self.wake()

    async def _renew(self) -> None:
        """End the connection with nothing in flight: a clean DISCONNECT leaves `online` standing."""
        self._ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RENEWED_DRAIN_S):
                while len(self.window):
                    self._changed.clear()
                    await self._changed.wait()
        self._closed = self._closed or Closed("certificates or password have changed: connecting with them", "renewed")
        await self.wire.close()

    async def _send(self) -> None:
        while self._closed is None:
            self._changed.clear()
            now = self._time()
            overdue_at = self.window.overdue_at()
            if overdue_at is not None and now >= overdue_at:
                self._drop(f"the broker acknowledged nothing for {ACK_TIMEOUT_S:g} s", "stalled")
                return
            if not self._ending:
                self._pump(now)
            if now >= self._rescan_at:
                self._rescan_at = now + RESCAN_S
                self._lanes.backlog.unsent_again(1)
            if self._lanes.backlog.hungry and self._late_may(now):
                self._hungry.set()
            await self._wait(now)

    async def _wait(self, now: float) -> None:
        times = [
            self._rescan_at,
            self._lanes.trials.next_at,
            self._lanes.trials.patient_at,
            self._lanes.backlog.due_at,
            self.window.overdue_at() or 0.0,
            *(h.until for h in self.replies.holds.values()),
        ]
        due_at = min((at for at in times if at > now), default=now + LONGEST_WAIT_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(due_at, now + LONGEST_WAIT_S)):
                await self._changed.wait()

    async def _read_journal(self) -> None:
        while True:
            await self._hungry.wait()
            self._hungry.clear()
            newest = (self._store.ep, self._store.committed_seq)
            elsewhere = self._elsewhere()
            lines = await read_page(self._store, self._lanes.replay, self._lanes.backlog.take_place())
            if not self._lanes.backlog.feed(lines, elsewhere | self._elsewhere(), newest):
                self._rescan_at = min(self._rescan_at, self._time() + NEXT_EPOCH_S)
            self.wake()

    def _elsewhere(self) -> set[Key]:
        return self.window.records() | self._lanes.elsewhere(self._time())

    async def _drain(self) -> None:
        while self._closed is None:
            self._pump(self._time())
            if not len(self.window):
                return
            await self._handle_event()

    def _pump(self, now: float) -> None:
        """Send whatever the window, the holds and the rate allow; at the end only what is fresh."""
        expired = self._lanes.live.expire(self._now().mono_ms)
        if expired:
            self._lanes.backlog.unsent_again(expired.seq)
        while (outgoing := self._next(now)) is not None and self._transmit(outgoing, now):
            continue

    def _next(self, now: float) -> Outgoing | None:
        trials = self._lanes.trials
        if trials.running:
            return None
        if now >= trials.next_at and (line := self._suspect(now)):
            return None if len(self.window) else self._try(line, now)
        for lane in self.window.turns():
            outgoing = self._from_lane(lane, now)
            if outgoing is not None:
                return outgoing
        return None

    def _suspect(self, now: float) -> Line | None:
        """Give the record whose turn it is to go alone: the others wait until it is answered."""
        if now < self._lanes.backlog.due_at or not self._late_may(now):
            return None
        return self._lanes.trials.next(self.replies.proofs, now)

    def _try(self, line: Line, now: float) -> Outgoing:
        self._lanes.backlog.spend(now, 1, self._lanes.late_rate)
        return self._lanes.trials.start(line, now)

    def _late_may(self, now: float) -> bool:
        """Tell whether the backlog may be touched at all."""
        late = self.replies.holds[Lane.LATE].open(now, self.window.in_flight(Lane.LATE))
        return late and not self._lanes.hold and not self._ending

    def _from_lane(self, lane: Lane, now: float) -> Outgoing | None:
        lanes, hold = self._lanes, self.replies.holds[lane]
        if not hold.open(now, self.window.in_flight(lane)):
            return None
        match lane:
            case Lane.ANSWERS:
                return lanes.answers.next(now)
            case Lane.CARDS:
                waits = lanes.cards.one_at_a_time and self.window.in_flight(Lane.CARDS)
                return None if waits else lanes.cards.next(now)
            case Lane.LIVE:
                return lanes.live.next()
            case Lane.LATE:
                if not self._late_may(now) or lanes.trials.next(self.replies.proofs, now):
                    return None
                # The longest late topic of ours is shorter than the base with a 40-letter type.
                room = self._room_bytes(f"{self._base}/late/{'x' * 40}")
                return lanes.backlog.next(now, lanes.late_rate, 1 if hold.trying else READ_LINES, room)

    def _room_bytes(self, topic: str) -> int:
        return self.wire.limits.packet_bytes - PACKET_OVERHEAD_BYTES - len(topic)

    def _transmit(self, outgoing: Outgoing, now: float) -> bool:
        """Hand a message to the wire; False when that is over and its `Closed` is on the way."""
        retain = outgoing.retain and self.wire.limits.retain
        message = Message(f"{self._base}/{outgoing.suffix}", outgoing.payload, retain)
        if len(message.payload) > self._room_bytes(message.topic):
            self.replies.too_large(outgoing, self.wire.limits.packet_bytes, now)
            return True
        try:
            self.window.sent(self.wire.publish(message), outgoing, now)
        except ConnectionError:
            return False
        return True

    def _drop(self, reason: str, kind: str) -> None:
        self._closed = self._closed or Closed(reason, kind)
        self.wire.abort()

    def _answered(self, mid: int, reason_code: int) -> None:
        outgoing = self.window.answered(mid, now := self._time())
        if outgoing is None:
            return
        self.acknowledged_at = now
        self.replies.judge(outgoing, reason_code, now)

    def _time(self) -> float:
        return asyncio.get_running_loop().time()

"""Ten-line fakes around the publisher: a store, a wire, and what is needed to build one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any

from agent.clock import Instant, rfc3339
from agent.model import Record
from agent.publisher import (
    Acked,
    Card,
    Closed,
    Event,
    Limits,
    Message,
    NotConnected,
    Papers,
    Publisher,
    Received,
    Subscribed,
    WireFactory,
)

BASE = "siteprobe/v1/o/s/n"
START_TS = 1_800_000_000.0
IDENTITY: Any = SimpleNamespace(org="o", site="s", node="n")


def pace(late_rate: float = 0, spread_s: float = 1, retry_max_s: float = 300) -> Any:
    """The publisher's part of the config's mqtt section."""
    return SimpleNamespace(late_rate=late_rate, spread_s=spread_s, retry_max_s=retry_max_s)


def loop_now() -> Instant:
    """Wall time and time since boot that follow the loop's clock."""
    time_s = asyncio.get_running_loop().time()
    return Instant(START_TS + time_s, int(time_s * 1000), "synced", "b00700")


@dataclass(frozen=True)
class FakeLine:
    ep: str
    seq: int
    type: str
    check: str
    ts: float
    mono_ms: int
    text: str
    held: bool = False


class FakeStore:
    """A journal in a dict; `take` commits records at once and hands them to the publisher."""

    def __init__(self) -> None:
        self.ep, self.committed_seq = "e1", 0
        self.lines: dict[int, FakeLine] = {}
        self.sent: set[int] = set()
        self.values: dict[str, str] = {}
        self.appended: list[Record] = []
        self.lost: list[tuple[str, int, str]] = []

    def add(
        self, count: int = 1, type: str = "icmp", check: str = "gw", age_s: float = 0, pad: int = 0
    ) -> list[FakeLine]:
        now = loop_now()
        new = []
        for _ in range(count):
            self.committed_seq += 1
            body = {"v": 1, "ep": self.ep, "seq": self.committed_seq, "ts": rfc3339(now.ts), "pad": "x" * pad}
            mono_ms = now.mono_ms - int(age_s * 1000)
            new.append(FakeLine(self.ep, self.committed_seq, type, check, now.ts, mono_ms, json.dumps(body)))
        self.lines |= {line.seq: line for line in new}
        return new

    def append(self, record: Record, urgent: bool = False) -> int:
        self.appended.append(record)
        return 0

    async def unsent(self, after: int, limit: int) -> list[FakeLine]:
        await asyncio.sleep(0.001)
        found = [line for seq, line in self.lines.items() if seq > after and seq not in self.sent]
        return found[:limit]

    def mark_sent(self, ep: str, seqs: Iterable[int]) -> None:
        assert ep == self.ep
        self.sent.update(seqs)

    async def read(self, ranges: Iterable[tuple[int, int]], limit: int = 1000) -> list[FakeLine]:
        await asyncio.sleep(0.001)
        return [line for seq, line in self.lines.items() if any(a <= seq <= b for a, b in ranges)][:limit]

    def declare_lost(self, ep: str, spans: Iterable[tuple[int, int]], reason: str) -> None:
        for first, last in spans if ep == self.ep else ():
            self.sent.update(range(first, last + 1))
            self.lost += [(ep, seq, reason) for seq in range(first, last + 1)]

    async def flush(self) -> None:
        return

    def remember(self, key: str, value: str) -> None:
        self.values[key] = value

    def recall(self, key: str) -> str | None:
        return self.values.get(key)


class FakeWire:
    """Acknowledges each message with `code(message)` after `delay_s`; None withholds the PUBACK."""

    address = "192.0.2.1"

    def __init__(self, limits: Limits, code: Callable[[Message], int | None], delay_s: float) -> None:
        self.limits, self._code, self._delay_s = limits, code, delay_s
        self.sent: list[tuple[float, Message]] = []
        self.in_flight = self.most_in_flight = 0
        self.clean = self.over = False
        self.filters: list[str] = []
        self.refused = ""
        self.files = Papers()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def publish(self, message: Message) -> int:
        if self.over:
            raise ConnectionError("over")
        loop = asyncio.get_running_loop()
        self.sent.append((loop.time(), message))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        code = self._code(message)
        if code is not None:
            loop.call_later(self._delay_s, self._acknowledge, len(self.sent), code)
        return len(self.sent)

    def _acknowledge(self, mid: int, code: int) -> None:
        if not self.over:
            self.in_flight -= 1
            self._events.put_nowait(Acked(mid, code))

    def subscribe(self, filters: Sequence[str]) -> None:
        self.filters += filters
        self._events.put_nowait(Subscribed(self.refused))

    def deliver(self, message: Message) -> None:
        self._events.put_nowait(Received(message))

    async def papers(self) -> Papers:
        return self.files

    async def event(self) -> Event:
        return await self._events.get()

    async def close(self) -> None:
        self.clean = not self.over
        self.end(Closed("closed by us"))

    def abort(self) -> None:
        self.end(Closed("aborted"))

    def end(self, closed: Closed) -> None:
        if not self.over:
            self.over = True
            self._events.put_nowait(closed)


class FakeNetwork:
    """A wire factory; `reachable` False refuses. Keeps every attempt's time, Will and wire."""

    def __init__(self, limits: Limits | None = None, delay_s: float = 0.01) -> None:
        self.limits, self.delay_s = limits or Limits(), delay_s
        self.reachable = True
        self.failure = NotConnected("nobody listens")
        self.code: Callable[[Message], int | None] = lambda message: 0
        self.attempts: list[float] = []
        self.wills: list[Message] = []
        self.wires: list[FakeWire] = []

    async def open_wire(self, will: Message) -> FakeWire:
        await asyncio.sleep(0.005)
        self.attempts.append(asyncio.get_running_loop().time())
        self.wills.append(will)
        if not self.reachable:
            # A new one each time: an exception that is raised again keeps every frame it has ever seen.
            raise NotConnected(self.failure.reason, self.failure.kind)
        self.wires.append(FakeWire(self.limits, self._answer, self.delay_s))
        return self.wires[-1]

    def _answer(self, message: Message) -> int | None:
        return self.code(message)  # the present one: tests change it on a living wire

    def messages(self) -> Iterator[tuple[float, Message]]:
        for wire in self.wires:
            yield from wire.sent

    def topics(self) -> list[str]:
        return [message.topic.removeprefix(f"{BASE}/") for _, message in self.messages()]

    def payloads(self, topic_start: str) -> list[Any]:
        """Give the JSON payloads of topics below the base that begin so."""
        start = f"{BASE}/{topic_start}"
        return [json.loads(m.payload) for _, m in self.messages() if m.topic.startswith(start)]

    def late_seqs(self) -> list[int]:
        return [record["seq"] for array in self.payloads("late/") for record in array]

    def live_seqs(self) -> list[int]:
        return [record["seq"] for record in self.payloads("live/")]


CARDS = (
    Card("state/gw", {"state": "up"}),
    Card("heartbeat", {"h": 1}),
    Card("verdict", {"v": 1}),
    Card("about", {"a": 1}),
)


@asynccontextmanager
async def publishing(
    store: Any,
    open_wire: WireFactory,
    mqtt: Any = None,
    cards: Callable[[], Sequence[Card]] = lambda: CARDS,
    now: Callable[[], Instant] = loop_now,
    identity: Any = IDENTITY,
    **inbox: Any,
) -> Any:
    """Run a publisher for the length of the block, then cancel it as the app does."""
    publisher = Publisher(identity, mqtt or pace(), store, cards, open_wire, now, Random(7), **inbox)
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), task.exception()

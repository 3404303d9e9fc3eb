"""What a command does: `replay`, `report`, `suppress`, `check`, `traceroute`.

Each takes its `args`, which may be anything, and gives the `result` of the answer or raises `Refused`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent.clock import Instant, rfc3339
from agent.commands.request import Code, Refused, Request
from agent.commands.seen import Memory
from agent.commands.suppression import Source, Suppression, read_suppression
from agent.journal import Ranges
from agent.model import Record
from agent.rounds import NotNow, Running

RANGES_LIMIT = 1000
REPLAY_LIMIT = 1_000_000
"""Numbers that one replay may ask for: all of them are looked up before it is answered (2 s a million)."""
PAGE = 1000
LARGEST_SEQ = 2**63
Span = tuple[int, int]
Result = Mapping[str, Any]


class Numbered(Protocol):
    """One committed record."""

    @property
    def seq(self) -> int:
        """Its number."""

    @property
    def text(self) -> str:
        """The record as one JSON object."""


class Kept(Memory, Protocol):
    """The part of the journal that commands use."""

    @property
    def ep(self) -> str:
        """The epoch in force."""

    @property
    def next_seq(self) -> int:
        """The number that the next record gets."""

    def append(self, record: Record, urgent: bool = False) -> int:
        """Keep a record."""

    async def flush(self) -> None:
        """Wait until everything appended is committed."""

    async def read(self, ranges: Iterable[Span], limit: int = 1000) -> Sequence[Numbered]:
        """Give committed records of the epoch in force."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What commands may do in the agent, and nothing else.

    - `respond(suffix, payload)` publishes an answer;
    - `replay(ranges)` sends these records of the epoch in force again, as `late`;
    - `report()` publishes about, heartbeat, verdict and states again, and gives how many messages;
    - `check(name)` runs a check of the config now and gives epoch and number of its record, raises `Running` or
      `NotNow`;
    - `trace(check)` traces the way to the target of a check, else as `check`;
    - `pace(hold, late_rate, spread_s)` has the backlog go at the centre's pace, None = what the config says;
    - `suppress(suppression)` acts on what is suppressed now.
    """

    respond: Callable[[str, Mapping[str, Any]], None]
    replay: Callable[[Sequence[Span]], None]
    report: Callable[[], int]
    check: Callable[[str], Awaitable[tuple[str, int]]]
    trace: Callable[[str], Awaitable[tuple[str, int]]]
    pace: Callable[[bool, float | None, float | None], None]
    suppress: Callable[[Suppression | None], None]


class Deeds:
    """The commands by name."""

    def __init__(
        self, journal: Kept, hands: Hands, now: Callable[[], Instant], suppress: Callable[[Source, Suppression], None]
    ) -> None:
        """Do with these `hands`; `suppress` begins or ends a suppression."""
        self._journal, self._hands, self._now, self._suppress = journal, hands, now, suppress

    async def do(self, request: Request) -> Result:
        """Do what is asked and give the result; raises `Refused`."""
        try:
            match request.name:
                case "replay":
                    return await self._replay(request.args)
                case "report":
                    return {"messages": self._hands.report()}
                case "suppress":
                    return self._begin(request.args)
                case "check":
                    return await self._measured(request.args, self._hands.check)
                case "traceroute":
                    return await self._measured(request.args, self._hands.trace)
        except ValueError as error:
            raise Refused(Code.INVALID, str(error)) from None
        raise Refused(Code.FAILED, f"{request.name} is known, but nobody knows how to do it; please report this")

    async def _replay(self, args: Mapping[str, Any]) -> Result:
        """Queue what is held. Of another epoch nothing is: all is gone. Numbers not given yet are neither."""
        ep, asked = args.get("ep"), Ranges.of(spans_of(args.get("ranges")))
        if not isinstance(ep, str):
            raise ValueError("ep is missing or not a text")
        if ep != self._journal.ep:
            return {"queued": 0, "gone": asked.spans}
        asked = asked.within(1, self._journal.next_seq - 1)
        if len(asked) > REPLAY_LIMIT:
            raise ValueError(f"{len(asked)} numbers are asked for; ask for at most {REPLAY_LIMIT} at a time")
        held = await self._held(asked)
        if ep != self._journal.ep:
            raise Refused(Code.FAILED, "the store changed meanwhile; ask again with the epoch in force")
        self._hands.replay(held.spans)
        gone = Ranges.of(span for first, last in asked.spans for span in held.missing(first, last).spans)
        return {"queued": len(held), "gone": gone.spans}

    async def _held(self, asked: Ranges) -> Ranges:
        """Look up which of these numbers can still be read, page by page."""
        await self._journal.flush()
        held, wanted = Ranges(), asked
        while wanted:
            lines = await self._journal.read(wanted.spans, PAGE)
            held = held.union(Ranges.of((line.seq, line.seq) for line in lines))
            wanted = wanted.within(lines[-1].seq + 1, LARGEST_SEQ) if len(lines) == PAGE else Ranges()
        return held

    def _begin(self, args: Mapping[str, Any]) -> Result:
        now = self._now()
        asked = read_suppression(args, now)
        self._suppress(Source.COMMAND, asked)
        return {"kind": asked.kind, "seconds": asked.seconds, "until": rfc3339(now.ts + asked.seconds)}

    async def _measured(self, args: Mapping[str, Any], measure: Callable[[str], Awaitable[tuple[str, int]]]) -> Result:
        """Run a check, or trace its way; the record is given as it was published, so only once it is committed."""
        name = args.get("check")
        if not isinstance(name, str):
            raise ValueError("check is missing or not a text")
        try:
            ep, seq = await measure(name)
        except Running:
            raise Refused(Code.BUSY, f"{name} runs already") from None
        except NotNow as error:
            raise Refused(Code.NOT_ALLOWED, str(error)) from None
        await self._journal.flush()
        found = await self._journal.read([(seq, seq)]) if ep == self._journal.ep else ()
        if not found:
            raise Refused(Code.FAILED, f"the store changed meanwhile; the record of {name} comes as every other")
        record: Result = json.loads(found[0].text)
        return record


def spans_of(found: object) -> list[Span]:
    """Read `[[first, last], …]`, both included; raises ValueError with one sentence."""
    if not isinstance(found, list) or len(found) > RANGES_LIMIT:
        raise ValueError(f"ranges is missing or not a list of at most {RANGES_LIMIT} pairs")
    return [_span(item) for item in found]


def _span(item: object) -> Span:
    match item:
        case [int(first), int(last)] if not isinstance(first, bool) and not isinstance(last, bool):
            if 1 <= first <= last < LARGEST_SEQ:
                return first, last
    raise ValueError("a range is not a pair [first, last] of whole numbers with 1 ≤ first ≤ last")

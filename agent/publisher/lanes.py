"""The lanes but for the backlog: answers, retained cards, fresh records. Each gives its next message, or None.

A lane holds little: cards one a topic, the live lane the records of the last 30 s. Whatever record it lets
go unsent is still in the journal and comes back with the backlog.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.messages import compact, live_suffix
from agent.publisher.backlog import Backlog, Key, Replay
from agent.publisher.trials import Trials
from agent.publisher.window import Lane, Outgoing
from agent.publisher.wire import Card, Line, Store

FRESH_MS = 30_000
"""A record goes to `live` only within this time of being taken, and to `late` after (contract, section 3)."""
MOST_LIVE = 4096
"""Lines of the live lane, some 2 MB; more than this in 30 s is a backlog."""
ANSWER_S = 60.0
"""An answer that found no connection for so long is of no use any more: the command has expired."""
MOST_ANSWERS = 100
SET_ASIDE_S = 300.0
"""A card that the broker will not have is tried again after so long, or when it changes (contract, rule 5)."""
DEATHS = 3
"""So often a card may be the only one in flight when the connection ends; then it is set aside (contract, rule 5)."""
FIRST_CARDS = ("status", "about", "heartbeat", "verdict")
"""Order of the cards after a connect: contact, identity, the site's card, the verdict; then the states."""
RETAINED = "retained"
"""Key under which the journal keeps the suffixes of retained states, a JSON list."""


class Cards:
    """The newest card of each topic that waits to be sent."""

    def __init__(self, store: Store) -> None:
        """Remember published states in `store`, so that removed checks can be cleared after a restart."""
        self._store = store
        self._waiting: dict[str, tuple[Card, str]] = {}
        self._refused: dict[str, tuple[Card, float]] = {}
        self._flying: dict[str, Card] = {}
        self._retained: set[str] = set()
        self._deaths: dict[str, int] = {}
        self._barred: dict[str, float] = {}
        self.one_at_a_time = False

    def begin(self, cards: Iterable[Card], now: float) -> None:
        """Start a connection with the present cards; states of checks that are gone get an empty message.

        A card that the broker may have died of comes last: what is acknowledged before it shows that others pass.
        """
        self._retained.update(json.loads(self._store.recall(RETAINED) or "[]"))
        present = {card.suffix: card for card in cards}
        gone = {suffix: Card(suffix, None) for suffix in sorted(self._retained - present.keys())}
        rank = {suffix: place for place, suffix in enumerate(FIRST_CARDS)}
        ordered = sorted(present.values(), key=lambda card: rank.get(card.suffix, len(rank)))
        ordered = sorted((*ordered, *gone.values()), key=lambda card: card.suffix in self._deaths)
        self._barred = {suffix: until for suffix, until in self._barred.items() if until > now}
        self._waiting = {card.suffix: (card, self._store.ep) for card in ordered if card.suffix not in self._barred}
        self._refused = {
            card.suffix: (card, self._barred[card.suffix]) for card in ordered if card.suffix in self._barred
        }
        self._flying.clear()

    def ended(self, flights: Sequence[Outgoing], proven: bool, now: float) -> str:
        """Learn from the end of a connection; gives the suffix of a card that it died of too often, else "".

        The cards in flight go one at a time on the next one. One that was the only card in flight counts as deadly
        only where something else was acknowledged on the same connection (`proven`): a broker that flaps must
        not silence `status`.
        """
        suffixes = [flight.suffix for flight in flights if flight.lane is Lane.CARDS]
        alone = self.one_at_a_time and len(suffixes) == 1
        self.one_at_a_time = bool(suffixes)
        for suffix in suffixes if alone else ():
            self._deaths[suffix] = self._deaths.get(suffix, 0) + proven
            if self._deaths[suffix] >= DEATHS:
                self._deaths[suffix] = DEATHS - 1
                self._barred[suffix] = now + SET_ASIDE_S
                return suffix
        return ""

    def post(self, card: Card) -> None:
        """Take a changed card; it replaces one of the same topic that still waits."""
        if card.suffix in self._barred:
            self._refused[card.suffix] = (card, self._barred[card.suffix])
            return
        self._waiting[card.suffix] = (card, self._store.ep)
        self._refused.pop(card.suffix, None)

    def back(self, outgoing: Outgoing) -> None:
        """Take back what was not accepted for now, behind the others; a newer one of its topic is better."""
        card = self._flying.pop(outgoing.suffix, None)
        if card and outgoing.suffix not in self._waiting:
            self._waiting[card.suffix] = (card, self._store.ep)

    def set_aside(self, outgoing: Outgoing, now: float) -> None:
        """Take back a card that the broker will not have: the others go on without it."""
        card = self._flying.pop(outgoing.suffix, None)
        if card and outgoing.suffix not in self._waiting:
            self._refused[card.suffix] = (card, now + SET_ASIDE_S)

    def next(self, now: float) -> Outgoing | None:
        """Give the first card whose record is committed."""
        for suffix in [suffix for suffix, (_, at) in self._refused.items() if now >= at]:
            self._waiting[suffix] = (self._refused.pop(suffix)[0], self._store.ep)
            self._barred.pop(suffix, None)
        for suffix, (card, ep) in self._waiting.items():
            # An epoch that ended numbers from 1 again: its numbers say nothing about the new one.
            if ep != self._store.ep or self._store.committed_seq >= card.after_seq:
                del self._waiting[suffix]
                return self._prepared(card)
        return None

    def _prepared(self, card: Card) -> Outgoing:
        if card.payload is not None and card.suffix.startswith("state/") and card.suffix not in self._retained:
            self._retained.add(card.suffix)
            self._keep()
        self._flying[card.suffix] = card
        return self.outgoing(card)

    @staticmethod
    def outgoing(card: Card) -> Outgoing:
        """Write a card as a message."""
        payload = b"" if card.payload is None else compact(card.payload).encode()
        return Outgoing(Lane.CARDS, card.suffix, payload, retain=True)

    def acknowledged(self, outgoing: Outgoing) -> None:
        """Take a card as arrived, and forget a state once its removal has."""
        self._flying.pop(outgoing.suffix, None)
        self._deaths.pop(outgoing.suffix, None)
        if not outgoing.payload and outgoing.suffix in self._retained:
            self._retained.remove(outgoing.suffix)
            self._keep()

    def _keep(self) -> None:
        self._store.remember(RETAINED, compact(sorted(self._retained)))


class Live:
    """Fresh records, one message each, in the order taken."""

    def __init__(self) -> None:
        """Start empty."""
        self._lines: deque[Line] = deque()

    def add(self, lines: Iterable[Line]) -> None:
        """Append committed lines."""
        self._lines.extend(lines)

    def expire(self, now_mono_ms: int) -> Line | None:
        """Let go what is no longer fresh, or too much; gives the first line that now belongs to the backlog."""
        first = None
        while self._lines and (len(self._lines) > MOST_LIVE or now_mono_ms - self._lines[0].mono_ms >= FRESH_MS):
            line = self._lines.popleft()
            first = first or line
        return first

    def next(self) -> Outgoing | None:
        """Give the oldest fresh record."""
        if not self._lines:
            return None
        line = self._lines.popleft()
        return Outgoing(Lane.LIVE, live_suffix(line.type, line.check), line.text.encode(), lines=(line,))

    def records(self) -> set[Key]:
        """Name the records that wait here."""
        return {(line.ep, line.seq) for line in self._lines}

    def __len__(self) -> int:
        """Count the records that wait here."""
        return len(self._lines)


class Unheard:
    """Counts the records that were published while nobody was subscribed, until somebody hears them.

    Kept as a count and the span of numbers it lies in: exact while the unheard records follow one another.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.count = 0
        self._low, self._high = 0, -1

    def add(self, seqs: Sequence[int]) -> None:
        """Count these; those that were tried before count once."""
        new = [seq for seq in seqs if not self._low <= seq <= self._high]
        if new:
            self._low = min(new[0], self._low) if self.count else new[0]
            self._high = max(new[-1], self._high)
            self.count += len(new)

    def heard(self, seqs: Sequence[int]) -> None:
        """Take off what reached somebody."""
        self.count -= min(self.count, sum(self._low <= seq <= self._high for seq in seqs))
        if not self.count:
            self._low, self._high = 0, -1


class Answers:
    """Answers to commands: not retained, given up after a minute without a connection."""

    def __init__(self) -> None:
        """Start with none."""
        self._waiting: deque[tuple[float, Outgoing]] = deque()
        self._flying: list[tuple[float, Outgoing]] = []

    def add(self, suffix: str, payload: Mapping[str, Any], now: float) -> None:
        """Take an answer for `suffix` below the base; beyond 100 that wait the oldest is given up."""
        self._waiting.append((now + ANSWER_S, Outgoing(Lane.ANSWERS, suffix, compact(payload).encode())))
        while len(self._waiting) > MOST_ANSWERS:
            self._waiting.popleft()

    def begin(self) -> None:
        """Start a connection: what was in flight on the last one waits again."""
        self._waiting.extendleft(reversed(self._flying))
        self._flying.clear()

    def next(self, now: float) -> Outgoing | None:
        """Give the oldest answer that still makes sense."""
        while self._waiting:
            until, outgoing = self._waiting.popleft()
            if now < until:
                self._flying.append((until, outgoing))
                return outgoing
        return None

    def answered(self, outgoing: Outgoing) -> None:
        """Forget an answer that the broker took, or would not take."""
        self._flying = [flying for flying in self._flying if flying[1] is not outgoing]


@dataclass(slots=True)
class Lanes:
    """All lanes of a publisher: they outlive its connections. `hold` and `late_rate` are the backlog's pace.

    `set_aside`: records that are neither sent nor given up, each until a time of the loop clock.
    """

    cards: Cards
    replay: Replay
    late_rate: float
    answers: Answers = field(default_factory=Answers)
    live: Live = field(default_factory=Live)
    backlog: Backlog = field(default_factory=Backlog)
    unheard: Unheard = field(default_factory=Unheard)
    trials: Trials = field(default_factory=Trials)
    set_aside: dict[Key, float] = field(default_factory=dict)
    hold: bool = False

    def elsewhere(self, now: float) -> set[Key]:
        """Name the records that the backlog must not send: another lane will, or none for now."""
        self.set_aside = {key: until for key, until in self.set_aside.items() if until > now}
        return self.live.records() | self.trials.suspects() | self.set_aside.keys()

"""The guard against faults of our own making, by what the finished runs at each target say.

The rule (field.md 3.2, rule 11): if a target, or the probe's own port, goes down within 10 s after check type X
twice, X is not asked there any more, and an event says so. The difficulty is to tell "our question killed it" from
"it went down": a target that is asked every 10 s always goes down within 10 s after some question. So a death is
held against type X only where all of this is true:

1. There is a witness: a check of *another* type at the same address passed before the run of X was over, and the
   next question of the witness, asked within 10 s after X asked, fails. A type is no witness against itself: that
   its own question fails is what it measures. For the probe's own port the `link` checks are the witness, and
   every type that sends is looked at.
2. The target met X alive once only: in the 60 s before, and since the witness last came back, it survived no
   earlier run of X. What survives X every 10 s did not die of it. A device that dies of the first question after
   each recovery is caught all the same; but our own port must have been up for 60 s, for one that flaps goes down
   soon after whatever was asked first, and all types would be held guilty of a loose plug.
3. It died alone: no other target begins to fail within 40 s before or after, and our own port does not turn out to
   be down. If more fall silent together, the way to them is broken. (Our own port takes everything with it.)
4. It came back in between: a witness that fails already is no witness of another death.

Two such deaths within 24 h, with no death between them that X is innocent of, quarantine X there for 24 h, or until the
agent starts anew: a host that flaps for reasons of its own must not be left unmeasured for ever. What is slow about
this is only the verdict on ourselves: no question is delayed by it.
A run under quarantine becomes a record `unknown`, `local_policy`, so that nobody takes silence for health.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.model import Outcome

OWN_PORT = "own port"
WINDOW_S = 10.0
MET_ALIVE_S = 60.0
KNOWN_AFTER_S = 40.0
"""A death is judged so much later: by then slow runs have ended, and whoever is asked every 30 s (as most checks,
and our own link) has shown whether it died alone."""
REMEMBERED_S = 86_400.0
TWICE = 2
MOST_PLACES = 8192
"""Addresses that are remembered, more than a config has checks; beyond that the ones heard of first are forgotten."""
NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Seen:
    """One finished run: where (an address, or OWN_PORT), of which check and type, from when to when (loop clock)."""

    place: str
    check: str
    type: str
    began: float
    ended: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Met:
    """The last run of a type at a place, and when the one before it ended."""

    began: float
    ended: float
    before: float = NEVER


@dataclass(frozen=True, slots=True)
class Witness:
    """A check as a witness: whether its last word was a pass, when it last passed, and since when it does."""

    alive: bool = False
    passed_at: float = NEVER
    back_at: float = NEVER


@dataclass(frozen=True, slots=True)
class Testimony:
    """A check of `type` whose last word `was` a pass asked at `asked_at` and got none."""

    type: str
    asked_at: float
    was: Witness


@dataclass(slots=True)
class Death:
    """A place went down at `at`. Testimonies and suspects may still come; where `shared`, nobody is guilty."""

    at: float
    testimonies: list[Testimony] = field(default_factory=list)
    suspects: set[str] = field(default_factory=set)
    shared: bool = False


@dataclass(slots=True)
class Place:
    """What is remembered of one place; `against` holds for each type the times of the deaths after it."""

    witnesses: dict[str, Witness] = field(default_factory=dict)
    met: dict[str, Met] = field(default_factory=dict)
    against: dict[str, tuple[float, ...]] = field(default_factory=dict)


class Guard:
    """Remembers the places, and which types are under quarantine where."""

    def __init__(self) -> None:
        """Begin with nothing held against anybody."""
        self._until: dict[tuple[str, str], float] = {}
        self._own_port = Place()
        self._places: dict[str, Place] = {}
        self._deaths: dict[str, Death] = {}

    @property
    def quarantined(self) -> frozenset[tuple[str, str]]:
        """The (place, type) pairs that are not asked."""
        return frozenset(self._until)

    def forbids(self, place: str, check_type: str) -> bool:
        """Tell whether a type may not be asked at a place any more."""
        return bool(self._until) and ((place, check_type) in self._until or (OWN_PORT, check_type) in self._until)

    def take(self, seen: Seen) -> list[tuple[str, str]]:
        """Take a finished run into account; gives what is put under quarantine by it, as (place, type)."""
        self._release(seen.ended)
        before = self.quarantined
        self._run(seen)
        if seen.outcome == Outcome.PASS:
            self._passed(seen)
        elif seen.outcome == Outcome.FAIL:
            self._failed(seen)
        while self._deaths and seen.ended - next(iter(self._deaths.values())).at > KNOWN_AFTER_S:
            self._judge(next(iter(self._deaths)))  # they lie in the order of their times
        return sorted(self.quarantined - before) if len(self.quarantined) > len(before) else []

    def _release(self, now: float) -> None:
        """End the quarantines that have lasted their time; what led to them is forgotten."""
        for name, kind in [pair for pair, until in self._until.items() if now >= until]:
            del self._until[name, kind]
            self._place(name).against.pop(kind, None)

    def _place(self, name: str) -> Place:
        if name == OWN_PORT:
            return self._own_port
        if name not in self._places and len(self._places) >= MOST_PLACES:
            del self._places[next(iter(self._places))]
        return self._places.setdefault(name, Place())

    def _run(self, seen: Seen) -> None:
        """Note that a type asked here, which is also a question from our own port."""
        for name in {seen.place, OWN_PORT}:
            place = self._place(name)
            last = place.met.get(seen.type)
            place.met[seen.type] = Met(seen.began, seen.ended, last.ended if last else NEVER)
            if name in self._deaths:
                self._accuse(name, {seen.type: place.met[seen.type]})

    def _accuse(self, name: str, met: Mapping[str, Met]) -> None:
        """Hold runs at a place against all testimonies of its death."""
        death = self._deaths[name]
        death.suspects |= {k for k, run in met.items() if any(suspicious(each, k, run) for each in death.testimonies)}

    def _passed(self, seen: Seen) -> None:
        witnesses = self._place(seen.place).witnesses
        was = witnesses.get(seen.check, Witness())
        witnesses[seen.check] = Witness(True, seen.ended, was.back_at if was.alive else seen.ended)

    def _failed(self, seen: Seen) -> None:
        place = self._place(seen.place)
        was = place.witnesses.get(seen.check, Witness())
        place.witnesses[seen.check] = Witness()
        if not was.alive:
            return
        flapping = seen.place == OWN_PORT and seen.began - was.back_at < MET_ALIVE_S
        if not self._same_death(seen):
            if seen.place in self._deaths:
                self._judge(seen.place)
            self._deaths[seen.place] = Death(seen.ended, shared=flapping)
            self._acquit_unless_alone(seen.place)
        if flapping:
            return
        self._deaths[seen.place].testimonies.append(Testimony(seen.type, seen.began, was))
        self._accuse(seen.place, place.met)

    def _same_death(self, seen: Seen) -> bool:
        """Tell whether this witness only confirms a death that another one has told of."""
        pending = self._deaths.get(seen.place)
        others = self._place(seen.place).witnesses.values()
        return pending is not None and not any(witness.back_at > pending.at for witness in others)

    def _acquit_unless_alone(self, name: str) -> None:
        """Acquit everybody where more than one place dies at a time; our own port takes all others with it.

        Where three or more are dying, all but the last are acquitted already.
        """
        others = len(self._deaths) - (OWN_PORT in self._deaths)
        if name == OWN_PORT or others == 2:
            for place, death in self._deaths.items():
                death.shared = death.shared or place != OWN_PORT
        elif others > 2 or OWN_PORT in self._deaths:
            self._deaths[name].shared = True

    def _judge(self, name: str) -> None:
        """Hold a death that stayed alone against its suspects, and acquit all other types of the place."""
        death, place = self._deaths.pop(name), self._place(name)
        if death.shared:
            return
        recent = {kind: [t for t in times if death.at - t <= REMEMBERED_S] for kind, times in place.against.items()}
        place.against = {kind: (*recent.get(kind, ()), death.at) for kind in death.suspects}
        guilty = (kind for kind, times in place.against.items() if len(times) >= TWICE)
        self._until |= {(name, kind): death.at + REMEMBERED_S for kind in guilty if (name, kind) not in self._until}


def suspicious(said: Testimony, check_type: str, met: Met) -> bool:
    """Tell whether the last run of a type at a place may have been the end of it: rules 1 and 2 above."""
    if check_type in (said.type, "link"):
        return False
    within = met.began <= said.asked_at <= met.began + WINDOW_S and met.ended >= said.was.passed_at
    return within and met.before <= max(said.was.back_at, met.began - MET_ALIVE_S)

"""Restraint towards what we ask: longer pauses for what is silent, and the guard against faults of our own making.

Both tell what they do: an event when a target begins to be left alone, not at each longer pause, and one when it
passes again; and one for each quarantine. A config that is reloaded in between tells nothing twice.

Fed with every finished run by the rounds; the rules are in `agent.backoff` and `agent.guard`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from agent.backoff import LONGEST_S, Silence, pause_s, reopens, step
from agent.check import CheckOptions
from agent.clock import ClockQuality, Instant
from agent.guard import OWN_PORT, Guard, Seen
from agent.model import Failure, Outcome, Record, event

LINK = "link"
GONE = frozenset(
    {
        Failure.TIMEOUT,
        Failure.UNREACHABLE,
        Failure.REFUSED,
        Failure.RESET,
        Failure.STALLED,
        Failure.DNS_TIMEOUT,
    }
)
"""How a check fails at what has gone down. With any other answer it lives, however wrong the answer is."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What follows from one run: the pause before the next (0 = the usual one), events to record, and whether all
    that was put off is to be asked again now.
    """

    pause_s: float = 0.0
    events: tuple[Record, ...] = ()
    reopened: bool = False


class Restraint:
    """Remembers the silence of each check, and what may be a fault of our own making."""

    def __init__(self, chance: Callable[[], float] | None = None) -> None:
        """Begin anew; `chance` gives random numbers from 0 to 1."""
        self._chance = chance or Random().random
        self._silences: dict[str, Silence] = {}
        self._alone: dict[tuple[str, str], float] = {}
        self._addresses: dict[tuple[str, str], str] = {}
        self._guard = Guard()

    def begin(self) -> None:
        """Go on under a new plan: every check begins with its usual pause; a quarantine, and what was told, stay."""
        self._silences.clear()

    def forget(self, kept: Iterable[CheckOptions]) -> None:
        """Drop the memory of checks that are no longer configured, or ask another target now."""
        keys = {(check.name, check.asked) for check in kept}
        self._alone = {key: since for key, since in self._alone.items() if key in keys}
        self._addresses = {key: address for key, address in self._addresses.items() if key in keys}

    def put_off(self) -> list[str]:
        """Name the checks whose pause is longer than usual."""
        return [name for name, silence in self._silences.items() if silence.longer]

    def refusal(self, check: CheckOptions) -> str:
        """Say why the check may not be asked now; "" if it may."""
        if not self._guard.quarantined:
            return ""
        address = self._addresses.get((check.name, check.asked), "")
        if not (check.sends() and self._guard.forbids(address, check.type)):
            return ""
        return f"quarantined: {address} or our own port went down twice within 10 s after a check of type {check.type}"

    def take(self, check: CheckOptions, record: Record, began: float, now: float) -> Advice:
        """Take a finished run into account (loop clock)."""
        events = self._guarded(check, record, began, now)
        before = self._silences.pop(check.name, None)
        if record.fields["outcome"] == Outcome.PASS:
            events += self._back(check, record, began)
            if before is None:
                return Advice(events=events)
        before = before or Silence()
        after = step(before, check, record.fields, began)
        if after.fails:
            self._silences[check.name] = after
        pause = pause_s(after, check, self._chance()) if after.longer else 0.0
        if pause and after.since is not None:
            events += self._left(check, record, began - after.since, began, pause)
        return Advice(pause, events, reopens(before, check, record.fields))

    def _left(
        self, check: CheckOptions, record: Record, lasting_s: float, began: float, pause: float
    ) -> tuple[Record, ...]:
        """Tell that a target is left alone now; nothing where that was told already."""
        key = (check.name, check.asked)
        if key in self._alone:
            return ()
        self._alone[key] = began - lasting_s
        told = left_alone(named(record), str(record.fields.get("failure")), record.taken, lasting_s, pause)
        return (event("target_left_alone", told, record.taken),)

    def _back(self, check: CheckOptions, record: Record, began: float) -> tuple[Record, ...]:
        """Tell that a target passes again which was left alone."""
        since = self._alone.pop((check.name, check.asked), None) if self._alone else None
        if since is None:
            return ()
        told = f"{named(record)} passes again after {duration(began - since)}, and is asked as usual"
        return (event("target_answers_again", told, record.taken),)

    def _guarded(self, check: CheckOptions, record: Record, began: float, now: float) -> tuple[Record, ...]:
        address = str(record.fields.get("address") or "")
        if address:
            self._addresses[check.name, check.asked] = address
        seen = seen_of(check, record, address, began, now)
        found = self._guard.take(seen) if seen else ()
        return tuple(event("probe_safety_quarantine", sentence(*each), record.taken) for each in found)


def seen_of(check: CheckOptions, record: Record, address: str, began: float, now: float) -> Seen | None:
    """Give what a run says of its target, or of our own port; None where it says nothing.

    A name that could not be looked up leaves no address; `prohibited` is the word of a firewall, not of the target.
    """
    outcome = str(record.fields["outcome"])
    if check.type == LINK:
        down = record.fields.get("failure") == Failure.LOCAL_LINK
        return Seen(OWN_PORT, check.name, LINK, began, now, str(Outcome.FAIL if down else Outcome.PASS))
    failure = record.fields.get("failure")
    if outcome == Outcome.UNKNOWN or failure == Failure.PROHIBITED or not address or check.hearsay:
        return None
    return Seen(address, check.name, check.type, began, now, str(Outcome.FAIL if failure in GONE else Outcome.PASS))


def sentence(place: str, check_type: str) -> str:
    """Say what is not asked any more, and why."""
    where = "at all" if place == OWN_PORT else f"at {place}"
    what = "our own port" if place == OWN_PORT else "it"
    return (
        f"checks of type {check_type} are not run {where} any more: {what} went down within 10 s after one of them,"
        " twice; restart the agent once that is understood"
    )


def named(record: Record) -> str:
    """Name what a check asks, with the address where there is one."""
    name, address = record.check, record.fields.get("address")
    return f"{name} ({address})" if address else name


def left_alone(name: str, failure: str, taken: Instant, lasting_s: float, pause: float) -> str:
    """Say since when a target fails, or for how long where our clock does not know, and when it is asked again."""
    since = f"since {datetime.fromtimestamp(taken.ts - lasting_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    since = f"for {duration(lasting_s)}" if taken.clock == ClockQuality.UNSYNCED else since
    more = "" if pause >= LONGEST_S else f", then ever less often, up to {duration(LONGEST_S)} apart"
    return f"{name} fails {since} ({failure}) and is left alone: it is asked again in {duration(pause)}{more}"


def duration(seconds: float) -> str:
    """Write a duration for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

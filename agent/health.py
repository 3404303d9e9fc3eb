"""The state of one check, as a pure function of its records.

The rules (contract, section 4):
- `fail_after` fails in a row make it down; `recover_after` passes in a row bring it back up.
- One pass makes it up from unknown.
- Passes beyond a `degraded` limit count the same way: `fail_after` of them in a row make it
  degraded, `recover_after` passes within the limits end that.
- An unknown neither adds to a streak nor clears one; `fail_after` of them in a row make it unknown.
- Echoes that are lost while others come through are counted apart (`agent.loss`), see `echoes`; and so is what a
  device says of itself (`agent.illness`).
- A check whose results change as often as they stay is flapping (field.md 4.2): it comes back up only after
  twice `recover_after` passes, so that its state and the verdict stand still meanwhile.
`unreachable` is no state of its own: the verdict lays it over a check whose parent is the fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from agent.check import CheckOptions
from agent.clock import Instant
from agent.illness import WELL, Illness
from agent.illness import after as illness_after
from agent.loss import MOST_FAILS, Loss
from agent.loss import after as loss_after
from agent.model import Outcome, Record, Scalar, State

LOW_IS_BAD = ("_left_s", "_bits_per_s")
NO_LOSS = Loss()
HISTORY = 21
"""Results over which changes are counted."""
FLAPPING, CALM = 0.3, 0.2
"""Part of the steps in the history that changed: from the first on it flaps, below the second no longer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many results in a row decide, and beyond which field values a pass is degraded."""

    fail_after: int = 3
    recover_after: int = 3
    degraded: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one check. Counts are results in a row (`good` within the limits,
    `slow` beyond, `others` fails of another kind than `failed`); `last` holds the newest record's fields,
    `failed` those of the fail that names the fault, `told`
    those of the newest fail of the present fault in which somebody on the way said so (a `responder`):
    routers send such errors sparingly (about one a second, RFC 1812 4.3.2.8), so silence follows.

    `loss` is what its echoes say, `held` those (sent, lost) of which the next run decides; `illness` what a device
    says of itself; `history` the newest results (p, f), `flapping` whether they change too often.

    `onset` is when the present streak of fails (or of passes after a fault) began, `passed` when it
    last passed, `seen` when it last ran; `decided` once it ever had a state.
    """

    state: State = State.UNKNOWN
    decided: bool = False
    fails: int = 0
    passes: int = 0
    good: int = 0
    slow: int = 0
    unknowns: int = 0
    onset: Instant | None = None
    passed: Instant | None = None
    seen: Instant | None = None
    since: Instant | None = None
    reason: str = ""
    last: Mapping[str, Scalar] = field(default_factory=dict)
    failed: Mapping[str, Scalar] = field(default_factory=dict)
    told: Mapping[str, Scalar] = field(default_factory=dict)
    others: int = 0
    illness: Illness = WELL
    loss: Loss = NO_LOSS
    held: tuple[int, int] = (0, 0)
    history: str = ""
    flapping: bool = False

    @property
    def fault_onset(self) -> Instant | None:
        """When the fault began that is being counted or still holds (also while passes end it); None without one."""
        if self.state is State.DOWN:
            return self.since
        return self.onset if self.fails else None

    @property
    def mending(self) -> bool:
        """Whether it is down and has begun to pass again."""
        return self.state is State.DOWN and self.passes > 0

    @property
    def losing(self) -> bool:
        """Whether echoes were lost, and it is not decided yet whether by chance."""
        return self.loss.doubtful or self.held[1] > 0

    @property
    def wavering(self) -> bool:
        """Whether passes beyond a limit are being counted that have not decided yet."""
        return self.slow > 0 and self.state is State.UP

    @property
    def suspect(self) -> bool:
        """Whether fails are being counted that have not decided yet."""
        given_up = self.decided and self.state is State.UNKNOWN
        return self.fails > 0 and self.state is not State.DOWN and not given_up


def limits_of(check: CheckOptions) -> Limits:
    """Take the limits that a check is configured with."""
    return Limits(check.fail_after, check.recover_after, check.degraded)


def step(health: Health, record: Record, limits: Limits) -> Health:
    """Take one record of the check into account."""
    outcome = record.fields["outcome"]
    if outcome == Outcome.UNKNOWN:
        return _after_unknown(health, record, limits)
    loss = loss_after(health.loss, *echoes(health, record))
    counted = _remembered(replace(health, loss=loss, held=_held(health, record)), outcome)
    if outcome == Outcome.FAIL:
        return _after_fail(counted, record, limits)
    return _after_pass(counted, record, limits)


def echoes(health: Health, record: Record) -> tuple[int, int, Instant]:
    """Count the echoes that a record decides on, how many of them were lost, and since when.

    A run that lost some counts only once the next one passes too: a cable that is pulled in the middle of a run is an
    outage, not loss. While a check is down its silence does not count, but answers do, and what is lost after one.
    """
    sent, lost = _sent_and_lost(record)
    since = health.onset if health.fails and health.onset else record.taken
    if health.state is State.DOWN and (lost < sent or health.passes):
        return sent, lost, record.taken
    if lost == sent:
        return 0, 0, since
    held_sent, held_lost = health.held
    return (held_sent, held_lost, since) if lost else (held_sent + sent, held_lost, since)


def _sent_and_lost(record: Record) -> tuple[int, int]:
    sent, received = record.fields.get("sent"), record.fields.get("received")
    known = isinstance(sent, int) and isinstance(received, int)
    return (int(sent or 0), int(sent or 0) - int(received or 0)) if known else (0, 0)


def _held(health: Health, record: Record) -> tuple[int, int]:
    """Give the echoes of which the next run decides: those of a run that lost some, and single ones not answered.

    A run of several without any answer is silence, and so is what led to it; a run that lost some right after a fail
    is the edge of an outage.
    """
    sent, lost = _sent_and_lost(record)
    if not lost or health.state is State.DOWN or (lost == sent and sent > 1):
        return 0, 0
    if lost < sent:
        return (0, 0) if health.fails else (sent, lost)
    held_sent, held_lost = health.held
    return held_sent + sent, held_lost + lost


def _remembered(health: Health, outcome: Scalar) -> Health:
    history = (health.history + ("f" if outcome == Outcome.FAIL else "p"))[-HISTORY:]
    changed = sum(a != b for a, b in pairwise(history)) / (HISTORY - 1)
    return replace(health, history=history, flapping=changed >= (CALM if health.flapping else FLAPPING))


def beyond(record: Record, degraded: tuple[tuple[str, float], ...]) -> str:
    """Name the first limit that a record passes, as `rtt_mean_s 0.2 above 0.05`; "" if none. Signs are ignored."""
    for name, limit in degraded:
        value = record.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        low_is_bad = f"_{name}".endswith(LOW_IS_BAD)  # `bits_per_s` of a train is one of them
        size, most = abs(value), abs(limit)
        if size < most if low_is_bad else size > most:
            note = " (signs are ignored)" if limit < 0 else ""  # such as a signal of -80 dBm and a limit of -70
            return f"{name} {value:g} {'below' if low_is_bad else 'above'} {limit:g}{note}"
    return ""


def _into(health: Health, state: State, reason: str, since: Instant) -> Health:
    if state is health.state and health.decided:
        return replace(health, reason=reason)
    return replace(health, state=state, decided=True, reason=reason, since=since)


def _after_unknown(health: Health, record: Record, limits: Limits) -> Health:
    counted = replace(health, unknowns=health.unknowns + 1, last=record.fields, seen=record.taken)
    if counted.unknowns < limits.fail_after:
        return counted
    return _into(replace(counted, loss=NO_LOSS, held=(0, 0)), State.UNKNOWN, _why(record), record.taken)


def _after_fail(health: Health, record: Record, limits: Limits) -> Health:
    onset = health.onset if health.fails and health.onset else record.taken
    told = record.fields if record.fields.get("responder") else health.told if health.fault_onset else {}
    failed, others = _named(health, record, limits)
    fails = replace(health, fails=health.fails + 1, passes=0, good=0, slow=0, failed=failed, told=told, others=others)
    counted = _seen(fails, record, onset)
    if health.state is State.DOWN:
        loses = counted.fails < MOST_FAILS  # silent for longer it is dead: what it lost between answers is over
        return _into(counted if loses else replace(counted, loss=NO_LOSS), State.DOWN, _why(record), onset)
    if counted.fails < limits.fail_after:
        return counted
    return _into(replace(counted, held=(0, 0), loss=NO_LOSS, illness=WELL), State.DOWN, _why(record), onset)


def _named(health: Health, record: Record, limits: Limits) -> tuple[Mapping[str, Scalar], int]:
    """Choose the fail that names the fault: one odd answer among others must not rename a standing fault."""
    same = health.failed.get("failure") == record.fields.get("failure")
    if health.state is not State.DOWN or same or health.others + 1 >= limits.fail_after:
        return record.fields, 0
    return health.failed, health.others + 1


def _after_pass(health: Health, record: Record, limits: Limits) -> Health:
    trouble = beyond(record, limits.degraded)
    good, slow = (0, health.slow + 1) if trouble else (health.good + 1, 0)
    onset = record.taken if 1 in (good, slow) or not health.onset else health.onset
    ill = illness_after(health.illness, record.fields, record.taken, limits.fail_after, limits.recover_after)
    passes = replace(health, fails=0, passes=health.passes + 1, good=good, slow=slow, passed=record.taken, illness=ill)
    counted = _seen(passes, record, onset)
    if slow >= limits.fail_after and health.state is not State.DOWN:
        return _into(counted, State.DEGRADED, trouble, onset)
    back_up = {State.UNKNOWN: 1, State.DOWN: counted.passes, State.DEGRADED: good}.get(health.state, 0)
    needed = 1 if health.state is State.UNKNOWN else limits.recover_after * (1 + health.flapping)
    return _into(counted, State.UP, "", onset) if back_up >= needed else counted


def _seen(health: Health, record: Record, onset: Instant) -> Health:
    return replace(health, unknowns=0, onset=onset, last=record.fields, seen=record.taken)


def _why(record: Record) -> str:
    failure, detail = record.fields.get("failure"), record.fields.get("detail")
    return f"{failure}: {detail}" if detail else str(failure or "")

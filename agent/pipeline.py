"""The way of one record: health, verdict, journal, and the retained messages that follow from it.

Everything happens on the event loop in one call, so records get their numbers in the order taken. A
state change is itself a record; the retained message of a state or verdict names that record's number
and is published only once it is on disk (`post` takes the number to wait for).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from agent import cards, incidents
from agent.check import CheckOptions
from agent.clock import ClockQuality, Instant, put_right, rfc3339
from agent.config import Config
from agent.health import Health, echoes, limits_of, step
from agent.loss import Loss
from agent.loss import after as loss_after
from agent.messages import state_suffix
from agent.model import Record, State
from agent.verdict import (
    FAULTLESS,
    HEALTHY,
    STARTING,
    SUPPRESSED,
    Domain,
    Finding,
    Path,
    Segment,
    SiteFacts,
    locate,
    segment_of,
    usual_loss,
)

Post = Callable[[str, Mapping[str, Any] | None, int], None]
WentDown = Callable[[CheckOptions, tuple[str, int]], None]
Names = tuple[str, ...]
REASON_MS = 60_000
"""The least time between two cards of a state that stays."""


class Numbered(Protocol):
    """What the pipeline needs of the journal."""

    @property
    def ep(self) -> str:
        """The epoch in force."""

    @property
    def next_seq(self) -> int:
        """The number that the next record gets."""

    def append(self, record: Record, urgent: bool = False) -> int:
        """Number a record."""

    def remember(self, key: str, value: str) -> None:
        """Keep a small value with the next commit."""

    def recall(self, key: str) -> str | None:
        """Give a kept value."""


class Pipeline:
    """Holds the health of every check and the verdict in force."""

    def __init__(
        self, config: Config, journal: Numbered, post: Post, now: Instant, went_down: WentDown | None = None
    ) -> None:
        """Begin with nothing known; `post(suffix, payload, after_seq)` publishes a retained message.

        `went_down` is told of each check that is now down, with the number of its transition.
        """
        self._went_down = went_down
        self.config = config
        self._journal = journal
        self._post = post
        self.healths: dict[str, Health] = {}
        self.shown: dict[str, State] = {}
        self.states: dict[str, cards.Payload] = {}
        self.devices: dict[str, cards.Payload] = {}
        self.finding = Finding(STARTING, Domain.UNKNOWN)
        self._told_ms: dict[str, int] = {}  # when a state's card was published last
        self._losses: dict[str, Loss] = {}
        self._fail_after: Mapping[str, int] = {}
        self._whole_ms = 0
        self.verdict: cards.Payload = {}
        self._since, self._sinces, self._undated = now, dict[str, Instant | None](), False
        self._key: tuple[object, ...] = ()
        self._incidents = incidents.recalled(journal.recall("incidents"))
        self._ep = journal.ep
        self._path = Path(config.checks)
        self.judge(SiteFacts(now))

    def take(self, check: CheckOptions, record: Record, more: Iterable[Record]) -> bool:
        """Take in one run of a check; tells whether it is worth a judgement at once (there is one each second)."""
        self._journal.append(record)
        for extra in more:
            self._journal.append(extra)
        self._note_device(check.name, record)
        before = self.healths.get(check.name, Health())
        limits = limits_of(check)
        limits = replace(limits, fail_after=self._fail_after.get(check.name, limits.fail_after))
        self._undated |= record.taken.clock == ClockQuality.UNSYNCED  # also one that began before the clock was set
        segment = segment_of(check)
        if segment and record.taken.mono_ms >= self._whole_ms:
            self._add_echoes(segment, *echoes(before, record))
        after = self.healths[check.name] = step(before, record, limits)
        restless = after.suspect or after.mending or after.wavering or after.losing
        return after.state is not before.state or before.suspect or restless or not after.decided

    def _note_device(self, name: str, record: Record) -> None:
        """Publish `about` again when a device says something new about itself."""
        before = self.devices.get(name, {})
        known = {**before, **cards.device_facts(record)}
        if known != before:
            self.devices[name] = known
            self._post("about", cards.about(self.config, self.devices), 0)

    def _add_echoes(self, segment: Segment, sent: int, lost: int, since: Instant) -> None:
        """Count echoes of a segment; where it begins to lose some, the others must show anew that they lose none."""
        old = self._losses.get(segment, Loss())
        new = self._losses[segment] = loss_after(old, sent, lost, since, usual_loss(segment))
        if old.believed and not new.believed:  # what is over here explained what was lost farther on
            self._losses = {segment: new}
        elif new.doubtful and not old.doubtful:
            others = {name: replace(loss, clean=0) for name, loss in self._losses.items() if name != segment}
            self._losses |= others

    def judge(self, facts: SiteFacts) -> Names:
        """Judge anew and publish what changed; gives the names of checks to ask again at once."""
        if self._journal.ep != self._ep:
            self._begin_epoch(facts.now)
        self._put_right(facts.now)
        started = bool(self.verdict) and self.verdict["verdict"] not in (STARTING, SUPPRESSED)
        finding = locate(self._path, self.healths, replace(facts, started=started, losses=self._losses))
        self._fail_after = finding.fail_after
        if finding.cut:  # what is lost at the edges of an outage is no loss: it begins anew after it
            self._losses, self._whole_ms = {}, facts.now.mono_ms
        if not finding.held or not self.verdict:
            self.finding = finding
            self._say_verdict(finding, facts.now)
        self._say_states(finding, facts.now)
        return finding.ask

    def replace_config(self, config: Config, facts: SiteFacts) -> None:
        """Go on under a changed config: new and changed checks begin anew, and say so; removed ones are cleared."""
        kept = {check.name: check for check in self.config.active}
        active = {check.name: check for check in config.active}
        same = {name for name, check in active.items() if kept.get(name) == check}
        for name in sorted(kept.keys() - active.keys()):
            self._post(state_suffix(name), None, 0)
        self.states = {name: card for name, card in self.states.items() if name in same}
        self.healths = {name: health for name, health in self.healths.items() if name in same}
        self.shown = {name: state for name, state in self.shown.items() if name in same}
        self.devices = {name: facts for name, facts in self.devices.items() if name in same}
        self._told_ms = {name: told_ms for name, told_ms in self._told_ms.items() if name in same}
        self._losses = {}
        self.config, self._path = config, Path(config.checks)
        self.judge(facts)
        for name, card in self.all_states().items():
            if name not in same:
                self._post(state_suffix(name), card, card["seq"])

    def suspend(self, reason: str, now: Instant) -> None:
        """Forget what active checks said: `reason` is why they are not asked now, "" has them begin anew.

        What nobody asks is unknown, and is shown so; after it, `starting` comes before the first verdict.
        """
        forgotten = {check.name for check in self.config.active if check.sends() and check.name in self.healths}
        for name in forgotten:
            if reason:
                self.healths[name] = Health(since=now, reason=reason)
            else:
                del self.healths[name]

    def all_states(self) -> dict[str, cards.Payload]:
        """Give the state card of every check that runs; one not asked yet is unknown since the verdict's record."""
        node, number = self.config.identity.node, (self.verdict["ep"], self.verdict["seq"])
        found = {}
        for check in self.config.active:
            unasked = cards.state(node, check, State.UNKNOWN, Health(), "", number)
            found[check.name] = self.states.get(check.name, unasked)
        return found

    def _begin_epoch(self, now: Instant) -> None:
        """Say the verdict and every state again under a new epoch: the old numbers mean nothing there."""
        self._ep, self._key = self._journal.ep, ()
        self._say_verdict(self.finding, now)
        number = {"ep": self.verdict["ep"], "seq": self.verdict["seq"]}
        for name, card in self.states.items():
            self.states[name] = {**card, **number}
            self._post(state_suffix(name), self.states[name], self.verdict["seq"])

    def _put_right(self, now: Instant) -> None:
        """Once the clock is set, put right every time that was taken before, and say anew what showed a wrong one.

        A state keeps its number, which its transition holds without the time. The verdict's record holds the time: so
        the verdict is said by a new record, as soon as it is judged and not held.
        """
        unset, undated = now.clock == ClockQuality.UNSYNCED, self._undated
        self._undated = unset
        if unset or not undated:
            return
        self.healths = {name: put_right(health, now) for name, health in self.healths.items()}
        self._losses = {segment: put_right(loss, now) for segment, loss in self._losses.items()}
        self._since = put_right(self._since, now)
        if self.verdict and self.verdict["since"] != rfc3339(self._since.ts):
            self._key = ()
        for name, card in self.states.items():
            since = self._sinces[name] = put_right(self._sinces[name], now)
            if since and card["since"] != rfc3339(since.ts):
                self.states[name] = {**card, "since": rfc3339(since.ts)}
                self._post(state_suffix(name), self.states[name], card["seq"])

    def counts(self) -> dict[str, int]:
        """Count the checks by shown state."""
        found = [self.shown.get(check.name, State.UNKNOWN) for check in self.config.active]
        return {str(state): found.count(state) for state in State}

    def _say_verdict(self, finding: Finding, now: Instant) -> None:
        working = () if finding.verdict == STARTING else finding.working
        to_do = finding.next if finding.verdict == HEALTHY else ""  # a device that is ill in words of its own
        key = (finding.verdict, finding.cause, finding.impacted, finding.also, working, to_do)
        if key == self._key:
            return
        self._key = key
        same = self.verdict and self.verdict["verdict"] == finding.verdict
        self._since = finding.since or (self._since if same else now)
        number = (self._journal.ep, self._journal.next_seq)
        incident = self._incident(finding, now, f"{number[0]}-{number[1]}")
        card = cards.verdict(self.config.identity, finding, rfc3339(self._since.ts), incident, now)
        record = Record("verdict", now, {k: v for k, v in card.items() if k not in ("v", "node", "ts")})
        seq = self._journal.append(record, urgent=True)
        self.verdict = {**card, "ep": number[0], "seq": seq}
        self._post("verdict", self.verdict, seq)

    def keep_incident(self, now: Instant) -> None:
        """Note that the open fault still stands, so that a restart in its middle does not open another."""
        if self._incidents.open:
            self._incidents = self._incidents.seen(now.ts)
            self._journal.remember("incidents", self._incidents.text())

    def _incident(self, finding: Finding, now: Instant, fresh: str) -> str | None:
        """Give the incident that a finding belongs to; `fresh` is the id of a new one."""
        if finding.verdict in FAULTLESS:
            self._incidents = self._incidents.closed(now.ts)
        else:
            self._incidents = self._incidents.opened(finding.verdict, finding.cause, fresh, now.ts)
        self._journal.remember("incidents", self._incidents.text())
        return self._incidents.open or None

    def _say_states(self, finding: Finding, now: Instant) -> None:
        for check in self.config.active:
            health = self.healths.get(check.name)
            if health is None:
                continue
            because = finding.unreachable.get(check.name, "")
            shown = State.UNREACHABLE if because else health.state
            if self._unchanged(check.name, shown, health):
                if not finding.held:
                    self._renew(check.name, because, health.reason, now)
            elif not (finding.held and shown is State.DOWN):
                self._say_state(check, shown, health, because, now)

    def _renew(self, name: str, because: str, reason: str, now: Instant) -> None:
        """Say another fault before it, or another reason, of a state that stays: no transition, so it keeps its number.

        A reason has figures in it that change with every run: it is said anew once a minute at the most.
        """
        card = self.states.get(name)
        if card is None:
            return
        reworded = card["reason"] != (reason or None) and now.mono_ms - self._told_ms.get(name, 0) >= REASON_MS
        if reworded or (because and card["because"] != because):
            self.states[name] = {**card, "because": because or None, "reason": reason or None}
            self._told_ms[name] = now.mono_ms
            self._post(state_suffix(name), self.states[name], card["seq"] if card["ep"] == self._journal.ep else 0)

    def _unchanged(self, name: str, shown: State, health: Health) -> bool:
        return self.shown.get(name) is shown or (name not in self.shown and not health.decided)

    def _say_state(self, check: CheckOptions, shown: State, health: Health, because: str, now: Instant) -> None:
        old = self.shown.get(check.name, State.UNKNOWN)
        self.shown[check.name] = shown
        reason = f"behind {because}" if because else health.reason
        fields = {"check": check.name, "layer": check.layer, "old": str(old), "new": str(shown), "reason": reason}
        number = self._journal.ep, self._journal.append(Record("transition", now, fields), urgent=True)
        if shown is State.DOWN and self._went_down:
            self._went_down(check, number)
        card = cards.state(self.config.identity.node, check, shown, health, because, number)
        self.states[check.name], self._sinces[check.name], self._told_ms[check.name] = card, health.since, now.mono_ms
        self._post(state_suffix(check.name), card, number[1])

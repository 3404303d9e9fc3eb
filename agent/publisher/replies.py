"""What each PUBACK means for the message it answers, and who may not send for a while (contract, section 3, rule 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.clock import Instant
from agent.model import event
from agent.publisher.backoff import NOT_AUTHORISED, Hold
from agent.publisher.lanes import Lanes
from agent.publisher.window import Lane, Outgoing
from agent.publisher.wire import Line, Store

UNHEARD = 0x10
NEVER = frozenset({0x90, 0x95, 0x99})
"""Topic name invalid, packet too large, payload format invalid: sending the same again would not help."""
KEPT_S = 3600.0
"""A `loss` record that the broker will not have is tried again so late; giving it up would only make another one."""

REFUSALS = {
    0x80: "unspecified error",
    0x83: "implementation specific error",
    0x87: "not authorised",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x95: "packet too large",
    0x97: "quota exceeded",
    0x99: "payload format invalid",
}
"""Names of the PUBACK reason codes (MQTT 5.0, 3.4.2.1; 0x95 is none, but mosquitto 2.0.11 sends it)."""


class Replies:
    """Judges the broker's answers on one connection. `problems`: why not all is delivered, one sentence a key."""

    def __init__(self, lanes: Lanes, store: Store, retry_max_s: float, now: Callable[[], Instant]) -> None:
        """Judge for `lanes`; `retry_max_s` is the longest back-off of a refused lane."""
        self.problems: dict[str, str] = {}
        self.holds = {lane: Hold(retry_max_s) for lane in Lane}
        self.proofs = 0
        self._lanes, self._store, self._now = lanes, store, now
        self._told: set[str] = set()

    def judge(self, outgoing: Outgoing, reason_code: int, now: float) -> None:
        """Take the answer to a message, at the time `now` of the loop clock."""
        # A retained message is kept by the broker for later subscribers: unheard is not undelivered.
        accepted = reason_code == 0 or (reason_code == UNHEARD and not outgoing.lines)
        self._lanes.trials.answered(outgoing, reason_code == 0, now)
        self._lanes.backlog.answered(outgoing)
        if outgoing.lane is Lane.ANSWERS:
            self._lanes.answers.answered(outgoing)
        if accepted:
            self._taken(outgoing)
        elif reason_code == UNHEARD:
            self._not_heard(outgoing, now)
        else:
            self._refused(outgoing, reason_code, now)

    def too_large(self, outgoing: Outgoing, packet_bytes: int, now: float) -> None:
        """Leave out what the broker's packets cannot hold; a record that fits neither lane is given up."""
        size = len(outgoing.payload)
        reason = f"{size} bytes on {outgoing.suffix}, and the broker takes packets of at most {packet_bytes} bytes"
        self._lanes.trials.answered(outgoing, False, now)
        if outgoing.lane is Lane.LIVE:
            self._lanes.backlog.unsent_again(outgoing.seqs[0])
        elif outgoing.lines:
            self.quarantine(outgoing.lines, "too large", reason, now)
        else:
            self.problems["size"] = f"a message is too large: {reason}; the others go on without it"
            self._lanes.answers.answered(outgoing)

    def quarantine(self, lines: Sequence[Line], about: str, reason: str, now: float) -> None:
        """Give up records that cannot be delivered: declared `loss`, with one event a connection for each reason."""
        for line in lines:
            if line.type == "loss":
                self._lanes.set_aside[line.ep, line.seq] = now + KEPT_S
            else:
                self._store.declare_lost(line.ep, [(line.seq, line.seq)], "quarantined")
            if line.ep != self._store.ep:
                # An epoch that ended declares nothing any more; unsettled it would hold up the present one.
                self._store.mark_sent(line.ep, [line.seq])
            self._lanes.replay.done(line.ep, [line.seq])
        self.problems["quarantined"] = f"{reason}; such a record is given up and declared lost"
        self.tell(f"{about} quarantined", "record_quarantined", reason, lines[0])

    def tell(self, about: str, kind: str, reason: str, line: Line | None = None) -> None:
        """Record an event, once a connection for each thing it is about."""
        if about not in self._told:
            self._told.add(about)
            which = f" (first: {line.type} record {line.seq} of epoch {line.ep}, check {line.check})" if line else ""
            self._store.append(event(kind, f"{reason}{which}", self._now()))

    def _taken(self, outgoing: Outgoing) -> None:
        self.holds[outgoing.lane].taken()
        self.problems.pop(outgoing.lane, None)
        if outgoing.lane is Lane.CARDS:
            self._lanes.cards.acknowledged(outgoing)
        if outgoing.lines:
            self._lanes.unheard.heard(outgoing.seqs)
            self._lanes.replay.done(outgoing.ep, outgoing.seqs)
            self._store.mark_sent(outgoing.ep, outgoing.seqs)
        self.proofs += outgoing.lane is Lane.LATE

    def _not_heard(self, outgoing: Outgoing, now: float) -> None:
        self._lanes.unheard.add(outgoing.seqs)
        backlog = self.holds[Lane.LATE]
        if outgoing.lane is Lane.LATE:
            backlog.unheard(now)
        else:
            self.holds[Lane.LIVE].taken()
            self.problems.pop(Lane.LIVE, None)
            backlog.pause(now)
        self._keep_unsent(outgoing)
        self.problems[Lane.LATE] = "nobody is subscribed at the broker: the backlog waits until somebody is"

    def _refused(self, outgoing: Outgoing, reason_code: int, now: float) -> None:
        name = REFUSALS.get(reason_code, "unknown reason")
        reason = f"the broker refused a message on {outgoing.suffix}: {name} (0x{reason_code:02X})"
        if reason_code in NEVER and outgoing.lines:
            self._never(outgoing, name, reason, now)
            return
        if reason_code == NOT_AUTHORISED or reason_code in NEVER:
            self.tell(outgoing.lane, "delivery_refused", reason)
        self.problems[outgoing.lane] = reason
        if outgoing.lines:
            self.holds[outgoing.lane].refused(reason_code, now)
            self._keep_unsent(outgoing)
        elif outgoing.lane is Lane.CARDS:
            self._card_refused(outgoing, reason_code, now)

    def _card_refused(self, outgoing: Outgoing, reason_code: int, now: float) -> None:
        if reason_code == NOT_AUTHORISED or reason_code in NEVER:
            self._lanes.cards.set_aside(outgoing, now)
        else:
            self.holds[Lane.CARDS].refused(reason_code, now)
            self._lanes.cards.back(outgoing)

    def _never(self, outgoing: Outgoing, name: str, reason: str, now: float) -> None:
        if len(outgoing.lines) > 1:
            self._lanes.backlog.split(outgoing)
        else:
            self.quarantine(outgoing.lines, name, reason, now)

    def _keep_unsent(self, outgoing: Outgoing) -> None:
        if outgoing.lane is Lane.LATE:
            self._lanes.backlog.again_from(outgoing.seqs[0])
        else:
            self._lanes.backlog.unsent_again(outgoing.seqs[0])

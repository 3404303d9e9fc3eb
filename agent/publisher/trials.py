"""Which record does the broker die of? Suspects are sent alone, and judged (contract, section 3, rule 5).

A record that was in flight at two disconnects in a row is a suspect: it leaves its array and is tried as
a message of its own, alone in flight. Alone at three disconnects in a row it is guilty - but a broker that
flaps must not make innocents guilty. So before the second and the third trial the connection has to prove
itself: so many other messages of the backlog are acknowledged first (records that arrived before, sent
again), and each trial comes at another place of its connection. A disconnect that the suspect was not alone
at clears it of the earlier ones. Without any record that ever arrived there is no proof, and no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.publisher.backlog import Key, late_array
from agent.publisher.window import Outgoing
from agent.publisher.wire import Line

PROOFS = (0, 1, 5)
"""Messages of the backlog acknowledged on the same connection before the first, second and third trial."""
PATIENCE_S = 60.0


class Trials:
    """The suspects, oldest suspicion first, and how often the first one was alone at a disconnect."""

    def __init__(self) -> None:
        """Start without suspicion."""
        self._suspects: dict[Key, Line] = {}
        self._in_flight_before: set[Key] = set()
        self._deaths = 0
        self._proven: dict[str, Line] = {}
        self.running: Outgoing | None = None
        self.next_at = self.patient_at = self._began = 0.0
        self._fair = True

    def begin(self, now: float) -> None:
        """Start a connection."""
        self.running, self.next_at, self.patient_at = None, 0.0, now + PATIENCE_S

    def start(self, line: Line, now: float) -> Outgoing:
        """Write the message that is to be alone in flight; it is `running` until it is answered."""
        self.running, self._began = late_array([line]), now
        return self.running

    def suspects(self) -> set[Key]:
        """Name the records that only a trial may send."""
        return set(self._suspects)

    def next(self, proofs: int, now: float) -> Line | None:
        """Give the record to be sent alone now, after `proofs` acknowledgements; None = the backlog's turn."""
        if not self._suspects:
            return None
        suspect = next(iter(self._suspects.values()))
        self._fair = proofs >= PROOFS[self._deaths]
        if self._fair:
            return suspect
        known_good = self._proven.get(suspect.type) or next(iter(self._proven.values()), None)
        return suspect if known_good is None and now >= self.patient_at else known_good

    def answered(self, outgoing: Outgoing, accepted: bool, now: float) -> None:
        """Clear what the broker answered, whatever the answer; what it accepted serves as proof later."""
        if outgoing is self.running:
            # The others have the line for as long as the trial took.
            self.running, self.next_at = None, now + (now - self._began)
        for key in outgoing.keys:
            if key in self._suspects:
                del self._suspects[key]
                self._deaths = 0
            self._in_flight_before.discard(key)
        if accepted and outgoing.lines:
            self._proven[outgoing.lines[-1].type] = outgoing.lines[-1]

    def ended(self, flights: Sequence[Outgoing]) -> Line | None:
        """Learn from the end of a connection what was in flight then; gives a record that is guilty."""
        lines = {key: line for out in flights for key, line in zip(out.keys, out.lines, strict=True)}
        guilty = None
        if len(flights) == len(lines) == 1 and next(iter(lines)) == next(iter(self._suspects), None):
            self._deaths += self._fair
            if self._deaths == len(PROOFS):
                guilty = self._suspects.pop(next(iter(lines)))
                self._deaths = 0
        else:
            self._deaths = 0
            known = {(line.ep, line.seq) for line in self._proven.values()}
            self._suspects |= {key: lines[key] for key in lines if key in self._in_flight_before - known}
        self._in_flight_before = set(lines)
        return guilty

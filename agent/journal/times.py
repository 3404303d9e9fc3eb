"""Puts right the time of records that were taken before the clock was set. Pure.

Rules (contract, section 3, rule 1: a number is never seen outside with two contents)
- The blocks keep a record as it was taken. What leaves the journal is that text and what was decided of it:
  either it stays as it is, or its `ts` is made of its own `mono_ms` and `clock` becomes `corrected`.
- Each record of this boot with an unset clock is decided once, when it is first about to be sent: while the
  clock is unset it stays as it is; afterwards it, and all that is not decided yet, is corrected by one offset.
- The decision is durable before the record leaves. So after any crash the same text leaves again.
- A record of an earlier boot that was not decided then stays as it is: nobody knows its offset any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agent.clock import EARLIEST_S, LATEST_S, ClockQuality, Instant, rfc3339
from agent.journal.blocks import UNDATED_MARK, Line
from agent.journal.ranges import Ranges

KEY = "times"
"""Key under which the decisions are remembered."""
HEAD = re.compile(r'"ts":"[^"]*","clock":"unsynced","boot":"([^"]*)"')
"""As `messages.encode` writes the head; no text in a record can look like it, its quotes being escaped."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of these numbers of one boot. `offset_ms` is wall time minus time since boot; None = as it is."""

    ep: str
    boot: str
    offset_ms: int | None
    seqs: Ranges


def unset_boot(line: Line) -> str:
    """Give the boot of a record with an unset clock, "" if the clock was set."""
    found = HEAD.search(line.text) if UNDATED_MARK in line.text else None
    return found[1] if found else ""


def corrected(line: Line, offset_ms: int) -> Line:
    """Give the record with the time that it was taken at."""
    ts = (line.mono_ms + offset_ms) / 1000
    if not EARLIEST_S <= ts < LATEST_S:
        return line
    head = f'"ts":"{rfc3339(ts)}","clock":"{ClockQuality.CORRECTED}","boot":"\\1"'
    return replace(line, ts=ts, text=HEAD.sub(head, line.text, count=1))


class Times:
    """All decisions about records that are still held."""

    def __init__(self) -> None:
        """Start with none."""
        self._decisions: list[Decision] = []

    def text(self) -> str:
        """Write the decisions, to be remembered."""
        return json.dumps([(d.ep, d.boot, d.offset_ms, d.seqs.text()) for d in self._decisions])

    def learn(self, text: str | None) -> None:
        """Add what an earlier run has decided."""
        for ep, boot, offset_ms, seqs in json.loads(text or "[]"):
            self._add(Decision(ep, boot, offset_ms, Ranges.parse(seqs)))

    def decide(self, lines: Sequence[Line], first_seq: int, next_seq: int, now: Instant) -> bool:
        """Decide of the lines of one epoch what is open; the epoch holds first_seq to next_seq - 1.

        Tells whether there is anything new to remember.
        """
        waiting = [line.seq for line in lines if self.is_open(line, now.boot)]
        if not waiting:
            return False
        ep = lines[0].ep
        self._forget(ep, first_seq, now.boot)
        if now.clock == ClockQuality.UNSYNCED:
            self._add(Decision(ep, now.boot, None, Ranges.of((seq, seq) for seq in waiting)))
        else:
            offset_ms = round(now.ts * 1000) - now.mono_ms
            rest = self._decided(ep, now.boot).missing(first_seq, max(next_seq - 1, waiting[-1]))
            self._add(Decision(ep, now.boot, offset_ms, rest))
        return True

    def is_open(self, line: Line, boot: str) -> bool:
        """Tell whether the record's time may still be put right."""
        if unset_boot(line) != boot:
            return False
        return not any(line.seq in d.seqs for d in self._decisions if (d.ep, d.boot) == (line.ep, boot))

    def leaving(self, lines: Iterable[Line], boot: str) -> list[Line]:
        """Give the lines as they leave; those that are open are `held`, and must not be sent like this."""
        return [replace(line, held=True) if self.is_open(line, boot) else self._told(line) for line in lines]

    # -- inside

    def _told(self, line: Line) -> Line:
        boot = unset_boot(line)
        for d in self._decisions if boot else ():
            if (d.ep, d.boot) == (line.ep, boot) and d.offset_ms is not None and line.seq in d.seqs:
                return corrected(line, d.offset_ms)
        return line

    def _decided(self, ep: str, boot: str) -> Ranges:
        found = [span for d in self._decisions if (d.ep, d.boot) == (ep, boot) for span in d.seqs.spans]
        return Ranges.of(found)

    def _add(self, new: Decision) -> None:
        """Add a decision about numbers that are open, or one that is known already."""
        for at, d in enumerate(self._decisions):
            if (d.ep, d.boot, d.offset_ms) == (new.ep, new.boot, new.offset_ms):
                self._decisions[at] = replace(d, seqs=d.seqs.union(new.seqs))
                return
        self._decisions.append(new)

    def _forget(self, ep: str, first_seq: int, boot: str) -> None:
        """Drop what speaks of numbers that are gone, and what of an earlier boot stays as it is anyway."""
        kept = []
        for d in self._decisions:
            seqs = d.seqs.remove(0, first_seq - 1) if d.ep == ep else d.seqs
            if seqs and (d.boot == boot or d.offset_ms is not None):
                kept.append(replace(d, seqs=seqs))
        self._decisions = kept

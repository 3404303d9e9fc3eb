"""Quiet for a while: `maintenance` stops every active check, `isolation` explains what fails beyond the gateway.

The rules (contract, section 3, rule 7; field.md 4.1, 10):
- It comes by the command `suppress` or as the same JSON in the file `{buffer.directory}/suppress`.
- It ends by itself after `seconds`, counted in time since boot, so that a step of the clock neither prolongs
  nor cuts it. A restart goes on with the time that is left; after a new boot the wall clock tells how much
  that is, and where it cannot (it was set back), at most the whole time begins again.
- A command replaces the command before it, and `seconds: 0` ends it. Removing the file ends the file's.
- A file that lies there when the agent starts, and that its store does not know (a new one, or none but memory),
  counts from when it was written: an old one does not begin anew.
- Of both at once `maintenance` wins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from agent.clock import Instant
from agent.commands.seen import Memory
from agent.messages import compact

LONGEST_S = 14_400.0
"""Four hours (contract, section 3, rule 7)."""
REASON_LIMIT = 200
KEPT = "suppression"
"""Key under which the journal keeps what is in force."""


class Kind(StrEnum):
    """What a suppression means."""

    MAINTENANCE = "maintenance"
    ISOLATION = "isolation"


class Source(StrEnum):
    """Where a suppression comes from; there is at most one of each."""

    COMMAND = "command"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Suppression:
    """One suppression: for `seconds` from the moment (`began_ts`, `began_ms` since boot, `boot`)."""

    kind: str
    reason: str
    seconds: float
    began_ts: float
    began_ms: int
    boot: str

    @property
    def words(self) -> str:
        """Say why, for people."""
        return self.reason or self.kind

    def earlier(self, seconds: float) -> Suppression:
        """Give the same as having begun so many seconds before."""
        return replace(self, began_ts=self.began_ts - seconds, began_ms=self.began_ms - round(seconds * 1000))

    def left_s(self, now: Instant) -> float:
        """Say how much time is left; 0 or less once it is over."""
        passed_s = (now.mono_ms - self.began_ms) / 1000 if now.boot == self.boot else now.ts - self.began_ts
        return self.seconds - max(passed_s, 0.0)


def read_suppression(args: Mapping[str, Any], now: Instant) -> Suppression:
    """Read `{seconds, kind, reason}` as beginning now; raises ValueError with one sentence."""
    seconds, kind, reason = args.get("seconds"), args.get("kind"), args.get("reason", "")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_S:
        raise ValueError(f"seconds is missing or not a number from 0 to {LONGEST_S:.0f}")
    if kind not in tuple(Kind):
        raise ValueError(f"kind is missing or none of {', '.join(Kind)}")
    if not isinstance(reason, str) or not reason.isprintable():
        raise ValueError("reason is not a printable text")
    return Suppression(str(kind), reason[:REASON_LIMIT], float(seconds), now.ts, now.mono_ms, now.boot)


class Suppressions:
    """What is in force, from either source; kept over restarts."""

    def __init__(self, memory: Memory) -> None:
        """Recall what was in force; `file_mark` tells which state of the file was taken in already."""
        self._memory = memory
        self._held, self.file_mark = recalled(memory.recall(KEPT))

    def present(self, now: Instant) -> tuple[Source, Suppression] | None:
        """Give the one that counts, with its source; None if nothing is suppressed."""
        found = [(source, held) for source, held in self._held.items() if held.left_s(now) > 0]
        return min(found, key=lambda pair: pair[1].kind != Kind.MAINTENANCE, default=None)

    def begin(self, source: Source, suppression: Suppression) -> None:
        """Begin one in place of the one that the same source began before."""
        self._held[source] = suppression
        self._keep()

    def end(self, source: Source) -> bool:
        """End the one from this source; tells whether there was one."""
        ended = self._held.pop(source, None) is not None
        if ended:
            self._keep()
        return ended

    def expire(self, now: Instant) -> list[tuple[Source, Suppression]]:
        """Take out those whose time is over."""
        over = [(source, held) for source, held in self._held.items() if held.left_s(now) <= 0]
        for source, _ in over:
            self.end(source)
        return over

    def mark_file(self, mark: str) -> None:
        """Note which state of the file has been taken in, so that it is taken in once; "" = there is none."""
        if mark != self.file_mark:
            self.file_mark = mark
            self._keep()

    def _keep(self) -> None:
        held = {source: asdict(suppression) for source, suppression in self._held.items()}
        self._memory.remember(KEPT, compact({"held": held, "file": self.file_mark}))


def recalled(text: str | None) -> tuple[dict[Source, Suppression], str]:
    """Read what was in force and the file's mark; nothing where that is no longer readable."""
    try:
        kept = json.loads(text or "{}")
        held = {Source(source): Suppression(**values) for source, values in kept.get("held", {}).items()}
        return held, str(kept.get("file", ""))
    except (ValueError, TypeError, AttributeError):
        return {}, ""

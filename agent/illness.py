"""Whether a device is ill in a way for which the verdict has no word of its own, as a pure function of its polls.

Each poll tells how the device is (`health`, `reason`) and which words of the verdict fit (`findings`). The word
`device_fault` is among them where something is broken: all that is critical and has no word of its own, and what a
profile calls so although the device goes on, such as the second power supply. What only asks for somebody to come
along some day (a toner that is low, a busy processor) is a warning without a word: a notice, and no verdict.

The rules (contract, section 4): what is critical is believed at once, for the device itself says it; a warning once
`fail_after` polls in a row say it, because a sensor on its limit comes and goes. `recover_after` polls in a row
without the word end either. A poll that fails, or asks only whether the device lives, says nothing of all that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.clock import Instant
from agent.model import Scalar

DEVICE_FAULT = "device_fault"
CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Illness:
    """What a device said of itself: `said` are the fields of the last record that tells how it is.

    `stands` is whether `device_fault` holds, `reason` why and `since` when that began; `streak` counts the polls
    in a row that say otherwise.
    """

    said: Mapping[str, Scalar] = field(default_factory=dict)
    stands: bool = False
    streak: int = 0
    since: Instant | None = None
    reason: str = ""

    @property
    def words(self) -> list[str]:
        """The verdict's words that the last poll gave."""
        return [word for word in str(self.said.get("findings") or "").split(",") if word]


WELL = Illness()


def after(
    before: Illness, fields: Mapping[str, Scalar], taken: Instant, fail_after: int, recover_after: int
) -> Illness:
    """Take one record of a device that answered into account."""
    if "health" not in fields:
        return before
    told = replace(before, said=fields)
    ill = DEVICE_FAULT in told.words
    reason = str(fields.get("reason") or "") if ill else before.reason
    if ill is before.stands:
        return replace(told, streak=0, reason=reason)
    since = taken if ill and not before.streak else before.since
    counted = replace(told, streak=before.streak + 1, since=since, reason=reason)
    wanted = recover_after if before.stands else 1 if fields["health"] == CRITICAL else fail_after
    return counted if counted.streak < wanted else replace(counted, stands=ill, streak=0)

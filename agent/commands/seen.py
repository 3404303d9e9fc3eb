"""The ids of commands that were obeyed: each is obeyed once, whatever restarts come between."""

from __future__ import annotations

import json
from typing import Protocol

from agent.messages import compact

IDS_KEPT = 300
"""More than can be unexpired at a time: at most 60 a minute are obeyed, and each expires within a minute."""
SEEN = "command_ids"
"""Key under which the journal keeps them."""


class Memory(Protocol):
    """The part of the journal that keeps small values over restarts."""

    def remember(self, key: str, value: str) -> None:
        """Keep a value, written with the next commit."""

    def recall(self, key: str) -> str | None:
        """Give a kept value."""


class Seen:
    """The last few hundred ids, oldest first.

    Their expiry is no reason to forget one: should the clock be set back, it would count as unexpired again.
    """

    def __init__(self, memory: Memory) -> None:
        """Recall what an earlier run has seen."""
        self._memory = memory
        self._ids = dict.fromkeys(recalled_ids(memory.recall(SEEN)))

    def __contains__(self, request_id: str) -> bool:
        """Tell whether a command of this id was obeyed before."""
        return request_id in self._ids

    def add(self, request_id: str) -> None:
        """Note the id of a command that is about to be obeyed."""
        self._ids[request_id] = None
        for oldest in list(self._ids)[:-IDS_KEPT]:
            del self._ids[oldest]
        self._memory.remember(SEEN, compact(list(self._ids)))


def recalled_ids(text: str | None) -> list[str]:
    """Read the ids as kept; nothing where they are no longer readable."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [key for key in found if isinstance(key, str)] if isinstance(found, list) else []

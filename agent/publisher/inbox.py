"""What is asked of the broker at each connect, and who gets the messages that come of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.publisher.wire import Message, Wire

SUBSCRIBE_BYTES, SUBSCRIBE_EACH_BYTES = 8, 3
"""Of a SUBSCRIBE: 5 fixed header, 2 packet id, 1 properties; of each filter beside its text 2 length, 1 options."""


@dataclass(frozen=True, slots=True)
class Inbox:
    """The topic filters, given anew at each connect, and the receiver of their messages."""

    subscriptions: Callable[[], Iterable[str]]
    on_message: Callable[[Message], None]

    def subscribe(self, wire: Wire, problems: dict[str, str]) -> bool:
        """Ask the broker for the messages, and tell whether any may come; `problems` says why not all that should."""
        filters = tuple(self.subscriptions())
        size = SUBSCRIBE_BYTES + sum(SUBSCRIBE_EACH_BYTES + len(topic) for topic in filters)
        if size > wire.limits.packet_bytes:
            problems["subscriptions"] = "the broker's packets are too small to subscribe: no command comes"
            return False
        if filters:
            with contextlib.suppress(ConnectionError):  # then its `Closed` is on the way
                wire.subscribe(filters)
        return bool(filters)

"""What the publisher is given: the parts of the config it reads, and what it does where nobody wants messages."""

from __future__ import annotations

from typing import Protocol

from agent.publisher.wire import Message


class Place(Protocol):
    """The part of the config's `identity` that topics are made of."""

    @property
    def org(self) -> str:
        """Organisation."""

    @property
    def site(self) -> str:
        """Site."""

    @property
    def node(self) -> str:
        """This agent."""


class Pace(Protocol):
    """The part of the config's `mqtt` that the publisher obeys; the wire has the rest."""

    @property
    def late_rate(self) -> float:
        """Records a second of the backlog; 0 = unlimited."""

    @property
    def spread_s(self) -> float:
        """First ceiling of the reconnect jitter."""

    @property
    def retry_max_s(self) -> float:
        """Last ceiling of the reconnect jitter."""


def nothing() -> tuple[str, ...]:
    """Subscribe to nothing."""
    return ()


def untold(sentence: str) -> None:
    """Keep no log."""


def ignore(message: Message) -> None:
    """Take no notice of a message."""

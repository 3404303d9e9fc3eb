"""What goes to the store's thread and what comes back. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.journal.blocks import Line
from agent.journal.ranges import Ranges


@dataclass(frozen=True, slots=True)
class State:
    """What the store knew when it was last written. Settled = marked sent or lost; `lost` is that part alone."""

    ep: str
    machine: str
    boot: str
    clean: bool
    next_seq: int
    lost_total: int = 0
    settled: Ranges = field(default_factory=Ranges)
    lost: Ranges = field(default_factory=Ranges)


@dataclass(frozen=True, slots=True)
class Batch:
    """One commit. `evict_to`: remove blocks up to this number; `oldest_ts_of`: tell this record's time.

    `expired_ts`: blocks whose newest record is older (seconds since 1970) are to go; None while the clock is unset,
    and where that was asked a moment ago.
    """

    state: State
    lines: Sequence[Line] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    evict_to: int = 0
    oldest_ts_of: int = 0
    expired_ts: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """The store after a commit. `evict_to` > 0: blocks up to it have to go with the next commit.

    `undeclared` are numbers whose unsent `loss` record is among those blocks and must be given again.
    """

    first_seq: int
    used_bytes: int
    evict_to: int = 0
    undeclared: Ranges = field(default_factory=Ranges)
    oldest_ts: float | None = None


class BufferOptions(Protocol):
    """The `buffer` section of the config: bytes and seconds."""

    @property
    def directory(self) -> str:
        """Where the store lies."""

    @property
    def max_bytes(self) -> int:
        """How large the store may become."""

    @property
    def max_age_s(self) -> float:
        """How old a record may become, in seconds."""

    @property
    def commit_s(self) -> float:
        """Seconds within which a record is committed."""

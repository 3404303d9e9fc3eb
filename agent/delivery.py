"""What the publisher notices of its own way to the broker, for the check that makes records of it.

The publisher must not know the checks, nor they the publisher; both know this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.model import Failure


@dataclass(frozen=True, slots=True)
class OwnWay:
    """How the agent's own way to the broker stands; times in seconds, `address` "" while there is none.

    `connack_s` = from the beginning of the present connection (name, TCP and TLS included) to its CONNACK.
    `puback_s` = mean time from a message to its PUBACK, of the last 100 on this connection at most, and
    `puback_max_s` the longest of them; None before the first. `waiting_s` = age of the oldest message that
    waits for its PUBACK, 0 without one. Where not connected, `failure` and `reason` say why; both are
    empty while the first attempt is under way.
    """

    connected: bool = False
    address: str = ""
    connack_s: float | None = None
    puback_s: float | None = None
    puback_max_s: float | None = None
    waiting_s: float = 0.0
    failure: Failure | None = None
    reason: str = ""


class OwnDelivery:
    """Where the check finds the publisher's word; `source` is None where no publisher runs."""

    def __init__(self) -> None:
        """Begin without a publisher."""
        self.source: Callable[[], OwnWay] | None = None

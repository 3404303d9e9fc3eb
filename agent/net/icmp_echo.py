"""One echo request: what is kept of it, which reply is its own, and how long that took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.net.icmp_wire import NANOSECONDS, IcmpError, Reply
from agent.policy import Address, parsed

CLOCK_STEP_S = 0.001
"""Kernel stamps are wall time: an RTT longer than what we waited ourselves, by more than this, saw the clock set."""
LATE_WITHIN_S = 60.0
"""A reply that comes later than this after its request is no news of the network that a reader could use."""


@dataclass(slots=True)
class Aftermath:
    """What came for somebody's echoes after nobody waited for them any longer."""

    late_replies: int = 0
    duplicates: int = 0


@dataclass(slots=True, eq=False)
class Echo:
    """One echo request and what became of it.

    `rtt_s` is None while unanswered, `timestamping` who took its time (kernel, kernel_rx, user); `error`
    the ICMP error that came instead; `duplicates` counts further replies. `settled` and `reordered`
    belong to the flight; once that is `over`, what still comes is counted in `aftermath`. `asked` is the
    address as the kernel writes it. Times: `sent_s` of the loop clock, `sent_ns` and `left_ns` since 1970.
    """

    address: Address
    sequence: int
    token: bytes
    key: int
    sent_s: float
    sent_ns: int
    answered: Callable[[Echo], None]
    size: int = 0
    left_ns: int | None = None
    rtt_s: float | None = None
    timestamping: str = ""
    duplicates: int = 0
    error: IcmpError | None = None
    settled: bool = False
    reordered: bool = False
    over: bool = False
    aftermath: Aftermath | None = None
    asked: str = ""


def round_trip(echo: Echo, arrived_ns: int | None, waited_s: float) -> tuple[float, str]:
    """Give the RTT in seconds and who took the time, from the best stamps that make sense."""
    if arrived_ns is not None:
        began_ns, word = (echo.sent_ns, "kernel_rx") if echo.left_ns is None else (echo.left_ns, "kernel")
        rtt_s = (arrived_ns - began_ns) / NANOSECONDS
        if 0 < rtt_s <= waited_s + CLOCK_STEP_S:
            return rtt_s, word
    return waited_s, "user"


def fits(reply: Reply, echo: Echo) -> bool:
    """Tell whether a reply is from the address that was asked, with what was sent."""
    if reply.source != echo.asked and parsed(reply.source) != echo.address:
        return False
    return reply.payload.startswith(echo.token) and len(reply.payload) <= echo.size


def count_late(echo: Echo, waited_s: float) -> None:
    """Count a reply that came when nobody waited for it any longer."""
    if echo.aftermath is None or waited_s > LATE_WITHIN_S:
        return
    if echo.rtt_s is None:
        echo.rtt_s = waited_s
        echo.aftermath.late_replies += 1
    else:
        echo.aftermath.duplicates += 1

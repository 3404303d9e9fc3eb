"""The `train` check, how fast the way carries a few packets sent back to back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from agent.check import TARGET_WORDS, Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Failure, Layer, Scalar
from agent.net.icmp import Echo, IcmpEndpoint, failed_from_error
from agent.options import Host, Number, option
from agent.policy import parsed
from agent.safety import Permit

PACKETS = 8
PACKET_BYTES = 1400
"""Of each IP packet: fits the tunnels that a carrier uses, and leaves no fragments to reckon with."""
HEADERS = {4: 28, 6: 48}  # IP and ICMP header
BITS = 8
MOST_BITS_PER_S = 1_000_000_000
"""More cannot be told: at a gigabit the packets come 11 µs apart, which is as exact as the kernel's stamps are."""
LEAST_GAPS = 2
"""One gap between neighbouring replies would be no estimate."""
SHORTER = 1 / 3
"""This part of the gaps is shorter than the one that counts. The first two of a train may be: a shaper lets through at
once what its burst allows. At 50 ms of jitter the median would see a slow line in one train of eleven, this in one of
seventy."""
NANOSECONDS = 1_000_000_000
MARGIN_S = 0.05
"""We stop waiting this long before the deadline, so that what came until then becomes the record."""
STARVED_S = 1.0
"""Waking this much too late, our own machine was the fault: then silence says nothing of the target."""


@dataclass(frozen=True, kw_only=True)
class Train(Check):
    """Sends eight echoes of 1,400 bytes back to back and sees how far apart the replies come: the capacity.

    A line that is slow but loses nothing looks well to every ping: single small packets pass as fast as ever. A
    train of large ones is spread out by the slowest line on the way there and back, each packet by the
    time that line needs for it. `bits_per_s` is taken from a short gap between neighbouring replies, the one that a
    third of them stay below: other traffic in between and a line whose delay varies only make gaps longer, and a slow
    line makes all of them long. It is of IP packets, exact to a few
    percent up to some 100 Mbit/s; above, it shows what this machine can hand over, 1,000,000,000 at most. The
    first and the last reply show what a burst suffers: `rtt_last_s` far above `rtt_first_s` is a queue that fills.

    It passes when at least three replies come one after the other. `minimum_bits_per_s` makes a slower way
    `degraded`; it is short for `degraded: {bits_per_s: …}`. It fails with `timeout` (fewer replies; a line
    that drops what comes too fast, instead of queueing it, looks so too), `unreachable` or `prohibited`.

    The burst of 11,200 bytes takes 0.35 s of a 256 kbit/s line: ask seldom, and not over metered lines. A target
    that limits its replies to pings seems slow: ask a host, not a router.
    """

    type: ClassVar[str] = "train"
    default_layer: ClassVar[Layer] = Layer.CARRIER
    default_interval_s: ClassVar[float] = 300.0
    least_interval_s: ClassVar[float] = 20.0
    main_field: ClassVar[str] = "bits_per_s"
    facts: ClassVar[Mapping[str, Fact]] = {
        "bits_per_s": Fact(int, "Capacity of the slowest line on the way, bits per second, at most 1,000,000,000."),
        "rtt_first_s": Fact(float, "Round-trip time of the first packet that was answered, seconds."),
        "rtt_last_s": Fact(float, "Round-trip time of the last packet that was answered, seconds."),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {"bits_per_s": 9_870_000, "rtt_first_s": 0.0121, "rtt_last_s": 0.0203}

    target: str = option(Host(TARGET_WORDS), "Host that answers echoes (ping).", example="198.51.100.10")
    minimum_bits_per_s: float = option(
        Number(0, MOST_BITS_PER_S), "Capacity below which the way is degraded; 0 = no limit.", default=0.0
    )

    def __post_init__(self) -> None:
        """Write the minimum as the limit that it is short for; one written in `degraded` itself wins."""
        if self.minimum_bits_per_s and "bits_per_s" not in dict(self.degraded):
            limits = (*self.degraded, ("bits_per_s", self.minimum_bits_per_s))
            object.__setattr__(self, "degraded", limits)

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the echoes."""
        return (Traffic(self.target, "icmp", None, PACKETS, whole_agent_only=True),)

    async def run(self, ctx: Context) -> Facts:
        """Send the train and time its replies; see the class for the failures. Silence is confirmed by one echo."""
        address = await ctx.resolve(self.target)
        single = ctx.once and bool(ctx.memory.get("silent"))  # a slow train is only confirmed by another train
        count = 1 if single else PACKETS
        permits = [await self._permit(ctx, address) for _ in range(count)]
        size = PACKET_BYTES - HEADERS[parsed(address).version]
        with ctx.tools.get(IcmpEndpoint).flight() as flight:
            for permit in permits:
                flight.send(permit, size=size)
            late_s = await flight.wait(ctx.deadline - MARGIN_S)
            echoes = flight.echoes
        fields = measured(echoes)
        for number, echo in enumerate(echoes, 1):
            ctx.say(f"packet {number}: " + (f"{echo.rtt_s * 1000:.3f} ms" if echo.rtt_s is not None else "no reply"))
        failed = judged(echoes, late_s, 1 if single else LEAST_GAPS + 1)
        ctx.memory["silent"] = failed is not None
        if failed is None:
            return Facts(fields, address)
        return Facts({**fields, **failed.fields}, address, failed.failure, failed.detail)

    async def _permit(self, ctx: Context, address: str) -> Permit:
        return await ctx.permit(address, None, "icmp", whole_agent_only=True)


def measured(echoes: Sequence[Echo]) -> dict[str, Scalar]:
    """Take the figures from a train: the record fields of a check of this type."""
    rtts = [echo.rtt_s for echo in echoes if echo.rtt_s is not None]
    fields: dict[str, Scalar] = {}
    gaps_s = gaps(echoes)
    if len(gaps_s) >= LEAST_GAPS:
        fields["bits_per_s"] = bits_per_s(gaps_s)
    if rtts:
        fields |= {"rtt_first_s": round(rtts[0], 6), "rtt_last_s": round(rtts[-1], 6)}
    return fields


def gaps(echoes: Sequence[Echo]) -> list[float]:
    """Give the time between the replies to packets that were sent one after the other, seconds.

    A gap in which a packet was lost says nothing: nobody knows whether it was lost before the slow line or after.
    """
    arrived_ns = [None if e.rtt_s is None else (e.left_ns or e.sent_ns) + round(e.rtt_s * NANOSECONDS) for e in echoes]
    return [(b - a) / NANOSECONDS for a, b in pairwise(arrived_ns) if a is not None and b is not None]


def bits_per_s(gaps_s: Sequence[float]) -> int:
    """Turn gaps into the capacity, at most MOST_BITS_PER_S."""
    least_s = PACKET_BYTES * BITS / MOST_BITS_PER_S
    return round(PACKET_BYTES * BITS / max(typical(gaps_s), least_s))


def typical(gaps_s: Sequence[float]) -> float:
    """Give the gap, in seconds, that SHORTER of all gaps stay below."""
    return sorted(gaps_s)[int(len(gaps_s) * SHORTER)]


def judged(echoes: Sequence[Echo], late_s: float, needed: int) -> Failed | None:
    """Say why the run did not pass, None if it did; `needed` replies in a row make an estimate."""
    received = sum(echo.rtt_s is not None for echo in echoes)
    if received >= needed and (needed == 1 or len(gaps(echoes)) >= LEAST_GAPS):
        return None
    if late_s > STARVED_S:
        return Failed(Failure.OVERLOAD, f"this machine was too busy: the check woke {late_s:.1f} s late")
    error = next((echo.error for echo in echoes if echo.error), None)
    if error and not received:
        return failed_from_error(error)
    return Failed(Failure.TIMEOUT, f"{received} of {len(echoes)} packets were answered: too few for an estimate")

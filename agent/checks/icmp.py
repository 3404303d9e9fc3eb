"""The `icmp` check, whether an address answers, how fast, and how steadily."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from agent.check import TARGET_WORDS, Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Failure, Scalar
from agent.net.icmp import Aftermath, Echo, Flight, IcmpEndpoint, failed_from_error
from agent.options import Host, Number, option
from agent.safety import TICK_S

GAP_S = 0.2
"""Between two echoes: what ping(8) takes as the shortest for everyone; far enough to see different moments."""
SENDING = 0.5
"""The part of the timeout in which echoes leave; the rest is for the answers to the last one."""
TOO_LATE = 0.75
"""After this part of the timeout no echo leaves, however late we are: its answer could not be waited for."""
PATIENCE_S, USUALLY = 1.0, 4
"""A confirmation waits a second, or four times what an answer usually takes: the first fail has waited for the rest."""
MARGIN_S = 0.05
"""We stop waiting this long before the deadline, so that what was counted until then becomes the record."""
STARVED_S = 1.0
"""Waking this much too late, our own machine was the fault: then silence says nothing of the target."""
PERCENTILE_FROM = 20
"""Replies from which on a 95th percentile is more than the maximum."""
TIMESTAMPING = ("user", "kernel_rx", "kernel")  # the worst first: one echo without a stamp speaks for all


@dataclass(frozen=True, kw_only=True)
class Icmp(Check):
    """Sends ICMP echo requests ("ping") and counts and times the replies; RFC 792, RFC 4443.

    It passes with at least one reply: the address is up and the way there and back is open. Loss and
    delay are in the fields, for `degraded` to judge. A reply counts only if it comes from the address
    that was asked and carries our own token.

    The ways to fail: `timeout`, silence; `unreachable` or `prohibited`, somebody on the way said so:
    `responder` is the address of who did, `icmp_type` and `icmp_code` are its words. If that is an
    address of this probe itself, the neighbour did not answer ARP (or IPv6 neighbour discovery).
    That takes the kernel 3 s to find out, hence the timeout of 4 s.

    Echoes leave 0.2 s apart, closer where the timeout is short for the count; each spends one unit of
    the packet budget. If the budget ends on the way, the record counts those that were sent. Large
    packets may be fragmented: whether they fit the path is the question of `mtu`.
    """

    type: ClassVar[str] = "icmp"
    default_timeout_s: ClassVar[float] = 4.0
    main_field: ClassVar[str] = "rtt_mean_s"
    facts: ClassVar[Mapping[str, Fact]] = {
        "sent": Fact(int, "Echo requests that left."),
        "received": Fact(int, "Echo requests that were answered."),
        "loss_ratio": Fact(float, "Part of them that was not answered, 0 to 1."),
        "rtt_min_s": Fact(float, "Shortest round-trip time, seconds."),
        "rtt_mean_s": Fact(float, "Mean round-trip time, seconds."),
        "rtt_max_s": Fact(float, "Longest round-trip time, seconds."),
        "ipdv_s": Fact(
            float, "Mean absolute difference of consecutive round-trip times that are both known (RFC 3393), seconds."
        ),
        "rtt_p95_s": Fact(
            float, "95th percentile of the round-trip times (nearest rank), from 20 replies on, seconds."
        ),
        "duplicates": Fact(int, "Replies that came more than once; what comes after a run counts in the next record."),
        "reordered": Fact(int, "Replies that came after that of a later request (RFC 4737)."),
        "late_replies": Fact(
            int, "Replies to earlier runs that came after these had ended, since the record before; not in `received`."
        ),
        "timestamping": Fact(
            str,
            "Who took the times: the kernel (leaving and arriving), kernel_rx (arriving only),"
            " or user (the agent itself, some 0.1 ms too long).",
            words=TIMESTAMPING,
        ),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {
        "sent": 3,
        "received": 3,
        "loss_ratio": 0.0,
        "rtt_min_s": 0.00031,
        "rtt_mean_s": 0.00038,
        "rtt_max_s": 0.00052,
        "ipdv_s": 0.00007,
        "duplicates": 0,
        "reordered": 0,
        "timestamping": "kernel",
        "late_replies": 0,
    }

    target: str = option(Host(TARGET_WORDS), "Host to ask, or the word gateway or resolver.", example="gateway")
    count: int = option(Number(1, 100, whole=True), "Echoes a run.", default=3)
    packet_size: int = option(Number(0, 1472, whole=True), "Bytes of payload in each echo.", default=56)
    ttl: int = option(
        Number(0, 255, whole=True),
        "Hops that an echo may take; 1 keeps it on the own network. 0: the system's (mostly 64; on layer lan 1).",
        default=0,
    )

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the echoes."""
        return (Traffic(self.target, "icmp", None, self.count),)

    async def run(self, ctx: Context) -> Facts:
        """Send the echoes, wait until all are answered or the time is over; see the class for the failures."""
        address = await ctx.resolve(self.target)
        left_s = max(ctx.deadline - asyncio.get_running_loop().time(), 0.0)
        until = ctx.deadline - min(MARGIN_S, left_s * 0.1)
        if ctx.once and (usual_s := ctx.memory.get("rtt_max_s")):
            until = min(until, ctx.deadline - left_s + max(PATIENCE_S, USUALLY * usual_s))
        aftermath: Aftermath = ctx.memory.setdefault("aftermath", Aftermath())
        with ctx.tools.get(IcmpEndpoint).flight(aftermath) as flight:
            late_s, stopped = await self._send(ctx, flight, address)
            late_s = max(late_s, await flight.wait(until))
        echoes = flight.echoes
        deaf = deafness(late_s, flight.overflowed)
        fields = with_aftermath(measured(echoes, deaf), aftermath)
        failed = judged(echoes, stopped, deaf)
        ctx.memory["rtt_max_s"] = fields.get("rtt_max_s", ctx.memory.get("rtt_max_s"))
        for echo in echoes:
            ctx.say(f"{address}: {told(echo)}")
        if failed is None:
            return Facts(fields, address, detail=deaf if fields["received"] != fields["sent"] else "")
        return Facts({**fields, **failed.fields}, address, failed.failure, failed.detail)

    async def _send(self, ctx: Context, flight: Flight, address: str) -> tuple[float, Failed | None]:
        """Send the echoes; gives how late we woke at the worst (seconds), and what kept us from sending all."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        count = 1 if ctx.once else self.count
        sending_s = max(ctx.deadline - began, 0.0) * SENDING
        gap_s = min(GAP_S, sending_s / count)
        late_s = 0.0
        for number in range(count):
            due = max(_on_tick(began + number * gap_s, gap_s), loop.time())
            await asyncio.sleep(due - loop.time())  # also where it is due: other checks may book before our next echo
            late_s = max(late_s, loop.time() - due)
            if loop.time() > began + sending_s / SENDING * TOO_LATE:
                return late_s, Failed(Failure.OVERLOAD, "this machine was too busy to send all echoes in time")
            try:
                permit = await ctx.gate.permit(
                    address, None, "icmp", began + sending_s, check_type=ctx.check_type or self.type
                )
                flight.send(permit, size=self.packet_size, ttl=self.ttl or None)
            except Failed as failed:
                return late_s, failed
        return late_s, None


def _on_tick(due: float, gap_s: float) -> float:
    """Move a moment to the nearest common tick: echoes of many checks then leave at one wake-up."""
    return round(due / TICK_S) * TICK_S if gap_s >= TICK_S else due


def deafness(late_s: float, overflowed: bool) -> str:
    """Say why silence would prove nothing, "" if it does: we woke `late_s` too late, or replies were thrown away."""
    if late_s > STARVED_S:
        return f"this machine was too busy: the check woke {late_s:.1f} s late"
    return "this machine was too busy: the kernel had to throw replies away unread" if overflowed else ""


def with_aftermath(fields: dict[str, Scalar], aftermath: Aftermath) -> dict[str, Scalar]:
    """Add what came for earlier runs since the last record, and begin to count anew."""
    if "duplicates" in fields:
        fields["duplicates"] = int(fields["duplicates"] or 0) + aftermath.duplicates
        aftermath.duplicates = 0
    fields["late_replies"], aftermath.late_replies = aftermath.late_replies, 0
    return fields


def measured(echoes: Sequence[Echo], deaf: str = "") -> dict[str, Scalar]:
    """Count and time a run's echoes: the record fields of a check of this type. Who was `deaf` knows of no loss."""
    replies = [echo for echo in echoes if echo.rtt_s is not None]
    received = len(replies)
    fields: dict[str, Scalar] = {"sent": len(echoes), "received": received}
    if echoes and (received == len(echoes) or not deaf):
        fields["loss_ratio"] = round(1 - received / len(echoes), 4)
    if received:
        fields |= _times([echo.rtt_s for echo in echoes])
        fields["duplicates"] = sum(echo.duplicates for echo in echoes)
        fields["reordered"] = sum(echo.reordered for echo in echoes)
        fields["timestamping"] = min((echo.timestamping for echo in replies), key=TIMESTAMPING.index)
    return fields


def _times(every: Sequence[float | None]) -> dict[str, Scalar]:
    rtts = sorted(rtt for rtt in every if rtt is not None)
    fields: dict[str, Scalar] = {
        "rtt_min_s": rounded(rtts[0]),
        "rtt_mean_s": rounded(sum(rtts) / len(rtts)),
        "rtt_max_s": rounded(rtts[-1]),
    }
    steps = [abs(b - a) for a, b in pairwise(every) if a is not None and b is not None]
    if steps:
        fields["ipdv_s"] = rounded(sum(steps) / len(steps))
    if len(rtts) >= PERCENTILE_FROM:
        fields["rtt_p95_s"] = rounded(rtts[-(-len(rtts) * 95 // 100) - 1])
    return fields


def rounded(seconds: float) -> float:
    """Cut to microseconds: what kernel stamps are good for."""
    return round(seconds, 6)


def judged(echoes: Sequence[Echo], stopped: Failed | None, deaf: str) -> Failed | None:
    """Say why the run did not pass, None if it did.

    `stopped` is what kept us from sending all, `deaf` why silence proves nothing ("" = it does).
    """
    if any(echo.rtt_s is not None for echo in echoes):
        return None
    if deaf:
        return Failed(Failure.OVERLOAD, deaf)
    error = next((echo.error for echo in echoes if echo.error), None)
    if error:
        return failed_from_error(error)
    if stopped and (not echoes or stopped.failure is not Failure.OVERLOAD):
        return stopped
    return Failed(Failure.TIMEOUT, f"no reply to {len(echoes)} echo{'es' if len(echoes) != 1 else ''}")


def told(echo: Echo) -> str:
    """Explain one echo for `siteprobe check`."""
    if echo.rtt_s is not None:
        return f"echo {echo.sequence} answered after {echo.rtt_s * 1000:.3f} ms ({echo.timestamping})"
    if echo.error:
        return f"echo {echo.sequence}: ICMP {echo.error.icmp_type}/{echo.error.icmp_code} from {echo.error.responder}"
    return f"echo {echo.sequence} not answered"

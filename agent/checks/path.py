"""The `path` check, which routers the way to a target leads through."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from agent.check import TARGET_WORDS, CheckOptions, Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Failure, Layer, Scalar
from agent.net.trace import Trace
from agent.net.trace_packets import MOST_HOPS
from agent.net.ways import Known, Way, loop_in, way_of
from agent.options import Choice, Host, Number, option
from agent.safety import Permit

SPACING_S = 0.5
"""Between two packets (field.md 3.2, rule 7): routers answer such packets by their slow processor."""
LEAST_WAIT_S = 0.4
"""For the answer to a packet at the end of the time; with less none is sent any more."""
SILENT_HOPS = 4
"""So many silent hops in a row end a run: three routers that never answer, one behind the other, do happen."""
LAST_WAIT_S = 2.0
"""For the answers to the last packets; beyond a dead neighbour a router needs its own 3 s, from the first packet on."""
MARGIN_S = 0.05
"""We stop waiting this long before the deadline, so that what was found until then becomes the record."""
PORTS = {"icmp": None, "udp": 33434, "tcp": 443}
"""Where no port is written: 33434 is traceroute's own, which firewalls know."""
KNOWN = "path known"
TRACED = ("icmp", "tcp")
TRACE_S = MOST_HOPS * SPACING_S + LAST_WAIT_S


@dataclass(frozen=True, kw_only=True)
class Path(Check):
    """Lists the routers on the way to a target ("traceroute"), and tells when the way changes.

    It sends one packet a hop, half a second apart, each to live one hop longer, until the target answers; the
    router where one dies says so. It passes when the target answers. `hop_list` has `*` for a router that stays
    silent, which many do: that is no fault. All packets of all runs are one flow (the same ports, identifier and
    first bytes), so that routers which balance load send them all one way, and the list holds still.

    `path_id` names the way; it stays while no hop shows another address, so a router that is silent once does
    not change it. Another way is told once, as an event `path_changed` with the old and the new list: a line has
    failed over to its backup, or a carrier has changed its routing. What changes at every other run, because
    somebody sends packet by packet, is told no further.

    The ways to fail: `timeout`, four hops in a row stay silent; `hop_list` ends with the last router that
    answered, and the fault is behind it. `unreachable` or `prohibited`, a router said so (`responder`), or the
    packets go round in a loop. Not the target's fault and `unknown`: `overload`, the timeout ended before the
    way did (a run takes 0.5 s a hop: give long ways a longer `timeout`); `local_policy`, the way is longer than
    `max_hops`.

    By `tcp` it sends connection requests to `port`, which the target may log, and which our system resets at
    once; choose a port that a service of yours uses. `udp` and `tcp` need CAP_NET_RAW.
    """

    type: ClassVar[str] = "path"
    default_layer: ClassVar[Layer] = Layer.CARRIER
    default_interval_s: ClassVar[float] = 300.0
    least_interval_s: ClassVar[float] = 20.0
    main_field: ClassVar[str] = "hops"
    facts: ClassVar[Mapping[str, Fact]] = {
        "hops": Fact(int, "Hops to the target, or to the last router that answered."),
        "hop_list": Fact(str, "Their addresses in order, comma-joined; `*` for a silent one."),
        "path_id": Fact(str, "Short name of the way, the same while no hop shows another address."),
        "reached": Fact(bool, "Whether the target answered."),
        "transition": Fact(
            str, "`ep-seq` of the transition record on account of which the agent traced the way by itself."
        ),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {
        "hops": 4,
        "hop_list": "10.20.0.1,100.64.0.1,*,198.51.100.20",
        "path_id": "7c1e0b7a9f42",
        "reached": True,
    }

    target: str = option(Host(TARGET_WORDS), "Host to trace the way to.", example="198.51.100.20")
    protocol: str = option(Choice(("icmp", "udp", "tcp")), "What the packets are.", default="icmp")
    max_hops: int = option(Number(1, MOST_HOPS, whole=True), "Hops after which it gives up.", default=MOST_HOPS)
    port: int = option(
        Number(0, 65535, whole=True), "Port of udp or tcp; 0 is 33434 for udp, 443 for tcp.", default=0, example="443"
    )

    @property
    def asked_port(self) -> int | None:
        """The port that the packets go to; None for icmp."""
        default = PORTS[self.protocol]
        return default if default is None else self.port or default

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the packets: one a hop, at the most."""
        return (Traffic(self.target, self.protocol, self.asked_port, self.max_hops, whole_agent_only=True),)

    async def run(self, ctx: Context) -> Facts:
        """Trace the way once; see the class for the failures. A confirmation is one packet, to the target."""
        address = await ctx.resolve(self.target)
        permit = await self._permit(ctx, address)
        with Trace(permit, zlib.crc32(f"{self.name} {self.target}".encode())) as trace:
            failed = await (self._confirm if ctx.once else self._search)(ctx, trace, permit)
            if trace.reached is not None:
                failed = None
            elif failed is None:
                failed = _judged(trace)
            fields, more = ({"reached": trace.reached is not None}, ()) if ctx.once else _found(ctx, trace)
        if failed is None:
            return Facts(fields, address, more=more)
        return Facts({**fields, **failed.fields}, address, failed.failure, failed.detail, more)

    async def _confirm(self, ctx: Context, trace: Trace, permit: Permit) -> Failed | None:
        """Ask the target alone: one packet that lives long enough for it."""
        trace.send(permit, self.max_hops)
        await trace.wait(min(asyncio.get_running_loop().time() + LAST_WAIT_S, ctx.deadline - MARGIN_S))
        return None if trace.finished else Failed(Failure.TIMEOUT, "the target does not answer")

    async def _permit(self, ctx: Context, address: str) -> Permit:
        return await ctx.permit(address, self.asked_port, self.protocol, whole_agent_only=True)

    async def _search(self, ctx: Context, trace: Trace, permit: Permit) -> Failed | None:
        """Send hop after hop; gives what kept us from going on, None where the way itself ended."""
        loop = asyncio.get_running_loop()
        until = ctx.deadline - MARGIN_S
        for hops in range(1, self.max_hops + 1):
            began = loop.time()
            try:
                trace.send(permit, hops)
                await trace.wait(min(began + SPACING_S, until))
                if _ends(trace, hops):
                    break
                if hops == self.max_hops:
                    await self._last_wait(trace, until)
                    return _too_long(trace, self.max_hops)
                if loop.time() + LEAST_WAIT_S > until:
                    return _late(self, hops)
                permit = await self._permit(ctx, permit.address)
            except Failed as failed:
                return failed
        await self._last_wait(trace, until)
        return None

    async def _last_wait(self, trace: Trace, until: float) -> None:
        now = asyncio.get_running_loop().time()
        if not loop_in(trace.responders):
            wait_s = SPACING_S if trace.finished else LAST_WAIT_S
            await trace.wait(min(now + wait_s, until), for_all=True)


def _ends(trace: Trace, hops: int) -> bool:
    """Whether nothing is gained by looking further than this hop."""
    silent = hops - max(trace.responders, default=0)
    return trace.finished or silent >= SILENT_HOPS or bool(loop_in(trace.responders))


def _too_long(trace: Trace, hops: int) -> Failed | None:
    """Judge a search that has used up its hops: a router that answered last says that the way goes on."""
    if trace.finished or hops not in trace.responders or loop_in(trace.responders):
        return None
    return Failed(Failure.LOCAL_POLICY, f"the way is longer than max_hops, {hops}")


def _late(check: Path, hops: int) -> Failed:
    needed_s = check.max_hops * SPACING_S + LAST_WAIT_S
    sentence = f"the timeout ended at hop {hops}, before the way did; set timeout: {needed_s:g}s for this check"
    return Failed(Failure.OVERLOAD, sentence)


def _judged(trace: Trace) -> Failed | None:
    """Say why the target was not reached, None if it was."""
    if trace.reached is not None:
        return None
    if trace.failed:
        return trace.failed
    if found := loop_in(trace.responders):
        sentence = f"the packets go round in a loop between {' and '.join(found)}"
        return Failed(Failure.UNREACHABLE, sentence, responder=found[0])
    if not trace.responders:
        return Failed(Failure.TIMEOUT, "nobody on the way answers, not even the first hop")
    last = max(trace.responders)
    return Failed(Failure.TIMEOUT, f"silence behind hop {last}, {trace.responders[last]}")


More = tuple[tuple[str, Mapping[str, Scalar]], ...]


def _found(ctx: Context, trace: Trace) -> tuple[dict[str, Scalar], More]:
    """Write down the way: the record fields, and the event that tells of a change."""
    way = way_of(trace.responders, trace.reached)
    for hop in range(1, len(way.hops) + 1):
        ctx.say(f"hop {hop}: {_told(trace, hop)}")
    name, more = _compared(ctx, way, trace.target)
    return {"hops": len(way.hops), "hop_list": way.text, "path_id": name, "reached": way.reached}, more


def _compared(ctx: Context, way: Way, target: str) -> tuple[str | None, More]:
    """Hold a way against those before to the same address; gives its name, and the event that tells of a change."""
    if not way.hops:
        return None, ()
    known_target, before = ctx.memory.get(KNOWN, (target, Known()))
    if known_target != target:  # the name leads elsewhere now: that is no other way
        before = Known()
    known, changed = before.after(way)
    ctx.memory[KNOWN] = target, known
    if not changed or before.way is None:
        return known.id, ()
    detail = f"the way was {before.way.text} and is {way.text}"
    event = {"kind": "path_changed", "detail": detail, "old": before.way.text, "new": way.text}
    return known.id, (("event", event),)


def _told(trace: Trace, hop: int) -> str:
    if hop not in trace.responders:
        return "silent"
    return f"{trace.responders[hop]} after {trace.rtts_s[hop] * 1000:.1f} ms"


def trace_of(check: CheckOptions) -> Path | None:
    """Make the trace that the agent runs by itself; None where the check's protocol is not one to trace by."""
    if check.device_class == "medical":
        return None
    if isinstance(check, Path):
        return check
    traffic = next(iter(check.sends()), None)
    if traffic is None or traffic.protocol not in TRACED:
        return None
    return Path(
        name=check.name,
        target=traffic.destination,
        protocol=traffic.protocol,
        port=traffic.port or 0,
        layer=check.layer,
        group=check.group,
        timeout_s=TRACE_S,
    )

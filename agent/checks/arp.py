"""The `arp` check, which machine on our own network answers for an address, and whether it is only one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from agent.check import TARGET_WORDS, Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Failure, Layer, Scalar
from agent.net.arp import ArpEndpoint, Question
from agent.net.arp_wire import virtual_router
from agent.net.neighbours import Own, Way, ask_kernel, own_address, way_to
from agent.options import Host, ListOf, Text, option

SELF = "self"
LISTEN_S = 1.0
"""How long answers are collected: an impostor may be slower than the machine itself (field.md 2.2)."""
LISTENING = 0.5
"""The part of a short timeout that is kept for listening; the rest is for waiting for the budget."""
MARGIN_S = 0.05
"""We stop listening this long before the deadline, so that what was heard becomes the record."""
MOST_MACS = 16
"""More than these are a flood of made-up ones: the record names these, and the next question comes soon."""
MAC = Text(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}", "a MAC address such as 00:00:5e:00:01:07")


@dataclass(frozen=True, kw_only=True)
class Arp(Check):
    """Asks once, by broadcast, who has an address of our own network, and hears every answer for 1 s; RFC 826.

    It passes when one machine answers. That proves more than an echo: a host answers even where a firewall
    drops pings. IPv6 addresses are asked by neighbour solicitation, RFC 4861. `gateway` is the router of
    the default route; what lies behind it cannot be asked.

    The ways to fail: `timeout`, nobody has the address (off, gone, another VLAN). `duplicate_address`, two
    machines answer, so each of them is reached only by luck; an echo would not show it. `mismatch`, with
    `expect_mac`: only another machine than the expected answers: the answer is not one to our question
    (a second user of the address was not heard). Without `expect_mac`
    another MAC than at the last run is an event `address_moved`. A pair of routers (VRRP, HSRP) answers
    with one virtual MAC: expect that one; where members answer with their own, list them all.

    The target `self` is our own address (on the interface of the default route, IPv4 before IPv6): it is probed
    with an empty sender (RFC 5227, RFC 4862), which teaches nobody anything. It passes when nobody answers, and
    fails with `duplicate_address` when another machine does. It is asked again whenever the link comes up or
    the address changes. A router with local proxy ARP answers for every address: there it cannot be told.

    Only our real MAC and address are ever sent. All ARP of the agent together keeps to 1 a second in the mean
    and 5 in any second: switches turn a port off above 15. It needs CAP_NET_RAW.
    """

    type: ClassVar[str] = "arp"
    default_layer: ClassVar[Layer] = Layer.LAN
    default_interval_s: ClassVar[float] = 30.0
    least_interval_s: ClassVar[float] = 5.0
    default_timeout_s: ClassVar[float] = 2.0
    main_field: ClassVar[str] = "rtt_s"
    facts: ClassVar[Mapping[str, Fact]] = {
        "macs": Fact(str, "The MAC of each machine that answered, in the order heard, comma-joined."),
        "rtt_s": Fact(float, "Seconds to the first answer."),
        "ignored": Fact(int, "Answers about the address that were not well-formed, and not counted."),
        "dropped": Fact(int, "Answers that came too fast for the kernel to keep, meanwhile, about any address."),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {
        "macs": "00:00:5e:00:01:07",
        "rtt_s": 0.000214,
        "ignored": 0,
        "dropped": 0,
    }

    target: str = option(
        Host((*TARGET_WORDS, SELF)),
        "Neighbour to ask: an address, a name, or the word gateway, resolver or self (our own address).",
        example="gateway",
    )
    expect_mac: tuple[str, ...] = option(
        ListOf(MAC, single=True),
        "The only MACs that may answer, one or several; virtual ones of routers (VRRP, HSRP) too.",
        default=(),
        example="00:00:5e:00:01:07",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Hold the rules between the options; gives (key, reason)."""
        if self.target == SELF and self.expect_mac:
            yield "expect_mac", "our own address is to be answered by nobody; leave it out with target self"

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the one question."""
        return (Traffic(self.target, "arp", None, 1),)

    async def run(self, ctx: Context) -> Facts:
        """Ask and listen; see the class for the failures."""
        own = ask_kernel()
        address = own_address(own) if self.target == SELF else await ctx.resolve(self.target)
        ctx.address = address
        asked = await self._ask(ctx, address, way_to(address, own))
        if asked.way.source is None:
            return probed(asked, own, address)
        fields = measured(asked, asked.heard)
        failed = judged(address, tuple(asked.heard), tuple(plain(mac) for mac in self.expect_mac))
        if failed:
            return Facts(fields, address, failed.failure, failed.detail)
        changed = () if self.expect_mac else remembered(ctx, self.name, address, next(iter(asked.heard)))
        return Facts(fields, address, more=changed)

    async def _ask(self, ctx: Context, address: str, way: Way) -> Question:
        loop = asyncio.get_running_loop()
        listen_s = min(LISTEN_S, (ctx.deadline - loop.time()) * LISTENING)
        permit = await replace(ctx, deadline=ctx.deadline - listen_s).permit(address, None, "arp")
        until = min(loop.time() + listen_s, ctx.deadline - MARGIN_S)
        asked = await ctx.tools.get(ArpEndpoint).ask(permit, way, until)
        for mac, rtt_s in asked.heard.items():
            ctx.say(f"{named(mac)} answered after {rtt_s * 1000:.3f} ms on {way.interface}")
        if not asked.heard:
            ctx.say(f"nobody answered on {way.interface} within {listen_s:.1f} s")
        return asked


def plain(mac: str) -> str:
    """Write a MAC as records have it: small letters and colons."""
    return mac.lower().replace("-", ":")


def named(mac: str) -> str:
    """Write a MAC with the virtual router that it stands for, where it is one."""
    router = virtual_router(mac)
    return f"{mac} ({router})" if router else mac


def measured(asked: Question, heard: Mapping[str, float]) -> dict[str, Scalar]:
    """Write what was heard as record fields."""
    return {
        "macs": ",".join(list(heard)[:MOST_MACS]),
        "rtt_s": round(min(heard.values()), 6) if heard else None,
        "ignored": asked.ignored,
        "dropped": asked.dropped,
    }


def judged(address: str, macs: tuple[str, ...], expected: tuple[str, ...]) -> Failed | None:
    """Say why the answers for an address do not pass, None if they do."""
    strange = [mac for mac in macs if mac not in expected] if expected else list(macs[1:])
    told = " and ".join(named(mac) for mac in macs[:MOST_MACS])
    if not macs:
        return Failed(Failure.TIMEOUT, f"nobody has {address}: it is off, gone, or in another VLAN")
    if strange and len(macs) > 1:
        return Failed(
            Failure.DUPLICATE_ADDRESS,
            f"{len(macs)} machines answer for {address}: {told}; find their ports in the switch's MAC table",
        )
    if strange:
        return Failed(Failure.MISMATCH, f"{address} is answered by {told}, expected {' or '.join(expected)}")
    return None


def probed(asked: Question, own: Own, address: str) -> Facts:
    """Judge the answers to a probe of our own address: our own other interfaces may answer, nobody else."""
    strange = {mac: rtt_s for mac, rtt_s in asked.heard.items() if mac not in own.macs}
    fields = measured(asked, strange)
    if not strange:
        return Facts(fields, address)
    others = " and ".join(named(mac) for mac in list(strange)[:MOST_MACS])
    detail = f"{others} uses our own address {address} too; give one of the two another address"
    return Facts(fields, address, Failure.DUPLICATE_ADDRESS, detail)


def remembered(ctx: Context, name: str, address: str, mac: str) -> tuple[tuple[str, Mapping[str, Scalar]], ...]:
    """Keep who answered; gives an event where it was another machine at the last run."""
    before = ctx.memory.get("mac") if ctx.memory.get("address") == address else None
    ctx.memory |= {"address": address, "mac": mac}
    if before in (None, mac):
        return ()
    detail = f"{name}: {address} was {named(str(before))} and is now {named(mac)}"
    return (("event", {"kind": "address_moved", "detail": detail}),)

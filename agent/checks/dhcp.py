"""The `dhcp` check, who hands out addresses on our own network."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import ClassVar

from agent.check import Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Failure, Layer, Scalar
from agent.net import kernel
from agent.net.errors import failed_from_os_error
from agent.net.kernel import Interface
from agent.net.own_port import own_port
from agent.options import Host, ListOf, Text, is_address, option
from agent.packets import Offer, Offers, codec_child, discover
from agent.policy import EVERYONE

SERVER_PORT = 67
LISTEN_S = 3.0
"""All offers of this time count; where none came we wait on, for dnsmasq pings an address for 3 s beforehand."""
START_S = 1.0
"""Kept free for the start of the child (0.4 s here) and the way back; on a slower machine it listens less."""
LEAST_INTERVAL_S = 600.0
AHEAD_S = 5.0
"""A slot of the schedule may come this much early; more is a second question too soon."""
SENT = "sent_at"
NAMED_MOST = 4
"""So many servers are named in a sentence; `servers` has them all."""


@dataclass(frozen=True, kw_only=True)
class Dhcp(Check):
    """Asks for an address as a host that starts does (DHCP DISCOVER, RFC 2131), takes none, and lists who offers.

    One broadcast leaves, with the MAC of our own interface, the vendor class `siteprobe` and no host name; every
    OFFER of the next 3 s is collected (some servers need longer: where none came, the first one until the
    deadline). There is never a REQUEST, so nothing is leased. It passes when a server
    offers an address and none that is not listed in `expect_servers` does; without that list any server will do.

    The ways to fail: `no_answer`, nobody offered one: the server or the relay is dead, its pool is empty, or the
    switch port lets no DHCP through. `rogue`, a server that is not listed offered one, such as a home router that
    somebody plugged in: `address` is its own, `offered_router` shows where it leads. `servers` are the server
    identifiers, of the server itself also where a relay (`relay`) hands the offer on.

    A router or name server that is offered but is not the one this probe uses is told in `detail` and counted in
    `differences`. That is no fail, since a probe may be set up by hand; `degraded: {differences: 0}` makes it
    degraded. What is malformed or no offer to our question is counted in `ignored`.

    It is asked every 10 minutes at the most, also to confirm a fault: some switches close a port with much DHCP
    on it. It needs CAP_NET_RAW and runs in the packet helper, a process of its own that starts for it.
    """

    type: ClassVar[str] = "dhcp"
    default_layer: ClassVar[Layer] = Layer.DHCP
    default_interval_s: ClassVar[float] = 1800.0
    least_interval_s: ClassVar[float] = LEAST_INTERVAL_S
    default_timeout_s: ClassVar[float] = 5.0
    asked_again: ClassVar[bool] = False
    main_field: ClassVar[str] = "differences"
    facts: ClassVar[Mapping[str, Fact]] = {
        "servers": Fact(str, "Server identifiers of those that offered, comma-joined."),
        "offered_router": Fact(str, "Routers that they offered, comma-joined."),
        "offered_dns": Fact(str, "Name servers that they offered, comma-joined."),
        "relay": Fact(str, "Relay that handed an offer on; left out where the server itself was heard."),
        "offers": Fact(int, "Offers in all; a server may make several."),
        "ignored": Fact(int, "Packets to the DHCP client port that were no offer to our question, or malformed."),
        "differences": Fact(int, "Offered routers and name servers that are not among those this probe uses."),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {
        "servers": "10.20.0.1",
        "offered_router": "10.20.0.1",
        "offered_dns": "10.20.0.53,10.20.0.54",
        "offers": 1,
        "ignored": 0,
        "differences": 0,
    }

    expect_servers: tuple[str, ...] = option(
        ListOf(Host(), single=True),
        "Addresses (server identifiers) of the DHCP servers that may answer; any other is `rogue`.",
        default=(),
        example="[10.20.0.1]",
    )
    interface: str = option(
        Text(r"[^/\s]{1,15}", "the name of a network interface, at most 15 characters"),
        "Interface to ask on; left out, the one of the default route.",
        default="",
        example="eth0",
    )

    def problems(self) -> list[tuple[str, str]]:
        """Give what does not go together, as (option, reason)."""
        found = [("expect_servers", f"{s} is not an IPv4 address") for s in self.expect_servers if not is_ipv4(s)]
        if self.timeout_s < LISTEN_S + START_S:
            found.append(("timeout", f"offers are collected for {LISTEN_S:g} s; give it 4s or more"))
        return found

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the one broadcast."""
        return (Traffic(EVERYONE, "dhcp", SERVER_PORT, 1),)

    async def run(self, ctx: Context) -> Facts:
        """Ask once and judge the offers; see the class for the failures."""
        port = own_port(self.interface)
        found = await self._ask(ctx, port)
        try:
            routers = {gateway.gateway for gateway in kernel.default_gateways()}
        except OSError as error:
            raise failed_from_os_error(error) from error
        fields, different = measured(found, routers, set(kernel.name_servers()))
        servers = [offer.server for offer in found.offers]
        rogue = [server for server in servers if self.expect_servers and server not in self.expect_servers]
        for offer in found.offers:
            ctx.say(f"{offer.server} offers router {', '.join(offer.router)}, name servers {', '.join(offer.dns)}")
        address = (rogue or servers or [EVERYONE])[0]
        if not servers:
            return Facts(fields, address, Failure.NO_ANSWER, f"no DHCP server offered an address on {port.name}")
        if rogue:
            return Facts(fields, address, Failure.ROGUE, _strangers(rogue))
        return Facts(fields, address, detail=different)

    async def _ask(self, ctx: Context, port: Interface) -> Offers:
        """Send the DISCOVER unless one was sent a moment ago; the gate comes first."""
        loop = asyncio.get_running_loop()
        since_s = loop.time() - ctx.memory.get(SENT, -LEAST_INTERVAL_S)
        if since_s < LEAST_INTERVAL_S - AHEAD_S:
            detail = f"asked {since_s:.0f} s ago, and DHCP is asked once in {LEAST_INTERVAL_S:g} s at the most"
            raise Failed(Failure.LOCAL_POLICY, detail)
        permit = await ctx.permit(EVERYONE, SERVER_PORT, "dhcp")
        if ctx.deadline - loop.time() < LISTEN_S:
            raise Failed(Failure.OVERLOAD, "the packet budget left no time to collect offers; see safety")
        ctx.memory[SENT] = loop.time()
        child, broadcast = ctx.tools.get(codec_child), any(is_ipv4(a.partition("/")[0]) for a in port.addresses)
        return await discover(
            child,
            permit,
            port.name,
            port.mac,
            ctx.deadline,
            seconds=LISTEN_S,
            broadcast=broadcast,
        )


def is_ipv4(text: str) -> bool:
    """Tell whether the text is an IPv4 address."""
    return is_address(text) and ":" not in text


def measured(found: Offers, own_routers: set[str], own_dns: set[str]) -> tuple[dict[str, Scalar], str]:
    """Write the offers as record fields; beside them a sentence on what is not as this probe has it, or ""."""
    routers, dns = offered(found.offers, "router"), offered(found.offers, "dns")
    relays = dict.fromkeys(offer.relay for offer in found.offers if offer.relay)
    odd_routers, odd_dns = odd(routers, own_routers), odd(dns, own_dns)
    fields: dict[str, Scalar] = {
        "servers": ",".join(offer.server for offer in found.offers) or None,
        "offered_router": ",".join(routers) or None,
        "offered_dns": ",".join(dns) or None,
        "relay": ",".join(relays) or None,
        "offers": found.count,
        "ignored": found.ignored,
        "differences": len(odd_routers) + len(odd_dns),
    }
    said = [f"router {', '.join(odd_routers)}"] if odd_routers else []
    said += [f"name server {', '.join(odd_dns)}"] if odd_dns else []
    return fields, f"offered, but not used by this probe: {'; '.join(said)}" if said else ""


def offered(offers: Iterable[Offer], what: str) -> list[str]:
    """Collect the addresses of one kind over all offers, each once, in order."""
    return list(dict.fromkeys(address for offer in offers for address in getattr(offer, what)))


def odd(offered_ones: Iterable[str], own: set[str]) -> list[str]:
    """Give those that are not among our own; () where we have none of this kind to compare with (IPv4 only)."""
    ours = {address for address in own if is_ipv4(address) and not IPv4Address(address).is_loopback}
    return [address for address in offered_ones if address not in ours] if ours else []


def _strangers(servers: list[str]) -> str:
    """Say who offered an address unasked; a flood of invented servers does not fill the sentence."""
    if len(servers) == 1:
        return f"{servers[0]} is not listed and offered an address"
    more = f" and {len(servers) - NAMED_MOST} more" if len(servers) > NAMED_MOST else ""
    return f"{', '.join(servers[:NAMED_MOST])}{more} are not listed and offered addresses"

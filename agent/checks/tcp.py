"""The `tcp` check, whether something accepts connections on a port."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from agent.check import TARGET_WORDS, Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Scalar
from agent.net.streams import connect
from agent.options import Host, Number, option


@dataclass(frozen=True, kw_only=True)
class Tcp(Check):
    """Opens one TCP connection to a port and closes it again, without sending a byte.

    It passes when the connection is made: the host is up, the way there is open in both directions for
    this port, and something listens. It says nothing of what listens; `http` and `tls` look further.

    The ways to fail tell different faults apart. `refused`: the host is up and nothing listens (a
    stopped service), or a firewall answers for it. `timeout`: no answer at all, mostly a firewall that
    drops, or a host that is away. `unreachable` and `prohibited`: a router or firewall on the way
    said so; `responder` is its address, `icmp_type` and `icmp_code` are its words. `reset`: broken off
    while connecting.

    A dead host behind a router is reported by that router only after about 3 s: with a timeout below
    4 s it looks as if a firewall dropped the packets. The default is 5 s.

    Some programs log each connection without data as an error, and some accept only one at a time: ask
    the owner first. Printer ports (9100, 515, 631), S7 (102), Modbus (502) and HL7 (2575) are refused.
    """

    type: ClassVar[str] = "tcp"
    main_field: ClassVar[str] = "connect_s"
    facts: ClassVar[Mapping[str, Fact]] = {
        "connect_s": Fact(float, "Seconds from the request to the established connection."),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {"connect_s": 0.0121}

    target: str = option(Host(TARGET_WORDS), "Host to connect to.", example="198.51.100.1")
    port: int = option(Number(1, 65535, whole=True), "TCP port to connect to.", example="443")

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the one connection."""
        return (Traffic(self.target, "tcp", self.port, 1),)

    async def run(self, ctx: Context) -> Facts:
        """Connect and close; see the class for the failures."""
        address = await ctx.resolve(self.target)
        try:
            permit = await ctx.permit(address, self.port, "tcp")
            async with aclosing(await connect(permit, ctx.deadline)) as stream:
                ctx.say(f"connected to {address} port {self.port} in {stream.connect_s:.4f} s")
                return Facts({"connect_s": stream.connect_s}, address)
        except Failed as failed:
            return Facts(failed.fields, address, failed.failure, failed.detail)

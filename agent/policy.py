"""What may be asked at all: networks, ports and classes. Pure; used by the config and by the gate.

After field.md 3.2: only what the config names is asked, `deny` always wins, and some ports are
never touched because a bare connect can print a page, hang a queue or stop a machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from agent.options import ListOf, Net, Number, option

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

REFUSED_TCP_PORTS = {
    9100: "a raw printer port: a connect can print a page",
    515: "a printer queue: a connect can hang it",
    631: "a printer queue: a connect can hang it",
    102: "an industrial controller (S7)",
    502: "an industrial controller (Modbus)",
    2575: "an HL7 listener: one connect can lock out the real sender; only type mllp may ask it",
}
MLLP_PORT = 2575
ARP_PER_SECOND, ARP_BURST = 1.0, 4
"""Of the whole agent: 1/s in the mean and, a burst and the mean together, 5 in any second (contract, section 1).
A switch with Dynamic ARP Inspection turns a port off at 15/s, and our kernel's own ARP comes on top."""


RATE = Number(0, 100_000)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What may be asked, and how fast. Loopback addresses are not rated. 0 lifts a limit."""

    allow: tuple[Network, ...] = option(
        ListOf(Net()),
        "Only these networks are asked; empty = no fence.",
        default=(),
        example="[10.20.0.0/16, 198.51.100.0/24, 203.0.113.0/24]",
    )
    deny: tuple[Network, ...] = option(
        ListOf(Net()), "Never asked, whatever else is written (clinical VLANs).", default=(), example="[10.20.99.0/24]"
    )
    packets_per_second: float = option(RATE, "Requests a second of the whole agent.", default=20)
    burst: float = option(RATE, "Requests that the whole agent may send at once.", default=40)
    target_per_second: float = option(RATE, "Requests a second to one target.", default=1)
    target_burst: float = option(RATE, "Requests that one target may get at once.", default=20)


@lru_cache(maxsize=4096)
def parsed(address: str) -> Address:
    """Read an address once; an IPv4 address written as IPv6 (::ffff:a.b.c.d) is judged as IPv4."""
    found = ip_address(address.partition("%")[0])
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def is_loopback(address: str) -> bool:
    """Tell whether traffic to the address never leaves this machine's loopback."""
    return parsed(address).is_loopback


EVERYONE = "255.255.255.255"


def forbidden_address(policy: Policy, address: str, protocol: str = "") -> str | None:
    """Say why nothing may be sent to the address, or None if it may.

    A DHCP question goes to everyone on the own link, as every host's does: `allow` is no matter there.
    """
    found = parsed(address)
    for network in policy.deny:
        if found in network:
            return f"{address} is in safety.deny ({network})"
    if protocol == "dhcp" and address == EVERYONE:
        return None
    if policy.allow and not any(found in network for network in policy.allow):
        return f"{address} is outside safety.allow"
    if found.is_multicast or found.is_unspecified or address == EVERYONE:
        return f"{address} is not the address of one machine"
    return None


def forbidden_port(protocol: str, port: int | None, check_type: str = "") -> str | None:
    """Say why the port may not be asked, or None if it may. Only TCP ports are refused."""
    if protocol != "tcp" or port not in REFUSED_TCP_PORTS or (port == MLLP_PORT and check_type == "mllp"):
        return None
    return f"TCP port {port} is never asked: {REFUSED_TCP_PORTS[port]}"

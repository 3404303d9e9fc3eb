"""The questions of the service to the packet child, with values instead of lines."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agent.model import Failed, Failure
from agent.packets.child import PacketChild
from agent.safety import Permit

ANSWER_S = 0.2
"""Kept free after listening for the way back from the child."""
DHCP = "dhcp"
"""The protocol of the permit that a DISCOVER needs."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What one DHCP server offered; `relay` is "" where the server itself was heard."""

    server: str
    router: tuple[str, ...]
    dns: tuple[str, ...]
    relay: str


@dataclass(frozen=True, slots=True)
class Offers:
    """The first offer of each server, how many offers came in all, and how many other packets were ignored."""

    offers: tuple[Offer, ...]
    count: int
    ignored: int


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Who is at the other end of our cable; `vlan` is None where it does not say. `protocol` is lldp or cdp."""

    protocol: str
    switch: str
    port: str
    vlan: int | None
    chassis: str

    @property
    def key(self) -> str:
        """Name it as the child does, to know it again."""
        return "|".join(str(part) for part in (self.protocol, self.chassis, self.switch, self.port, self.vlan))


async def discover(
    child: PacketChild,
    permit: Permit,
    interface: str,
    mac: str,
    deadline: float,
    *,
    seconds: float,
    broadcast: bool,
) -> Offers:
    """Send one DISCOVER to where the permit says and collect the offers for so long. Raises `Failed`.

    Where none came, it waits for the first one nearly until the deadline. `broadcast` asks the servers to broadcast
    their offers: an interface with an address of its own would refuse a unicast one by ICMP.
    """
    if permit.protocol != DHCP or permit.port is None:
        raise ValueError(f"a DISCOVER needs a permit for dhcp, not {permit.protocol}")
    found = await child.ask(
        "discover",
        deadline,
        interface=interface,
        mac=mac,
        broadcast=broadcast,
        address=permit.address,
        port=permit.port,
        seconds=seconds,
        until=deadline - ANSWER_S,
    )
    with _understood():
        return Offers(tuple(_offer(offer) for offer in found["offers"]), found["count"], found["ignored"])


def _offer(found: dict[str, Any]) -> Offer:
    return Offer(found["server"], tuple(found["router"]), tuple(found["dns"]), found["relay"])


@contextmanager
def _understood() -> Iterator[None]:
    """Take an answer of another form for a fault of the child: it reads what strangers send, so it may be theirs."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        detail = f"the packet helper gave an answer of another form ({type(error).__name__})"
        raise Failed(Failure.INTERNAL, detail) from None


async def neighbours(
    child: PacketChild, interface: str, deadline: float, *, seconds: float, known: str = ""
) -> tuple[Neighbour, ...]:
    """Listen for LLDP and CDP for so long, or until the `known` one (`Neighbour.key`) is heard; best first.

    Sends nothing. Raises `Failed`.
    """
    found = await child.ask("neighbours", deadline, interface=interface, seconds=seconds, known=known)
    with _understood():
        return tuple(Neighbour(**neighbour) for neighbour in found["neighbours"])


async def listened(
    child: PacketChild,
    interface: str,
    deadline: float,
    *,
    key: bytes,
    own: Collection[str],
    gateways: Collection[str],
    known: Collection[str],
    keep_s: float,
) -> dict[str, Any]:
    """Give what the passive listener heard since the last call (see `listening`), and have it go on for `keep_s`.

    Sends nothing. `key` is for the hashes of addresses that are not in `own`, `gateways` or `known`. Raises `Failed`.
    """
    return await child.ask(
        "listened",
        deadline,
        keep_s=keep_s,
        interface=interface,
        key=key.hex(),
        own=sorted(own),
        gateways=sorted(gateways),
        known=sorted(known),
        listen_s=keep_s,
    )

"""Which way a neighbour is asked: over which interface of ours, and with which address as sender. No packet leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from agent.model import Failed, Failure
from agent.net import kernel
from agent.net.errors import failed_from_os_error
from agent.net.kernel import Gateway, Interface
from agent.policy import Address, parsed


@dataclass(frozen=True, slots=True)
class Way:
    """The interface by name, its real MAC, and our address there; `source` None is a probe for our own address."""

    interface: str
    mac: bytes
    source: Address | None


@dataclass(frozen=True, slots=True)
class Own:
    """Our interfaces and default routes at one moment."""

    interfaces: Sequence[Interface]
    gateways: Sequence[Gateway]

    @property
    def macs(self) -> frozenset[str]:
        """The MACs of all interfaces of this machine."""
        return frozenset(interface.mac for interface in self.interfaces if interface.mac)


def ask_kernel() -> Own:
    """Look at our own interfaces now; raises `Failed` where the kernel does not say."""
    try:
        return Own(kernel.interfaces(), kernel.default_gateways())
    except OSError as error:
        raise failed_from_os_error(error) from error


def way_to(target: str, own: Own) -> Way:
    """Find the way to a neighbour; the target may be our own address.

    Raises `Failed`: local_route (no neighbour of ours), local_link, local_address.
    """
    address, zone = parsed(target), target.partition("%")[2]
    interface = _at(address, zone, own)
    if interface is None:
        networks = ", ".join(str(n.network) for i in own.interfaces if not i.loopback for n in _networks(i.usable))
        raise Failed(
            Failure.LOCAL_ROUTE,
            f"{target} is no neighbour: it is in none of our own networks ({networks or 'there is none'}); "
            "ask it with type icmp",
        )
    _must_work(interface, target)
    if any(address == network.ip for network in _networks(interface.addresses)):
        return Way(interface.name, bytes.fromhex(interface.mac.replace(":", "")), None)
    return Way(interface.name, bytes.fromhex(interface.mac.replace(":", "")), _source(interface, address))


def own_address(own: Own) -> str:
    """Choose the address that others know us by: on the interface of the default route, IPv4 before IPv6.

    Raises `Failed`: local_link, local_address.
    """
    routed = [i for gateway in own.gateways for i in own.interfaces if i.name == gateway.interface]
    wired = [i for i in (*routed, *own.interfaces) if i.ethernet and not i.loopback]
    if not wired:
        raise Failed(Failure.LOCAL_LINK, "this machine has no Ethernet or Wi-Fi interface; look at `ip link`")
    best = next((i for i in wired if i.usable), wired[0])
    _must_work(best, "our own address")
    found = sorted(_networks(best.usable), key=lambda network: network.version)
    if not found:
        raise Failed(Failure.LOCAL_ADDRESS, f"{best.name} has no IP address beyond its own link; look at DHCP")
    return str(found[0].ip)


def _at(address: Address, zone: str, own: Own) -> Interface | None:
    """Take the interface that the zone names, else the one with the narrowest network round the address."""

    def named(wanted: str) -> Interface | None:
        return next((interface for interface in own.interfaces if interface.name == wanted), None)

    if zone:
        return named(zone)
    around = [(n.network.prefixlen, i) for i in own.interfaces for n in _networks(i.addresses) if address in n.network]
    narrowest = max(around, key=lambda pair: pair[0])[1] if around else None
    # A gateway may lie outside of every own network (`onlink`); a link-local address is in all of them.
    routed = next((g.interface for g in own.gateways if g.gateway.partition("%")[0] == str(address)), "")
    return named(routed) or narrowest if address.is_link_local else narrowest or named(routed)


def _networks(texts: Iterable[str]) -> list[IPv4Interface | IPv6Interface]:
    return [ip_interface(text) for text in texts]


def _must_work(interface: Interface, what: str) -> None:
    if not interface.ethernet or interface.loopback:
        raise Failed(Failure.LOCAL_ROUTE, f"{what} lies behind {interface.name}, which is no Ethernet: it has no MAC")
    if not interface.admin_up:
        raise Failed(
            Failure.LOCAL_LINK, f"{interface.name} is switched off; switch it on with `ip link set {interface.name} up`"
        )
    if not interface.carrier:
        raise Failed(Failure.LOCAL_LINK, f"{interface.name} has no carrier: look at the cable and the switch port")


def _source(interface: Interface, target: Address) -> Address:
    found = [n for n in _networks(interface.addresses) if n.version == target.version]
    near = [n for n in found if target in n.network] or found
    if not near:
        raise Failed(
            Failure.LOCAL_ADDRESS,
            f"{interface.name} has no IPv{target.version} address to ask {target} from; look at `ip address`",
        )
    return near[0].ip

"""The `link` check, whether this machine itself is connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from agent.check import Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Failure, Layer, Scalar
from agent.net import kernel
from agent.net.errors import failed_from_os_error
from agent.net.kernel import Gateway, Interface
from agent.options import Text, option

DIRECT = "direct"
"""In place of a gateway's address, where the default route is a line without one (such as ppp0)."""


@dataclass(frozen=True, kw_only=True)
class Link(Check):
    """Asks the kernel whether the network interface is connected, has an address and a default route.

    It sends nothing. It looks at the interface of the default route; where there is none, at the one that had
    it last, else at the first wired or wireless one of this machine; or at the one named in `interface`. Of the
    others only `others` tells; where one of them matters, it deserves a check of its own.

    The kernel wakes the agent: a changed link, address or default route is an event, and has this check run at
    once, so a cut cable is the verdict within 5 s.

    The ways to fail, the first that holds: `local_link`, the interface is missing, switched off
    (`admin_up` false) or has no carrier (`admin_up` true, `link_up` false: cable, switch port);
    `local_address`, it has no IPv4 or IPv6 address beyond its own link (DHCP gave none, or duplicate
    address detection refused it); `local_route`, this machine has no default route.
    """

    type: ClassVar[str] = "link"
    default_layer: ClassVar[Layer] = Layer.LINK
    default_interval_s: ClassVar[float] = 30.0
    least_interval_s: ClassVar[float] = 5.0
    main_field: ClassVar[str] = "rx_errors"
    facts: ClassVar[Mapping[str, Fact]] = {
        "interface": Fact(str, "The interface looked at."),
        "link_up": Fact(bool, "Whether it is switched on and has a carrier."),
        "admin_up": Fact(bool, "Whether it is switched on."),
        "speed_bits_per_s": Fact(int, "Its speed, bits per second; left out where the driver does not know."),
        "duplex": Fact(str, "Its duplex; left out where the driver does not know."),
        "addresses": Fact(str, "Its addresses with their prefixes, comma-joined."),
        "default_route": Fact(
            str, "The gateways, comma-joined, `direct` for a line without one; left out if there is none."
        ),
        "rx_errors": Fact(int, "Receive errors that the kernel counted since the interface came up."),
        "tx_errors": Fact(int, "Send errors that the kernel counted since the interface came up."),
        "rx_dropped": Fact(int, "Packets that arrived whole and were dropped, such as for want of room."),
        "tx_dropped": Fact(int, "Packets that were dropped before they were sent."),
        "carrier_changes": Fact(int, "How often the carrier came or went since the interface was made."),
        "signal_dbm": Fact(
            float, "Signal of the Wi-Fi, dBm; -50 is strong, -80 hardly usable. Left out without Wi-Fi."
        ),
        "others": Fact(
            str, "The other real interfaces with `up` or `down`, comma-joined; left out where there are none."
        ),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {
        "interface": "eth0",
        "link_up": True,
        "admin_up": True,
        "speed_bits_per_s": 1_000_000_000,
        "duplex": "full",
        "addresses": "10.20.0.10/24,fe80::ff:fe00:1/64",
        "default_route": "10.20.0.1",
        "rx_errors": 0,
        "tx_errors": 0,
        "rx_dropped": 12,
        "tx_dropped": 0,
        "carrier_changes": 2,
        "others": "wlan0 down",
    }

    interface: str = option(
        Text(r"[^/\s]{1,15}", "the name of a network interface, at most 15 characters"),
        "Interface to look at; left out, the one of the default route.",
        default="",
        example="eth0",
    )

    def sends(self) -> tuple[Traffic, ...]:
        """Declare nothing: the kernel is asked, not the network."""
        return ()

    async def run(self, ctx: Context) -> Facts:
        """Ask the kernel; see the class for the failures."""
        try:
            found, gateways = kernel.interfaces(), kernel.default_gateways()
        except OSError as error:
            raise failed_from_os_error(error) from error
        interface = chosen(self.interface, found, gateways, ctx.memory.get("interface", ""))
        if interface is None:
            return missing(self.interface, found)
        if gateways:
            ctx.memory["interface"] = interface.name
        failed = judged(interface, gateways)
        fields = measured(interface, gateways) | {"others": others(interface, found)}
        if failed is None:
            return Facts(fields)
        return Facts(fields, failure=failed.failure, detail=failed.detail)


def chosen(name: str, found: Sequence[Interface], gateways: Sequence[Gateway], last: str = "") -> Interface | None:
    """Take the interface of that name; without a name that of the default route, else the `last` or first real one."""
    wanted = name or next((gateway.interface for gateway in gateways), "")
    if wanted:
        return next((interface for interface in found if interface.name == wanted), None)
    real = [interface for interface in found if interface.ethernet and not interface.loopback]
    if had_route := [interface for interface in real if interface.name == last]:
        return had_route[0]
    # Hardware has no kind; a pair end (veth) is what stands for it in a container or namespace.
    return min(real, key=lambda i: (("", "veth").index(i.kind) if i.kind in ("", "veth") else 2, i.index), default=None)


def missing(name: str, found: Sequence[Interface]) -> Facts:
    """Report that there is no interface to look at: it is not switched off, `admin_up` is left out."""
    others = ", ".join(interface.name for interface in found if not interface.loopback) or "none"
    what = f"there is no interface {name}" if name else "this machine has no network interface"
    fields: dict[str, Scalar] = {"interface": name, "link_up": False}
    return Facts(fields, failure=Failure.LOCAL_LINK, detail=f"{what} (found: {others}); look at `ip link`")


def measured(interface: Interface, gateways: Sequence[Gateway]) -> dict[str, Scalar]:
    """Write what the kernel knows as record fields."""
    return {
        "interface": interface.name,
        "link_up": interface.up,
        "admin_up": interface.admin_up,
        "speed_bits_per_s": interface.speed_bits_per_s,
        "duplex": interface.duplex or None,
        "addresses": ",".join(interface.addresses),
        "default_route": ",".join(dict.fromkeys(g.gateway or DIRECT for g in gateways)) or None,
        "rx_errors": interface.rx_errors,
        "tx_errors": interface.tx_errors,
        "rx_dropped": interface.rx_dropped,
        "tx_dropped": interface.tx_dropped,
        "carrier_changes": interface.carrier_changes,
        "signal_dbm": interface.signal_dbm,
    }


def others(interface: Interface, found: Sequence[Interface]) -> str | None:
    """Name the other real interfaces, each with whether it is up; None where there are none."""
    real = [i for i in found if i.ethernet and not i.loopback and not i.kind and i.name != interface.name]
    return ",".join(f"{i.name} {'up' if i.up else 'down'}" for i in real) or None


def judged(interface: Interface, gateways: Sequence[Gateway]) -> Failed | None:
    """Say what is wrong with the connection, None if it is whole."""
    name = interface.name
    if not interface.admin_up:
        return Failed(Failure.LOCAL_LINK, f"{name} is switched off; switch it on with `ip link set {name} up`")
    if not interface.carrier:
        return Failed(Failure.LOCAL_LINK, f"{name} has no carrier: look at the cable and the switch port")
    if not interface.usable:
        return Failed(Failure.LOCAL_ADDRESS, f"{name} has no IP address beyond its own link; look at DHCP")
    if not gateways:
        return Failed(Failure.LOCAL_ROUTE, "this machine has no default route; look at `ip route` and DHCP")
    return None

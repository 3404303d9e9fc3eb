"""What the kernel knows of our own connection, asked with zero packets: links, addresses, routes, name servers.

From rtnetlink, and from sysfs where rtnetlink has no word for it (speed, duplex, wireless).
Each call asks anew: an address or a route can change at any moment.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from agent.net import netlink
from agent.options import is_address

SYSFS = Path("/sys/class/net")
WIRELESS = Path("/proc/net/wireless")
RESOLV_CONF = Path("/etc/resolv.conf")
SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")
SYSTEMD_STUBS = frozenset({"127.0.0.53", "127.0.0.54"})
"""systemd-resolved's own addresses: they stand for the servers named in SYSTEMD_RESOLV_CONF."""
NO_SIGNAL_DBM = -256.0  # linux/wireless.h: the level is a signed byte with 0x100 taken off
BITS_PER_MEGABIT = 1_000_000  # sysfs gives megabits per second


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface of this machine.

    `kind` is the kernel's word for a virtual one (bridge, vlan, veth…), "" for hardware;
    `addresses` are written with their prefix, `usable` is the part that may be used as a source
    beyond the own link; `speed_bits_per_s` is None and `duplex` "" where the driver does not know,
    `signal_dbm` is None without Wi-Fi. Errors, drops and changes of the carrier are counted since boot.
    """

    name: str
    index: int
    kind: str
    ethernet: bool
    loopback: bool
    wireless: bool
    admin_up: bool
    carrier: bool
    mac: str
    mtu: int
    speed_bits_per_s: int | None
    duplex: str
    addresses: tuple[str, ...]
    usable: tuple[str, ...]
    rx_errors: int
    tx_errors: int
    rx_dropped: int = 0
    tx_dropped: int = 0
    carrier_changes: int = 0
    signal_dbm: float | None = None

    @property
    def up(self) -> bool:
        """Whether it is switched on and has a carrier."""
        return self.admin_up and self.carrier


@dataclass(frozen=True, slots=True)
class Gateway:
    """One default route of the main table; `gateway` is "" for a direct line (such as ppp0)."""

    gateway: str
    interface: str
    metric: int


def interfaces() -> tuple[Interface, ...]:
    """List the interfaces in the order of their index, loopback included. Raises OSError."""
    found = netlink.links(netlink.dump(netlink.RTM_GETLINK, netlink.LINK.pack(0, 0, 0, 0, 0)))
    own, signals = _addresses(), parse_signals(_read(WIRELESS))
    return tuple(_interface(link, own, signals) for link in sorted(found, key=lambda link: link.index))


def default_gateways() -> tuple[Gateway, ...]:
    """List the default routes, IPv4 before IPv6, lowest metric first. Raises OSError.

    A link-local gateway carries its interface, as in `fe80::1%eth0`.
    """
    found = netlink.default_routes(netlink.dump(netlink.RTM_GETROUTE, netlink.ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)))
    return tuple(_gateway(route) for route in found)


def own_addresses() -> frozenset[str]:
    """Give every address of this machine, without prefix. Raises OSError."""
    return frozenset(address.address for address in _addresses())


def name_servers(etc: Path = RESOLV_CONF, systemd: Path = SYSTEMD_RESOLV_CONF) -> tuple[str, ...]:
    """List the configured name servers in order; () where the file is missing or names none."""
    found = parse_name_servers(_read(etc))
    if found and SYSTEMD_STUBS.issuperset(found):
        return parse_name_servers(_read(systemd)) or found
    return found


def parse_name_servers(text: str) -> tuple[str, ...]:
    """Read the addresses of the `nameserver` lines of resolv.conf(5), each once."""
    words = [line.split() for line in text.splitlines()]
    named = [w[1] for w in words if len(w) > 1 and w[0] == "nameserver" and is_address(w[1])]
    return tuple(dict.fromkeys(named))


def _addresses() -> tuple[netlink.LinkAddress, ...]:
    return netlink.addresses(netlink.dump(netlink.RTM_GETADDR, netlink.ADDRESS.pack(0, 0, 0, 0, 0)))


def _interface(link: netlink.Link, every: tuple[netlink.LinkAddress, ...], signals: Mapping[str, float]) -> Interface:
    own = [address for address in every if address.index == link.index]
    return Interface(
        name=link.name,
        index=link.index,
        kind=link.kind,
        ethernet=link.ethernet,
        loopback=link.loopback,
        wireless=(SYSFS / link.name / "wireless").exists() or (SYSFS / link.name / "phy80211").exists(),
        admin_up=link.admin_up,
        carrier=link.carrier,
        mac=link.mac,
        mtu=link.mtu,
        speed_bits_per_s=parse_speed(_read(SYSFS / link.name / "speed")),
        duplex=parse_duplex(_read(SYSFS / link.name / "duplex")),
        addresses=tuple(f"{a.address}/{a.prefix}" for a in own),
        usable=tuple(f"{a.address}/{a.prefix}" for a in own if a.usable and _reaches_beyond(a.address)),
        rx_errors=link.rx_errors,
        tx_errors=link.tx_errors,
        rx_dropped=link.rx_dropped,
        tx_dropped=link.tx_dropped,
        carrier_changes=link.carrier_changes,
        signal_dbm=signals.get(link.name),
    )


def _reaches_beyond(address: str) -> bool:
    found = ip_address(address)
    return not (found.is_link_local or found.is_loopback)


def parse_speed(text: str) -> int | None:
    """Read the speed of sysfs into bits per second; None for "unknown" (-1, or no file)."""
    megabits = int(text) if text.strip().isdigit() else 0
    return megabits * BITS_PER_MEGABIT or None


def parse_duplex(text: str) -> str:
    """Read the duplex of sysfs: full, half, or "" where it is unknown."""
    word = text.strip()
    return word if word in ("full", "half") else ""


def parse_signals(text: str) -> dict[str, float]:
    """Read the signal of each Wi-Fi interface in dBm out of /proc/net/wireless, as proc(5) and iwconfig(8) have it.

    A level that is no dBm is left out: 0 and above is a driver's own scale, -256 means not connected.
    """
    found = {}
    for line in text.splitlines():
        # ` wlan0: 0000   54.  -56.  -256 …`: status, link quality, level, noise; `.` marks a fresh value
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) > 2 and re.fullmatch(r"-[0-9]+\.?", words[2]) and float(words[2]) > NO_SIGNAL_DBM:
            found[name.strip()] = float(words[2])
    return found


def _gateway(route: netlink.Route) -> Gateway:
    try:
        name = socket.if_indextoname(route.index)
    except OSError:  # it went away since the dump
        name = ""
    local = ":" in route.gateway and ip_address(route.gateway).is_link_local
    return Gateway(f"{route.gateway}%{name}" if local else route.gateway, name, route.metric)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # sysfs answers EINVAL for a link that is down: not known
        return ""

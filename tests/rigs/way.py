"""A way of routers in namespaces: probe - r1 - r2 - r3 - host, with IPv4 and IPv6, and what may be wrong on it.

    with Net() as net:
        way = Way(net)
        found = way.ask("path.Path(name='a', target='10.4.0.2')")

Link n is 10.n.0.0/24 and fd0n::/64; the nearer end is .1 (fd0n::1) but for the probe, which is 10.1.0.2.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.rigs.ask import ask_inside
from tests.rigs.netns import Net

HOST, HOST_6 = "10.4.0.2", "fd04::2"
HOPS = ("10.1.0.1", "10.2.0.2", "10.3.0.2", HOST)
HOPS_6 = ("fd01::1", "fd02::2", "fd03::2", HOST_6)


class Way:
    """The namespaces by name, and the check run in the probe's."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.probe, self.host = net.add("probe"), net.add("host")
        self.r1, self.r2, self.r3 = (net.add(name, router=True) for name in ("r1", "r2", "r3"))
        net.wire(self.probe, "eth0", self.r1, "near")
        net.wire(self.r1, "far", self.r2, "near")
        net.wire(self.r2, "far", self.r3, "near")
        net.wire(self.r3, "far", self.host, "eth0")
        for namespace, device, number, end in (
            (self.probe, "eth0", 1, 2),
            (self.r1, "near", 1, 1),
            (self.r1, "far", 2, 1),
            (self.r2, "near", 2, 2),
            (self.r2, "far", 3, 1),
            (self.r3, "near", 3, 2),
            (self.r3, "far", 4, 1),
            (self.host, "eth0", 4, 2),
        ):
            net.address(namespace, device, f"10.{number}.0.{end}/24", f"fd0{number}::{end}/64")
        for namespace, to, via in (
            (self.probe, "default", "1:1"),
            (self.r1, "4", "2:2"),
            (self.r1, "3", "2:2"),
            (self.r2, "4", "3:2"),
            (self.r2, "1", "2:1"),
            (self.r3, "default", "3:1"),
            (self.host, "default", "4:1"),
        ):
            link, gate = via.split(":")
            four, six = ("default", "default") if to == "default" else (f"10.{to}.0.0/24", f"fd0{to}::/64")
            net.route(namespace, four, "via", f"10.{link}.0.{gate}")
            net.ip("-n", namespace, "-6", "route", "add", six, "via", f"fd0{link}::{gate}")
        for namespace in (self.r1, self.r2, self.r3, self.host):
            # Without the limit on ICMP errors to one place: the tests ask more often than a site does.
            net.sysctl(namespace, "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")

    def lengthen(self, delay_s: float, reorder_ratio: float = 0.0, hold_s: float = 0.0) -> None:
        """Put a long line between the first and the second router; see tests/rigs/relay.py."""
        line = self.net.add("line")
        self.net.ip("-n", self.r1, "link", "del", "far")
        self.net.wire(self.r1, "far", line, "one")
        self.net.wire(line, "other", self.r2, "near")
        self.net.address(self.r1, "far", "10.2.0.1/24", "fd02::1/64")
        self.net.address(self.r2, "near", "10.2.0.2/24", "fd02::2/64")
        for to in (3, 4):
            self.net.route(self.r1, f"10.{to}.0.0/24", "via", "10.2.0.2")
            self.net.route(self.r1, f"fd0{to}::/64", "via", "fd02::2")
        self.net.route(self.r2, "10.1.0.0/24", "via", "10.2.0.1")
        self.net.route(self.r2, "fd01::/64", "via", "fd02::1")
        relay = (sys.executable, "-m", "tests.rigs.relay", "one", "other", "--delay", str(delay_s))
        self.net.start(line, *relay, "--reorder", str(reorder_ratio), "--hold", str(hold_s))

    def ask(self, check: str, *, under: tuple[str, ...] = (), **policy: Any) -> dict[str, Any]:
        """Run a check in the probe's namespace; see `ask_inside`."""
        return ask_inside(self.probe, check, under=under, **policy)

    def ask_together(self, checks: list[str]) -> list[dict[str, Any]]:
        """Run several checks at the same time in one process in the probe's namespace."""
        module = checks[0].partition(".")[0]
        code = (
            f"import asyncio, json; from agent.checks import {module}; from tests.rigs.ask import ask_at_once, as_dict;"
            f"print(json.dumps([as_dict(found) for found in ask_at_once([{', '.join(checks)}])]))"
        )
        found: list[dict[str, Any]] = json.loads(self.net.run(self.probe, sys.executable, "-c", code))
        return found

    def do(self, namespace: str, command: str) -> str:
        """Run a command in a namespace."""
        return self.net.run(namespace, *command.split())

"""The `dhcp` check against real DHCP servers (dnsmasq) and a hostile one, and what it puts on the wire."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.packets.dhcp import MOST_READ, MOST_SERVERS
from tests.rigs import need
from tests.rigs.ask import ask_inside
from tests.rigs.netns import ROOT, Net

WIRE = (sys.executable, "-I", "-S", str(ROOT / "tests/rigs/dhcp_wire.py"))
# Root without any other capability: what the unit file gives the service.
ONLY_RAW = ("setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all")
NOTHING = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
WAIT_S = 20.0


class Lan:
    """A switch with the probe and two other machines on it; the gateway hears what comes from the probe."""

    def __init__(self, net: Net, folder: Path) -> None:
        self.net, self.folder = net, folder
        self.dnsmasq = need.tool("dnsmasq")
        self.switch, self.probe = net.add("switch"), net.add("probe")
        self.gateway, self.other = net.add("gateway"), net.add("other")
        net.ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
        net.ip("-n", self.switch, "link", "set", "bridge", "up")
        for name in ("probe", "gateway", "other"):
            net.wire(self.switch, f"to-{name}", getattr(self, name), "eth0")
            net.ip("-n", self.switch, "link", "set", f"to-{name}", "master", "bridge")
        net.sysctl(self.probe, "net.ipv6.conf.all.disable_ipv6=1")
        net.address(self.probe, "eth0", "10.20.0.10/24")
        net.address(self.gateway, "eth0", "10.20.0.1/24")
        net.address(self.other, "eth0", "10.20.0.66/24")
        net.route(self.probe, "default", "via", "10.20.0.1")
        net.name_servers(self.probe, "10.20.0.53")
        sniffer = net.start(self.gateway, *WIRE, "sniff", "eth0")
        self.heard: list[dict[str, Any]] = []
        assert sniffer.stdout is not None
        self._lines = sniffer.stdout
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        self.heard.extend(json.loads(line) for line in self._lines)

    def serve(self, where: str, *words: str) -> subprocess.Popen[str]:
        """Start a dnsmasq that does nothing but DHCP, offering at once (no ping beforehand)."""
        command = [self.dnsmasq, "-k", "-p", "0", "-C", "/dev/null", "--no-ping", "--log-facility=-", "-x", ""]
        leases = self.folder / f"leases-{where}-{time.monotonic_ns()}"
        script = 'exec "$@" 2>&1'
        return self.net.start(where, "sh", "-c", script, "sh", *command, f"--dhcp-leasefile={leases}", *words)

    def ask(self, *words: str, under: tuple[str, ...] = ()) -> dict[str, Any]:
        """Run the check in the probe's namespace, with time enough for a machine that is busy otherwise."""
        patience = () if any("timeout_s" in word for word in words) else ("timeout_s=20.0",)
        return ask_inside(self.probe, f"dhcp.Dhcp({', '.join(['name=chr(97)', *words, *patience])})", under=under)


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    with Net() as net:
        yield Lan(net, tmp_path)


GOOD = ("--dhcp-range=10.20.0.100,10.20.0.150,1h", "--dhcp-option=option:dns-server,10.20.0.53")


def test_a_listed_server_passes_and_the_wire_carries_one_discover_and_no_request(lan: Lan) -> None:
    need.tool("setpriv")
    lan.serve(lan.gateway, *GOOD)
    found = lan.ask('expect_servers=("10.20.0.1",)', under=ONLY_RAW)
    assert (found["failure"], found["detail"]) == (None, "")
    assert found["servers"] == found["offered_router"] == found["address"] == "10.20.0.1"
    assert (found["offered_dns"], found["offers"], found["differences"]) == ("10.20.0.53", 1, 0)
    own = lan.net.run(lan.probe, "cat", "/sys/class/net/eth0/address").strip()
    end = time.monotonic() + WAIT_S
    while not lan.heard:
        assert time.monotonic() < end, "the sniffer heard nothing"
        time.sleep(0.02)
    (sent,) = lan.heard
    assert (sent["kind"], sent["mac"], sent["source_mac"]) == ("discover", own, own)
    assert (sent["from"], sent["to"], sent["vendor_class"]) == ("0.0.0.0", "255.255.255.255", "siteprobe")
    assert sent["checksums"] and 12 not in sent["options"] and 50 not in sent["options"]
    counters = lan.net.run(lan.probe, "cat", "/proc/net/snmp")
    names, values = (line.split() for line in counters.splitlines() if line.startswith("Icmp:"))
    assert dict(zip(names, values, strict=True))["OutDestUnreachs"] == "0", "no offer was refused by ICMP"


def test_a_second_server_that_is_not_listed_is_a_rogue(lan: Lan) -> None:
    lan.serve(lan.gateway, *GOOD)
    lan.serve(lan.other, "--dhcp-range=10.20.0.200,10.20.0.220,1h", "--dhcp-option=option:router,10.20.0.66")
    found = lan.ask('expect_servers=("10.20.0.1",)')
    assert (found["failure"], found["address"]) == ("rogue", "10.20.0.66")
    assert set(found["servers"].split(",")) == {"10.20.0.1", "10.20.0.66"}
    assert set(found["offered_router"].split(",")) == {"10.20.0.1", "10.20.0.66"}
    assert found["detail"] == "10.20.0.66 is not listed and offered an address"
    both = lan.ask('expect_servers=("10.20.0.1", "10.20.0.66")')
    assert (both["failure"], both["differences"]) == (None, 1)
    assert both["detail"] == "offered, but not used by this probe: router 10.20.0.66"


def test_no_server_is_no_answer(lan: Lan) -> None:
    found = lan.ask('expect_servers=("10.20.0.1",)', "timeout_s=7.0")
    assert (found["failure"], found["offers"], found["address"]) == ("no_answer", 0, "255.255.255.255")


def test_a_server_that_pings_the_address_for_three_seconds_is_waited_for(lan: Lan) -> None:
    command = [lan.dnsmasq, "-k", "-p", "0", "-C", "/dev/null", "--log-facility=-", "-x", "", *GOOD]
    lan.net.start(lan.gateway, "sh", "-c", 'exec "$@" 2>&1', "sh", *command, f"--dhcp-leasefile={lan.folder}/l")
    found = lan.ask()
    assert (found["failure"], found["servers"]) == (None, "10.20.0.1")


def test_an_offer_through_a_relay_names_both(lan: Lan) -> None:
    net, far = lan.net, lan.net.add("far")
    net.wire(lan.gateway, "far", far, "eth0")
    net.address(lan.gateway, "far", "10.30.0.1/24")
    net.address(far, "eth0", "10.30.0.2/24")
    net.route(far, "default", "via", "10.30.0.1")
    lan.serve(far, *GOOD, "--dhcp-option=option:router,10.20.0.1")
    lan.serve(lan.gateway, "--dhcp-relay=10.20.0.1,10.30.0.2")
    found = lan.ask('expect_servers=("10.30.0.2",)')
    assert (found["failure"], found["servers"], found["relay"]) == (None, "10.30.0.2", "10.20.0.1")


def test_rubbish_is_ignored_and_counted_and_a_flood_ends(lan: Lan) -> None:
    for where, device in ((lan.probe, "eth0"), (lan.other, "eth0"), (lan.switch, "to-probe"), (lan.switch, "to-other")):
        lan.net.ip("-n", where, "link", "set", device, "mtu", "65521")
    lan.net.start(lan.other, *WIRE, "hostile", "eth0", "10.20.0.66")
    found = lan.ask()
    assert (found["failure"], found["servers"].split(",")[0]) == (None, "10.20.0.66")
    assert len(found["servers"].split(",")) == MOST_SERVERS
    assert found["ignored"] >= 5 and found["offers"] + found["ignored"] == MOST_READ
    assert "10.66." not in found["servers"], "neither another's answer nor an ACK is an offer to us"


def test_without_the_privilege_it_is_our_own_fault(lan: Lan) -> None:
    need.tool("setpriv")
    without = lan.ask(under=NOTHING)
    assert without["failure"] == "local_permission" and "CAP_NET_RAW" in without["detail"]


def test_a_child_that_started_too_late_sends_nothing(lan: Lan) -> None:
    question = (
        "import asyncio, time; from agent.packets import dhcp;"
        "asyncio.run(dhcp.discover('eth0', '02:00:00:00:00:01', True, '255.255.255.255', 67, 3.0, time.monotonic()))"
    )
    command = ["ip", "netns", "exec", lan.probe, sys.executable, "-c", question]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert "TimeoutError: too slow to ask in time" in done.stderr
    assert lan.heard == []

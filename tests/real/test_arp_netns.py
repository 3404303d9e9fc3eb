"""The arp check against real kernels and a liar, in network namespaces: one switch, three machines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from typing import Any

import pytest

from tests.rigs.ask import ask_inside
from tests.rigs.netns import ROOT, Net

PROBE, PEER, SILENT = "10.1.0.1", "10.1.0.2", "10.1.0.9"
PROBE6, PEER6 = "fd01::1", "fd01::2"
LIAR = "02:00:00:ba:d0:01"


class Lan:
    """A probe, a peer and another machine on one switch."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.probe, self.peer, self.other, self.switch = (net.add(n) for n in ("probe", "peer", "other", "switch"))
        net.ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        net.ip("-n", self.switch, "link", "set", "br0", "up")
        for name, space in (("to-probe", self.probe), ("to-peer", self.peer), ("to-other", self.other)):
            net.wire(space, "eth0", self.switch, name)
            net.ip("-n", self.switch, "link", "set", name, "master", "br0")
        net.address(self.probe, "eth0", f"{PROBE}/24", f"{PROBE6}/64")
        net.address(self.peer, "eth0", f"{PEER}/24", f"{PEER6}/64")

    def ask(self, target: str, *, more: str = "", under: tuple[str, ...] = (), **policy: Any) -> dict[str, Any]:
        return ask_inside(self.probe, f"arp.Arp(name='a', target={target!r}{more})", under=under, **policy)

    def ask_all(self, *targets: str) -> dict[str, dict[str, Any]]:
        """Ask for several at the same time, each in a process of its own; gives the answers by target."""
        with ThreadPoolExecutor(4) as pool:
            return dict(zip(targets, pool.map(self.ask, targets), strict=True))

    def ask_until_heard(self, target: str, mac: str, *, more: str = "") -> dict[str, Any]:
        """Ask until this MAC is among the answers: on a busy machine the liar may need longer than the second."""
        for _ in range(6):
            found = self.ask(target, more=more)
            if mac in found["macs"]:
                break
        return found

    def mac(self, space: str) -> str:
        found: str = json.loads(self.net.run(space, "ip", "-j", "link", "show", "eth0"))[0]["address"]
        return found

    def lie(self, mode: str, address: str = PEER) -> subprocess.Popen[str]:
        return self.net.start(
            self.other, sys.executable, "-I", "-S", str(ROOT / "tests/rigs/arp_liar.py"), "eth0", mode, address
        )


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Net() as net:
        yield Lan(net)


def test_who_answers_ipv4_and_ipv6(lan: Lan) -> None:
    peer = lan.mac(lan.peer)
    lan.net.route(lan.probe, "default", "via", PEER)
    asked = {
        PEER: (None, peer),
        PEER6: (None, peer),
        "gateway": (None, peer),
        SILENT: ("timeout", ""),
        "fd01::99": ("timeout", ""),
        "self": (None, ""),
        PROBE6: (None, ""),
        "198.51.100.7": ("local_route", None),
    }
    answers = lan.ask_all(*asked)
    assert {t: (a["failure"], a.get("macs")) for t, a in answers.items()} == asked
    for target in (PEER, PEER6):
        assert 0 < answers[target]["rtt_s"] < 1.0
    assert (answers["gateway"]["address"], answers["self"]["address"]) == (PEER, PROBE)


def test_two_machines_with_one_address(lan: Lan) -> None:
    lan.net.address(lan.other, "eth0", f"{PEER}/24", f"{PEER6}/64", f"{PROBE6}/64")
    macs = {lan.mac(lan.peer), lan.mac(lan.other)}
    answers = lan.ask_all(PEER, PEER6, PROBE6)
    for target in (PEER, PEER6):
        found = answers[target]
        assert (found["failure"], set(found["macs"].split(","))) == ("duplicate_address", macs)
    found = answers[PROBE6]
    assert (found["failure"], found["macs"]) == ("duplicate_address", lan.mac(lan.other))


def test_our_own_address_in_use_by_another(lan: Lan) -> None:
    lan.net.address(lan.other, "eth0", f"{PROBE}/24")
    found = lan.ask("self")
    assert (found["failure"], found["macs"]) == ("duplicate_address", lan.mac(lan.other))
    assert PROBE in found["detail"]
    lan.net.ip("-n", lan.other, "address", "flush", "dev", "eth0")
    assert lan.ask("self")["failure"] is None


def test_an_ipv6_only_link(lan: Lan) -> None:
    lan.net.ip("-n", lan.probe, "address", "del", f"{PROBE}/24", "dev", "eth0")
    found = json.loads(lan.net.run(lan.peer, "ip", "-j", "-6", "address", "show", "dev", "eth0"))
    local = [a["local"] for a in found[0]["addr_info"] if a["scope"] == "link"]
    lan.net.route(lan.probe, "default", "via", local[0], "dev", "eth0")
    gateway, own = lan.ask_all("gateway", "self").values()
    assert (gateway["failure"], gateway["macs"]) == (None, lan.mac(lan.peer))
    assert (own["failure"], own["address"]) == (None, PROBE6)


def test_pinned_macs_and_a_virtual_router(lan: Lan) -> None:
    lan.net.run(lan.peer, "ip", "link", "set", "eth0", "address", "00:00:5e:00:01:07")
    pinned = ", expect_mac=('00:00:5E:00:01:07', '02:00:00:00:00:09')"
    found = lan.ask(PEER, more=pinned)
    assert (found["failure"], found["macs"]) == (None, "00:00:5e:00:01:07")
    found = lan.ask(PEER, more=", expect_mac=('02:00:00:00:00:09',)")
    assert (found["failure"], "VRRP group 7" in found["detail"]) == ("mismatch", True)
    lan.lie(LIAR)
    found = lan.ask_until_heard(PEER, LIAR, more=pinned)
    assert (found["failure"], set(found["macs"].split(","))) == ("duplicate_address", {LIAR, "00:00:5e:00:01:07"})


def test_a_late_impostor_is_heard_too(lan: Lan) -> None:
    lan.lie("late")
    found = lan.ask_until_heard(PEER, LIAR)
    assert (found["failure"], found["macs"]) == ("duplicate_address", f"{lan.mac(lan.peer)},{LIAR}")


def test_malformed_answers_are_ignored_and_counted(lan: Lan) -> None:
    lan.lie("malformed", SILENT)
    found = lan.ask_until_heard(SILENT, LIAR)
    assert (found["failure"], found["macs"], found["ignored"]) == (None, LIAR, 4)


def test_a_flood_of_answers_ends_our_hearing(lan: Lan) -> None:
    lan.lie("flood", SILENT)
    found = lan.ask_until_heard(SILENT, "02:00:")
    assert found["failure"] == "duplicate_address"
    assert len(found["macs"].split(",")) == 16, "a record stays short"
    heard = int(found["detail"].split()[0])
    assert 16 < heard < 1000, "beyond that nobody listens any more"


def test_a_storm_of_questions_wakes_nobody(lan: Lan) -> None:
    storm = lan.lie("storm", "3")
    found = lan.ask(PEER)
    assert storm.stdout is not None
    sent = int(storm.stdout.readline())
    print(f"{sent} who-has in 3 s")
    assert sent > 3000, "that was no storm"
    assert (found["failure"], found["macs"]) == (None, lan.mac(lan.peer))
    assert (found["ignored"], found["dropped"]) == (0, 0)


def test_what_is_said_when_it_cannot_ask(lan: Lan) -> None:
    capless = ("setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw")
    found = lan.ask(PEER, under=capless)
    assert (found["failure"], "CAP_NET_RAW" in found["detail"]) == ("local_permission", True)
    found = lan.ask(PEER, deny=(ip_network("10.1.0.0/30"),))
    assert (found["failure"], "safety.deny" in found["detail"]) == ("local_policy", True)
    lan.net.run(lan.switch, "ip", "link", "set", "to-probe", "down")
    assert [lan.ask(target)["failure"] for target in (PEER, "self")] == ["local_link", "local_link"]
    lan.net.run(lan.probe, "ip", "link", "set", "eth0", "down")
    assert lan.ask("self")["failure"] == "local_link"

"""Who said no: TCP, TLS, DNS, NTP and HTTP through a router with a firewall, in network namespaces of the test's own.

probe 10.0.0.2, fd00::2 — router 10.0.0.1 / 10.1.0.1 — service 10.1.0.2, fd01::2
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.rigs import need
from tests.rigs.ask import ask_inside

PROBE, ROUTER, SERVICE = (f"spstreams{os.getpid()}{end}" for end in "prs")

SCENE = f"""
ip -n {PROBE} link add eth0 type veth peer name eth0 netns {ROUTER}
ip -n {ROUTER} link add eth1 type veth peer name eth0 netns {SERVICE}
ip -n {PROBE} addr add 10.0.0.2/24 dev eth0
ip -n {PROBE} addr add fd00::2/64 dev eth0 nodad
ip -n {ROUTER} addr add 10.0.0.1/24 dev eth0
ip -n {ROUTER} addr add fd00::1/64 dev eth0 nodad
ip -n {ROUTER} addr add 10.1.0.1/24 dev eth1
ip -n {ROUTER} addr add fd01::1/64 dev eth1 nodad
ip -n {SERVICE} addr add 10.1.0.2/24 dev eth0
ip -n {SERVICE} addr add fd01::2/64 dev eth0 nodad
ip -n {PROBE} link set eth0 up
ip -n {ROUTER} link set eth0 up
ip -n {ROUTER} link set eth1 up
ip -n {SERVICE} link set eth0 up
ip -n {PROBE} route add default via 10.0.0.1
ip -n {PROBE} route add default via fd00::1
ip -n {SERVICE} route add default via 10.1.0.1
ip -n {SERVICE} route add default via fd01::1
ip netns exec {ROUTER} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip netns exec {ROUTER} nft add table inet scene
ip netns exec {ROUTER} nft add chain inet scene through {{ type filter hook forward priority 0; }}
ip netns exec {ROUTER} nft add rule inet scene through tcp dport 443 reject with icmpx admin-prohibited
ip netns exec {ROUTER} nft add rule inet scene through udp dport 53 reject with icmpx admin-prohibited
ip netns exec {ROUTER} nft add rule inet scene through udp dport 123 reject with icmpx admin-prohibited
ip netns exec {ROUTER} nft add rule inet scene through tcp dport 444 drop
"""


@pytest.fixture(scope="module")
def probe() -> Iterator[str]:
    need.root()
    need.tool("ip")
    need.tool("nft")
    names = (PROBE, ROUTER, SERVICE)
    try:
        for name in names:
            run(f"ip netns add {name}")
            run(f"ip -n {name} link set lo up")
        for line in SCENE.strip().splitlines():
            run(line)
        yield PROBE
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def run(line: str) -> None:
    done = subprocess.run(line.split(), capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, f"{line}: {done.stderr}"


@pytest.mark.parametrize(
    ("check", "responder", "kind", "code"),
    [
        ('tcp.Tcp(name="a", target="10.1.0.2", port=443)', "10.0.0.1", 3, 13),
        ('tcp.Tcp(name="a", target="fd01::2", port=443)', "fd00::1", 1, 1),
        ('http.Http(name="a", url="https://10.1.0.2/")', "10.0.0.1", 3, 13),
        ('dns.Dns(name="a", server="10.1.0.2", query="epr.example.org")', "10.0.0.1", 3, 13),
        ('tls.Tls(name="a", target="10.1.0.2", port=443)', "10.0.0.1", 3, 13),
        ('ntp.Ntp(name="a", server="10.1.0.2")', "10.0.0.1", 3, 13),
        ('ntp.Ntp(name="a", server="fd01::2")', "fd00::1", 1, 1),
    ],
)
def test_a_firewall_that_rejects_is_named(probe: str, check: str, responder: str, kind: int, code: int) -> None:
    answer = ask_inside(probe, check)
    assert answer["failure"] == "prohibited"
    assert (answer["responder"], answer["icmp_type"], answer["icmp_code"]) == (responder, kind, code)


def test_a_firewall_that_drops_is_silence(probe: str) -> None:
    answer = ask_inside(probe, 'tcp.Tcp(name="a", target="10.1.0.2", port=444, timeout_s=1.5)')
    assert answer["failure"] == "timeout"
    assert "responder" not in answer


def test_a_dead_host_is_named_by_its_router(probe: str) -> None:
    answer = ask_inside(probe, 'tcp.Tcp(name="a", target="10.1.0.99", port=80)')
    assert answer["failure"] == "unreachable"
    assert (answer["responder"], answer["icmp_type"], answer["icmp_code"]) == ("10.0.0.1", 3, 1)


def test_a_dead_neighbour_is_found_by_our_own_kernel(probe: str) -> None:
    answer = ask_inside(probe, 'tcp.Tcp(name="a", target="10.0.0.99", port=80)')
    assert answer["failure"] == "unreachable"
    assert answer["responder"] == "10.0.0.2"


def test_a_time_server_that_is_off_refuses_and_a_dead_one_is_named(probe: str) -> None:
    assert ask_inside(probe, 'ntp.Ntp(name="a", server="10.0.0.1")')["failure"] == "refused"
    answer = ask_inside(probe, 'ntp.Ntp(name="a", server="10.0.0.99", timeout_s=10.0)')
    assert (answer["failure"], answer["responder"]) == ("unreachable", "10.0.0.2")


def test_a_host_without_a_service_refuses_by_itself(probe: str) -> None:
    answer = ask_inside(probe, 'tcp.Tcp(name="a", target="10.1.0.2", port=80)')
    assert answer["failure"] == "refused"
    assert "responder" not in answer

"""The icmp and link checks in a real small network: probe - gateway - carrier - host, in namespaces."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.rigs import need
from tests.rigs.ask import ask_inside
from tests.rigs.kernel_stamps import kernel_stamps
from tests.rigs.netns import Net

HOST, HOST_6, NOBODY = "10.3.0.2", "fd03::2", "10.3.0.77"


class Site:
    """The network of a small site: its namespaces by name."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.probe, self.host = net.add("probe"), net.add("host")
        self.gateway, self.carrier = net.add("gateway", router=True), net.add("carrier", router=True)
        net.wire(self.probe, "eth0", self.gateway, "lan")
        net.wire(self.gateway, "wan", self.carrier, "site")
        net.wire(self.carrier, "far", self.host, "eth0")
        net.address(self.probe, "eth0", "10.1.0.2/24", "fd01::2/64")
        net.address(self.gateway, "lan", "10.1.0.1/24", "fd01::1/64")
        net.address(self.gateway, "wan", "10.2.0.1/24", "fd02::1/64")
        net.address(self.carrier, "site", "10.2.0.2/24", "fd02::2/64")
        net.address(self.carrier, "far", "10.3.0.1/24", "fd03::1/64")
        net.address(self.host, "eth0", "10.3.0.2/24", "10.3.0.3/24", "fd03::2/64", "fd03::3/64")
        for namespace, four, six in (
            (self.probe, "10.1.0.1", "fd01::1"),
            (self.gateway, "10.2.0.2", "fd02::2"),
            (self.carrier, "10.2.0.1", "fd02::1"),
            (self.host, "10.3.0.1", "fd03::1"),
        ):
            net.route(namespace, "default", "via", four)
            net.route(namespace, "default", "via", six)
        # One ARP question of 0.2 s instead of three of 1 s: the same answers, sooner.
        net.sysctl(self.probe, "net.ipv4.neigh.eth0.mcast_solicit=1", "net.ipv4.neigh.eth0.retrans_time_ms=200")
        net.sysctl(self.carrier, "net.ipv4.neigh.far.mcast_solicit=1", "net.ipv4.neigh.far.retrans_time_ms=200")
        net.sysctl(self.probe, "net.ipv6.neigh.eth0.mcast_solicit=1", "net.ipv6.neigh.eth0.retrans_time_ms=200")

    def ping(self, target: str, *, under: tuple[str, ...] = (), **options: object) -> dict[str, object]:
        """Run the icmp check in the probe's namespace."""
        words = "".join(f", {key}={value!r}" for key, value in {"timeout_s": 3.0, **options}.items())
        return ask_inside(self.probe, f"icmp.Icmp(name='a', target={target!r}{words})", under=under)

    def link(self, interface: str = "") -> dict[str, object]:
        """Run the link check in the probe's namespace."""
        return ask_inside(self.probe, f"link.Link(name='a', interface={interface!r})")


@pytest.fixture(scope="module", autouse=True)
def stamps() -> Iterator[None]:
    with kernel_stamps():
        yield


@pytest.fixture
def site() -> Iterator[Site]:
    with Net() as net:
        yield Site(net)


@pytest.mark.parametrize("target", [HOST, HOST_6, "gateway"])
def test_replies_are_counted_and_timed_by_the_kernel(site: Site, target: str) -> None:
    found = site.ping(target)
    assert found["failure"] is None, found
    assert (found["sent"], found["received"], found["loss_ratio"], found["duplicates"]) == (3, 3, 0.0, 0)
    assert 0 < found["rtt_min_s"] <= found["rtt_mean_s"] <= found["rtt_max_s"] < 1  # type: ignore[operator]
    assert found["timestamping"] == "kernel"
    assert found["address"] == ("10.1.0.1" if target == "gateway" else target)


@pytest.mark.parametrize(("target", "router", "words"), [(HOST, "10.1.0.1", (11, 0)), (HOST_6, "fd01::1", (3, 0))])
def test_ttl_ends_at_the_gateway_who_says_so(site: Site, target: str, router: str, words: tuple[int, int]) -> None:
    found = site.ping(target, ttl=1)
    assert (found["failure"], found["responder"]) == ("unreachable", router), found
    assert (found["icmp_type"], found["icmp_code"]) == words
    assert found["received"] == 0 and found["loss_ratio"] == 1.0


def test_host_unreachable_names_the_router_that_gave_up(site: Site) -> None:
    found = site.ping(NOBODY)
    assert (found["failure"], found["responder"]) == ("unreachable", "10.2.0.2"), found  # its address on our side
    assert (found["icmp_type"], found["icmp_code"]) == (3, 1)


@pytest.mark.parametrize(("target", "own"), [("10.1.0.77", "10.1.0.2"), ("fd01::77", "fd01::2")])
def test_silent_neighbour_is_unreachable_by_our_own_word(site: Site, target: str, own: str) -> None:
    found = site.ping(target)
    assert (found["failure"], found["responder"]) == ("unreachable", own), found
    assert "neighbour" in str(found["detail"])


@pytest.mark.parametrize(
    ("target", "rule", "words"),
    [
        (HOST, "ip daddr 10.3.0.2 reject with icmp type admin-prohibited", (3, 13)),
        (HOST_6, "ip6 daddr fd03::2 reject with icmpv6 type admin-prohibited", (1, 1)),
    ],
)
def test_firewall_that_rejects_is_prohibited(site: Site, target: str, rule: str, words: tuple[int, int]) -> None:
    site.net.nft(site.carrier, "forward", rule)
    found = site.ping(target)
    assert found["failure"] == "prohibited", found
    assert (found["icmp_type"], found["icmp_code"]) == words
    assert found["responder"] in ("10.2.0.2", "fd02::2")


def test_silence_is_a_timeout_with_what_was_sent(site: Site) -> None:
    site.net.nft(site.host, "input", "icmp type echo-request drop")
    found = site.ping(HOST, timeout_s=1.0)
    assert (found["failure"], found["sent"], found["received"], found["loss_ratio"]) == ("timeout", 3, 0, 1.0), found
    assert "responder" not in found


def test_some_loss_still_passes(site: Site) -> None:
    site.net.nft(site.host, "input", "icmp type echo-request numgen inc mod 2 == 0 drop")
    found = site.ping(HOST, count=4, timeout_s=1.5)
    assert (found["failure"], found["sent"], found["received"], found["loss_ratio"]) == (None, 4, 2, 0.5), found


def lie(site: Site, mode: str, other: str = "10.3.0.3") -> None:
    site.net.sysctl(site.host, "net.ipv4.icmp_echo_ignore_all=1", "net.ipv6.icmp.echo_ignore_all=1")
    site.net.start(site.host, sys.executable, "-m", "tests.rigs.echo_liar", mode, other)


@pytest.mark.parametrize(("target", "other"), [(HOST, "10.3.0.3"), (HOST_6, "fd03::3")])
@pytest.mark.parametrize("mode", ["source", "token", "sequence", "identifier"])
def test_forged_replies_are_ignored(site: Site, mode: str, target: str, other: str) -> None:
    lie(site, mode, HOST_6 if target == HOST_6 and mode != "source" else other)
    found = site.ping(target, timeout_s=1.0)
    assert (found["failure"], found["received"]) == ("timeout", 0), found


def test_the_liar_is_heard_where_it_tells_the_truth(site: Site) -> None:
    """Or the forged ICMPv6 replies were ignored for a wrong reason."""
    lie(site, "twice", HOST_6)
    assert site.ping(HOST_6)["received"] == 3


def test_duplicates_are_counted_not_received(site: Site) -> None:
    lie(site, "twice")
    found = site.ping(HOST)
    assert (found["failure"], found["sent"], found["received"]) == (None, 3, 3), found
    assert found["duplicates"] in (2, 3)  # the run may end between the last reply and its double


def test_errors_about_other_pingers_are_not_ours(site: Site) -> None:
    site.net.start(site.probe, "sh", "-c", f"echo ready; exec ping -n -i 0.2 {NOBODY} >/dev/null")
    found = site.ping(HOST, count=10, timeout_s=3.0)
    assert (found["failure"], found["sent"], found["received"]) == (None, 10, 10), found


def test_no_route_of_our_own(site: Site) -> None:
    site.net.ip("-n", site.probe, "route", "del", "default")
    found = site.ping(HOST)
    assert (found["failure"], found["sent"]) == ("local_route", 0), found


def test_own_firewall_is_our_own_fault(site: Site) -> None:
    site.net.nft(site.probe, "output", "icmp type echo-request drop")
    found = site.ping(HOST)
    assert found["failure"] == "local_permission", found


def without_raw_sockets() -> tuple[str, ...]:
    return (need.tool("setpriv"), "--bounding-set", "-net_raw", "--")


@pytest.mark.parametrize("target", [HOST, HOST_6])
def test_ping_sockets_do_as_well(site: Site, target: str) -> None:
    site.net.sysctl(site.probe, "net.ipv4.ping_group_range=0 0")
    # The kernel switches receive stamps on a moment after the first socket asks for them (net_enable_timestamp
    # leaves it to a work queue): the first echoes of a machine that stamps nothing else may come without.
    tries = [site.ping(target, under=without_raw_sockets()) for _ in range(3)]
    assert all((found["failure"], found["received"]) == (None, 3) for found in tries), tries
    assert "kernel" in {found["timestamping"] for found in tries}, tries


def test_ping_sockets_hear_icmp_errors_too(site: Site) -> None:
    site.net.sysctl(site.probe, "net.ipv4.ping_group_range=0 0")
    found = site.ping(HOST, ttl=1, under=without_raw_sockets())
    assert (found["failure"], found["responder"], found["icmp_type"]) == ("unreachable", "10.1.0.1", 11), found


def test_without_any_right_it_says_how_to_mend_it(site: Site) -> None:
    found = site.ping(HOST, under=without_raw_sockets())
    assert found["failure"] == "local_permission", found
    for word in ("CAP_NET_RAW", "setcap", "ping_group_range", "unit"):
        assert word in str(found["detail"])


def test_gateway_with_a_link_local_address(site: Site) -> None:
    site.net.ip("-n", site.probe, "route", "del", "default")
    site.net.ip("-n", site.probe, "-6", "route", "del", "default")
    site.net.address(site.gateway, "lan", "fe80::1/64")
    site.net.route(site.probe, "default", "via", "fe80::1", "dev", "eth0")
    found = site.ping("gateway")
    assert (found["failure"], found["received"], found["address"]) == (None, 3, "fe80::1%eth0"), found


def test_link_is_whole(site: Site) -> None:
    found = site.link()
    assert (found["failure"], found["interface"], found["link_up"], found["admin_up"]) == (None, "eth0", True, True)
    assert "10.1.0.2/24" in str(found["addresses"]) and "fd01::2/64" in str(found["addresses"])
    assert found["default_route"] == "10.1.0.1,fd01::1"
    assert (found["rx_errors"], found["tx_errors"]) == (0, 0)


def test_link_switched_off(site: Site) -> None:
    site.net.ip("-n", site.probe, "link", "set", "eth0", "down")
    found = site.link()
    assert (found["failure"], found["interface"], found["admin_up"]) == ("local_link", "eth0", False), found
    assert "switched off" in str(found["detail"])


def test_link_without_carrier(site: Site) -> None:
    site.net.ip("-n", site.gateway, "link", "set", "lan", "down")
    found = site.link("eth0")
    assert (found["failure"], found["admin_up"], found["link_up"]) == ("local_link", True, False), found
    assert "carrier" in str(found["detail"])


def test_link_without_address(site: Site) -> None:
    site.net.ip("-n", site.probe, "address", "flush", "dev", "eth0")
    assert site.link()["failure"] == "local_address"


def test_link_without_default_route(site: Site) -> None:
    site.net.ip("-n", site.probe, "route", "del", "default")
    site.net.ip("-n", site.probe, "-6", "route", "del", "default")
    found = site.link()
    assert (found["failure"], found["default_route"], found["interface"]) == ("local_route", None, "eth0"), found


def test_link_of_an_interface_that_is_missing(site: Site) -> None:
    found = site.link("eth7")
    assert (found["failure"], found["link_up"]) == ("local_link", False)
    assert "eth7" in str(found["detail"]) and "eth0" in str(found["detail"])

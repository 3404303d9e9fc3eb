"""How large and how fast a way is: the mtu and train checks over real routers, in namespaces."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from tests.rigs import need
from tests.rigs.side_by_side import Case, side_by_side
from tests.rigs.way import HOPS, HOST, HOST_6, Way

SLOW = ("root", "tbf", "rate", "256kbit", "burst", "2000", "limit", "15000")  # row 30 of the decision table


def mtu(way: Way, target: str = HOST, **policy: Any) -> dict[str, Any]:
    return way.ask(f"mtu.Mtu(name='a', target={target!r}, timeout_s=6.0)", **policy)


def train(way: Way, target: str = HOST, **options: Any) -> dict[str, Any]:
    words = "".join(f", {key}={value!r}" for key, value in options.items())
    return way.ask(f"train.Train(name='a', target={target!r}, timeout_s=5.0{words})")


def narrow(way: Way, size: int) -> None:
    """Make the link between the second and the third router smaller, on both ends."""
    way.do(way.r2, f"ip link set far mtu {size}")
    way.do(way.r3, f"ip link set near mtu {size}")


def said(found: dict[str, Any]) -> tuple[object, object, object]:
    return found["failure"], found.get("mtu_bytes"), found.get("black_hole")


def a_whole_way_takes_whole_packets(way: Way) -> None:
    way.net.nft(way.host, "input", "icmp type echo-request counter")
    assert said(mtu(way)) == (None, 1500, False)
    assert "counter packets 2 " in way.do(way.host, "nft list ruleset"), "two echoes are enough"
    assert said(mtu(way, HOST_6)) == (None, 1500, False)


def a_smaller_size_that_is_signalled_passes(way: Way) -> None:
    """Row 17: healthy."""
    narrow(way, 1400)
    assert said(mtu(way)) == (None, 1400, False)
    assert said(mtu(way, HOST_6)) == (None, 1400, False)
    way.do(way.r1, "ip link set far mtu 1437")
    way.do(way.r2, "ip link set near mtu 1437")
    assert said(mtu(way)) == (None, 1400, False), "one router after the other says its own size"


def what_the_kernel_remembers_is_not_believed(way: Way) -> None:
    narrow(way, 1400)
    assert said(mtu(way)) == (None, 1400, False)
    assert "mtu 1400" in way.do(way.probe, f"ip route get {HOST}")
    narrow(way, 1500)
    assert said(mtu(way)) == (None, 1500, False)


def large_packets_that_vanish_are_a_black_hole(way: Way) -> None:
    """Row 16: nothing larger than 1400 bytes passes, and nobody says why."""
    way.net.nft(way.r2, "forward", "ip length > 1400 drop")
    found = mtu(way)
    assert said(found) == ("timeout", 1400, True), found
    assert "1400" in found["detail"] and "black hole" in found["detail"]
    way.net.nft(way.r2, "forward", "ip6 length > 1360 drop")  # without the header of 40 bytes
    assert said(mtu(way, HOST_6)) == ("timeout", 1400, True)


def a_firewall_that_eats_the_signal_makes_a_black_hole(way: Way) -> None:
    narrow(way, 1300)
    way.net.nft(way.r2, "output", "icmp type destination-unreachable drop")
    found = mtu(way)
    assert said(found) == ("timeout", 1300, True), found


def a_hole_behind_an_honest_link_is_found(way: Way) -> None:
    narrow(way, 1450)
    way.net.nft(way.r3, "forward", "ip length > 1420 drop")
    assert said(mtu(way)) == ("timeout", 1420, True)


def loss_is_no_black_hole(way: Way) -> None:
    """A fifth of the packets is lost, and by bad luck the first four large ones are among them."""
    way.net.nft(way.r2, "forward", "ip length < 1500 icmp type echo-request numgen inc mod 5 == 4 drop")
    way.net.nft(way.r2, "forward", "ip length 1500 icmp type echo-request numgen inc mod 5 < 4 drop")
    assert said(mtu(way)) == (None, 1500, False)


def more_loss_needs_more_tries(way: Way) -> None:
    """The first three small ones pass; that the way loses packets shows only where the edge of a hole is looked for."""
    way.net.nft(way.r2, "forward", "ip length < 1500 icmp type echo-request numgen inc mod 5 == 4 drop")
    way.net.nft(way.r2, "forward", "ip length 1500 icmp type echo-request numgen inc mod 6 < 5 drop")
    assert said(mtu(way)) == (None, 1500, False)


def a_hole_is_found_in_spite_of_loss(way: Way) -> None:
    way.net.nft(way.r2, "forward", "ip length <= 1400 icmp type echo-request numgen inc mod 5 == 4 drop")
    way.net.nft(way.r2, "forward", "ip length > 1400 drop")
    found = mtu(way)
    assert said(found) == ("timeout", 1400, True), found


def silence_and_refusal_are_told_apart_from_a_hole(way: Way) -> None:
    way.net.sysctl(way.host, "net.ipv4.icmp_echo_ignore_all=1")
    found = mtu(way)
    assert (found["failure"], found.get("black_hole")) == ("timeout", None), found
    way.do(way.r2, "ip route add prohibit 10.4.0.2/32")
    found = mtu(way)
    assert (found["failure"], found["responder"], found.get("black_hole")) == ("prohibited", HOPS[1], None), found


def a_firewall_that_refuses_large_packets_aloud_is_no_hole(way: Way) -> None:
    way.net.nft(way.r2, "forward", "ip length > 1400 reject with icmp type admin-prohibited")
    found = mtu(way)
    assert (found["failure"], found["responder"], found.get("black_hole")) == ("prohibited", HOPS[1], None), found


def our_own_interface_may_be_the_smallest(way: Way) -> None:
    way.do(way.probe, "ip link set eth0 mtu 1390")
    way.do(way.r1, "ip link set near mtu 1390")
    assert said(mtu(way)) == (None, 1390, False)


def ping_sockets_find_it_too(way: Way) -> None:
    way.net.sysctl(way.probe, "net.ipv4.ping_group_range=0 0")
    narrow(way, 1400)
    under = (need.tool("setpriv"), "--bounding-set", "-net_raw", "--")
    found = way.ask(f"mtu.Mtu(name='a', target={HOST!r}, timeout_s=6.0)", under=under)
    assert said(found) == (None, 1400, False), found


def a_slow_line_without_loss_is_found(way: Way) -> None:
    """Row 30: a ping sees nothing, a train does."""
    way.net.run(way.r1, need.tool("tc"), "qdisc", "add", "dev", "far", *SLOW)
    ping = way.ask(f"icmp.Icmp(name='a', target={HOST!r}, timeout_s=4.0)")
    assert (ping["failure"], ping["loss_ratio"]) == (None, 0.0) and ping["rtt_max_s"] < 0.1, ping
    for target in (HOST, HOST_6):
        found = train(way, target)
        assert found["failure"] is None, found
        assert 180_000 < found["bits_per_s"] < 280_000, found
        assert found["rtt_last_s"] - found["rtt_first_s"] > 0.2, found


def a_fast_line_is_not_called_slow(way: Way) -> None:
    found = max((train(way) for _ in range(2)), key=lambda one: int(one.get("bits_per_s", 0)))
    assert found["failure"] is None and 20_000_000 < found["bits_per_s"] <= 1_000_000_000, found


def a_lost_packet_does_not_spoil_the_estimate(way: Way) -> None:
    way.net.run(way.r1, need.tool("tc"), "qdisc", "add", "dev", "far", *SLOW)
    way.net.nft(way.host, "input", "icmp type echo-request numgen inc mod 4 == 3 drop")
    found = train(way)
    assert found["failure"] is None and 180_000 < found["bits_per_s"] < 280_000, found


def too_few_replies_and_refusals_are_failures(way: Way) -> None:
    way.net.nft(way.host, "input", "icmp type echo-request numgen inc mod 4 != 3 drop")
    found = train(way)
    assert (found["failure"], found.get("bits_per_s")) == ("timeout", None) and "2 of 8" in found["detail"], found
    way.do(way.r2, "ip route add unreachable 10.4.0.2/32")
    found = train(way)
    assert (found["failure"], found["responder"]) == ("unreachable", HOPS[1]), found


def a_long_lossy_line_gives_true_figures(way: Way) -> None:
    """Row 40 of the faults: 30 % loss, 500 ms, packets that overtake each other; figures within 10 % of the truth."""
    way.lengthen(0.25, reorder_ratio=0.14, hold_s=0.35)
    assert way.ask(f"icmp.Icmp(name='a', target={HOST!r}, timeout_s=8.0)")["failure"] is None, "neighbours are known"
    way.net.nft(way.host, "input", "icmp type echo-request numgen inc mod 10 < 3 drop")
    ping = way.ask(f"icmp.Icmp(name='a', target={HOST!r}, timeout_s=12.0, count=20)")
    assert (ping["sent"], ping["received"], ping["loss_ratio"]) == (20, 14, 0.3), ping
    assert 0.45 < ping["rtt_min_s"] < 0.55 and 0.8 < ping["rtt_max_s"] < 0.95, ping
    assert ping["reordered"] > 0, ping
    found = way.ask(f"path.Path(name='a', target={HOST!r}, timeout_s=10.0)")
    assert found["hop_list"].split(",")[:3] == list(HOPS[:3]), found
    assert (found["failure"] is None) is found["reached"] and found["failure"] in (None, "timeout"), found
    assert mtu(way).get("black_hole") is not True


def on_a_way(play: Callable[[Way], None]) -> Case:
    return lambda net: play(Way(net))


PLAYS = (
    a_whole_way_takes_whole_packets,
    a_smaller_size_that_is_signalled_passes,
    what_the_kernel_remembers_is_not_believed,
    large_packets_that_vanish_are_a_black_hole,
    a_firewall_that_eats_the_signal_makes_a_black_hole,
    a_hole_behind_an_honest_link_is_found,
    loss_is_no_black_hole,
    more_loss_needs_more_tries,
    a_hole_is_found_in_spite_of_loss,
    silence_and_refusal_are_told_apart_from_a_hole,
    a_firewall_that_refuses_large_packets_aloud_is_no_hole,
    our_own_interface_may_be_the_smallest,
    ping_sockets_find_it_too,
    a_slow_line_without_loss_is_found,
    a_fast_line_is_not_called_slow,
    a_lost_packet_does_not_spoil_the_estimate,
    too_few_replies_and_refusals_are_failures,
    a_long_lossy_line_gives_true_figures,
)
CASES: dict[str, Case] = {play.__name__.replace("_", " "): on_a_way(play) for play in PLAYS}
played = side_by_side(CASES)


@pytest.mark.timeout(180)  # the first waits for its turn among all
@pytest.mark.parametrize("name", CASES)
def test_case(name: str, played: dict[str, Future[None]]) -> None:
    played[name].result()

"""The path check over real routers, in namespaces."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from tests.rigs import need
from tests.rigs.netns import ROOT
from tests.rigs.side_by_side import Case, side_by_side
from tests.rigs.way import HOPS, HOPS_6, HOST, HOST_6, Way

OTHER_WAY = "10.1.0.1,10.5.0.2,10.3.0.2,10.4.0.2"  # a router answers from its address on the way back


def trace(way: Way, target: str = HOST, timeout_s: float = 8.0, **options: Any) -> dict[str, Any]:
    words = "".join(f", {key}={value!r}" for key, value in options.items())
    return way.ask(f"path.Path(name='a', target={target!r}, timeout_s={timeout_s}{words})")


def the_hops_are_listed_to_the_target(way: Way, target: str, hops: tuple[str, ...], protocol: str) -> None:
    found = trace(way, target, protocol=protocol)
    assert (found["failure"], found["hop_list"]) == (None, ",".join(hops)), found
    assert (found["hops"], found["reached"], found["address"]) == (4, True, target)


def a_silent_hop_is_a_star(way: Way) -> None:
    way.net.nft(way.r2, "output", "icmp type time-exceeded drop")
    found = trace(way)
    assert (found["failure"], found["hop_list"]) == (None, f"{HOPS[0]},*,{HOPS[2]},{HOST}"), found
    assert (found["hops"], found["reached"]) == (4, True)


def behind_a_filter_there_is_silence_and_the_last_hop_is_named(way: Way) -> None:
    way.net.nft(way.r3, "forward", "ip daddr 10.4.0.2 drop")
    found = trace(way)
    assert (found["failure"], found["reached"], found["hop_list"]) == ("timeout", False, ",".join(HOPS[:3])), found
    assert HOPS[2] in found["detail"] and "responder" not in found


def a_black_hole_route_ends_the_list_before_the_edge(way: Way) -> None:
    """Row 18 of the decision table: the list stops where the packets are thrown away."""
    way.do(way.r3, "ip route add blackhole 10.4.0.2/32")
    found = trace(way)
    # Linux looks the route up first, then at the hop limit: the edge itself stays silent.
    assert (found["failure"], found["reached"], found["hop_list"]) == ("timeout", False, ",".join(HOPS[:2])), found


def a_router_that_says_no_is_the_responder(way: Way, kind: str, failure: str, words: tuple[int, int]) -> None:
    way.do(way.r2, f"ip route add {kind} 10.4.0.2/32")
    found = trace(way)
    assert (found["failure"], found["responder"], found["reached"]) == (failure, HOPS[1], False), found
    assert (found["icmp_type"], found["icmp_code"]) == words
    assert found["hop_list"] == ",".join(HOPS[:2])


def a_firewall_filters_icmp_and_the_port_shows_the_way(way: Way) -> None:
    way.net.nft(way.r3, "forward", "icmp type echo-request drop")
    assert trace(way)["failure"] == "timeout"
    found = trace(way, protocol="tcp", port=8443)  # closed: its reset is an answer of the target
    assert (found["failure"], found["hop_list"]) == (None, ",".join(HOPS)), found


def an_open_port_is_reset_at_once_and_never_asked_twice(way: Way) -> None:
    code = (
        "import socket; s = socket.create_server(('', 8443)); s.settimeout(9); print('ready', flush=True); s.accept()"
    )
    way.net.start(way.host, "python3", "-c", code)
    way.net.nft(way.host, "input", "tcp flags syn tcp dport 8443 counter")
    way.net.nft(way.host, "input", "tcp flags rst tcp dport 8443 counter")
    found = trace(way, protocol="tcp", port=8443)
    assert (found["failure"], found["hop_list"]) == (None, ",".join(HOPS)), found
    counted = way.do(way.host, "nft list ruleset")
    assert counted.count("counter packets 1 ") == 2, counted


def a_loop_is_recognised_before_all_hops_are_spent(way: Way) -> None:
    way.do(way.r3, "ip route add 10.4.0.2/32 via 10.3.0.1")
    found = trace(way)
    assert (found["failure"], found["reached"]) == ("unreachable", False), found
    assert "loop" in found["detail"] and HOPS[1] in found["detail"] and HOPS[2] in found["detail"]
    assert found["hops"] < 9


def a_silent_neighbour_is_our_own_word_and_no_hop(way: Way) -> None:
    way.net.sysctl(way.probe, "net.ipv4.neigh.eth0.mcast_solicit=1", "net.ipv4.neigh.eth0.retrans_time_ms=200")
    found = trace(way, "10.1.0.77")
    assert (found["failure"], found["responder"], found["hops"]) == ("unreachable", "10.1.0.2", 0), found
    assert "neighbour" in found["detail"] and "path_id" not in found["hop_list"]


def a_dead_host_behind_the_last_router(way: Way) -> None:
    way.net.sysctl(way.r3, "net.ipv4.neigh.far.mcast_solicit=1", "net.ipv4.neigh.far.retrans_time_ms=200")
    found = trace(way, "10.4.0.77")
    assert (found["failure"], found["responder"]) == ("unreachable", HOPS[2]), found
    assert found["hop_list"] == ",".join(HOPS[:3])


def without_a_route_nothing_is_sent(way: Way) -> None:
    way.do(way.probe, "ip route del default")
    found = trace(way)
    assert found["failure"] == "local_route", found


def a_way_longer_than_allowed_and_a_short_timeout_are_not_the_targets_fault(way: Way) -> None:
    found = trace(way, max_hops=2)
    assert (found["failure"], found["hop_list"]) == ("local_policy", ",".join(HOPS[:2])), found
    found = trace(way, timeout_s=1.2)
    assert found["failure"] == "overload" and "timeout: 10s" in found["detail"], found


def balanced(way: Way) -> None:
    """Give the first router a second way of the same cost, and have it choose by ports."""
    way.r5 = way.net.add("r5", router=True)  # type: ignore[attr-defined]
    other = way.r5  # type: ignore[attr-defined]
    way.net.wire(way.r1, "other", other, "near")
    way.net.wire(other, "far", way.r3, "other")
    way.net.address(way.r1, "other", "10.5.0.1/24")
    way.net.address(other, "near", "10.5.0.2/24")
    way.net.address(other, "far", "10.6.0.1/24")
    way.net.address(way.r3, "other", "10.6.0.2/24")
    way.net.route(other, "10.4.0.0/24", "via", "10.6.0.2")
    way.net.route(other, "10.1.0.0/24", "via", "10.5.0.1")
    way.net.sysctl(other, "net.ipv4.icmp_ratelimit=0")
    way.net.sysctl(way.r1, "net.ipv4.fib_multipath_hash_policy=1")
    way.do(way.r1, "ip route replace 10.4.0.0/24 nexthop via 10.2.0.2 nexthop via 10.5.0.2")


def a_balanced_way_holds_still(way: Way, protocol: str) -> None:
    balanced(way)
    runs = [trace(way, protocol=protocol) for _ in range(2)]
    assert len({(found["hop_list"], found["path_id"]) for found in runs}) == 1, runs
    assert runs[0]["hop_list"] in (",".join(HOPS), OTHER_WAY)
    many = [f"path.Path(name='b{n}', target={HOST!r}, timeout_s=8.0, protocol={protocol!r})" for n in range(12)]
    others = {found["hop_list"] for found in way.ask_together(many)}
    assert others == {",".join(HOPS), OTHER_WAY}, "the router did not balance at all"


CHANGING = """
import asyncio, json, subprocess
from agent.checks import Context, Toolbox, path
from agent.net.resolve import Resolver
from agent.policy import Policy
from agent.safety import Gate

async def main():
    gate, memory, runs = Gate(Policy(packets_per_second=0)), {}, []
    for change in CHANGES:
        if change:
            subprocess.run(change.split(), check=True)
        ctx = Context(gate, Toolbox(), Resolver(gate), asyncio.get_running_loop().time() + 8, memory=memory)
        found = await path.Path(name="a", target="10.4.0.2", timeout_s=8.0).run(ctx)
        runs.append([found.fields["hop_list"], found.fields["path_id"], [dict(fields) for _, fields in found.more]])
    print(json.dumps(runs))

asyncio.run(main())
"""


def another_way_is_told_once_and_a_silent_hop_is_none(way: Way) -> None:
    balanced(way)
    one, other = (f"ip -n {way.r1} route replace 10.4.0.0/24 via {via}" for via in ("10.2.0.2", "10.5.0.2"))
    quiet = f"ip netns exec {way.r2} sysctl -q -w net.ipv4.icmp_ratelimit=100000 net.ipv4.icmp_ratemask=6168"
    loud = f"ip netns exec {way.r2} sysctl -q -w net.ipv4.icmp_ratelimit=0"
    changes = [one, quiet, "", "", loud, other, "", one]
    code = CHANGING.replace("CHANGES", repr(changes))
    runs = json.loads(way.net.run(way.probe, sys.executable, "-c", code))
    told = [[event["kind"] for event in events] for _, _, events in runs]
    assert told == [[], [], [], [], [], ["path_changed"], [], ["path_changed"]], runs
    assert "*" in runs[3][0].split(","), "no hop was silent"
    assert len({name for _, name, _ in runs[:5]}) == 1 and runs[5][1] != runs[0][1]
    event = runs[5][2][0]
    assert (event["old"], event["new"]) == (",".join(HOPS), OTHER_WAY)


def forged_and_garbled_errors_are_ignored(way: Way, protocol: str) -> None:
    forger = str(ROOT / "tests/rigs/icmp_forger.py")
    way.net.start(way.r1, sys.executable, "-I", "-S", forger, "10.1.0.2", HOST, "20")
    found = trace(way, protocol=protocol)
    assert (found["failure"], found["hop_list"]) == (None, ",".join(HOPS)), found


def a_forged_reply_of_the_target_does_not_reach_it(way: Way) -> None:
    way.net.sysctl(way.host, "net.ipv4.icmp_echo_ignore_all=1")
    way.net.start(way.host, sys.executable, "-m", "tests.rigs.echo_liar", "token", HOST)
    found = trace(way)
    assert (found["failure"], found["reached"], found["hop_list"]) == ("timeout", False, ",".join(HOPS[:3])), found


def ping_sockets_trace_by_icmp_and_the_others_say_what_is_missing(way: Way) -> None:
    way.net.sysctl(way.probe, "net.ipv4.ping_group_range=0 0")
    under = (need.tool("setpriv"), "--bounding-set", "-net_raw", "--")
    for target, hops in ((HOST, HOPS), (HOST_6, HOPS_6)):
        found = way.ask(f"path.Path(name='a', target={target!r}, timeout_s=8.0)", under=under)
        assert (found["failure"], found["hop_list"]) == (None, ",".join(hops)), found
    found = way.ask(f"path.Path(name='a', target={HOST!r}, timeout_s=8.0, protocol='tcp')", under=under)
    assert found["failure"] == "local_permission" and "CAP_NET_RAW" in found["detail"], found


def on_a_way(play: Callable[..., None], *words: Any) -> Case:
    return lambda net: play(Way(net), *words)


CASES: dict[str, Case] = {
    **{
        f"hops {protocol} {version}": on_a_way(the_hops_are_listed_to_the_target, target, hops, protocol)
        for protocol in ("icmp", "udp", "tcp")
        for version, target, hops in ((4, HOST, HOPS), (6, HOST_6, HOPS_6))
    },
    "silent hop": on_a_way(a_silent_hop_is_a_star),
    "filter": on_a_way(behind_a_filter_there_is_silence_and_the_last_hop_is_named),
    "black hole route": on_a_way(a_black_hole_route_ends_the_list_before_the_edge),
    "unreachable": on_a_way(a_router_that_says_no_is_the_responder, "unreachable", "unreachable", (3, 1)),
    "prohibited": on_a_way(a_router_that_says_no_is_the_responder, "prohibit", "prohibited", (3, 13)),
    "icmp filtered": on_a_way(a_firewall_filters_icmp_and_the_port_shows_the_way),
    "open port": on_a_way(an_open_port_is_reset_at_once_and_never_asked_twice),
    "loop": on_a_way(a_loop_is_recognised_before_all_hops_are_spent),
    "silent neighbour": on_a_way(a_silent_neighbour_is_our_own_word_and_no_hop),
    "dead host": on_a_way(a_dead_host_behind_the_last_router),
    "no route": on_a_way(without_a_route_nothing_is_sent),
    "limits": on_a_way(a_way_longer_than_allowed_and_a_short_timeout_are_not_the_targets_fault),
    "balanced udp": on_a_way(a_balanced_way_holds_still, "udp"),
    "balanced tcp": on_a_way(a_balanced_way_holds_still, "tcp"),
    "another way": on_a_way(another_way_is_told_once_and_a_silent_hop_is_none),
    **{
        f"forged errors {protocol}": on_a_way(forged_and_garbled_errors_are_ignored, protocol)
        for protocol in ("icmp", "udp", "tcp")
    },
    "forged reply": on_a_way(a_forged_reply_of_the_target_does_not_reach_it),
    "ping socket": on_a_way(ping_sockets_trace_by_icmp_and_the_others_say_what_is_missing),
}
played = side_by_side(CASES)


@pytest.mark.timeout(180)  # the first waits for its turn among all
@pytest.mark.parametrize("name", CASES)
def test_case(name: str, played: dict[str, Future[None]]) -> None:
    played[name].result()

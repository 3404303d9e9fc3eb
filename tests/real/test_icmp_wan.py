"""The figures of the icmp check on a bad line, held against what the line really did (rows 16, 40, 43 and 44)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rigs import relay
from tests.rigs.ask import ROOT, ask_inside
from tests.rigs.netns import Net

HOST, HOST_6 = "10.1.0.2", "fd01::2"


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        yield made


def line(net: Net, *options: str) -> tuple[str, str, subprocess.Popen[str]]:
    """Lay a line between a probe and a host; gives both and the relay between them."""
    probe, host = net.add("probe"), net.add("host")
    carrier = relay.insert(net, probe, "eth0", host, "eth0", *options)
    net.address(probe, "eth0", "10.1.0.1/24", "fd01::1/64")
    net.address(host, "eth0", f"{HOST}/24", f"{HOST_6}/64")
    return probe, host, carrier


def counted(net: Net, namespace: str) -> int:
    """Read the one counter of a namespace's firewall."""
    found = json.loads(net.run(namespace, "nft", "-j", "list", "ruleset"))
    counters = [e["counter"] for r in found["nftables"] for e in r.get("rule", {}).get("expr", []) if "counter" in e]
    assert len(counters) == 1
    return int(counters[0]["packets"])


def told(program: subprocess.Popen[str]) -> dict[str, float]:
    """End the relay and read what it did (ip-netns(8) has become the relay: same process)."""
    program.terminate()
    assert program.stdout is not None
    last = json.loads(program.stdout.readline())
    assert isinstance(last, dict)
    return last


@pytest.mark.parametrize(("target", "word"), [(HOST, "icmp"), (HOST_6, "icmpv6")])
def test_loss_delay_and_order_are_those_of_the_line(net: Net, target: str, word: str) -> None:
    """30 % random loss, 500 ms there and back, one frame in ten overtaken: figures within 10 % of the truth."""
    probe, host, carrier = line(net, "--delay", "0.25", "--jitter", "0.02", "--reorder", "0.1", "--hold", "0.15")
    # ARP and neighbour discovery first: they are carried with the same delay.
    assert ask_inside(probe, f"icmp.Icmp(name='w', target={target!r}, count=1, timeout_s=8.0)")["failure"] is None
    net.nft(host, "input", f"{word} type echo-request numgen random mod 100 < 30 counter drop")
    found = ask_inside(
        probe,
        f"icmp.Icmp(name='a', target={target!r}, count=100, timeout_s=6.0)",
        packets_per_second=0,
        target_per_second=0,
    )
    lost, did = counted(net, host), told(carrier)
    assert found["failure"] is None and found["sent"] >= 60 and lost > 0, found  # 100, but on a machine that starves
    assert (found["received"], found["duplicates"]) == (found["sent"] - lost, 0), (found, lost)
    assert found["loss_ratio"] == round(lost / found["sent"], 4)
    assert found["rtt_mean_s"] == pytest.approx(did["round_trip_s"], rel=0.1), did
    assert did["round_trip_s"] > 0.5
    assert 0.46 <= found["rtt_min_s"] < found["rtt_mean_s"] < found["rtt_p95_s"] <= found["rtt_max_s"], found
    assert did["overtaken"] > 0 and 0 < found["reordered"] <= did["overtaken"], (found, did)


def test_a_reply_after_the_run_is_in_the_next_record(net: Net) -> None:
    probe, _, _ = line(net, "--delay", "0.3")
    found = several(probe, "icmp.Icmp(name='a', target='10.1.0.2', count=1, timeout_s={})", (3.0, 0.4, 3.0))
    assert [run.get("failure") for run in found] == [None, "timeout", None], found
    assert [run["late_replies"] for run in found] == [0, 0, 1], found
    assert [run["received"] for run in found] == [1, 0, 1]


SEVERAL = """
import asyncio, json, sys
from agent.checks import icmp, Toolbox
from agent.clock import Clock
from agent.net.resolve import Resolver
from agent.policy import Policy
from agent.runner import Runner
from agent.safety import Gate

async def main():
    gate, tools = Gate(Policy(packets_per_second=0, target_per_second=0)), Toolbox()
    runner = Runner(gate, tools, Resolver(gate), Clock("trusted"))
    print("ready", flush=True)
    for check in [CHECKS]:
        run = await runner.run(check)
        print(json.dumps(dict(run.record.fields)), flush=True)
    await tools.aclose()

asyncio.run(main())
"""


def runs(namespace: str, check: str, timeouts_s: tuple[float, ...]) -> subprocess.Popen[str]:
    """Start runs of one check, one after the other, each with another timeout, in one process."""
    code = SEVERAL.replace("CHECKS", ", ".join(check.format(t) for t in timeouts_s))
    inside = ["ip", "netns", "exec", namespace, sys.executable, "-c", code]
    return subprocess.Popen(inside, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def several(namespace: str, check: str, timeouts_s: tuple[float, ...]) -> list[dict[str, Any]]:
    """As `runs`, to their end; gives the fields of the records."""
    with runs(namespace, check, timeouts_s) as program:
        out, _ = program.communicate(timeout=50)
    assert program.returncode == 0
    return [json.loads(text) for text in out.splitlines()[1:]]


def test_a_process_that_is_stopped_loses_nothing(net: Net) -> None:
    """Row 16: stopped by SIGSTOP at any moment of a run, for shorter and longer than its timeout."""
    probe, _, _ = line(net, "--delay", "0.05")
    check = "icmp.Icmp(name='a', target='10.1.0.2', count=3, timeout_s={})"
    with runs(probe, check, (3.0, *[0.8] * 8)) as program:
        assert program.stdout is not None and program.stdout.readline() == "ready\n"
        program.stdout.readline()  # ARP is done
        for before_s, stopped_s in ((0.12, 0.5), (0.2, 0.9), (0.3, 1.4), (0.05, 2.0), (0.25, 0.7)):
            time.sleep(before_s)
            program.send_signal(signal.SIGSTOP)
            time.sleep(stopped_s)
            program.send_signal(signal.SIGCONT)
        out, _ = program.communicate(timeout=50)
    found = [json.loads(text) for text in out.splitlines()]
    assert len(found) == 8
    for run in found:
        assert run.get("failure") in (None, "overload"), run
        assert run.get("loss_ratio", 0.0) == 0.0, run
        assert run.get("rtt_max_s", 0.1) < 0.5, run
    assert sum(run["outcome"] == "pass" for run in found) >= 3


def test_malformed_replies_are_harmless(net: Net) -> None:
    """Row 43: before each right reply come broken, cut, oversized and foreign ones."""
    probe, host, _ = line(net, "--delay", "0.001")
    net.sysctl(host, "net.ipv4.icmp_echo_ignore_all=1")
    net.start(host, sys.executable, "-m", "tests.rigs.echo_liar", "garbage", HOST)
    found = ask_inside(probe, f"icmp.Icmp(name='a', target={HOST!r}, count=5, timeout_s=2.0)")
    assert (found["failure"], found["sent"], found["received"], found["duplicates"]) == (None, 5, 5, 0), found
    assert found["rtt_min_s"] >= 0.002 and found["loss_ratio"] == 0.0 and "responder" not in found

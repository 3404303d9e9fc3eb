"""The `listen` check and the neighbour of our own port, on a cable in namespaces, with frames that attack."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.packets.listening import BATCH, PAUSE_S
from tests.rigs import need
from tests.rigs.ask import ask_inside
from tests.rigs.headers import arp, mac_of, syn4, syn6
from tests.rigs.netns import ROOT, Net
from tests.rigs.switch_frames import cdp_frame, lldp_frame

WAIT_S = 30.0
SEND = (sys.executable, "-m", "tests.rigs.headers", "eth0")
LISTENING = """
import asyncio, json
from agent.checks import Context, Toolbox, listen
from agent.model import Failed
from agent.net.resolve import Resolver
from agent.policy import Policy
from agent.safety import Gate

async def main():
    gate, tools, memory, loop = Gate(Policy()), Toolbox(), {}, asyncio.get_running_loop()
    check = listen.Listen(name="a", consent="c", interval_s=1.0, timeout_s=5.0, known=("10.20.0.40",))
    while True:
        ctx = Context(gate, tools, Resolver(gate), loop.time() + 20, check_type="listen", memory=memory)
        try:
            facts = await check.run(ctx)
            print(json.dumps({**facts.fields, "events": [fields for kind, fields in facts.more]}), flush=True)
        except Failed as failed:
            print(json.dumps({"failure": failed.failure}), flush=True)
        await asyncio.sleep(0.3)

asyncio.run(main())
"""
NEIGHBOURHOOD = """
import asyncio, json
from agent.clock import Clock
from agent.neighbourhood import Neighbourhood
from agent.packets import PacketChild

async def main():
    child = PacketChild()
    said = lambda record: print(json.dumps(dict(record.fields)), flush=True)
    found = Neighbourhood(child, said, Clock("trusted").now)
    print("{}", flush=True)
    while True:
        await found.look("eth0", seconds=0.7)

asyncio.run(main())
"""


class Cable:
    """A probe whose cable ends at another machine; `said` are the lines of the program that runs at the probe."""

    def __init__(self, net: Net) -> None:
        self.net, self.said = net, list[dict[str, Any]]()
        self.probe, self.other = net.add("probe"), net.add("other")
        net.wire(self.probe, "eth0", self.other, "eth0")
        net.address(self.probe, "eth0", "10.20.0.10/24", "fd20::10/64")
        net.address(self.other, "eth0", "10.20.0.1/24", "fd20::1/64")
        net.route(self.probe, "default", "via", "10.20.0.1")
        net.name_servers(self.probe, "10.20.0.1")
        self.mac = bytes.fromhex(self.own_mac(self.probe).replace(":", ""))

    def own_mac(self, where: str) -> str:
        return self.net.run(where, "cat", "/sys/class/net/eth0/address").strip()

    def start(self, code: str) -> None:
        """Run a program at the probe and wait until it listens."""
        program = self.net.start(self.probe, sys.executable, "-c", code)
        assert program.stdout is not None
        lines = program.stdout
        threading.Thread(target=lambda: self.said.extend(map(json.loads, lines)), daemon=True).start()

    def send(self, *frames: bytes, count: int = 1, per_second: float = 0) -> None:
        """Send frames from the other end, and wait until they are sent."""
        self.net.run(self.other, *SEND, str(count), str(per_second), *(frame.hex() for frame in frames))

    def wait(self, condition: Callable[[list[dict[str, Any]]], Any]) -> None:
        """Wait until what was said meets the condition."""
        end = time.monotonic() + WAIT_S
        while not condition(list(self.said)):
            assert time.monotonic() < end, f"not within {WAIT_S:g} s; said {self.said[-5:]}"
            time.sleep(0.05)

    def events(self) -> dict[str, dict[str, Any]]:
        """Give the events said so far, the last of each indicator."""
        return {e["indicator"]: e for line in list(self.said) for e in line.get("events", ())}

    def total(self, field: str) -> int:
        """Add up a count over all records."""
        return sum(line.get(field, 0) for line in list(self.said))


@pytest.fixture
def cable() -> Iterator[Cable]:
    with Net() as net:
        yield Cable(net)


def test_signs_are_told_with_counts_and_without_clear_addresses(cable: Cable) -> None:
    cable.start(LISTENING)
    cable.wait(len)
    scan = [arp(mac_of(0x77), "10.20.0.77", f"10.20.1.{n}") for n in range(40)]
    cable.send(*scan)
    cable.wait(lambda _: "possible_worm_scan" in cable.events())
    second = arp(mac_of(0x66), "10.20.0.1", "10.20.0.1", reply=True)
    first = bytes.fromhex(cable.own_mac(cable.other).replace(":", ""))
    cable.send(arp(first, "10.20.0.1", "10.20.0.10"), second)
    cable.wait(lambda _: "second_gateway_mac" in cable.events())
    attempts = [syn4("10.20.0.66", "10.20.0.10", port, to_mac=cable.mac) for port in (445, 139, 3389, 80)]
    attempts += [syn6("fd20::66", "fd20::10", 445, to_mac=cable.mac)]
    cable.send(*attempts)
    cable.wait(lambda _: cable.total("connection_attempts") >= 4)
    cable.wait(lambda _: "unsolicited_connection" in cable.events())
    assert cable.total("connection_attempts") == 4, "port 80 is none of ours"
    assert cable.events()["possible_worm_scan"]["count"] >= 30
    text = json.dumps(cable.said)
    for clear in ("10.20.0.77", "10.20.0.66", "fd20::66", "10.20.1.", mac_of(0x77).hex(":"), mac_of(0x66).hex(":")):
        assert clear not in text
    assert "infect" not in text and all(e["kind"] == "indicator" for e in cable.events().values())


def test_what_is_not_for_us_is_not_heard_and_the_interface_is_not_promiscuous(cable: Cable) -> None:
    cable.start(LISTENING)
    cable.wait(len)
    elsewhere = mac_of(0x99)
    cable.send(
        syn4("10.20.0.66", "10.20.0.10", 445, to_mac=elsewhere),
        arp(mac_of(5), "10.20.0.5", "10.20.0.6", reply=True, to=elsewhere),
        arp(mac_of(6), "10.20.0.6", "10.20.0.5"),
        syn4("10.20.0.40", "10.20.0.10", 445, to_mac=cable.mac),  # a listed machine
    )
    cable.wait(lambda _: cable.total("arp_requests") >= 1)
    time.sleep(0.5)
    assert (cable.total("arp_replies"), cable.total("connection_attempts")) == (0, 0)
    assert json.loads(cable.net.ip("-n", cable.probe, "-d", "-j", "link", "show", "eth0"))[0]["promiscuity"] == 0


def test_a_storm_is_told_and_costs_no_memory(cable: Cable) -> None:
    cable.start(LISTENING)
    cable.wait(len)
    flood = [arp(mac_of(n), f"10.20.{n % 200}.{n % 250}", f"10.20.{n % 100}.9") for n in range(500)]
    words = (str(60_000), "0", *(frame.hex() for frame in flood))
    sender = subprocess.Popen(["ip", "netns", "exec", cable.other, *SEND, *words], cwd=ROOT)
    try:
        cable.wait(lambda _: {"arp_storm", "broadcast_storm"} <= set(cable.events()))
    finally:
        sender.kill()
        sender.wait()
    assert cable.total("dropped") > 0, "the kernel dropped what was too much"
    assert not any("failure" in line for line in cable.said)
    for line in cable.said[1:]:
        assert line["broadcasts"] <= (line["listened_s"] + 1) * BATCH / PAUSE_S, "more was looked at than may be"
    assert cable.events()["broadcast_storm"]["count"] > 1000


def test_without_the_privilege_it_is_our_own_fault(cable: Cable) -> None:
    need.tool("setpriv")
    found = ask_inside(
        cable.probe, 'listen.Listen(name="a")', under=("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    )
    assert found["failure"] == "local_permission" and "CAP_NET_RAW" in found["detail"]


def test_an_interface_that_goes_down_is_told_and_listening_begins_again(cable: Cable) -> None:
    cable.start(LISTENING)
    cable.wait(len)
    cable.net.ip("-n", cable.probe, "link", "set", "eth0", "down")
    cable.wait(lambda said: said[-1].get("failure") == "local_link")
    cable.net.ip("-n", cable.probe, "link", "set", "eth0", "up")
    cable.net.route(cable.probe, "default", "via", "10.20.0.1")
    cable.wait(lambda said: "failure" not in said[-1])
    began = len(cable.said)

    def hears(said: list[dict[str, Any]]) -> bool:
        cable.send(arp(mac_of(6), "10.20.0.6", "10.20.0.5"))
        return any(line.get("arp_requests") for line in said[began:])

    cable.wait(hears)


def test_the_switch_at_our_port_is_told_once_and_again_when_it_changes(cable: Cable) -> None:
    cable.start(NEIGHBOURHOOD)

    def told() -> list[tuple[Any, ...]]:
        return [tuple(line.get(k) for k in ("switch", "switch_port", "switch_vlan", "heard_by")) for line in cable.said]

    workstation, broken = lldp_frame(name="pc-of-jane", capabilities=0x80), lldp_frame()[:20]
    for frame, wanted in (
        (lldp_frame(name="sw1", port="Gi1/0/1", vlan=20), ("sw1", "Gi1/0/1", 20, "lldp")),
        (lldp_frame(name="sw1", port="Gi1/0/2", vlan=20), ("sw1", "Gi1/0/2", 20, "lldp")),
        (cdp_frame(name="sw2", port="Fa0/1"), ("sw2", "Fa0/1", None, "cdp")),
    ):
        end = time.monotonic() + WAIT_S
        while wanted not in told():
            assert time.monotonic() < end, f"{wanted} was not told: {cable.said}"
            cable.send(workstation, broken, frame)
            time.sleep(0.1)
    assert len(told()) == len(set(told())), "nothing is told twice"
    assert "jane" not in json.dumps(cable.said)
    assert cable.said[-1]["detail"] == "eth0 is connected to port Fa0/1 of sw2, before it was port Gi1/0/2 of sw1"

"""What leaves the machine, seen on its wire: nothing to a place that the config does not name, never too much.

The agent runs in a namespace with one cable; the sniffer hears that cable's other end, where a gateway answers
ping, lookups (tests/rigs/stand_in.py) and most of the addresses that the config names.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.web.socket import ask_status
from tests.rigs.netns import ROOT, Net
from tests.rigs.scene import STAND_IN

SECONDS, AT_MOST_S = 20, 60
"""A run lasts so long, and longer until everything named was asked: under so tight a budget a round takes a while."""
PER_SECOND, BURST = 4, 6
TARGET_PER_SECOND, TARGET_BURST = 1, 3
SNMP_PER_SECOND = 5
GATEWAY = "10.20.0.1"
NAMES = {
    "epr.example.org": "198.51.100.20",
    "pacs.example.org": "198.51.100.21",
    "mqtt.example.org": "198.51.100.53",
    "astray.example.org": "10.66.0.5",  # in a denied network
}
ANSWERING = ("198.51.100.10", "198.51.100.20", "198.51.100.21", "203.0.113.10", "10.66.0.5", "10.66.0.6")
CONFIG = f"""\
version: 1
clock: trusted
identity: {{org: org, site: site, node: quiet-probe}}
mqtt: {{url: "mqtt://mqtt.example.org", allow_plaintext: true, spread: 2s, retry_max: 6s}}
buffer: {{directory: STORE}}
safety: {{deny: [10.66.0.0/16], packets_per_second: {PER_SECOND}, burst: {BURST},
         target_per_second: {TARGET_PER_SECOND}, target_burst: {TARGET_BURST}}}
defaults: {{icmp: {{interval: 2s}}, tcp: {{interval: 2s}}, http: {{interval: 2s}}, dns: {{interval: 2s}},
           snmp: {{interval: 2s, version: 2c, community: public}}}}
anchors: {{internet: [203.0.113.10], dc-a: [198.51.100.10]}}
devices: {{core-switch: 10.20.0.77}}
checks:
  - {{name: epr, type: http, url: "http://epr.example.org/", group: dc-a}}
  - {{name: epr-ping, type: icmp, target: epr.example.org, group: dc-a}}
  - {{name: pacs, type: tcp, target: pacs.example.org, port: 104, group: dc-a}}
  - {{name: astray-ping, type: icmp, target: astray.example.org, group: dc-a}}
  - {{name: astray-page, type: http, url: "http://astray.example.org/", group: dc-a}}
  - {{name: astray-port, type: tcp, target: astray.example.org, port: 104, group: dc-a}}
  - {{name: astray-name, type: dns, server: astray.example.org, query: epr.example.org}}
  - {{name: silent, type: icmp, target: 10.20.0.78, layer: lan}}
"""
NAMED: dict[str, set[tuple[str, int | None]]] = {
    GATEWAY: {("icmp", None), ("udp", 53)},
    "203.0.113.10": {("icmp", None)},
    "198.51.100.10": {("icmp", None)},
    "198.51.100.20": {("icmp", None), ("tcp", 80)},
    "198.51.100.21": {("tcp", 104)},
    "198.51.100.53": {("tcp", 1883)},
    "10.20.0.77": {("udp", 161)},
    "10.20.0.78": {("icmp", None)},
}


@dataclass(frozen=True)
class Heard:
    """What the wire carried from the probe, and the status at the end."""

    packets: list[dict[str, Any]]
    states: dict[str, dict[str, Any]]

    def requests(self) -> list[dict[str, Any]]:
        """Give what the probe began, each once (a kernel sends a SYN anew by itself), in order."""
        first: dict[str, dict[str, Any]] = {}
        for packet in self.packets:
            if packet["request"]:
                first.setdefault(f"{packet['protocol']} {packet['to']} {packet['key']}", packet)
        return list(first.values())


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    folder = tmp_path_factory.mktemp("quiet")
    with Net() as net:
        probe, gateway = net.add("probe"), net.add("gateway")
        net.sysctl(probe, "net.ipv6.conf.all.disable_ipv6=1")
        net.wire(probe, "eth0", gateway, "eth0")
        net.address(probe, "eth0", "10.20.0.10/24")
        net.address(gateway, "eth0", f"{GATEWAY}/24", "10.20.0.77/24", "10.20.0.78/24")
        net.nft(gateway, "input", "ip daddr { 10.20.0.77, 10.20.0.78 } drop")
        for address in (*ANSWERING, NAMES["mqtt.example.org"]):
            net.address(gateway, "lo", f"{address}/32")
        net.route(probe, "default", "via", GATEWAY)
        net.name_servers(probe, GATEWAY)
        net.start(gateway, *STAND_IN, "names", GATEWAY, *(f"{name}={address}" for name, address in NAMES.items()))
        net.start(gateway, *STAND_IN, "page", "0.0.0.0", "80")
        net.start(gateway, *STAND_IN, "port", "0.0.0.0", "104")
        sniffer = net.start(gateway, sys.executable, "-I", "-S", str(ROOT / "tests/rigs/sniffer.py"), "eth0")
        lines: list[str] = []
        assert sniffer.stdout is not None
        reading = threading.Thread(target=lines.extend, args=(sniffer.stdout,))
        reading.start()
        states = run_agent(probe, folder, lambda: len(visited(lines)) >= sum(map(len, NAMED.values())))
        time.sleep(0.2)
        sniffer.kill()
        reading.join()
    yield Heard(packets(lines), states)


def packets(lines: list[str]) -> list[dict[str, Any]]:
    """Read what the sniffer heard from the probe; its first line only says that it listens."""
    return [packet for packet in map(json.loads, lines) if packet["from"] == "10.20.0.10"]


def visited(lines: list[str]) -> set[tuple[str, str, int | None]]:
    return {(p["to"], p["protocol"], p["port"]) for p in packets(list(lines))}


def run_agent(probe: str, folder: Path, everywhere: Callable[[], bool]) -> dict[str, Any]:
    config, store = folder / "siteprobe.yaml", folder / "store"
    config.write_text(CONFIG.replace("STORE", str(store)))
    command = ["ip", "netns", "exec", probe, sys.executable, "-m", "agent", "run", "-c", str(config)]
    with (folder / "agent.log").open("wb") as log, subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as agent:
        try:
            began = time.monotonic()
            time.sleep(SECONDS)
            while not everywhere() and time.monotonic() - began < AT_MOST_S:
                time.sleep(0.5)
            status = ask_status([store])
        finally:
            agent.terminate()
            agent.wait(15)
    assert status, (folder / "agent.log").read_text()
    states: dict[str, Any] = status["states"]
    return states


def test_every_packet_goes_where_the_config_says(heard: Heard) -> None:
    went = {(p["to"], p["protocol"], p["port"]) for p in heard.packets}
    named = {(address, kind, port) for address, services in NAMED.items() for kind, port in services}
    assert went <= named, f"not named in the config: {went - named}"
    assert went == named, f"never asked: {named - went}"


def test_a_name_that_leads_into_a_denied_network_is_not_followed(heard: Heard) -> None:
    assert not [p for p in heard.packets if p["to"].startswith("10.66.")]
    for name in ("astray-ping", "astray-page", "astray-port", "astray-name"):
        card = heard.states[name]
        assert (card["state"], card["reason"].partition(":")[0]) == ("unknown", "local_policy"), card


JITTER_S = 0.1
"""From a permit to its packet on the wire of a loaded machine: one tick, in which what is due leaves together."""


def within_budget(times: list[float], rate: float, burst: float) -> None:
    """No stretch of time holds more than the burst and what the rate allows in it; one more for the wire's jitter."""
    for first, at in enumerate(times):
        for last in range(first, len(times)):
            count, seconds = last - first + 1, times[last] - at + JITTER_S
            assert count <= burst + rate * seconds + 1, f"{count} in {seconds:.2f} s, allowed {burst:g} + {rate:g}/s"


def test_no_stretch_of_time_holds_more_than_the_budget(heard: Heard) -> None:
    requests = [p for p in heard.requests() if p["port"] not in (161, 1883)]
    seconds = requests[-1]["at"] - requests[0]["at"]
    assert len(requests) > PER_SECOND * seconds * 0.6, "the budget was not put to the test"
    within_budget([p["at"] for p in requests], PER_SECOND, BURST)


def test_no_target_is_asked_more_than_its_budget(heard: Heard) -> None:
    for target in NAMED:
        times = [p["at"] for p in heard.requests() if p["to"] == target and p["port"] not in (161, 1883)]
        within_budget(times, TARGET_PER_SECOND, TARGET_BURST)


def test_snmp_keeps_to_its_own_budget(heard: Heard) -> None:
    within_budget([p["at"] for p in heard.packets if p["port"] == 161], SNMP_PER_SECOND, 1)


def test_a_broker_that_refuses_is_not_hammered(heard: Heard) -> None:
    attempts = [p["at"] for p in heard.requests() if p["port"] == 1883]
    assert 1 < len(attempts) <= attempts[-1] - attempts[0] + 2

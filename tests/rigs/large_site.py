"""A large config on a wire that a sniffer hears: the probe in a namespace, everybody it may ask behind its one cable.

Every check type has its lines in LINES; what the config makes it send comes from `siteprobe manifest --json`,
asked inside the same namespace.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.web.socket import ask_status
from tests.rigs.netns import ROOT, Net
from tests.rigs.scene import STAND_IN

PROBE, GATEWAY, PEER, DEVICES = "10.20.0.10", "10.20.0.1", "10.20.0.70", ("10.20.0.77", "10.20.0.78")
HOSTS = [f"198.51.100.{number}" for number in range(10, 40)]
NAMED = {f"host-{number}.example.org": address for number, address in enumerate(HOSTS[:12])}
NAMES = NAMED | {"mqtt.example.org": "198.51.100.53", "broker.example.org": "198.51.100.54"}
ASTRAY = {"astray.example.org": "10.66.0.5"}
SILENT = "198.51.100.99"
DENIED = "10.66."
BUDGET, BURST, TARGET_RATE, TARGET_BURST, SNMP_RATE = 20, 40, 2, 60, 5
"""One target gets more than by default: every lookup goes to the one name server, which is the gateway too."""
ON_BUDGET = ("icmp", "tcp", "udp")
STARTUP_S = 8.0
"""From the start of the process to the last first run: importing, and min(interval, 5 s)."""

LINES: dict[str, list[str]] = {
    "icmp": [f"target: {address}, count: 1, interval: 6s, group: dc-a" for address in HOSTS]
    + ["target: gateway, layer: gateway, count: 1, interval: 5s", f"target: {PEER}, layer: lan, count: 1, interval: 5s"]
    + [f"target: {SILENT}, count: 1, interval: 10s, timeout: 2s, group: dc-a"]
    + ["target: astray.example.org, interval: 3s, group: dc-a"],
    "tcp": [f"target: {name}, port: 104, interval: 8s, group: dc-a" for name in NAMED]
    + ["target: astray.example.org, port: 104, interval: 3s, group: dc-a"],
    "http": [f'url: "http://{name}/", interval: 9s, group: dc-a' for name in list(NAMED)[:6]]
    + ['url: "http://astray.example.org/", interval: 3s, group: dc-a'],
    "dns": [f"server: resolver, query: {name}, interval: 7s" for name in list(NAMED)[:3]]
    + ["server: astray.example.org, query: host-1.example.org, interval: 3s"],
    "snmp": [f"target: {address}, version: 2c, community: public, interval: 6s" for address in DEVICES],
    "mqtt": ['url: "mqtt://broker.example.org", interval: 8s', ""],
    "link": ["interval: 5s"],
}
HEAD = f"""\
version: 1
clock: trusted
standard: false
identity: {{org: org, site: site, node: large-probe}}
mqtt: {{url: "mqtt://mqtt.example.org", allow_plaintext: true}}
buffer: {{directory: STORE}}
safety: {{deny: [10.66.0.0/16], packets_per_second: {BUDGET}, burst: {BURST},
         target_per_second: {TARGET_RATE}, target_burst: {TARGET_BURST}}}
checks:
"""
Place = tuple[str, str, int | None]
"""Address, protocol, port."""


@dataclass(frozen=True)
class Heard:
    """What the wire carried from the probe in so many seconds of running, and what the manifest says of it."""

    packets: list[dict[str, Any]]
    manifest: dict[str, Any]
    states: dict[str, dict[str, Any]]
    seconds: float

    def requests(self) -> list[dict[str, Any]]:
        """Give what the probe began, each once (a kernel sends a SYN anew by itself), in order."""
        first: dict[str, dict[str, Any]] = {}
        for packet in self.packets:
            if packet["request"]:
                first.setdefault(f"{packet['protocol']} {packet['to']} {packet['key']}", packet)
        return list(first.values())

    def counts(self) -> Counter[Place]:
        """Count what the probe began at each place."""
        return Counter((p["to"], p["protocol"], p["port"]) for p in self.requests() if p["protocol"] != "arp")

    def declared(self) -> dict[Place, float]:
        """Give the packets a day of each place in the manifest, names as the addresses they lead to."""
        found: Counter[Place] = Counter()
        known = {**NAMES, **ASTRAY, "gateway": GATEWAY, "resolver": GATEWAY}
        for row in self.manifest["sends"]:
            address = known.get(row["destination"], row["destination"])
            found[address, row["protocol"], row["port"]] += row["packets_per_day"]
        return dict(found)


def config_text(store: Path) -> str:
    lines = [
        f"  - {{name: {kind}-{number}, type: {kind}{', ' if words else ''}{words}}}"
        for kind, each in LINES.items()
        for number, words in enumerate(each)
    ]
    return HEAD.replace("STORE", str(store)) + "\n".join(lines) + "\n"


def listened(folder: Path, seconds: float) -> Heard:
    """Let the agent run for so long and hear its cable; needs root."""
    with Net() as net:
        probe, gateway = wired(net)
        sniffer = net.start(gateway, sys.executable, "-I", "-S", str(ROOT / "tests/rigs/sniffer.py"), "eth0", "arp")
        lines: list[str] = []
        assert sniffer.stdout is not None
        reading = threading.Thread(target=lines.extend, args=(sniffer.stdout,))
        reading.start()
        try:
            manifest, states = run_agent(net, probe, folder, seconds)
            time.sleep(0.3)
        finally:
            sniffer.kill()
            reading.join()
    return Heard([p for p in map(json.loads, lines) if p["from"] == PROBE], manifest, states, seconds)


def wired(net: Net) -> tuple[str, str]:
    """Lay the cable and start everybody who answers; gives the two namespaces."""
    probe, gateway = net.add("probe"), net.add("gateway")
    net.sysctl(probe, "net.ipv6.conf.all.disable_ipv6=1")
    net.sysctl(gateway, "net.ipv6.conf.all.disable_ipv6=1")
    net.wire(probe, "eth0", gateway, "eth0")
    net.address(probe, "eth0", f"{PROBE}/24")
    net.address(gateway, "eth0", *(f"{address}/24" for address in (GATEWAY, PEER, *DEVICES)))
    net.nft(gateway, "input", f"ip daddr {{ {', '.join((*DEVICES, SILENT))} }} drop")
    addresses = {*HOSTS, *NAMES.values(), *ASTRAY.values(), SILENT}
    net.address(gateway, "lo", *(f"{address}/32" for address in sorted(addresses)))
    net.route(probe, "default", "via", GATEWAY)
    net.name_servers(probe, GATEWAY)
    known = (f"{name}={address}" for name, address in (NAMES | ASTRAY).items())
    net.start(gateway, *STAND_IN, "names", GATEWAY, *known)
    net.start(gateway, *STAND_IN, "page", "0.0.0.0", "80")
    net.start(gateway, *STAND_IN, "port", "0.0.0.0", "104")
    net.start(gateway, *STAND_IN, "broker", "0.0.0.0", "1883")
    return probe, gateway


def run_agent(net: Net, probe: str, folder: Path, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the agent for so many seconds after it is up; gives its manifest and its last states."""
    config, store = folder / "siteprobe.yaml", folder / "store"
    config.write_text(config_text(store))
    told = json.loads(net.run(probe, sys.executable, "-m", "agent", "manifest", "--json", "-c", str(config)))
    command = ["ip", "netns", "exec", probe, sys.executable, "-m", "agent", "run", "-c", str(config)]
    with (folder / "agent.log").open("wb") as log, subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as agent:
        try:
            for _ in waiting(60):
                if ask_status([store]):
                    break
            time.sleep(seconds)
            status = ask_status([store])
        finally:
            agent.terminate()
            agent.wait(15)
    assert status, (folder / "agent.log").read_text()
    return told, status["states"]


def waiting(seconds: float) -> Iterator[None]:
    """Go round, ten times a second, for so long at most."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield
        time.sleep(0.1)


def judge(heard: Heard) -> None:
    """Hold the capture against the manifest, the policy and the budgets; raises AssertionError."""
    judge_places(heard)
    judge_form(heard)
    judge_budgets(heard)
    judge_counts(heard)


def judge_places(heard: Heard) -> None:
    """Everything that went out is in the manifest, and everything in it was seen, but what is denied."""
    went, declared = (
        set(heard.counts()) | {placed(p) for p in heard.packets if p["protocol"] != "arp"},
        heard.declared(),
    )
    assert not [place for place in went if place[0].startswith(DENIED)], "a denied network was asked"
    assert went <= set(declared), f"not in the manifest: {sorted(map(str, went - set(declared)))}"
    only_if_cut = {(GATEWAY, "tcp", 53)}
    expected = {p for p, a_day in declared.items() if a_day and not p[0].startswith(DENIED)} - only_if_cut
    assert expected <= went, f"in the manifest and never seen: {sorted(map(str, expected - went))}"
    neighbours = {p["to"] for p in heard.packets if p["protocol"] == "arp" and p["request"]}
    assert neighbours <= {GATEWAY, PEER, *DEVICES, PROBE}, "somebody was looked for whom the config does not name"


def placed(packet: dict[str, Any]) -> Place:
    return packet["to"], packet["protocol"], packet["port"]


def judge_form(heard: Heard) -> None:
    """Only well-formed packets; what goes to a LAN peer cannot leave the subnet."""
    assert not [packet for packet in heard.packets if packet["fault"]]
    assert {p["ttl"] for p in heard.packets if p["to"] == PEER and p["protocol"] == "icmp"} == {1}
    asked = [p["at"] for p in heard.packets if p["protocol"] == "arp" and p["request"]]
    assert not [at for at in asked if sum(at <= other < at + 1 for other in asked) > 5], "more than 5 ARP in a second"


JITTER_S = 0.05
"""From a permit, which is given on a tick, to its packet on the wire of a loaded machine."""


def judge_budgets(heard: Heard) -> None:
    """No stretch of time holds more than its budget allows: of the whole agent, of a target, of an SNMP device."""
    rated = [p for p in heard.requests() if p["protocol"] in ON_BUDGET and not own_budget(p)]
    within([p["at"] for p in rated], BUDGET, BURST)
    for target in {p["to"] for p in rated}:
        within([p["at"] for p in rated if p["to"] == target], TARGET_RATE, TARGET_BURST)
    for device in DEVICES:
        within([p["at"] for p in heard.requests() if p["to"] == device], SNMP_RATE, 1)


def own_budget(packet: dict[str, Any]) -> bool:
    return bool(packet["port"] == 161 or packet["to"] == NAMES["mqtt.example.org"])


def within(times: list[float], rate: float, burst: float) -> None:
    """Hold every stretch of time against burst + rate × length, with one more for the wire's jitter.

    One pass: with the earliest start that is worst for each end (the leaky bucket of ITU-T I.371 seen from outside).
    """
    empty_at = float("-inf")
    for at in times:
        empty_at = max(empty_at, at) + 1 / rate
        assert empty_at - at <= (burst + 1) / rate + JITTER_S, f"over the budget of {rate:g}/s, burst {burst:g}"


def judge_counts(heard: Heard) -> None:
    """What is asked in these seconds is the day's number of the manifest, scaled, and no more.

    Not less than a third, on a machine however busy; not more but for the first runs after the start, which come
    sooner than the interval, and the confirmations of what fails (SILENT and the devices).
    """
    counts = heard.counts()
    for place, a_day in heard.declared().items():
        address, _, port = place
        if address in (SILENT, *DEVICES, NAMES["mqtt.example.org"]) or address.startswith(DENIED) or (port == 53):
            continue
        expected = a_day * heard.seconds / 86400
        most = a_day * (heard.seconds + STARTUP_S) / 86400 + 3
        assert expected / 3 - 2 <= counts[place] <= most, f"{place}: {counts[place]}, {expected:.1f} expected"

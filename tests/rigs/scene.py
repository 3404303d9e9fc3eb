"""A whole hospital site in namespaces, with the agent running in it, for one fault at a time.

    probe ─┐                              ┌─ dc-a ── service     (epr.example.org)
           ├─ switch ── gateway ── carrier ┼─ dc-b                (a TCP port)
    peer ──┘ (bridge)                      └─ internet
    (name server)                (collector: mosquitto)

    with Site(folder) as site:
        site.await_verdict("healthy")
        site.do("gateway: ip link set lan down")
        site.await_verdict("lan_gateway_down")

What happens is written as `where: command`, several joined by `;`. `where: stop NAME` and `where: start NAME`
end and begin one of the site's servers (SERVERS).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from agent.web.socket import ask_status
from tests.rigs import need
from tests.rigs.netns import ROOT, Net

POLL_S = 0.2
STARTED_S = 20.0
STAND_IN = (sys.executable, "-I", "-S", str(ROOT / "tests/rigs/stand_in.py"))
COLLECTOR = "100.64.9.53"
SERVERS = {
    "names": (
        "peer",
        [*STAND_IN, "names", "10.20.0.53", "epr.example.org=198.51.100.20", f"mqtt.example.org={COLLECTOR}"],
    ),
    "page": ("service", [*STAND_IN, "page", "198.51.100.20", "80"]),
    "port": ("dc-b", [*STAND_IN, "port", "198.51.100.129", "104"]),
}
CABLES = """
switch to-probe probe eth0
switch to-peer peer eth0
switch to-gateway gateway lan
gateway wan carrier to-site
carrier to-dc-a dc-a wan
carrier to-dc-b dc-b wan
carrier to-internet internet wan
dc-a servers service eth0
"""
ADDRESSES = """
probe eth0 10.20.0.10/24
peer eth0 10.20.0.53/24
gateway lan 10.20.0.1/24
gateway wan 100.64.0.2/30
carrier to-site 100.64.0.1/30
carrier lo 100.64.9.9/32
carrier lo 100.64.9.53/32
carrier to-dc-a 100.64.1.1/30
dc-a wan 100.64.1.2/30
dc-a servers 198.51.100.1/25
service eth0 198.51.100.20/25
carrier to-dc-b 100.64.2.1/30
dc-b wan 100.64.2.2/30
dc-b lo 198.51.100.129/32
carrier to-internet 203.0.113.1/24
internet wan 203.0.113.10/24
"""
ROUTES = """
probe default via 10.20.0.1
peer default via 10.20.0.1
gateway default via 100.64.0.1
carrier 10.20.0.0/24 via 100.64.0.2
carrier 198.51.100.0/25 via 100.64.1.2
carrier 198.51.100.128/25 via 100.64.2.2
dc-a default via 100.64.1.1
dc-b default via 100.64.2.1
service default via 198.51.100.1
internet default via 203.0.113.1
"""
# Short intervals, and one echo a run: a lost packet then is a failed run. The service keeps its 5 s of patience,
# for the edge of a data centre says "no such host" only after its own ARP has given up, some 3 s.
CONFIG = """\
version: 1
clock: trusted
identity: {{org: scenes, site: hospital, node: scene-probe}}
mqtt: {{url: "mqtt://mqtt.example.org", allow_plaintext: true, spread: 1s, retry_max: 2s}}
buffer: {{directory: {store}}}
safety: {{packets_per_second: 50, burst: 100, target_per_second: 5, target_burst: 20}}
defaults: {{icmp: {{interval: 2s, timeout: 2s, count: 1}}, link: {{interval: 5s}}, dns: {{interval: 3s}}}}
anchors: {{lan: [10.20.0.53], uplink: [100.64.0.1], carrier: [100.64.9.9], internet: [203.0.113.10],
          dc-a: [198.51.100.1], dc-b: [198.51.100.129]}}
checks:
  - {{name: time, type: ntp, server: 127.0.0.1, enabled: false}}  # the machine's own source is not in this network
  - {{name: epr, type: http, url: "http://epr.example.org/", group: dc-a, interval: 3s}}
  - {{name: pacs, type: tcp, target: 198.51.100.129, port: 104, group: dc-b, interval: 3s}}
"""


@dataclass(frozen=True)
class Plan:
    """How a site is built: who is there, its cables, addresses and routes, what is switched together, and the config.

    `servers` are programs by name: where they run, and their command, in which {folder} is the site's own.
    """

    hosts: tuple[str, ...]
    routers: tuple[str, ...]
    cables: str
    addresses: str
    routes: str
    bridge: tuple[str, ...]
    servers: Mapping[str, tuple[str, Sequence[str]]]
    collector: tuple[str, str]
    config: str
    name_servers: tuple[str, ...]


class Site:
    """The site and its probe; `seen` are the verdicts since `forget`, in order, each once in a row."""

    def __init__(self, folder: Path, plan: Plan | None = None) -> None:
        self.plan = plan or SCENES
        self.folder = folder
        self.config = folder / "siteprobe.yaml"
        self.status: dict[str, Any] = {}
        self.seen: list[str] = []
        self._net = Net()
        self._spaces: dict[str, str] = {}
        self._servers: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        self._net.__enter__()
        try:
            self._lay_cables()
            for name in (*self.plan.servers, "collector"):
                self._start(name)
            self.start_agent()
        except BaseException:
            self._net.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_agent()
        self._net.__exit__(None, None, None)

    def stop_agent(self) -> None:
        """End the agent in an orderly way, or by force if it does not."""
        self._agent.terminate()
        try:
            self._agent.wait(10)
        except subprocess.TimeoutExpired:
            self._agent.kill()
            self._agent.wait()

    def kill_agent(self) -> None:
        """End the agent as a power cut would."""
        self._agent.kill()
        self._agent.wait()

    def do(self, steps: str) -> None:
        """Do `where: command; where: command…`."""
        for step in re.split(r"; ?(?=[a-z-]+: )", steps):
            where, _, command = step.partition(": ")
            words = command.split()
            if words[0] == "stop":
                self._servers[words[1]].kill()
                self._servers[words[1]].wait()
            elif words[0] == "start":
                self._start(words[1])
            else:
                self.run(where, *words)

    def run(self, where: str, *command: str) -> str:
        """Run a command at one place of the site; gives what it printed."""
        return self._net.run(self._spaces[where], *command)

    def start(self, where: str, *command: str) -> subprocess.Popen[str]:
        """Start a program at one place of the site and wait for its first line."""
        return self._net.start(self._spaces[where], *command)

    def look(self) -> dict[str, Any]:
        """Ask the agent over its socket, as `siteprobe status` does."""
        found = ask_status([self.folder / "store"])
        if found:
            self.status = found
            verdict = found["verdict"]["verdict"]
            self.seen += [verdict] if self.seen[-1:] != [verdict] else []
        return self.status

    def await_status(self, wanted: Callable[[dict[str, Any]], bool], seconds: float) -> dict[str, Any]:
        """Look until the status is as wanted; fails with the last one and the agent's log."""
        end = time.monotonic() + seconds
        while not wanted(self.look()):
            assert self._agent.poll() is None, f"the agent ended: {self.log()}"
            assert time.monotonic() < end, f"not within {seconds:g} s; seen {self.seen}\n{self.told()}"
            time.sleep(POLL_S)
        return self.status

    def await_verdict(
        self, verdict: str, states: Mapping[str, str] | None = None, seconds: float = 40.0
    ) -> dict[str, Any]:
        """Look until the verdict is this one and these checks have these states; gives the whole status."""
        expected = dict(states or {})

        def wanted(status: dict[str, Any]) -> bool:
            found = {name: status["states"][name]["state"] for name in expected}
            return bool(status["verdict"]["verdict"] == verdict and found == expected)

        return self.await_status(wanted, seconds)

    def watch(self, seconds: float) -> None:
        """Look for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(POLL_S)

    def forget(self) -> None:
        """Begin `seen` anew."""
        self.seen = []

    def asked(self) -> tuple[int, dict[str, Any]]:
        """Ask with the command itself, from outside the namespace; gives its exit code and what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "agent", "status", "--json", "-c", str(self.config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.returncode, json.loads(done.stdout or "{}")

    def told(self) -> str:
        """Write the last status and the agent's log, for a failing test."""
        states = {name: (card["state"], card["reason"]) for name, card in self.status.get("states", {}).items()}
        return json.dumps([self.status.get("verdict"), states, self.status.get("delivery")], indent=1) + self.log()

    def log(self) -> str:
        """Give the end of the agent's log."""
        return (self.folder / "agent.log").read_text()[-3000:]

    def _lay_cables(self) -> None:
        net, spaces = self._net, self._spaces
        for name in self.plan.hosts:
            spaces[name] = net.add(name)
        for name in self.plan.routers:
            spaces[name] = net.add(name, router=True)
        for line in self.plan.cables.split("\n")[1:-1]:
            one, device, other, other_device = line.split()
            net.wire(spaces[one], device, spaces[other], other_device)
        for line in self.plan.addresses.split("\n")[1:-1]:
            where, device, cidr = line.split()
            net.address(spaces[where], device, cidr)
        for line in self.plan.routes.split("\n")[1:-1]:
            where, *words = line.split()
            net.route(spaces[where], *words)
        # A Linux router says "unreachable" two or three times to one host, then hardly ever while it is asked more than
        # once a second; which check hears it is luck. Without this limit it says it once a second.
        self.do("gateway: sysctl -q -w net.ipv4.icmp_ratelimit=0")
        self.do("switch: ip link add br0 type bridge; switch: ip link set br0 up")
        for port in self.plan.bridge:
            self.do(f"switch: ip link set to-{port} master br0")
        net.name_servers(spaces["probe"], *self.plan.name_servers)

    def _start(self, name: str) -> None:
        where, command = self.plan.servers.get(name) or (self.plan.collector[0], self._collector())
        words = [word.replace("{folder}", str(self.folder)) for word in command]
        self._servers[name] = self._net.start(self._spaces[where], *words)

    def _collector(self) -> list[str]:
        settings = self.folder / "mosquitto.conf"
        listener = f"listener 1883 {self.plan.collector[1]}"
        lines = ("user root", "persistence false", listener, "allow_anonymous true")
        settings.write_text("\n".join(lines) + "\n")
        return ["sh", "-c", f"exec {need.tool('mosquitto')} -c {settings} 2>&1"]

    def start_agent(self) -> None:
        self.config.write_text(self.plan.config.format(store=self.folder / "store", folder=self.folder))
        command = [
            "ip",
            "netns",
            "exec",
            self._spaces["probe"],
            sys.executable,
            "-m",
            "agent",
            "run",
            "-c",
            str(self.config),
        ]
        with (self.folder / "agent.log").open("wb") as log:
            self._agent = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            self.await_status(bool, STARTED_S)
        except BaseException:
            self._agent.kill()
            self._agent.wait()
            raise


SCENES = Plan(
    ("probe", "switch", "peer", "service"),
    ("gateway", "carrier", "dc-a", "dc-b", "internet"),
    CABLES,
    ADDRESSES,
    ROUTES,
    ("probe", "peer", "gateway"),
    SERVERS,
    ("carrier", COLLECTOR),
    CONFIG,
    ("10.20.0.53",),
)

"""The lab's hospital: who is there, how they are connected, what the probe asks, and what can be done to it.

    probe ───┐                                  ┌─ dc-a ─┬─ service  (epr.example.org, time)
    peer ────┼─ switch ── gateway ── carrier ───┤        └─ broker   (MQTT; the centre listens here)
    devices ─┘  (bridge)                        ├─ dc-b             (a TCP port)
                                                └─ internet         (an independent anchor)

peer: name server, DHCP, an on-site web server. devices: second name server, switch, UPS, room sensor, printer (SNMP).
Beside what `Site.do` knows, a step may be `ANY: mode KIND [WHAT…]` (tests/lab/servers.py), `ANY: snmp NAME
OID=TYPE:VALUE…` (`rising:N` counts N a second, `OID=-` removes it, `silent` all), `ANY: launch NAME` (LATER), `probe:
restart` and `probe: suppress KIND REASON`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import trustme

from tests.lab.values import DEVICES
from tests.rigs import need
from tests.rigs.scene import STAND_IN, Plan, Site

SERVER = (sys.executable, "-m", "tests.lab.servers")
BROKER = "198.51.100.53"
CABLES = """
switch to-probe probe eth0
switch to-peer peer eth0
switch to-devices devices eth0
switch to-gateway gateway lan
gateway wan carrier to-site
carrier to-dc-a dc-a wan
carrier to-dc-b dc-b wan
carrier to-internet internet wan
dc-a to-service service eth0
dc-a to-broker broker eth0
"""
ADDRESSES = """
probe eth0 10.20.0.10/24
peer eth0 10.20.0.53/24
peer eth0 10.20.0.20/24
devices eth0 10.20.0.2/24
devices eth0 10.20.0.5/24
devices eth0 10.20.0.6/24
devices eth0 10.20.0.9/24
devices eth0 10.20.0.54/24
gateway lan 10.20.0.1/24
gateway wan 100.64.0.2/30
carrier to-site 100.64.0.1/30
carrier lo 100.64.9.9/32
carrier to-dc-a 100.64.1.1/30
dc-a wan 100.64.1.2/30
dc-a lo 198.51.100.1/32
dc-a to-service 198.51.100.17/28
service eth0 198.51.100.20/28
dc-a to-broker 198.51.100.49/28
broker eth0 198.51.100.53/28
carrier to-dc-b 100.64.2.1/30
dc-b wan 100.64.2.2/30
dc-b lo 198.51.100.129/32
carrier to-internet 203.0.113.1/24
internet wan 203.0.113.10/24
internet lo 203.0.113.99/32
"""
ROUTES = """
probe default via 10.20.0.1
peer default via 10.20.0.1
devices default via 10.20.0.1
gateway default via 100.64.0.1
carrier 10.20.0.0/24 via 100.64.0.2
carrier 198.51.100.0/25 via 100.64.1.2
carrier 198.51.100.128/25 via 100.64.2.2
dc-a default via 100.64.1.1
dc-b default via 100.64.2.1
service default via 198.51.100.17
broker default via 198.51.100.49
internet default via 203.0.113.1
"""
DHCP = (
    "exec dnsmasq --no-daemon --no-ping --conf-file=/dev/null --port=0 --interface=eth0 --bind-interfaces"
    " --log-facility=-"
)
SERVERS = {
    "names": ("peer", (*SERVER, "names", "{folder}", "10.20.0.53")),
    "names-2": ("devices", (*SERVER, "names", "{folder}/second", "10.20.0.54")),
    "dhcp": (
        "peer",
        (
            "sh",
            "-c",
            f"{DHCP} --dhcp-range=10.20.0.100,10.20.0.150,1h --dhcp-option=3,10.20.0.1"
            " --dhcp-option=6,10.20.0.53,10.20.0.54 --listen-address=10.20.0.53 --dhcp-leasefile={folder}/leases 2>&1",
        ),
    ),
    "ward": ("peer", (*STAND_IN, "page", "10.20.0.20", "80")),
    "web": ("service", (*SERVER, "web", "{folder}", "198.51.100.20")),
    "time": ("service", (*SERVER, "time", "{folder}", "198.51.100.20")),
    "page": ("internet", (*SERVER, "page", "{folder}", "203.0.113.10")),
    "pacs": ("dc-b", (*STAND_IN, "port", "198.51.100.129", "104")),
    **{
        name: ("devices", (*SERVER, "snmp", "{folder}", name, address))
        for name, address in (
            ("core-switch", "10.20.0.2"),
            ("comms-ups", "10.20.0.5"),
            ("room", "10.20.0.6"),
            ("printer", "10.20.0.9"),
        )
    },
}
LATER = {
    "rogue": (
        "devices",
        ("sh", "-c", f"{DHCP} --dhcp-range=10.20.0.200,10.20.0.220,1h --dhcp-leasefile={{folder}}/rogue.leases 2>&1"),
    ),
}
"""Programs that a step starts."""
CONFIG = """\
version: 1
clock: trusted
identity: {{org: lab, site: hospital, node: lab-probe}}
mqtt: {{url: "mqtt://198.51.100.53", allow_plaintext: true, spread: 1s, retry_max: 5s}}
buffer: {{directory: {store}}}
status: {{listen: null}}
commands: {{enabled: []}}
safety: {{packets_per_second: 20, burst: 40, target_per_second: 1, target_burst: 20}}
defaults:
  icmp: {{interval: 10s}}
  link: {{interval: 10s}}
  arp: {{interval: 10s}}
  tcp: {{interval: 10s, timeout: 4s}}
  http: {{interval: 10s, timeout: 5s, ca_file: {folder}/ca.pem}}
  dns: {{interval: 10s}}
  snmp: {{interval: 10s, version: 2c, community: public}}
anchors: {{lan: [10.20.0.53, 10.20.0.2], uplink: [100.64.0.1], carrier: [100.64.9.9],
          internet: [203.0.113.10, 203.0.113.99], dc-a: [198.51.100.1], dc-b: [198.51.100.129]}}
devices: {{core-switch: 10.20.0.2, comms-ups: 10.20.0.5, room: 10.20.0.6, printer: 10.20.0.9}}
checks:
  - {{name: gateway-mac, type: arp, target: gateway, layer: gateway}}
  - {{name: epr, type: http, url: "https://epr.example.org/", group: dc-a, degraded: {{total_s: 2.0}}}}
  - {{name: epr-host, type: icmp, target: 198.51.100.20, layer: service, group: dc-a}}
  - {{name: pacs, type: tcp, target: 198.51.100.129, port: 104, group: dc-b}}
  - {{name: web-access, type: http, url: "http://203.0.113.10/empty", expect_status: 204}}
  - {{name: resolver-1, type: dns, server: 10.20.0.53, query: epr.example.org, expect: [198.51.100.20]}}
  - {{name: ward, type: http, url: "http://ward.example.org/", group: site}}
  - {{name: time, type: ntp, server: 198.51.100.20, interval: 10s, degraded: {{offset_s: 0.5}}}}
  - {{name: lease, type: dhcp, interval: 10m, timeout: 15s, expect_servers: [10.20.0.53], fail_after: 1}}
  - {{name: size, type: mtu, target: 198.51.100.129, interval: 20s}}
  - {{name: capacity, type: train, target: 203.0.113.10, interval: 20s, minimum_bits_per_s: 2000000}}
  - {{name: core-switch, type: snmp, target: 10.20.0.2, watch_ports: [Gi1/0/1, Gi1/0/2, Gi1/0/3]}}
  - {{name: ups-host, type: icmp, target: 10.20.0.5, layer: device}}
"""
PLAN = Plan(
    ("probe", "switch", "peer", "devices", "service", "broker"),
    ("gateway", "carrier", "dc-a", "dc-b", "internet"),
    CABLES,
    ADDRESSES,
    ROUTES,
    ("probe", "peer", "devices", "gateway"),
    SERVERS,
    ("broker", BROKER),
    CONFIG,
    ("10.20.0.53", "10.20.0.54"),
)


@dataclass(frozen=True)
class Heard:
    """One message at the centre: when it came (monotonic seconds), its topic below the base, its JSON."""

    at: float
    topic: str
    body: Any


class Hospital(Site):
    """The lab's site, with the centre's ears at the broker."""

    def __init__(self, folder: Path, before: str = "", plan: Plan = PLAN) -> None:
        """Write what the servers need, and lay the cables at entry; `before` is done just before the agent starts."""
        self._before = before
        (folder / "second").mkdir(parents=True)
        certificates(folder)
        for name, values in DEVICES.items():
            (folder / f"{name}.json").write_text(json.dumps(values))
        self.heard: list[Heard] = []
        super().__init__(folder, plan)

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self._listen()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        subprocess.run(["umount", "-l", str(self.folder / "store")], capture_output=True, check=False)

    def start_agent(self) -> None:
        """Start the agent, its store on a small disk of its own; at the first time after what has to be before it."""
        store = self.folder / "store"
        if not store.exists():
            store.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "lab", str(store)], check=True)
            if self._before:
                self.do(self._before)
        super().start_agent()

    def _listen(self) -> None:
        command = ["-h", BROKER, "-t", "siteprobe/#", "-v", "-i", "centre"]
        words = " ".join([need.tool("mosquitto_sub"), *command])
        centre = self._net.start(self._spaces["broker"], "sh", "-c", f"echo ready; exec {words} 2>&1")
        threading.Thread(target=self._hear, args=(centre.stdout,), daemon=True).start()

    def _hear(self, lines: Any) -> None:
        for line in lines:
            topic, _, text = line.partition(" ")
            if topic.startswith("siteprobe/v1/") and text.strip():
                self.heard.append(Heard(time.monotonic(), "/".join(topic.split("/")[5:]), json.loads(text)))

    def run(self, where: str, *command: str) -> str:
        """Run a command at one place, or do what only the lab knows."""
        match command:
            case ("mode", kind, *what):
                (self.folder / f"{kind}.mode").write_text(" ".join(what))
            case ("snmp", name, *values):
                self._set(name, values)
            case ("restart",):
                self.kill_agent()
                self.start_agent()
            case ("wait", seconds):
                time.sleep(float(seconds))
            case ("fill",):
                fill(self.folder / "store" / "filler")
            case ("empty",):
                (self.folder / "store" / "filler").unlink()
            case ("suppress", kind, *reason):
                wanted = {"seconds": 600, "kind": kind, "reason": " ".join(reason)}
                (self.folder / "store" / "suppress").write_text(json.dumps(wanted))
            case ("launch", name):
                host, words = LATER[name]
                own = (word.replace("{folder}", str(self.folder)) for word in words)
                self._servers[name] = self._net.start(self._spaces[host], *own)
            case _:
                return super().run(where, *command)
        return ""

    def _set(self, name: str, values: list[str]) -> None:
        file = self.folder / f"{name}.json"
        table = json.loads(file.read_text())
        for value in values if "=" in values[0] else ():
            oid, _, said = value.partition("=")
            kind, _, text = said.partition(":")
            if said == "-":
                table.pop(oid, None)
            else:
                table[oid] = [kind, text if kind in ("text", "hex", "oid") else int(text)]
                table[oid] += [time.time()] if kind == "rising" else []
        fresh = file.with_suffix(".new")
        silent = {"silent": {}, "back": DEVICES[name]}
        fresh.write_text(json.dumps(silent.get(values[0], table)))
        fresh.replace(file)


def fill(file: Path) -> None:
    """Write until the disk is full."""
    with suppress(OSError), file.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(65536))


def certificates(folder: Path) -> None:
    """Write the CA and the web server's certificates, one good and one expired."""
    ca, now = trustme.CA(), datetime.now(UTC)
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, ends_in_days in (("good", 90), ("expired", -1)):
        made = ca.issue_cert(
            "epr.example.org", not_before=now - timedelta(days=100), not_after=now + timedelta(days=ends_in_days)
        )
        made.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))

"""What ARP the agent sends, heard on its cable: never more than its budget, only well-formed, only as configured.

The config asks for more than the budget gives. Nothing else in the namespace makes the kernel ask by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.web.socket import ask_status
from tests.rigs.netns import ROOT, Net

SECONDS = 10
TARGETS = tuple(f"10.1.0.{n}" for n in range(20, 40))
OWN, DENIED = "10.1.0.10", "10.1.0.130"
CONFIG = """\
version: 1
clock: trusted
identity: {{org: o, site: s, node: arp-probe}}
mqtt: {{url: "mqtt://127.0.0.1:1", spread: 5s, retry_max: 60s}}
buffer: {{directory: {store}}}
safety: {{packets_per_second: 0, target_per_second: 0, deny: [10.1.0.128/25]}}
standard: false
defaults: {{arp: {{interval: 5s}}}}
checks:
  - {{name: own-address, type: arp, target: self, layer: address, timeout: 20s}}  # it waits its turn
  - {{name: denied, type: arp, target: gateway, layer: gateway}}
{checks}
"""


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any], str]]:
    folder = tmp_path_factory.mktemp("arp")
    config, store = folder / "siteprobe.yaml", folder / "store"
    checks = "\n".join(f"  - {{name: peer-{n}, type: arp, target: {a}}}" for n, a in enumerate(TARGETS))
    config.write_text(CONFIG.format(store=store, checks=checks))
    with Net() as net:
        probe, wire = net.add("probe"), net.add("wire")
        net.sysctl(probe, "net.ipv6.conf.all.disable_ipv6=1")
        net.wire(probe, "eth0", wire, "eth0")
        net.address(probe, "eth0", f"{OWN}/24")
        net.route(probe, "default", "via", DENIED)
        mac = json.loads(net.run(probe, "ip", "-j", "link", "show", "eth0"))[0]["address"]
        sniffer = net.start(wire, sys.executable, "-I", "-S", str(ROOT / "tests/rigs/arp_sniffer.py"), "eth0")
        lines: list[str] = []
        assert sniffer.stdout is not None
        reading = threading.Thread(target=lines.extend, args=(sniffer.stdout,))
        reading.start()
        states = run_agent(probe, config, store)
        time.sleep(0.2)
        sniffer.kill()
        reading.join()
    yield [json.loads(line) for line in lines], states, mac


def run_agent(probe: str, config: Path, store: Path) -> dict[str, Any]:
    command = ["ip", "netns", "exec", probe, sys.executable, "-m", "agent", "run", "-c", str(config)]
    log = config.with_suffix(".log")
    with log.open("wb") as output, subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output) as agent:
        try:
            time.sleep(SECONDS)
            status, end = ask_status([store]), time.monotonic() + 20
            while not (status and status["states"]["denied"]["reason"]) and time.monotonic() < end:
                time.sleep(0.2)
                status = ask_status([store])
        finally:
            agent.terminate()
            agent.wait(15)
    assert status, log.read_text()
    found: dict[str, Any] = status["states"]
    return found


def test_no_second_holds_more_than_five_and_the_mean_is_one(
    heard: tuple[list[dict[str, Any]], dict[str, Any], str],
) -> None:
    times = [packet["at"] for packet in heard[0]]
    assert len(times) > 5, "the budget was not put to the test"
    for first, at in enumerate(times):
        assert sum(at <= other < at + 0.98 for other in times[first:]) <= 5, "a second and the jitter of a tick"
        for last in range(first, len(times)):
            seconds = times[last] - at + 0.1
            assert last - first + 1 <= 5 + seconds, f"{last - first + 1} in {seconds:.2f} s"


def test_every_packet_is_well_formed_and_with_our_own_sender(
    heard: tuple[list[dict[str, Any]], dict[str, Any], str],
) -> None:
    packets, _, mac = heard
    for packet in packets:
        assert packet["shape"] == [1, 0x0800, 6, 4, 1]
        assert (packet["to"], packet["asked_mac"]) == ("ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00")
        assert packet["frame_sender"] == packet["mac"] == mac
        assert packet["sender"] == ("0.0.0.0" if packet["asked"] == OWN else OWN)


def test_only_what_the_config_names_is_asked(heard: tuple[list[dict[str, Any]], dict[str, Any], str]) -> None:
    packets, states, _ = heard
    asked = Counter(packet["asked"] for packet in packets)
    assert set(asked) <= {OWN, *TARGETS} and asked[OWN]
    assert states["denied"]["reason"].startswith("local_policy")
    assert states["own-address"]["state"] == "up"

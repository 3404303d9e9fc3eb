"""The agent on a LAN that changes under it: cable, addresses, gateway, interfaces; network namespaces, no broker.

The checks keep their usual intervals of 30 s, so what is seen within seconds was told by the kernel. The scenes
are played side by side: they mostly wait.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest

from agent.web.socket import ask_status
from tests.rigs import need
from tests.rigs.netns import ROOT, Net

LONG_S = 25.0
"""How long a busy machine may take for what takes two seconds on an idle one; less than the checks' interval."""
FLAPS = 5
CONFIG = """\
version: 1
clock: trusted
identity: {{org: o, site: s, node: lan-probe}}
mqtt: {{url: "mqtt://127.0.0.1:1", spread: 5s, retry_max: 60s}}
buffer: {{directory: {store}}}
defaults: {{icmp: {{interval: 30s}}}}
checks:
  - {{name: gateway-arp, type: arp, target: gateway, layer: gateway}}
  - {{name: spare, type: link, interface: eth9, layer: device, group: site}}
"""
WORKING = ("link", "own-address", "gateway-arp", "gateway")


class LanSite:
    """A probe and two routers on one switch, and the agent on the probe."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._net = folder, Net()
        self._agent: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        net = self._net.__enter__()
        try:
            self._lay_cables(net)
            net.name_servers(self.probe)
            config = self._folder / "siteprobe.yaml"
            config.write_text(CONFIG.format(store=self._folder / "store"))
            command = ["ip", "netns", "exec", self.probe, sys.executable, "-m", "agent", "run", "-c", str(config)]
            with (self._folder / "agent.log").open("wb") as log:
                self._agent = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            self.await_that(lambda s: {s["states"][name]["state"] for name in WORKING} == {"up"}, 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._agent:
            self._agent.terminate()
            try:
                self._agent.wait(10)
            except subprocess.TimeoutExpired:
                self._agent.kill()
                self._agent.wait()
        self._net.__exit__(None, None, None)

    def _lay_cables(self, net: Net) -> None:
        self.probe, self.switch, self.one, self.two = (net.add(n) for n in ("probe", "switch", "one", "two"))
        net.ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        net.ip("-n", self.switch, "link", "set", "br0", "up")
        for name, space in (("to-probe", self.probe), ("to-one", self.one), ("to-two", self.two)):
            net.wire(space, "eth0", self.switch, name)
            net.ip("-n", self.switch, "link", "set", name, "master", "br0")
        net.address(self.probe, "eth0", "10.1.0.10/24")
        net.address(self.one, "eth0", "10.1.0.1/24")
        net.address(self.two, "eth0", "10.1.0.2/24")
        net.route(self.probe, "default", "via", "10.1.0.1")

    @property
    def pid(self) -> int:
        assert self._agent
        return self._agent.pid

    @property
    def log(self) -> str:
        return (self._folder / "agent.log").read_text()

    def ip(self, space: str, *words: str) -> None:
        self._net.ip("-n", space, *words)

    def await_that(self, wanted: Callable[[dict[str, Any]], Any], seconds: float = LONG_S) -> float:
        """Look until the status is as wanted; gives how many seconds that took."""
        began, found = time.monotonic(), None
        while not ((found := ask_status([self._folder / "store"])) and wanted(found)):
            assert self._agent is not None and self._agent.poll() is None, f"the agent ended: {self.log}"
            assert time.monotonic() < began + seconds, (
                f"not within {seconds:g} s: {found and found['states']}\n{self.log}"
            )
            time.sleep(0.1)
        return time.monotonic() - began

    def await_logged(self, words: str, seconds: float = LONG_S) -> float:
        return self.await_that(lambda _: words in self.log, seconds)


def verdict(site: LanSite, wanted: str) -> float:
    return site.await_that(lambda status: status["verdict"]["verdict"] == wanted)


def state(site: LanSite, check: str, wanted: str, words: str = "") -> float:
    def fits(status: dict[str, Any]) -> bool:
        card = status["states"][check]
        return card["state"] == wanted and words in (card["reason"] or "")

    return site.await_that(fits)


def cable_out(site: LanSite) -> None:
    site.ip(site.switch, "link", "set", "to-probe", "down")
    took = verdict(site, "local_link_down")
    print(f"cable out: verdict after {took:.1f} s")
    site.await_logged("eth0 has lost its carrier")
    site.ip(site.switch, "link", "set", "to-probe", "up")
    site.await_logged("eth0 has a carrier again")
    state(site, "link", "up")
    state(site, "own-address", "up")
    state(site, "gateway-arp", "up")


def moved(site: LanSite) -> None:
    site.ip(site.one, "link", "set", "eth0", "down")
    site.ip(site.probe, "route", "replace", "default", "via", "10.1.0.2")
    took = site.await_logged("default route: 10.1.0.2 over eth0; before: 10.1.0.1 over eth0")
    print(f"gateway changed: told after {took:.1f} s")
    state(site, "gateway-arp", "up")
    site.ip(site.probe, "address", "flush", "dev", "eth0", "scope", "global")
    site.await_logged("addresses of eth0: none; before: 10.1.0.10/24")
    took = state(site, "link", "down", "local_address")
    print(f"address gone: judged after {took:.1f} s")
    site.ip(site.two, "address", "add", "10.1.0.88/24", "dev", "eth0")
    site.ip(site.probe, "address", "add", "10.1.0.88/24", "dev", "eth0")
    site.ip(site.probe, "route", "add", "default", "via", "10.1.0.2")
    took = state(site, "own-address", "down", "duplicate_address")
    print(f"address in use by another: judged after {took:.1f} s")


def flapping(site: LanSite) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir(f"/proc/{site.pid}/fd")), len(os.listdir(f"/proc/{site.pid}/task"))

    before = held()
    for _ in range(FLAPS):
        site.ip(site.probe, "link", "set", "eth0", "down")
        time.sleep(1)
        site.ip(site.probe, "link", "set", "eth0", "up")
        time.sleep(1)
    site.ip(site.probe, "route", "replace", "default", "via", "10.1.0.1")
    for check in WORKING:
        state(site, check, "up")
    told = site.log.count("eth0 was switched off") + site.log.count("eth0 lost its carrier for a moment")
    assert 1 <= told <= FLAPS, "a busy machine may see two of them as one"
    # An attempt to reach the absent broker holds a descriptor and a thread or two; a leak at each flap is five or more.
    site.await_that(lambda _: max(now - then for now, then in zip(held(), before, strict=True)) < FLAPS - 1)


def absent_at_boot(site: LanSite) -> None:
    state(site, "spare", "down", "there is no interface eth9 (found: eth0)")
    site.ip(site.probe, "link", "add", "eth9", "type", "veth", "peer", "name", "eth9", "netns", site.two)
    site.ip(site.two, "link", "set", "eth9", "up")
    site.ip(site.probe, "link", "set", "eth9", "up")
    site.ip(site.probe, "address", "add", "10.9.0.1/24", "dev", "eth9")
    state(site, "spare", "up")
    site.ip(site.probe, "link", "set", "eth9", "down")
    site.ip(site.probe, "link", "set", "eth9", "name", "lan9")
    state(site, "spare", "down", "there is no interface eth9 (found: eth0, lan9)")
    site.await_logged("eth9 is now called lan9")
    state(site, "link", "up")


SCENES = (cable_out, moved, flapping, absent_at_boot)


def play(scene: Callable[[LanSite], None], folder: Path) -> None:
    with LanSite(folder) as site:
        scene(site)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    need.root()
    need.tool("ip")
    with ThreadPoolExecutor(len(SCENES)) as pool:
        yield {s.__name__: pool.submit(play, s, tmp_path_factory.mktemp(s.__name__)) for s in SCENES}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [scene.__name__ for scene in SCENES])
def test_scene(name: str, played: dict[str, Future[None]]) -> None:
    played[name].result()

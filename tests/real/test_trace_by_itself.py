"""A target beyond the gateway goes down: the agent traces the way by itself, once, and says for which transition."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import need
from tests.rigs.scene import COLLECTOR, Site

PATIENCE_S = 40.0


class Ear:
    """Every record that arrives at the site's collector, live or late, each once."""

    def __init__(self, site: Site) -> None:
        self.records: dict[tuple[str, int], dict[str, Any]] = {}
        self.site = site
        self._listener = site.start("carrier", need.tool("mosquitto_sub"), "-h", COLLECTOR, "-v", "-t", "siteprobe/#")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._listener.stdout is not None
        for line in self._listener.stdout:
            topic, _, text = line.partition(" ")
            if "/live/" in topic or "/late/" in topic:
                content = json.loads(text)
                for record in content if isinstance(content, list) else [content]:
                    self.records[record["ep"], record["seq"]] = record

    def of(self, record_type: str) -> list[dict[str, Any]]:
        """Give the records of a type in order."""
        return [record for _, record in sorted(self.records.items()) if record["type"] == record_type]

    def wait_for(self, wanted: Callable[[], bool]) -> None:
        """Wait until it is so; fails with what was heard and said."""
        end = time.monotonic() + PATIENCE_S
        while not wanted():
            assert time.monotonic() < end, f"{[r['type'] for r in self.records.values()][-50:]}\n{self.site.told()}"
            self.site.look()
            time.sleep(0.2)

    def end(self) -> None:
        """Stop listening."""
        self._listener.kill()
        self._thread.join(10)


def all_arrived(site: Site, ear: Ear) -> bool:
    """Whether every record up to now has come to the collector."""
    status = site.look()
    heartbeat = status["heartbeat"]
    ep, last = heartbeat["ep"], heartbeat["next_seq"] - 1
    missing = set(range(1, last - 20)) - {seq for epoch, seq in ear.records if epoch == ep}
    return not missing


def attached(ear: Ear, name: str) -> dict[str, Any]:
    """Give the one path record, which must name the transition of this check to down."""
    (found,) = ear.of("path")
    down = [r for r in ear.of("transition") if r["check"] == name and r["new"] == "down"]
    assert found["check"] == name
    assert found["transition"] in [f"{r['ep']}-{r['seq']}" for r in down], (found, down)
    return found


def a_data_centre_cut_off(site: Site, ear: Ear) -> None:
    site.do("carrier: sysctl -q -w net.ipv4.icmp_ratelimit=0; carrier: ip link set to-dc-a down")
    site.await_verdict("datacentre_unreachable", {"dc-a-1": "down", "epr": "unreachable"})
    ear.wait_for(lambda: bool(ear.of("path")))
    found = attached(ear, "dc-a-1")
    assert (found["reached"], found["hop_list"]) == (False, "10.20.0.1,100.64.0.1"), found
    assert (found["outcome"], found["failure"], found["responder"]) == ("fail", "unreachable", "100.64.0.1")
    assert (found["layer"], found["target"], found["address"]) == ("datacentre", "198.51.100.1", "198.51.100.1")


def everything_beyond_the_gateway_at_once(site: Site, ear: Ear) -> None:
    """The record waits on the disk until the way is back, and only the nearest of them all was traced."""
    # Not `ip link set wan down`: of a missing route Linux speaks once a second at most, to all of our checks together.
    site.do(
        "gateway: nft add table ip t; gateway: nft add chain ip t f { type filter hook forward priority 0 ; };"
        "gateway: nft add rule ip t f iifname lan reject with icmp type net-unreachable"
    )
    site.await_verdict("wan_uplink_down", {"uplink-1": "down", "carrier-1": "unreachable", "dc-a-1": "unreachable"})
    site.watch(5)  # the trace ends at the second hop, within two seconds
    site.do("gateway: nft delete table ip t")
    site.await_verdict("healthy")
    ear.wait_for(lambda: bool(ear.of("path")) and all_arrived(site, ear))
    found = attached(ear, "uplink-1")
    said = (found["reached"], found.get("responder"), found["hop_list"])
    assert said == (False, "10.20.0.1", "10.20.0.1"), json.dumps(found)


def a_service_by_its_own_port(site: Site, ear: Ear) -> None:
    site.do("dc-b: stop port")
    site.do(
        "dc-b: nft add table ip t; dc-b: nft add chain ip t in { type filter hook input priority 0 ; };"
        "dc-b: nft add rule ip t in tcp dport 104 counter drop"
    )
    site.await_verdict("remote_port_filtered", {"pacs": "down"})  # the same address still answers ping
    ear.wait_for(lambda: bool(ear.of("path")))
    found = attached(ear, "pacs")
    assert (found["reached"], found["hop_list"], found["failure"]) == (False, "10.20.0.1,100.64.0.1", "timeout"), found


SCENES = (a_data_centre_cut_off, everything_beyond_the_gateway_at_once, a_service_by_its_own_port)


def play(scene: Callable[[Site, Ear], None], folder: Path) -> None:
    with Site(folder) as site:
        site.await_verdict("healthy")
        ear = Ear(site)
        try:
            scene(site, ear)
        finally:
            ear.end()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    need.root()
    for tool in ("ip", "nft", "mosquitto", "mosquitto_sub"):
        need.tool(tool)
    with ThreadPoolExecutor(len(SCENES)) as pool:
        yield {scene.__name__: pool.submit(play, scene, tmp_path_factory.mktemp("site")) for scene in SCENES}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [scene.__name__ for scene in SCENES])
def test_scene(name: str, played: dict[str, Future[None]]) -> None:
    played[name].result()

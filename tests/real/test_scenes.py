"""The whole agent in a site made of network namespaces: one fault at a time, judged by `siteprobe status --json`.

Every scene begins healthy and, where it says how, is mended and healthy again; on the way no other verdict may
show. The scenes of a run are played side by side, each on a site of its own (tests/rigs/scene.py). The faults
are rows of the decision table, so are most of the injections.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.rigs import need
from tests.rigs.scene import Site

SIDE_BY_SIDE = 8
"""Sites at a time: they mostly wait; on two cores more would starve each other's agents."""
BEYOND_GATEWAY = ("uplink-1", "carrier-1", "internet-1", "dc-a-1", "dc-b-1", "epr", "pacs")


@dataclass(frozen=True)
class Scene:
    """What is broken and mended, and what must be said meanwhile."""

    breaks: str
    verdict: str
    domain: str
    cause: tuple[str, ...]
    states: Mapping[str, str] = field(default_factory=dict)
    mends: str = ""
    evidence: str = ""


def down(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "down")


def behind(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "unreachable")


FAULTS = {
    "gateway gone": Scene(
        "gateway: ip link set lan down",
        "lan_gateway_down",
        "site",
        ("gateway",),
        down("gateway") | behind(*BEYOND_GATEWAY) | {"lan-1": "up", "resolver-1": "up"},
        "gateway: ip link set lan up",
    ),
    "link down": Scene(
        "switch: ip link set to-probe down",
        "local_link_down",
        "probe",
        ("link",),
        down("link") | behind("gateway", "lan-1", "resolver-1", *BEYOND_GATEWAY),
        "switch: ip link set to-probe up",
        "local_link",
    ),
    "address flushed": Scene(
        "probe: ip address flush dev eth0",
        "local_address_missing",
        "probe",
        ("link",),
        down("link") | behind("gateway", *BEYOND_GATEWAY),
        "probe: ip address add 10.20.0.10/24 dev eth0; probe: ip route add default via 10.20.0.1",
        "local_address",
    ),
    "default route deleted": Scene(
        "probe: ip route del default",
        "default_route_missing",
        "probe",
        ("link",),
        down("link") | behind("gateway", *BEYOND_GATEWAY) | {"lan-1": "up", "resolver-1": "up"},
        "probe: ip route add default via 10.20.0.1",
        "local_route",
    ),
    "port out of the bridge": Scene(
        "switch: ip link set to-probe nomaster",
        "lan_isolated",
        "probe",
        ("lan-1",),
        down("lan-1") | behind("gateway", "resolver-1", *BEYOND_GATEWAY) | {"link": "up"},
        "switch: ip link set to-probe master br0",
    ),
    "uplink cut": Scene(
        "gateway: ip link set wan down",
        "wan_uplink_down",
        "carrier",
        ("uplink-1",),
        down("uplink-1") | behind("carrier-1", "internet-1", "dc-a-1", "dc-b-1", "epr", "pacs") | {"gateway": "up"},
        "gateway: ip link set wan up; gateway: ip route add default via 100.64.0.1",
        "unreachable from 10.20.0.1",
    ),
    "carrier drops silently": Scene(
        "carrier: nft add table ip t;"
        "carrier: nft add chain ip t pre { type filter hook prerouting priority 0 ; policy drop ; }",
        "wan_uplink_unresponsive",
        "carrier",
        ("uplink-1",),
        down("uplink-1") | behind("carrier-1", "internet-1", "dc-a-1", "dc-b-1", "epr", "pacs") | {"gateway": "up"},
        "carrier: nft delete table ip t",
        "timeout",
    ),
    "data centre cut off": Scene(
        "carrier: ip link set to-dc-a down",
        "datacentre_unreachable",
        "datacentre",
        ("dc-a-1",),
        down("dc-a-1") | behind("epr") | {"dc-b-1": "up", "pacs": "up", "internet-1": "up", "carrier-1": "up"},
        "carrier: ip link set to-dc-a up; carrier: ip route add 198.51.100.0/25 via 100.64.1.2",
    ),
    "internet gone": Scene(
        "carrier: ip link set to-internet down",
        "internet_unreachable",
        "internet",
        ("internet-1",),
        down("internet-1") | {"dc-a-1": "up", "dc-b-1": "up", "epr": "up", "pacs": "up"},
        "carrier: ip link set to-internet up",
    ),
    "service host dead": Scene(
        "service: ip link set eth0 down",
        "remote_host_down",
        "service",
        ("epr",),
        down("epr") | {"dc-a-1": "up", "pacs": "up"},
        "service: ip link set eth0 up; service: ip route add default via 198.51.100.1",
        "unreachable from 100.64.1.2",
    ),
    "service stopped": Scene(
        "service: stop page",
        "remote_service_down",
        "service",
        ("epr",),
        down("epr") | {"dc-a-1": "up", "pacs": "up"},
        "service: start page",
        "refused",
    ),
    "name server stopped": Scene(
        "peer: stop names",
        "dns_resolver_down",
        "site",
        ("resolver-1",),
        down("resolver-1") | {"epr": "up", "lan-1": "up"},
        "peer: start names",
        "refused",
    ),
    "collector away": Scene(
        "carrier: stop collector",
        "collector_unreachable",
        "service",
        (),
        dict.fromkeys(("link", "gateway", "resolver-1", *BEYOND_GATEWAY), "up"),
        "carrier: start collector",
    ),
}
HARMLESS = {
    "gateway filters ping": "gateway: nft add table ip t;"
    "gateway: nft add chain ip t in { type filter hook input priority 0 ; };"
    "gateway: nft add rule ip t in icmp type echo-request counter drop",
    # `quota` matches until that many bytes have passed: the first echo (84 bytes) and no other.
    "one lost packet": "gateway: nft add table ip t;"
    "gateway: nft add chain ip t in { type filter hook input priority 0 ; };"
    "gateway: nft add rule ip t in icmp type echo-request quota until 84 bytes counter drop",
}


def play(name: str, folder: Path) -> None:
    """Play one scene from beginning to end."""
    with Site(folder) as site:
        site.await_verdict("healthy")
        site.forget()
        if name in FAULTS:
            break_and_mend(site, FAULTS[name])
        else:
            stay_healthy(site, HARMLESS[name], name)


def break_and_mend(site: Site, scene: Scene) -> None:
    site.do(scene.breaks)
    site.await_verdict(scene.verdict, scene.states)
    code, said = site.asked()
    verdict = said["verdict"]
    assert code == 1
    assert (verdict["verdict"], verdict["fault_domain"]) == (scene.verdict, scene.domain)
    assert tuple(verdict["cause"]) == scene.cause
    assert set(verdict["impacted"]) >= {name for name, state in scene.states.items() if state == "unreachable"}
    assert scene.evidence in "; ".join(verdict["evidence"])
    assert verdict["incident"].startswith(f"{verdict['ep']}-")
    assert set(site.seen) <= {"healthy", scene.verdict}, f"said on the way: {site.seen}"
    site.forget()
    site.do(scene.mends)
    site.await_verdict("healthy", dict.fromkeys(scene.states, "up"))
    assert set(site.seen) <= {"healthy", scene.verdict}, f"said while it was mended: {site.seen}"
    assert site.asked()[0] == 0


def stay_healthy(site: Site, breaks: str, name: str) -> None:
    since = site.status["verdict"]["since"]
    site.do(breaks)
    if name == "gateway filters ping":
        site.await_verdict("healthy", down("gateway"))
    site.watch(8)
    code, said = site.asked()
    assert (code, said["verdict"]["verdict"]) == (0, "healthy")
    assert said["verdict"]["since"] == since, "there was another verdict meanwhile"
    assert set(site.seen) == {"healthy"}
    if name == "one lost packet":
        assert "counter packets 1 " in site.run("gateway", "nft", "list", "ruleset")
        assert said["states"]["gateway"]["state"] == "up"


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """Begin every scene that was selected; a test waits for its own."""
    need.root()
    for tool in ("ip", "nft", "mosquitto"):
        need.tool(tool)
    items = [
        item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module
    ]
    names = [str(item.callspec.params["name"]) for item in items]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield {name: pool.submit(play, name, tmp_path_factory.mktemp("site")) for name in names}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(240)  # the first waits for its turn among all
@pytest.mark.parametrize("name", [*FAULTS, *HARMLESS])
def test_scene(name: str, played: dict[str, Future[None]]) -> None:
    played[name].result()

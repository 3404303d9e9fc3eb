"""The path and mtu checks: what they declare, and what they do on loopback and at the limits of the config."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path as File

import pytest

from agent import checks
from agent.checks import Context, Toolbox
from agent.checks.mtu import SIZES, Mtu
from agent.checks.path import Path, _compared
from agent.config import ConfigError, Surroundings, load
from agent.model import Facts, Failed, Failure
from agent.net.icmp_wire import open_wire
from agent.net.resolve import Resolver
from agent.net.ways import Way
from agent.policy import Policy
from agent.safety import Gate
from tests.rigs.ask import as_dict, ask

HEAD = "version: 1\nidentity: {org: o, site: s, node: n}\nmqtt: {url: 'mqtts://b.example'}\nstandard: false\nchecks:\n"


def refused(folder: File, line: str) -> str:
    file = folder / "c.yaml"
    file.write_text(HEAD + f"  - {line}\n")
    with pytest.raises(ConfigError) as caught:
        load(file, checks.load(), Surroundings("host", ()))
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{name: a, type: path, target: 10.0.0.1, protocol: tcp, port: 9100}", "raw printer port"),
        ("{name: a, type: path, target: 10.0.0.1, protocol: tcp, port: 2575}", "HL7"),
        ("{name: a, type: path, target: 10.0.0.1, max_hops: 17}", "from 1 to 16"),
        ("{name: a, type: path, target: 10.0.0.1, protocol: sctp}", "icmp, udp, tcp"),
        ("{name: a, type: path, target: 10.0.0.1, interval: 10s}", "every 20s at most"),
        ("{name: a, type: mtu, target: 10.0.0.1, interval: 19s}", "every 20s at most"),
        ("{name: a, type: train, target: 10.0.0.1, interval: 1s}", "every 20s at most"),
        (
            "{name: a, type: path, target: 10.0.0.1, class: medical, responsibility_agreement: R}",
            "only be asked by icmp",
        ),
    ],
)
def test_what_a_config_may_not_ask_for(tmp_path: File, line: str, words: str) -> None:
    assert words in refused(tmp_path, line)


def test_defaults_are_those_of_the_contract(tmp_path: File) -> None:
    lines = "".join(f"  - {{name: {t}, type: {t}, target: 10.0.0.1}}\n" for t in ("path", "mtu", "train"))
    (tmp_path / "c.yaml").write_text(HEAD + lines)
    found = load(tmp_path / "c.yaml", checks.load(), Surroundings("host", ())).checks
    assert {(c.interval_s, c.timeout_s, str(c.layer)) for c in found} == {(300.0, 5.0, "carrier")}
    assert all(traffic.whole_agent_only for c in found for traffic in c.sends())


def test_what_it_declares() -> None:
    ports = {p: Path(name="a", target="x.example", protocol=p).sends()[0].port for p in ("icmp", "udp", "tcp")}
    assert ports == {"icmp": None, "udp": 33434, "tcp": 443}
    assert Path(name="a", target="x.example", protocol="tcp", port=8443).sends()[0].port == 8443
    assert Path(name="a", target="x.example", max_hops=3).sends()[0].requests == 3
    assert min(SIZES[6]) == 1280 and list(SIZES[4]) == sorted(SIZES[4], reverse=True)


def test_a_name_that_leads_elsewhere_is_no_other_way() -> None:
    """The way to another address is another question."""
    memory: dict[str, object] = {}
    ctx = Context(Gate(Policy()), Toolbox(), Resolver(Gate(Policy())), 0.0, memory=memory)
    ways = [("10.0.0.9", "10.0.0.9"), ("10.0.0.8", "10.0.0.8"), ("10.0.0.8", "10.1.1.1")]
    events = [_compared(ctx, Way((hop, target), True), target)[1] for target, hop in ways]
    assert [len(found) for found in events] == [0, 0, 1]
    assert _compared(ctx, Way(), "10.0.0.8") == (None, ()), "nobody answered: no way, and none forgotten"
    assert len(_compared(ctx, Way(("10.1.1.2", "10.0.0.8"), True), "10.0.0.8")[1]) == 1


@pytest.mark.parametrize("check", [Path(name="a", target="127.0.0.1"), Mtu(name="a", target="127.0.0.1")])
def test_a_denied_target_is_never_asked(check: Path | Mtu) -> None:
    found = ask(check, deny=(ip_network("127.0.0.0/8"),))
    assert found.failure is Failure.LOCAL_POLICY


@pytest.fixture
def icmp_allowed() -> None:
    try:
        open_wire(4).sock.close()
    except Failed as failed:
        pytest.skip(f"needs an ICMP socket: {failed.detail}")


@pytest.mark.usefixtures("icmp_allowed")
@pytest.mark.parametrize("once", [False, True])
def test_this_machine_is_one_hop_away(once: bool) -> None:
    found = ask(Path(name="a", target="127.0.0.1", timeout_s=20), once=once)
    assert isinstance(found, Facts)
    assert as_dict(found)["failure"] is None and found.fields["reached"] is True
    assert once or (found.fields["hops"], found.fields["hop_list"]) == (1, "127.0.0.1")


@pytest.mark.usefixtures("icmp_allowed")
@pytest.mark.parametrize("once", [False, True])
def test_loopback_takes_the_largest_packet_that_is_asked_for(once: bool) -> None:
    found = as_dict(ask(Mtu(name="a", target="127.0.0.1", timeout_s=20), once=once))
    assert (found["failure"], found["mtu_bytes"], found["black_hole"]) == (None, 1500, False)

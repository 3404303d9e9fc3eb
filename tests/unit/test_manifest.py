"""The manifest: all that a config sends, listens on and tells, with one digest that anyone can check."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent import cards, checks
from agent.cli import siteprobe
from agent.config import Config, Surroundings, load
from agent.manifest import digest, manifest

HEAD = "version: 1\nidentity: {org: o, site: s, node: n-1}\n"
BROKER = 'mqtt: {url: "mqtts://collector.example.org"}\n'
QUIET = HEAD + BROKER + "standard: false\n"


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "siteprobe.yaml"
    path.write_text(text)
    return load(path, checks.load(), Surroundings("n-1", ("10.20.0.53",)))


def sends(found: Config) -> dict[tuple[str, str, int | None], tuple[int, list[str]]]:
    rows = manifest(found)["sends"]
    return {(r["destination"], r["protocol"], r["port"]): (r["packets_per_day"], r["for"]) for r in rows}


def test_every_check_is_in_it_with_its_packets_a_day(tmp_path: Path) -> None:
    text = QUIET + (
        "checks:\n"
        "  - {name: one, type: icmp, target: 192.0.2.1, count: 3, interval: 10s}\n"
        "  - {name: two, type: icmp, target: 192.0.2.1, count: 1, interval: 60s}\n"
        "  - {name: off, type: icmp, target: 192.0.2.9, enabled: false}\n"
        '  - {name: page, type: http, url: "https://192.0.2.2/x", interval: 30s}\n'
    )
    found = sends(config(tmp_path, text))
    assert found[("192.0.2.1", "icmp", None)] == (3 * 8640 + 1440, ["one", "two"])
    assert found[("192.0.2.2", "tcp", 443)] == (2880, ["page"])
    assert not [key for key in found if key[0] == "192.0.2.9"], "a check that is off sends nothing"


def test_the_collector_and_the_lookups_of_every_name_are_in_it(tmp_path: Path) -> None:
    found = sends(
        config(tmp_path, QUIET + "checks: [{name: a, type: tcp, target: a.example, port: 443, interval: 10s}]\n")
    )
    assert found[("collector.example.org", "tcp", 8883)] == (1440 + 8640, ["collector"])
    assert found[("resolver", "udp", 53)] == (2 * 1440 + 2, ["name lookups"]), "an answer is used for a minute"
    assert found[("resolver", "tcp", 53)][0] == 0, "only where an answer is cut"


def test_addresses_and_words_need_no_lookup(tmp_path: Path) -> None:
    text = HEAD + 'mqtt: {url: "mqtt://127.0.0.1"}\nstandard: false\nchecks: [{name: g, type: icmp, target: gateway}]\n'
    assert set(sends(config(tmp_path, text))) == {("gateway", "icmp", None), ("127.0.0.1", "tcp", 1883)}


def test_what_a_proxy_is_asked_for_is_in_it(tmp_path: Path) -> None:
    check = '{name: p, type: http, url: "https://far.example/", proxy: "http://192.0.2.7:3128", interval: 30s}'
    told = manifest(config(tmp_path, QUIET + f"checks: [{check}]\n"))
    [row] = told["asked_through_a_proxy"]
    assert (row["destination"], row["port"], row["packets_per_day"]) == ("far.example", 443, 2880)
    assert "far.example" not in {row["destination"] for row in told["sends"]}


def test_listeners_commands_and_fields_are_in_it(tmp_path: Path) -> None:
    text = QUIET + 'status: {listen: "127.0.0.1:8080"}\ntraps: {listen: "0.0.0.0:162"}\ncommands: {enabled: [check]}\n'
    told = manifest(config(tmp_path, text + "checks: [{name: g, type: icmp, target: gateway}]\n"))
    assert [(row["protocol"], row["port"]) for row in told["listens"]] == [("unix", None), ("tcp", 8080), ("udp", 162)]
    assert told["commands"] == ["check"]
    assert {"rtt_mean_s", "target", "late", "failure"} <= set(told["fields"]["record icmp"])
    assert "record http" not in told["fields"], "only what this config can tell"
    assert {"limits.burst", "checks.target", "manifest_digest"} <= set(told["fields"]["about"])


WIRED = "  - {name: l, type: link}\n  - {name: ear, type: listen, consent: C-1, interface: eth7}\n"


def test_what_is_overheard_at_our_own_port_is_in_it(tmp_path: Path) -> None:
    told = manifest(config(tmp_path, QUIET + "checks:\n" + WIRED))
    assert [(row["protocol"], row["address"], row["for"]) for row in told["listens"][-2:]] == [
        ("lldp, cdp", "own port", "the switch at our own port"),
        ("headers of arp, broadcasts and tcp attempts", "eth7", "ear"),
    ]
    quiet = manifest(config(tmp_path, QUIET + "checks: [{name: g, type: icmp, target: gateway}]\n"))
    assert [row["protocol"] for row in quiet["listens"]] == ["unix"]


def test_the_traces_that_the_agent_makes_by_itself_are_in_it_with_their_record(tmp_path: Path) -> None:
    checks_ = (
        "checks:\n"
        "  - {name: gw, type: icmp, target: gateway, layer: gateway}\n"
        "  - {name: s, type: tcp, target: 192.0.2.1, port: 80}\n"
        "  - {name: d, type: dns, server: 192.0.2.2, query: a.example}\n"
    )
    told = manifest(config(tmp_path, QUIET + checks_))
    assert told["traced"] == {"checks": ["s"], "packets_a_trace": 16}
    assert {"hop_list", "transition"} <= set(told["fields"]["record path"])
    asked = manifest(config(tmp_path, QUIET + "commands: {enabled: [traceroute]}\n" + checks_))
    assert asked["traced"]["checks"] == ["gw", "s"], "on command any of them"
    near = manifest(config(tmp_path, QUIET + "checks: [{name: g, type: icmp, target: gateway, layer: gateway}]\n"))
    assert not near["traced"]["checks"] and "record path" not in near["fields"]


def test_the_digest_is_the_sha256_of_the_canonical_form_and_is_told_in_about(tmp_path: Path) -> None:
    found = config(tmp_path, HEAD + BROKER)
    told = json.loads(json.dumps(manifest(found)))
    stated = told.pop("sha256")
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert stated == hashlib.sha256(text.encode()).hexdigest() == digest(found)
    assert cards.about(found, {})["manifest_digest"] == stated


BASE = QUIET + "checks: [{name: a, type: icmp, target: 192.0.2.1}, {name: b, type: tcp, target: b.example, port: 1}]\n"


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("192.0.2.1", "192.0.2.2"),
        ("port: 1", "port: 2"),
        ("target: 192.0.2.1", "target: 192.0.2.1, interval: 11s"),
        ("collector.example.org", "other.example.org"),
        ("standard: false", "standard: false\nsafety: {burst: 41}"),
        ("standard: false", "standard: false\ncommands: {enabled: [suppress]}"),
    ],
)
def test_each_change_of_what_is_sent_changes_the_digest(tmp_path: Path, written: str, instead: str) -> None:
    before = digest(config(tmp_path, BASE))
    assert written in BASE
    assert digest(config(tmp_path, BASE.replace(written, instead))) != before


def test_the_order_of_the_file_and_its_comments_do_not(tmp_path: Path) -> None:
    turned = (
        "# a comment\n" + QUIET + "checks: [{name: b, type: tcp, target: b.example, port: 1},"
        " {name: a, type: icmp, target: 192.0.2.1}]\n"
    )
    assert digest(config(tmp_path, turned)) == digest(config(tmp_path, BASE))


def run(*words: str) -> Any:
    return CliRunner().invoke(siteprobe, ["manifest", *words])


def test_the_command_prints_a_sheet_and_json_of_the_same_digest(tmp_path: Path) -> None:
    found = config(tmp_path, BASE)
    sheet, told = run("-c", found.file), run("-c", found.file, "--json")
    assert (sheet.exit_code, told.exit_code) == (0, 0)
    assert json.loads(told.output) == manifest(found)
    assert sheet.output.rstrip().endswith(f"sha256 {digest(found)}")
    assert "b.example tcp 1 " in sheet.output


def test_a_bad_config_is_said_and_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("version: 2\n")
    found = run("-c", str(tmp_path / "bad.yaml"))
    assert found.exit_code == 2
    assert "bad.yaml" in found.output

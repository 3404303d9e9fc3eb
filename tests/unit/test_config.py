"""A good config: what the short forms become, what is warned of, what is shown, and what never is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from agent import checks
from agent.check import CheckOptions
from agent.config import Config, Surroundings, load, warnings
from agent.config.show import as_yaml, effective
from agent.describe.config import config_schema, example_yaml

TYPES = checks.load()
AROUND = Surroundings("main-hospital-01", ("10.20.0.53", "10.20.0.54"), ("10.20.0.123", "ntp.example.org"))
HEAD = "version: 1\nidentity: {org: o, site: s, node: n-1}\n"
BROKER = 'mqtt: {url: "mqtts://collector.example.org"}\n'


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "siteprobe.yaml"
    path.write_text(text)
    return load(path, TYPES, AROUND)


def by_name(found: Config) -> dict[str, CheckOptions]:
    return {check.name: check for check in found.checks}


def options(check: CheckOptions, *names: str) -> tuple[Any, ...]:
    return tuple(getattr(check, name) for name in names)


def test_standard_adds_what_every_site_needs(tmp_path: Path) -> None:
    found = by_name(config(tmp_path, HEAD + BROKER))
    assert list(found) == ["link", "own-address", "gateway", "resolver-1", "resolver-2", "time", "delivery"]
    assert options(found["delivery"], "type", "url", "layer") == ("mqtt", "", "collector")
    assert options(found["gateway"], "type", "target", "layer") == ("icmp", "gateway", "gateway")
    assert options(found["own-address"], "type", "target", "layer") == ("arp", "self", "address")
    assert options(found["resolver-2"], "type", "server", "query", "layer") == (
        "dns",
        "resolver-2",
        "collector.example.org",
        "dns",
    )


def test_standard_false_adds_nothing(tmp_path: Path) -> None:
    assert config(tmp_path, HEAD + BROKER + "standard: false\n").checks == ()


def test_a_written_check_takes_the_place_of_the_made_one(tmp_path: Path) -> None:
    text = HEAD + BROKER + "checks: [{name: gateway, type: icmp, target: 192.0.2.1, layer: gateway}]\n"
    found = config(tmp_path, text)
    assert [check.name for check in found.checks].count("gateway") == 1
    assert by_name(found)["gateway"].asked == "192.0.2.1"


def test_a_device_that_is_replaced_needs_no_user(tmp_path: Path) -> None:
    text = "standard: false\ndevices: {ups: 10.20.0.5}\nchecks: [{name: ups, type: icmp, target: 10.20.0.5}]\n"
    assert [check.type for check in config(tmp_path, HEAD + BROKER + text).checks] == ["icmp"]


def test_an_old_device_with_a_community_lives_beside_defaults_for_version_3(tmp_path: Path) -> None:
    text = """
standard: false
defaults: {snmp: {user: probe, auth_key: {env: A}, priv_key: {env: P}, interval: 1m}}
devices: {core-switch: 10.20.0.2}
checks: [{name: old, type: snmp, target: 10.20.0.9, community: {env: C}}]
"""
    found: Any = by_name(config(tmp_path, HEAD + BROKER + text))
    assert (found["core-switch"].version_used, found["core-switch"].user) == ("3", "probe")
    assert (found["old"].version_used, found["old"].user, found["old"].auth_key) == ("2c", "", None)
    assert found["old"].interval_s == 60.0


def test_anchors_services_and_devices_become_checks(tmp_path: Path) -> None:
    text = """
standard: false
anchors: {lan: 10.20.0.3, uplink: [198.18.0.1], internet: [203.0.113.10], dc-a: [198.51.100.10, 198.51.100.11]}
services: ["https://epr.example.org/health", "https://epr.example.org:8443/", "tcp://198.51.100.20:104", "https://epr.example.org/x"]
devices: {core-switch: 10.20.0.2}
defaults: {snmp: {user: probe}, icmp: {interval: 10s}}
"""
    found = by_name(config(tmp_path, HEAD + BROKER + text))
    assert list(found) == [
        "lan-1", "uplink-1", "internet-1", "dc-a-1", "dc-a-2",
        "epr-example-org", "epr-example-org-8443", "198-51-100-20-104", "epr-example-org-2", "core-switch",
    ]  # fmt: skip
    assert options(found["lan-1"], "layer", "group", "ttl", "interval_s") == ("lan", "", 1, 10.0)
    assert options(found["dc-a-2"], "layer", "group", "ttl", "target") == ("datacentre", "dc-a", 0, "198.51.100.11")
    assert options(found["198-51-100-20-104"], "type", "target", "port", "layer") == (
        "tcp",
        "198.51.100.20",
        104,
        "service",
    )
    assert options(found["core-switch"], "type", "target", "user", "layer") == ("snmp", "10.20.0.2", "probe", "device")


def test_what_a_check_says_beats_the_defaults(tmp_path: Path) -> None:
    text = "defaults: {icmp: {interval: 10s, count: 5}}\nchecks: [{name: a, type: icmp, target: 192.0.2.1, count: 2}]\n"
    assert options(by_name(config(tmp_path, HEAD + BROKER + text))["a"], "interval_s", "count") == (10.0, 2)


def test_defaults_by_type_fill_interval_timeout_and_layer(tmp_path: Path) -> None:
    text = """
standard: false
checks:
  - {name: a, type: icmp, target: 192.0.2.1}
  - {name: b, type: dns, server: 192.0.2.1, query: example.org}
  - {name: c, type: tcp, target: 192.0.2.1, port: 443}
  - {name: d, type: link}
"""
    found = by_name(config(tmp_path, HEAD + BROKER + text))
    shown = {name: options(check, "interval_s", "timeout_s", "layer") for name, check in found.items()}
    assert shown == {
        "a": (30.0, 4.0, "service"),
        "b": (30.0, 2.0, "dns"),
        "c": (30.0, 5.0, "service"),
        "d": (30.0, 5.0, "link"),
    }


def test_words_that_yaml_1_1_would_turn_into_something_else_stay_what_they_are(tmp_path: Path) -> None:
    text = HEAD.replace("n-1}", "n-1, title: 0123, tags: {a: no, b: on}}") + BROKER
    identity = config(tmp_path, text).identity
    assert identity.title == "0123"
    assert dict(identity.tags) == {"a": "no", "b": "on"}


def test_the_host_name_stands_in_for_the_node(tmp_path: Path) -> None:
    found = config(tmp_path, HEAD.replace(", node: n-1", "") + BROKER)
    assert (found.identity.node, found.identity.title) == ("main-hospital-01", "s")


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("", "no internet anchor: carrier and data centre cannot be told apart"),
        ("", "no LAN peer"),
        ("anchors: {dc-a: [192.0.2.1]}\nsafety: {packets_per_second: 0.1}\n", "packets/s, budget 0.1"),
        ("checks: [{name: a, type: icmp, target: 192.0.2.9, interval: 1s}]\n", "192.0.2.9 needs 3 packets/s, budget 1"),
        ("defaults: {snmp: {version: 2c, community: hunter2}}\ndevices: {d: 192.0.2.2}\n", "secret stands in the file"),
        ('status: {listen: "127.0.0.1:8080"}\n', "local page is not built yet"),
    ],
)
def test_warnings_of_what_it_cannot_know_or_afford(tmp_path: Path, text: str, warned: str) -> None:
    found = [problem.sentence("f") for problem in warnings(config(tmp_path, HEAD + BROKER + text))]
    assert any(warned in sentence for sentence in found), found
    assert all("hunter2" not in sentence for sentence in found)


def test_a_whole_config_is_not_warned_of(tmp_path: Path) -> None:
    text = "anchors: {lan: [10.20.0.3], internet: [203.0.113.10], dc-a: [198.51.100.10]}\n"
    assert warnings(config(tmp_path, HEAD + BROKER + text)) == []


def test_a_medical_device_gets_one_echo_a_minute(tmp_path: Path) -> None:
    medical = "interval: 60s, class: medical, responsibility_agreement: R"
    text = f"checks: [{{name: a, type: icmp, target: 192.0.2.9, {medical}}}]\n"
    assert options(by_name(config(tmp_path, HEAD + BROKER + text))["a"], "count", "interval_s") == (1, 60.0)


def test_a_config_that_measures_nothing_is_warned_of(tmp_path: Path) -> None:
    found = warnings(config(tmp_path, HEAD + BROKER + "standard: false\n"))
    assert "no check runs: nothing will be measured" in " ".join(problem.reason for problem in found)


def test_commands_that_are_off_stay_off_when_shown_and_read_again(tmp_path: Path) -> None:
    first = config(tmp_path, HEAD + BROKER + "commands: {enabled: []}\nbuffer: {max_age: 1234567s}\n")
    second = config(tmp_path, as_yaml(first))
    assert (second.commands, second.buffer) == (first.commands, first.buffer)
    assert first.commands.enabled == ()


def test_plaintext_and_3_1_1_are_warned_of(tmp_path: Path) -> None:
    broker = "mqtt: {url: 'mqtt://192.0.2.1', allow_plaintext: true, protocol: 3.1.1}\n"
    found = " ".join(p.reason for p in warnings(config(tmp_path, HEAD + broker)))
    assert "unencrypted" in found
    assert "refusals are invisible" in found


SECRETS = """
version: 1
identity: {org: o, site: s, node: n-1}
mqtt: {url: "mqtts://c.example.org", username: u, password: canary-literal}
standard: false
checks:
  - {name: a, type: snmp, target: 192.0.2.1, user: u, auth_key: {env: CANARY}, priv_key: {credential: snmp-priv}}
  - {name: b, type: snmp, target: 192.0.2.2, community: {file: /run/canary}}
"""


def test_secrets_are_shown_by_reference_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-env")
    found = config(tmp_path, SECRETS)
    shown = as_yaml(found) + json.dumps(effective(found)) + repr(found.mqtt) + repr(found.checks)
    assert "canary-literal" not in shown
    assert "canary-env" not in shown
    listed = {check["name"]: check for check in effective(found)["checks"]}
    assert listed["a"]["auth_key"] == {"env": "CANARY"}
    assert listed["b"]["community"] == {"file": "/run/canary"}


def test_secrets_are_read_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-env")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "snmp-priv").write_text("canary-credential\n")
    found = by_name(config(tmp_path, SECRETS))
    assert found["a"].auth_key.reveal() == "canary-env"  # type: ignore[attr-defined]
    assert found["a"].priv_key.reveal() == "canary-credential"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="secret file /run/canary cannot be read"):
        found["b"].community.reveal()  # type: ignore[attr-defined]
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ValueError, match="no \\$CREDENTIALS_DIRECTORY"):
        found["a"].priv_key.reveal()  # type: ignore[attr-defined]


def test_an_empty_secret_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "snmp-priv").write_text("\n")
    found = by_name(config(tmp_path, SECRETS))
    with pytest.raises(ValueError, match="environment variable CANARY is empty"):
        found["a"].auth_key.reveal()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"secret file .*/snmp-priv is empty"):
        found["a"].priv_key.reveal()  # type: ignore[attr-defined]


def test_a_secret_is_the_line_without_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-env\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "snmp-priv").write_text("x" * 4097)
    found = by_name(config(tmp_path, SECRETS))
    assert found["a"].auth_key.reveal() == "canary-env"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"secret file .*/snmp-priv is longer than 4096 bytes"):
        found["a"].priv_key.reveal()  # type: ignore[attr-defined]


def test_every_warning_has_a_place_and_is_told_once(tmp_path: Path) -> None:
    text = """
standard: false
checks:
  - {name: a, type: tcp, target: 192.0.2.1, port: 80, interval: 100ms}
  - {name: b, type: snmp, target: 192.0.2.2}
  - {name: c, type: snmp, target: 192.0.2.3}
  - {name: d, type: snmp, target: 192.0.2.4, community: {env: C}}
defaults: {snmp: {user: u, auth_key: canary-literal}}
"""
    found = warnings(config(tmp_path, HEAD + BROKER + text))
    assert all(problem.line and problem.column for problem in found)
    told = [(p.line, p.column, p.path) for p in found if "secret stands in the file" in p.reason]
    assert told == [(11, 38, "checks[1].auth_key")]
    assert [(p.line, p.path) for p in found if "clear text" in p.reason] == [(10, "checks[3]")]
    assert "canary" not in " ".join(p.sentence("x") for p in found)


@pytest.mark.parametrize("off", ["status: null\ntraps: ~\n", "status: {listen: null}\ntraps: {listen: NULL}\n"])
def test_null_switches_the_local_page_off(tmp_path: Path, off: str) -> None:
    found = config(tmp_path, HEAD + BROKER + off)
    assert (found.status.listen, found.traps.listen) == (None, None)
    jsonschema.validate(yaml.safe_load(HEAD + BROKER + off), config_schema())


ODD = """
standard: false
services: [HTTPS://epr.example.org/, "tcp://[2001:db8::1]:104"]
anchors: {internet: true, 1: [no, on.example.org]}
checks:
  - {name: 1, type: icmp, target: true, group: 2, responsibility_agreement: 7, consent: false}
  - {name: b, type: dns, server: 192.0.2.1, query: a, expect: [1, true]}
  - {name: c, type: mqtt, url: MQTTS://c.example.org}
"""


def test_the_schema_takes_what_the_loader_takes(tmp_path: Path) -> None:
    """An editor reads some words as numbers or flags that the loader reads as they are written."""
    assert config(tmp_path, HEAD + BROKER + ODD)
    plain = json.loads(json.dumps(yaml.safe_load(HEAD + BROKER + ODD)))  # keys of JSON are words
    jsonschema.validate(plain, config_schema())


@pytest.mark.parametrize(
    "wrong",
    [
        "anchors: {internet: 10.0.0.0/8}",
        "devices: {ups: 'http://10.20.0.5/'}",
        "safety: {deny: [clinical.example.org]}",
        "status: {listen: 'localhost:8080'}",
        "checks: [{name: a, type: snmp, target: 10.20.0.5, community: ''}]",
    ],
)
def test_the_schema_refuses_what_it_can_see(wrong: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(HEAD + BROKER + wrong), config_schema())


def test_what_is_shown_is_a_config_that_means_the_same(tmp_path: Path) -> None:
    text = HEAD + BROKER + 'anchors: {dc-a: [198.51.100.10]}\nservices: ["https://epr.example.org/"]\n'
    first = config(tmp_path, text)
    second = config(tmp_path, as_yaml(first))
    assert second.checks == first.checks
    assert (second.identity, second.mqtt, second.buffer, second.safety) == (
        first.identity,
        first.mqtt,
        first.buffer,
        first.safety,
    )
    assert effective(second) == effective(first) and " 20.0" not in as_yaml(second)


def test_the_sample_config_is_valid_and_fits_the_schema(tmp_path: Path) -> None:
    text = example_yaml()
    config(tmp_path, text)
    jsonschema.validate(yaml.safe_load(text), config_schema())


def test_the_sample_config_is_valid_with_every_comment_switched_on(tmp_path: Path) -> None:
    """Each example in the sample is one that the reader takes: `# key: value` lines become real."""
    before_checks, _, after = example_yaml().partition("checks: []")
    after = after[after.index("# The local page.") :]
    lines = (before_checks + after).splitlines()
    switched_on = [line.removeprefix("# ") if re.match("# +[a-z_]+:( |$)", line) else line for line in lines]
    whole = yaml.safe_load("\n".join(switched_on))
    assert whole["safety"]["deny"] == ["10.20.99.0/24"]
    jsonschema.validate(whole, config_schema())
    config(tmp_path, "\n".join(switched_on))


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_each_check_of_the_sample_is_valid_when_switched_on(tmp_path: Path, kind: str) -> None:
    blocks = example_yaml().partition("checks: []")[2].split("\n\n")
    block = next(block for block in blocks if f"type: {kind}" in block)
    lines = [line[1:] for line in block.splitlines() if line.startswith("#  ")]
    wanted = [line for line in lines if not (kind == "snmp" and "community" in line)]  # 3 or 2c, not both
    found = config(tmp_path, HEAD + BROKER + "standard: false\nchecks:\n" + "\n".join(wanted))
    assert [(check.name, check.type) for check in found.checks] == [(f"my-{kind}-check", kind)]


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "bad_config").glob("unknown_*.yaml")))
def test_the_schema_refuses_unknown_words_too(path: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(path.read_text()), config_schema())


def test_an_echo_to_a_lan_peer_stays_on_the_subnet_however_it_is_written(tmp_path: Path) -> None:
    text = HEAD + BROKER + "standard: false\nchecks:\n"
    text += "  - {name: peer, type: icmp, target: 192.0.2.1, layer: lan}\n"
    text += "  - {name: routed, type: icmp, target: 192.0.2.2, layer: lan, ttl: 3}\n"
    text += "  - {name: far, type: icmp, target: 192.0.2.3}\n"
    found = by_name(config(tmp_path, text))
    assert [found[name].ttl for name in ("peer", "routed", "far")] == [1, 3, 0]  # type: ignore[attr-defined]

"""The config of the checks on names, time and services: the standard time check, and what may not be asked."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from agent import checks
from agent.checks import Check
from agent.config import Config, ConfigError, Surroundings, load, warnings
from agent.model import Failure
from tests.rigs.servers import LOOPBACK, measured

HEAD = 'version: 1\nidentity: {org: o, site: s, node: n-1}\nmqtt: {url: "mqtts://collector.example.org"}\n'
DENIED = "safety: {deny: [10.66.0.0/16, 2001:db8:66::/48]}\nstandard: false\n"


def config(tmp_path: Path, text: str, *sources: str) -> Config:
    path = tmp_path / "siteprobe.yaml"
    path.write_text(HEAD + text)
    return load(path, checks.load(), Surroundings("n-1", (), sources))


def time_check(found: Config) -> Any:
    return next((check for check in found.checks if check.name == "time"), None)


def warned(found: Config) -> bool:
    return any("no ntp check" in problem.reason for problem in warnings(found))


def test_the_clocks_own_source_is_asked_every_five_minutes(tmp_path: Path) -> None:
    found = config(tmp_path, "", "10.20.0.123", "ntp.example.org")
    check = time_check(found)
    assert (check.type, check.server, check.interval_s, check.layer) == ("ntp", "10.20.0.123", 300.0, "time")
    assert not warned(found)


def test_defaults_of_the_type_hold_for_it_too(tmp_path: Path) -> None:
    check = time_check(config(tmp_path, "defaults: {ntp: {degraded: {offset_s: 0.5}}}\n", "ntp.example.org"))
    assert (check.interval_s, check.degraded) == (300.0, (("offset_s", 0.5),))
    assert time_check(config(tmp_path, "defaults: {ntp: {interval: 64s}}\n", "ntp.example.org")).interval_s == 64.0


@pytest.mark.parametrize("defaults", ["5", "[ntp]", "{ntp: 5}", "{5: {}}", "{ntp: [interval]}", "{[a]: {}}"])
def test_defaults_that_are_wrong_are_named_and_no_traceback(tmp_path: Path, defaults: str) -> None:
    with pytest.raises(ConfigError, match="defaults"):
        config(tmp_path, f"defaults: {defaults}\n", "ntp.example.org")


def test_without_a_source_there_is_no_time_check_and_a_warning(tmp_path: Path) -> None:
    found = config(tmp_path, "")
    assert time_check(found) is None
    assert warned(found)
    assert time_check(config(tmp_path, "standard: false\n", "10.20.0.123")) is None
    assert not warned(config(tmp_path, "checks: [{name: t, type: ntp, server: 10.20.0.5}]\n"))


@pytest.mark.parametrize("safety", ["{deny: [10.66.0.0/16]}", "{allow: [10.20.0.0/16]}"])
def test_a_source_that_may_not_be_asked_is_passed_over(tmp_path: Path, safety: str) -> None:
    """The machine's own settings must not make the file wrong; what is written in it must be right."""
    text = f"safety: {safety}\n"
    assert time_check(config(tmp_path, text, "10.66.0.1", "10.20.0.9")).server == "10.20.0.9"
    only = config(tmp_path, text, "10.66.0.1")
    assert time_check(only) is None
    assert warned(only)


@pytest.mark.parametrize("address", ["10.66.0.5", "2001:db8:66::5", "::ffff:10.66.0.5"])
@pytest.mark.parametrize(
    "check",
    [
        "type: dns, server: '{}', query: epr.example.org",
        "type: ntp, server: '{}'",
        "type: tcp, target: '{}', port: 443",
        "type: tls, target: '{}', port: 443",
        "type: http, url: 'https://[{}]/'",
        "type: http, url: 'https://epr.example.org/', proxy: 'http://[{}]:3128'",
        "type: http, url: 'http://[{}]/', proxy: 'http://proxy.example.org:3128'",
    ],
)
def test_a_denied_address_is_refused_wherever_it_is_written(tmp_path: Path, check: str, address: str) -> None:
    written = check.format(address) if ":" in address else check.replace("[{}]", "{}").format(address)
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, DENIED + f"checks: [{{name: a, {written}}}]\n")
    assert "safety.deny" in str(caught.value)


@pytest.mark.parametrize(
    "written",
    [
        "checks: [{name: a, type: ntp, server: 10.0.0.0/8}]",
        "checks: [{name: a, type: tls, target: 10.0.0.0/8, port: 443}]",
        "checks: [{name: a, type: tcp, target: 10.0.0.1-20, port: 443}]",
        "checks: [{name: a, type: tcp, target: '*', port: 443}]",
        "checks: [{name: a, type: tcp, target: 0x7f000001, port: 443}]",
        "checks: [{name: a, type: tcp, target: epr.0x7f, port: 443}]",
        "checks: [{name: a, type: http, url: 'http://0x7F.1/'}]",
        "checks: [{name: a, type: dns, server: 10.0.0.0/8, query: a.example.org}]",
        "services: ['http://10.0.0.0/8/']\nanchors: {internet: [10.0.0.0/8]}",
        "services: ['tcp://10.20.0.0-255:80']",
        "checks: [{name: a, type: tls, target: 10.20.0.1, port: 1-1024}]",
        "checks: [{name: a, type: tls, target: 10.20.0.1, port: [80, 443]}]",
        "checks: [{name: a, type: tls, target: 10.20.0.9, port: 9100}]",
        "checks: [{name: a, type: http, url: 'http://10.20.0.9:631/'}]",
        "checks: [{name: a, type: ntp, server: 255.255.255.255}]",
        "checks: [{name: a, type: dns, server: 224.0.0.251, query: a.local}]",
    ],
)
def test_no_check_takes_more_than_one_place(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigError):
        config(tmp_path, "standard: false\n" + written + "\n")


@pytest.mark.parametrize(
    "check",
    [
        checks.load()["ntp"](name="a", server="astray.example.org"),  # type: ignore[call-arg]
        checks.load()["tls"](name="a", target="astray.example.org", port=443),  # type: ignore[call-arg]
        checks.load()["tcp"](name="a", target="astray.example.org", port=443),  # type: ignore[call-arg]
        checks.load()["dns"](name="a", server="astray.example.org", query="a"),  # type: ignore[call-arg]
        checks.load()["http"](name="a", url="https://astray.example.org/"),  # type: ignore[call-arg]
    ],
    ids=lambda check: check.type,
)
def test_a_name_that_leads_into_a_denied_network_is_not_followed(check: Check) -> None:
    facts = asyncio.run(measured(check, names={"astray.example.org": LOOPBACK}, deny=(ip_network("127.0.0.0/8"),)))
    assert facts.failure is Failure.LOCAL_POLICY
    assert "safety.deny" in facts.detail

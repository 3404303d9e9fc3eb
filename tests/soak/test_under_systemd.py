"""The README's installation on a machine whose process 1 is the real systemd: start, reload, kill, hang, stop.

It is not in `make test`, because not every machine lets a second systemd start in namespaces.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rigs.booted import Booted

CONFIG = """\
version: 1
identity: {org: o, site: s, node: n}
mqtt: {url: "mqtt://127.0.0.1:1883", username: n, password: {credential: mqtt-password}, retry_max: 1s, spread: 0s}
standard: false
checks:
  - {name: self, type: icmp, target: 127.0.0.1, interval: 1s}
  - {name: neighbour, type: arp, target: 10.99.0.2, interval: 10s}
  - {name: leases, type: dhcp, interface: probe, interval: 10m}
"""
BROKER = """\
listener 1883 127.0.0.1
password_file /etc/mosquitto/siteprobe-users
user root
log_dest stderr
"""
BROKER_UNIT = "[Service]\nExecStart=/usr/sbin/mosquitto -c /etc/mosquitto/siteprobe.conf\n"
CREDENTIAL = "[Service]\nLoadCredential=mqtt-password:/etc/siteprobe/mqtt-password\n"
IMPATIENT = "[Service]\nWatchdogSec=4\nRestartSec=1\n"
FILE = "/etc/siteprobe/siteprobe.yaml"
RAW_SOCKETS = 1 << 13


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """Boot it, with a broker that asks for a password and a wire to a neighbour; nothing of siteprobe yet."""
    with Booted(tmp_path_factory.mktemp("machine")) as booted:
        booted.sh("ip link add probe type veth peer name socket && ip netns add lan && ip link set socket netns lan")
        booted.sh("ip address add 10.99.0.1/24 dev probe && ip link set probe up")
        booted.sh("ip -n lan address add 10.99.0.2/24 dev socket && ip -n lan link set socket up")
        booted.write("/etc/mosquitto/siteprobe.conf", BROKER)
        booted.sh("touch /etc/mosquitto/siteprobe-users && mosquitto_passwd -b /etc/mosquitto/siteprobe-users n secret")
        booted.write("/etc/systemd/system/broker.service", BROKER_UNIT)
        booted.write("/etc/siteprobe/mqtt-password", "secret\n")
        booted.write("/etc/systemd/system/siteprobe.service.d/credential.conf", CREDENTIAL)
        booted.sh("systemctl daemon-reload && systemctl start broker")
        yield booted


@pytest.fixture
def service(machine: Booted) -> Booted:
    """Have it installed, running and connected, with the config of this file."""
    if machine.sh("ls /opt/siteprobe/bin/siteprobe", check=False):
        machine.write(FILE, CONFIG)
        machine.sh("systemctl restart siteprobe")
    else:
        machine.install(CONFIG)
    machine.wait_for(lambda found: found["delivery"]["connected"], 20)
    return machine


def first_on(machine: Booted, *suffixes: str) -> dict[str, Any]:
    """Give the first message (of an array, its first record) that comes on one of these topics of the node."""
    topics = " ".join(f"-t 'siteprobe/v1/o/s/n/{suffix}'" for suffix in suffixes)
    said = json.loads(machine.sh(f"mosquitto_sub -u n -P secret {topics} -C 1 -W 30"))
    found: dict[str, Any] = said[0] if isinstance(said, list) else said
    return found


@pytest.mark.timeout(120)
def test_the_readmes_commands_give_a_service_that_measures_with_raw_sockets_alone(service: Booted) -> None:
    assert service.sh("systemctl is-active siteprobe; systemctl is-enabled siteprobe").split() == ["active", "enabled"]
    found = service.wait_for(lambda f: all(f["states"][name]["state"] == "up" for name in ("self", "neighbour")), 30)
    # Nobody hands out addresses here; for this record the packet helper, a process of its own, had to run.
    leases = first_on(service, "live/dhcp/leases", "late/dhcp")
    assert (leases["outcome"], leases["failure"]) == ("fail", "no_answer"), leases
    assert found["buffer"]["directory"] == "/var/lib/siteprobe"
    assert (found["buffer"]["in_memory"], found["buffer"]["trouble"]) == (False, None)
    kernel = service.sh(f"cat /proc/{service.shown('MainPID')}/status")
    lines = dict(line.split(":\t", 1) for line in kernel.splitlines() if ":\t" in line)
    assert {int(lines[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {RAW_SOCKETS}
    assert (lines["NoNewPrivs"], lines["Seccomp"], "0" in lines["Uid"].split()) == ("1", "2", False)
    assert service.sh("stat -c '%U %a' /var/lib/siteprobe").strip() == "siteprobe 750"
    assert "Traceback" not in service.journal()


@pytest.mark.timeout(120)
def test_a_reload_takes_up_a_right_config_and_keeps_the_old_one_at_a_wrong_one(service: Booted) -> None:
    first = service.shown("MainPID")
    service.write(FILE, CONFIG + "  - {name: again, type: icmp, target: 127.0.0.2, interval: 1s}\n")
    service.sh("systemctl reload siteprobe")
    service.wait_for(lambda found: found["states"].get("again", {}).get("state") == "up", 15)
    service.write(FILE, CONFIG + "  - {name: again, type: imcp, target: 127.0.0.2}\n")
    service.sh("systemctl reload siteprobe")
    service.wait_for(lambda _: f"{FILE}:9:" in service.journal(), 15)
    assert service.status()["states"]["again"]["state"] == "up"
    assert (service.shown("MainPID"), service.shown("ActiveState")) == (first, "active")


@pytest.mark.timeout(120)
def test_a_killed_service_comes_back_and_numbers_on(service: Booted) -> None:
    before = service.status()["buffer"]
    service.sh("systemctl kill --signal=KILL siteprobe")
    after = service.wait_for(lambda found: found["delivery"]["connected"], 30)["buffer"]
    assert (after["ep"], after["first_seq"], after["lost_total"]) == (before["ep"], 1, 0)
    assert after["next_seq"] > before["next_seq"]
    assert service.shown("NRestarts") == "1"


@pytest.mark.timeout(120)
def test_a_service_that_hangs_is_ended_by_the_watchdog_and_started_again(service: Booted) -> None:
    place = "/etc/systemd/system/siteprobe.service.d/impatient.conf"
    service.write(place, IMPATIENT)
    service.sh("systemctl daemon-reload && systemctl restart siteprobe")
    service.wait_for(lambda found: found["delivery"]["connected"], 20)
    hung = service.shown("MainPID")
    service.sh("systemctl kill --signal=STOP siteprobe")
    service.wait_for(lambda found: found["delivery"]["connected"] and service.shown("MainPID") != hung, 40)
    assert "Watchdog timeout" in service.journal()
    service.sh(f"rm {place} && systemctl daemon-reload")


@pytest.mark.timeout(120)
def test_a_stop_is_orderly_and_said(service: Booted) -> None:
    service.sh("systemctl stop siteprobe")
    assert (service.shown("Result"), service.shown("ExecMainStatus")) == ("success", "0")
    assert first_on(service, "status")["state"] == "stopped"
    assert service.sh("ls -A /run/siteprobe 2>/dev/null", check=False) == ""


@pytest.mark.timeout(120)
def test_a_service_whose_config_is_wrong_starts_by_itself_once_it_is_mended(service: Booted) -> None:
    service.write(FILE, CONFIG.replace("version: 1", "version: 2"))
    service.sh("systemctl restart siteprobe", check=False)
    assert service.shown("ExecMainStatus") == "2"
    assert f"{FILE}:1:10" in service.journal()
    service.write(FILE, CONFIG)
    service.wait_for(lambda found: found["delivery"]["connected"], 30)

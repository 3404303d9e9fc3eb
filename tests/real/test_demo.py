"""`siteprobe demo` on a machine of its own: a namespace with a gateway that answers and a name server at its address.

What it leaves behind is looked for in that namespace (processes) and in a temporary folder of its own (files).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import need
from tests.rigs.netns import ROOT, Net
from tests.rigs.scene import STAND_IN

DEMO = (sys.executable, "-m", "agent", "demo")
# The one right that is left reads files: this interpreter may lie in a home that is closed to others.
NOBODY = (
    *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
    *("--inh-caps", "-all,+dac_read_search", "--ambient-caps", "+dac_read_search", "env", "-u", "HOME"),
)
HIDE = """
for file in /usr/sbin/mosquitto /usr/local/sbin/mosquitto $(command -v mosquitto); do
    [ ! -e $file ] || mount --bind /dev/null $file
done
if command -v mosquitto; then echo "mosquitto is still to be found" >&2; exit 99; fi
exec "$@"
"""
# `ip netns exec` gives each command a mount namespace: only there has this machine no time source to ask.
NO_TIME_SOURCE = """
for folder in /etc/systemd /etc/chrony /etc/ntpsec; do [ ! -d $folder ] || mount -t tmpfs none $folder || exit 98; done
for file in /etc/chrony.conf /etc/ntp.conf; do [ ! -e $file ] || mount --bind /dev/null $file || exit 98; done
exec "$@"
"""
TOPICS = {"status", "about", "heartbeat", "verdict", "state", "live"}
RETAINED = TOPICS - {"live"}
ENDS_WITHIN_S = 15


class Machine:
    """The namespace with its gateway; the demo's temporary files go to `folder`."""

    def __init__(self, net: Net, folder: Path) -> None:
        self._net = net
        self.folder = folder
        self.probe, gateway = net.add("probe"), net.add("gateway")
        net.wire(self.probe, "eth0", gateway, "eth0")
        net.address(self.probe, "eth0", "10.20.0.10/24")
        net.address(gateway, "eth0", "10.20.0.1/24")
        net.route(self.probe, "default", "via", "10.20.0.1")
        net.name_servers(self.probe, "10.20.0.1")
        net.start(gateway, *STAND_IN, "names", "10.20.0.1")

    def command(self, *words: str) -> tuple[list[str], dict[str, str]]:
        """Give the command line and environment that run a command there."""
        apart = ("sh", "-c", NO_TIME_SOURCE, "sh")
        return ["ip", "netns", "exec", self.probe, *apart, *words], {**os.environ, "TMPDIR": str(self.folder)}

    def demo(self, *words: str, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run the demo to its end."""
        command, env = self.command(*under, *DEMO, *words)
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=50, check=False)

    def left(self) -> tuple[list[str], list[Path]]:
        """Give the processes that still run there, and the files that were not removed."""
        running = self._net.ip("netns", "pids", self.probe).split()
        shown = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in running]
        return shown, list(self.folder.iterdir())


@pytest.fixture
def machine() -> Iterator[Machine]:
    need.root()
    folder = Path(tempfile.mkdtemp(prefix="spdemo"))
    folder.chmod(0o777)  # for whoever the demo runs as
    try:
        with Net() as net:
            yield Machine(net, folder)
    finally:
        shutil.rmtree(folder)


def arrived(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    """Read what the demo printed, by the level of the topic below the base; checks each line."""
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        assert set(message) == {"topic", "retain", "payload"}
        kind = message["topic"].split("/")[5]
        assert message["topic"].startswith("siteprobe/v1/demo/this-machine/")
        assert message["retain"] is (kind in RETAINED), message
        found.setdefault(kind, []).append(message)
    return found


def last_states(found: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {m["payload"]["check"]: m["payload"] for m in found["state"] if m["payload"]}


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"])
def test_the_demo_shows_a_healthy_machine(machine: Machine, broker: str) -> None:
    under: tuple[str, ...] = ()
    if broker == "mosquitto":
        need.tool("mosquitto")
    else:
        # In a mount namespace of the demo alone: nothing of this machine changes.
        under = ("unshare", "--mount", "--propagation", "private", "sh", "-c", HIDE, "sh")
    found = arrived(machine.demo("--duration", "15s", "--json", under=under))
    assert set(found) - {"late"} == TOPICS
    assert [m["payload"]["state"] for m in found["status"]][-2:] == ["online", "stopped"]
    assert found["verdict"][-1]["payload"]["verdict"] == "healthy"
    states = last_states(found)
    assert set(states) == {"link", "own-address", "gateway", "resolver-1", "delivery", "demo-page", "demo-port"}
    assert {card["state"] for card in states.values()} == {"up"}
    asked = {m["payload"]["check"] for m in found["live"] if "outcome" in m["payload"]}
    assert asked == set(states)
    numbers = [m["payload"]["seq"] for m in found["live"]]
    assert len(numbers) == len(set(numbers)), "a number came twice"
    assert machine.left() == ([], [])


def test_the_demo_draws_a_table(machine: Machine) -> None:
    done = machine.demo("--duration", "8s")
    assert done.returncode == 0, done.stderr
    picture = done.stdout
    for word in ("healthy", "gateway", "resolver-1", "demo-page", "rtt_mean", "messages received"):
        assert word in picture, picture
    for word in ("mosquitto_sub", "siteprobe status", str(machine.folder)):
        assert word not in picture, "what has ended is offered no more"
    assert machine.left() == ([], [])


@pytest.mark.parametrize("words", [["--json"], []], ids=["json", "table"])
def test_a_reader_that_has_seen_enough_ends_everything(machine: Machine, words: list[str]) -> None:
    command, env = machine.command(*DEMO, "--duration", "8s", *words)
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout and demo.stderr
        demo.stdout.readline()
        demo.stdout.close()
        demo.wait(timeout=8 + ENDS_WITHIN_S)
        assert (demo.returncode, demo.stderr.read()) == (0, "")
    assert machine.left() == ([], [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(machine: Machine, number: signal.Signals) -> None:
    command, env = machine.command(*DEMO, "--json")
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout
        lines = [demo.stdout.readline() for _ in range(5)]
        demo.send_signal(number)
        time.sleep(0.1)
        demo.send_signal(number)  # an impatient one: it must not cut the end short
        rest, said = demo.communicate(timeout=ENDS_WITHIN_S)
    assert demo.returncode == 0, said
    assert "Traceback" not in said
    assert '"stopped"' in "".join([*lines, rest])
    assert machine.left() == ([], [])


@pytest.mark.parametrize("after_s", [0.1, 0.4, 0.7, 1.0, 1.4])
def test_a_signal_while_it_starts_leaves_nothing(machine: Machine, after_s: float) -> None:
    command, env = machine.command(*DEMO, "--json")
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        time.sleep(after_s)
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=ENDS_WITHIN_S)
    assert machine.left() == ([], [])


def test_without_any_right_it_shows_what_it_may_not_do(machine: Machine) -> None:
    found = arrived(machine.demo("--duration", "12s", "--json", under=NOBODY))
    states = last_states(found)
    assert {states[name]["state"] for name in ("link", "resolver-1", "demo-page", "demo-port")} == {"up"}
    gateway = [
        m["payload"] for m in found["live"] if m["payload"].get("check") == "gateway" and "outcome" in m["payload"]
    ]
    assert {(record["outcome"], record["failure"]) for record in gateway} == {("unknown", "local_permission")}
    assert found["verdict"][-1]["payload"]["verdict"] == "probe_degraded"
    assert machine.left() == ([], [])

"""The whole agent when something is wrong: no broker, no store, bad config, and everything a target can do.

The first test starts an agent without a broker, the last one brings the broker when half a minute is over:
what lies between them costs no time of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import need
from tests.rigs.mosquitto import Mosquitto, free_port
from tests.rigs.netns import Net
from tests.rigs.servers import Certificates, closed_port, deaf_port, resets, says
from tests.rigs.service import (
    COMMAND,
    Found,
    Ledger,
    Service,
    config,
    http,
    records_of,
    serving,
    siteprobe,
    tcp,
    written,
)
from tests.rigs.web import OK

BROKER_MISSED_S = 31.0
"""Records older than 30 s are no longer live when the broker comes; after 20 s it is a verdict."""
ERROR_500 = b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno"


@dataclass(frozen=True)
class Lonely:
    """An agent whose broker is not there yet, and a `run --once` beside it that will not find one either."""

    agent: Service
    port: int
    began: float
    once: subprocess.Popen[str]


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lonely]:
    folder, port = tmp_path_factory.mktemp("lonely"), free_port()
    with ExitStack() as stack:
        web, open_port = stack.enter_context(serving(says(OK), says(after_bytes=0)))
        checks = [http("web", web), tcp("port", open_port)]
        file = tmp_path_factory.mktemp("once") / "once.yaml"
        file.write_text(json.dumps(config(file.parent, checks, free_port())))
        began = time.monotonic()
        agent = stack.enter_context(Service(folder, config(folder, checks, port)))
        command = [*COMMAND, "run", "--once", "-c", str(file)]
        pipe = subprocess.PIPE
        once = stack.enter_context(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
        stack.callback(once.kill)
        yield Lonely(agent, port, began, once)


def states(status: Found) -> set[str]:
    return {card["state"] for card in status["states"].values()}


def test_measuring_does_not_wait_for_the_broker(lonely: Lonely) -> None:
    found = lonely.agent.wait_for(lambda status: states(status) == {"up"})
    assert found["states"].keys() == {"web", "port"}
    assert not found["delivery"]["connected"] and f"port {lonely.port}" in found["delivery"]["reason"]
    lonely.agent.wait_for(lambda status: status["buffer"]["pending"] > 15)


# What targets can do -----------------------------------------------------------------------------------------


def test_every_failure_is_a_record_with_its_word(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    servers = (
        says(ERROR_500),
        says(OK),
        says(b"garbage\r\n\r\n"),
        resets(),
        (says(OK), certificates.server(other_ca=True)),
        (says(OK), certificates.server(ends_in_days=-0.5)),
        (says(OK), certificates.server("other.example.org")),
    )
    with ExitStack() as stack:
        ports = stack.enter_context(serving(*servers))
        closed, closed_udp = stack.enter_context(closed_port()), free_port()
        deaf = stack.enter_context(deaf_port())
        broker = stack.enter_context(Mosquitto(tmp_path))
        ledger = stack.enter_context(Ledger(broker.port))

        def tls(name: str, port: int) -> Found:
            return http(name, port) | {"url": f"https://127.0.0.1:{port}/", "ca_file": certificates.ca_file}

        checks = [
            tcp("refused", closed),
            tcp("timeout", deaf, timeout="300ms"),
            http("http-status", ports[0]),
            http("http-text", ports[1], expect_text="something else"),
            http("protocol", ports[2]),
            http("reset", ports[3]),
            tls("tls-untrusted", ports[4]),
            tls("tls-expired", ports[5]),
            tls("tls-name", ports[6]),
            {"name": "dns-refused", "type": "dns", "server": "127.0.0.1", "query": "a.test", "interval": "500ms"},
        ]
        agent = stack.enter_context(Service(tmp_path / "a", config(tmp_path, checks, broker.port)))
        agent.wait_for(lambda status: states(status) == {"down"}, 20)
        answer = ledger.wait_complete(agent)
        records = [r for r in ledger.by_number().values() if r["type"] in ("tcp", "http", "dns")]
        assert {r["check"] for r in records} == {check["name"] for check in checks}
        for record in records:
            word = "refused" if record["check"] == "dns-refused" else record["check"].replace("-", "_")
            assert (record["outcome"], record["failure"]) == ("fail", word), record
            assert isinstance(record["detail"], str) and record["address"] == "127.0.0.1"
        assert answer["verdict"]["verdict"] not in ("healthy", "starting", "undetermined")
        assert closed_udp


def test_an_unresolvable_name_in_a_machine_without_network(tmp_path: Path) -> None:
    """Nothing can leave the namespace: it has a loopback and no route."""
    with Net() as net:
        prefix = ["ip", "netns", "exec", net.add("alone")]
        asked = {"interval": "500ms", "timeout": "2s", "fail_after": 1}
        checks = [
            tcp("tcp", 80, **asked) | {"target": "nonexistent.invalid"},
            http("http", 80, **asked) | {"url": "http://nonexistent.invalid/"},
            {"name": "icmp", "type": "icmp", "target": "nonexistent.invalid", **asked},
            {"name": "gateway", "type": "icmp", "target": "gateway", **asked},
        ]
        with Service(tmp_path, config(tmp_path, checks), prefix=prefix) as agent:
            agent.wait_for(lambda status: {"down", "unknown"} == states(status), 20)
            command = [*prefix, *COMMAND, "check", "--json", "-c", str(agent.file)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        found = {check["name"]: check["records"][0] for check in json.loads(done.stdout)["checks"]}
    assert not done.stderr and done.returncode in (2, 3)
    assert {found[name]["failure"] for name in ("tcp", "http", "icmp")} <= {
        "dns_timeout",
        "dns_servfail",
        "dns_nxdomain",
    }
    assert (found["gateway"]["outcome"], found["gateway"]["failure"]) == ("unknown", "local_route")


# What the store can do -----------------------------------------------------------------------------------------


def test_a_store_that_cannot_be_written_means_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a regular file")
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    with serving(says(after_bytes=0)) as (port,), Mosquitto(tmp_path) as broker, Ledger(broker.port) as ledger:
        place = str(tmp_path / "file" / "store")
        values = config(tmp_path, [tcp("port", port)], broker.port, buffer={"directory": place})
        with Service(tmp_path / "a", values, env={"RUNTIME_DIRECTORY": str(runtime)}) as agent:
            epochs = set()
            for _ in range(2):
                agent.wait_for(lambda status: status["verdict"]["verdict"] == "probe_degraded")
                now = ledger.wait_complete(agent)
                assert now["buffer"]["in_memory"] and place in now["buffer"]["trouble"]
                assert "set buffer.directory to" in now["buffer"]["trouble"] and now["buffer"]["trouble"] in agent.log
                assert now["states"]["port"]["state"] == "up" and now["verdict"]["fault_domain"] == "probe"
                epochs.add(now["buffer"]["ep"])
                assert agent.stop() == 0
                agent.start()
        kinds = {m.json["kind"] for m in ledger.under("live/event")}
        assert len(epochs) == 2 and {"agent_started", "store_in_memory"} <= kinds
        assert {m.json["ep"] for m in ledger.under("live/tcp")} >= epochs


FULL = 'mount -t tmpfs -o size=256k tmpfs "$0" && { head -c 1m /dev/zero > "$0/filler" 2>/dev/null; exec "$@"; }'


def test_a_full_disk_that_gets_room_again(tmp_path: Path) -> None:
    need.root()
    disk, runtime = tmp_path / "disk", tmp_path / "runtime"
    disk.mkdir()
    runtime.mkdir()
    prefix = [need.tool("unshare"), "-m", "--propagation", "private", "sh", "-c", FULL, str(disk)]
    with serving(says(after_bytes=0)) as (port,), Mosquitto(tmp_path) as broker, Ledger(broker.port) as ledger:
        values = config(tmp_path, [tcp("port", port)], broker.port, buffer={"directory": str(disk / "store")})
        with Service(tmp_path / "a", values, {"RUNTIME_DIRECTORY": str(runtime)}, prefix) as agent:
            agent.wait_for(lambda status: status["verdict"]["verdict"] == "probe_degraded")
            memory = ledger.wait_complete(agent)["buffer"]
            assert memory["in_memory"] and "free some space" in memory["trouble"]
            (Path(f"/proc/{agent.pid}/root") / str(disk / "filler").lstrip("/")).unlink()
            agent.wait_for(lambda status: status["verdict"]["verdict"] == "healthy", 20)
            kept = ledger.wait_complete(agent)["buffer"]
            assert not kept["in_memory"] and not kept["trouble"] and kept["ep"] != memory["ep"]
            ledger.wait_for(lambda _: ledger.newest("status")["ep"] == kept["ep"])
            told = [m.json for m in ledger.under("live/event") if m.json["kind"] == "store_back"]
            assert len(told) == 1 and memory["ep"] in told[0]["detail"]
            assert agent.stop() == 0
        last = max(seq for ep, seq in ledger.by_number() if ep == memory["ep"])
        assert ledger.missing(memory["ep"], last + 1) == []


# What people can do: the config --------------------------------------------------------------------------------------

BAD = """\
version: 1
identity: {org: org, site: site, node: Node}
mqtt: {url: "mqtt://192.0.2.1", keepaliv: 30s}
standard: false
checks:
- {name: a, type: tcp, target: 127.0.0.1, port: 99999}
- {name: a, type: tcpp, target: 127.0.0.1}
"""


def test_every_error_of_a_file_at_once(tmp_path: Path) -> None:
    file, took = written(tmp_path, BAD), list[float]()
    for words, code in (
        (["run"], 2),
        (["run", "--once"], 2),
        (["config", "check"], 2),
        (["config", "show"], 2),
        (["check"], 3),
    ):
        began = time.monotonic()
        done = siteprobe(*words, "-c", str(file))
        took.append(time.monotonic() - began)
        assert done.returncode == code and not done.stdout
        lines = done.stderr.splitlines()
        assert all(re.match(rf"{re.escape(str(file))}:\d+:\d+: [a-z]", line) for line in lines), done.stderr
        for place, path, words_of_it in (
            ("2:", "identity.node", "expected"),
            ("3:", "mqtt.keepaliv", 'did you mean "keepalive"'),
            ("3:", "mqtt.url", "unencrypted"),
            ("6:", "checks[0].port", "99999"),
            ("7:", "checks[1].type", 'did you mean "tcp"'),
        ):
            assert any(f":{place}" in line and path in line and words_of_it in line for line in lines), (path, lines)
    assert min(took) < 2
    assert json.loads(siteprobe("config", "check", "--json", "-c", str(file)).stdout)["valid"] is False


@pytest.mark.parametrize(
    "content", ["", "\t", "a: [", "- 1", "version: 1", "\0", "a: &x [*x]", "version: 2\nchecks: {}\n"]
)
def test_no_file_brings_a_traceback(tmp_path: Path, content: str) -> None:
    done = siteprobe("run", "-c", str(written(tmp_path, content)))
    assert done.returncode == 2 and done.stderr and "Traceback" not in done.stderr


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    for place in (tmp_path / "missing.yaml", tmp_path):
        done = siteprobe("run", "-c", str(place))
        assert done.returncode == 2 and str(place) in done.stderr and len(done.stderr.splitlines()) == 1
        assert siteprobe("status", "-c", str(place)).returncode == 3


# The end of the first test's story -----------------------------------------------------------------------------------


def test_once_without_a_broker_keeps_everything_and_says_so(lonely: Lonely) -> None:
    said, wrong = lonely.once.communicate(timeout=40)
    assert lonely.once.returncode == 1 and said.startswith("healthy")
    assert re.search(r"\d+ records could not be delivered \(nobody listens .*\) and wait in ", wrong)


@pytest.mark.timeout(90)
def test_a_broker_that_comes_late_gets_everything(lonely: Lonely, tmp_path: Path) -> None:
    agent = lonely.agent
    found = agent.wait_for(lambda status: status["verdict"]["verdict"] == "collector_unreachable", 25)
    assert f"port {lonely.port}" in json.dumps(found["verdict"]) and found["verdict"]["layer"] == "collector"
    assert siteprobe("status", "-c", str(agent.file)).returncode == 1
    time.sleep(max(0.0, lonely.began + BROKER_MISSED_S - time.monotonic()))
    taken = agent.wait_for(lambda status: True)["buffer"]
    assert taken["pending"] == taken["next_seq"] - 1 and taken["pending"] > 100
    with Mosquitto(tmp_path, port=lonely.port) as broker, Ledger(broker.port) as ledger:
        now = ledger.wait_complete(agent, 40)
        assert now["buffer"]["ep"] == taken["ep"] and ledger.newest("status")["conn"] == 1
        agent.wait_for(lambda status: status["verdict"]["verdict"] == "healthy")
        assert "collector_unreachable" in {m.get("verdict") for m in _all_of(ledger, "verdict")}
        late = {r["seq"] for m in ledger.under("late/") for r in records_of(m)}
        fresh = {m.json["seq"] for m in ledger.under("live/")}
        assert late and fresh and min(late) == 1 and max(fresh) > max(late)
        assert agent.log.count("WARNING") == agent.log.count("not delivered: nobody listens") == 1, agent.log
        assert agent.log.count("INFO siteprobe: connected to the broker at 127.0.0.1") == 1
        assert agent.stop() == 0


def _all_of(ledger: Ledger, kind: str) -> list[Any]:
    return [record for record in ledger.by_number().values() if record["type"] == kind]

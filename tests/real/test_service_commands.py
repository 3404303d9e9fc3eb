"""What the commands print and exit with, what the service process loads, and where a secret never shows."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.rigs import need
from tests.rigs.fields import STATE, VERDICT, has
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.servers import closed_port, says
from tests.rigs.service import (
    Ledger,
    Service,
    config,
    http,
    is_healthy,
    serving,
    siteprobe,
    tcp,
    written,
)
from tests.rigs.web import OK


def test_a_second_agent_on_one_store_names_the_first(tmp_path: Path) -> None:
    with Service(tmp_path, config(tmp_path, [])) as agent:
        for words in (["run"], ["run", "--once"]):
            second = siteprobe(*words, "-c", str(agent.file))
            assert second.returncode == 2 and f"process id {agent.pid}" in second.stderr
            assert len(second.stderr.splitlines()) == 1 and str(tmp_path / "store") in second.stderr
        assert agent.status() is not None


# The socket and `status` ------------------------------------------------------------------------------------------


def test_status_exit_codes_and_both_sockets(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    with serving(says(after_bytes=0)) as (port,), Mosquitto(tmp_path) as broker, Ledger(broker.port):
        values = config(tmp_path, [tcp("port", port)], broker.port)
        with Service(tmp_path / "a", values, env={"RUNTIME_DIRECTORY": str(runtime)}) as agent:
            agent.wait_for(is_healthy)
            for directory in (runtime, tmp_path / "store"):
                path = directory / "siteprobe.sock"
                assert stat.S_IMODE(path.stat().st_mode) == 0o660
                assert _asked(path).keys() >= {"verdict", "states", "buffer", "delivery", "clock"}
            healthy = siteprobe("status", "--json", "-c", str(agent.file))
            assert healthy.returncode == 0
            found = json.loads(healthy.stdout)
            assert has(VERDICT, found["verdict"]) and has(STATE, found["states"]["port"])
            shown = siteprobe("-c", str(agent.file), env={"NO_COLOR": "1"})
            assert shown.returncode == 0 and "healthy" in shown.stdout and "\x1b" not in shown.stdout
            agent.reload(config(tmp_path, [tcp("gone", 9)], broker.port))
            agent.wait_for(lambda status: status["verdict"]["verdict"] == "remote_service_down")
            assert siteprobe("status", "--json", "-c", str(agent.file)).returncode == 1
            assert agent.stop() == 0
        assert not (runtime / "siteprobe.sock").exists()
        silent = siteprobe("status", "--json", "-c", str(agent.file))
        assert silent.returncode == 3 and "no agent answers" in silent.stderr and not silent.stdout


def _asked(path: Path) -> Any:
    """Ask as any program may: connect, read to the end."""
    with socket.socket(socket.AF_UNIX) as asking:
        descriptor = os.open(path.parent, os.O_PATH)  # a socket's path is limited to 108 bytes
        try:
            asking.settimeout(5)
            asking.connect(f"/proc/self/fd/{descriptor}/{path.name}")
            with asking.makefile("rb") as answer:
                return json.loads(answer.read())
        finally:
            os.close(descriptor)


NOT_IN_THE_SERVICE = {"click", "rich", "scapy", "amqtt", "pysnmp", "pyasn1"}
"""The last two are for checks that this config does not have."""


def test_the_service_loads_nothing_of_the_command_line(tmp_path: Path) -> None:
    """Python names each module as it loads it; the last list is of the process after the command line gave way."""
    with serving(says(OK)) as (port,):
        values = config(tmp_path, [http("web", port), {"name": "ping", "type": "icmp", "target": "127.0.0.1"}])
        with Service(tmp_path, values, env={"PYTHONPROFILEIMPORTTIME": "1"}) as agent:
            agent.wait_for(lambda status: status["states"]["web"]["state"] == "up")
            lists = agent.log.split("imported package\n")
            command_line, service = (
                {line.rpartition("|")[2].strip() for line in part.splitlines() if line.startswith("import time:")}
                for part in (lists[1], lists[-1])
            )
    assert "click" in command_line and {"agent.app", "paho.mqtt.client", "h11"} <= service
    assert {name.partition(".")[0] for name in service} & NOT_IN_THE_SERVICE == set()


CANARY = "c4n4ry-Zq8"


def test_a_literal_password_shows_nowhere(tmp_path: Path) -> None:
    hashed = tmp_path / "passwords"
    subprocess.run([need.tool("mosquitto_passwd"), "-c", "-b", str(hashed), "node", "another"], check=True)
    lines = ["allow_anonymous false", f"password_file {hashed}"]
    debug = {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1"}
    with Mosquitto(tmp_path, lines) as broker, closed_port() as port:
        secret = {"username": "node", "password": CANARY}
        values = config(tmp_path, [tcp("port", port)], broker.port, mqtt=secret)
        with Service(tmp_path / "a", values, env=debug) as agent:
            refused = agent.wait_for(lambda status: "refused" in (status["delivery"]["reason"] or ""))
            agent.wait_logged("WARNING siteprobe: results are kept, and not delivered: the broker refused")
            printed = [json.dumps(refused), Path(f"/proc/{agent.pid}/cmdline").read_text()]
            for words in (["status"], ["status", "--json"], ["config", "show"], ["config", "show", "--json"]):
                printed.append(_all_of(siteprobe(*words, "-c", str(agent.file))))
            # Slips that put the secret where a name belongs; each is refused with its place only.
            for slip in (
                f"[{CANARY}]",
                f"{{file: [{CANARY}]}}",
                f"!{CANARY}",
                f"{{{CANARY}: x}}",
                f'"{CANARY}',
                f"*{CANARY}",
            ):
                agent.reload(f"version: 1\nmqtt:\n  url: mqtt://node:{CANARY}@127.0.0.1\n  password: {slip}\n")
                bad = siteprobe("config", "check", "-c", str(agent.file))
                assert bad.returncode == 2
                printed.append(_all_of(bad))
            agent.wait_for(lambda status: status["buffer"]["next_seq"] > refused["buffer"]["next_seq"])
            os.kill(agent.pid, signal.SIGTERM)
            agent.ended()
        kept = b"".join(file.read_bytes() for file in (tmp_path / "store").iterdir() if file.is_file())
    assert CANARY not in "\n".join([agent.log, *printed])
    assert CANARY.encode() not in kept


def _all_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_the_reading_commands_print_what_programs_read(tmp_path: Path) -> None:
    values = config(
        tmp_path, [], services=["http://127.0.0.1:8/health"], anchors={"internet": ["127.0.0.1"]}, standard=True
    )
    file = written(tmp_path, values)
    shown = siteprobe("config", "show", "-c", str(file))
    effective = yaml.safe_load(shown.stdout)
    names = {check["name"] for check in effective["checks"]}
    assert shown.returncode == 0 and {"link", "gateway", "internet-1"} <= names
    assert json.loads(siteprobe("config", "show", "--json", "-c", str(file)).stdout) == effective
    schema = json.loads(siteprobe("config", "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(effective, schema)
    again = written(tmp_path, shown.stdout)
    assert yaml.safe_load(siteprobe("config", "show", "-c", str(again)).stdout) == effective
    checked = json.loads(siteprobe("config", "check", "--json", "-c", str(again)).stdout)
    assert checked["valid"] and checked["checks"] == len(names)


# What people can do: `check` ---------------------------------------------------------------------------------------


def test_check_explains_itself_and_its_exit_codes(tmp_path: Path) -> None:
    with serving(says(OK), says(after_bytes=0)) as (web, port), closed_port() as closed:
        checks = [
            http("web", web),
            tcp("refused", closed, fail_after=2),
            http("slow", web, degraded={"total_s": 0.0000001}),
        ]
        values = config(tmp_path, checks)
        file = str(written(tmp_path, values))

        def checked(*words: str) -> tuple[int, str, str]:
            done = siteprobe("check", *words, "-c", file)
            return done.returncode, done.stdout, done.stderr

        code, said, wrong = checked("web")
        assert (code, wrong) == (0, "") and "✔ web" in said and "\x1b" not in said
        assert f"127.0.0.1:{web}" in said or f"port {web}" in said
        published = said.split("would be published to ")[1]
        assert published.startswith("siteprobe/v1/org/site/node/live/http/web:")
        record = json.loads(published.split("\n", 1)[1])
        assert (record["type"], record["outcome"], record["status"]) == ("http", "pass", 200)

        code, said, wrong = checked("slow")
        assert code == 1 and "▲ slow" in said
        code, said, wrong = checked("refused")
        assert code == 2 and "✖ refused" in said and "after 2 times" in said and "refused: " in said
        code, said, wrong = checked("refused", "web", "--json")
        found = json.loads(said)
        assert code == 2 and [check["name"] for check in found["checks"]] == ["refused", "web"]
        assert found["checks"][0]["records"][0]["failure"] == "refused"
        assert f"asking 127.0.0.1 tcp port {closed}" in found["checks"][0]["explanation"]
        code, said, wrong = checked("weeb")
        assert code == 3 and 'did you mean "web"' in wrong and not said
        code, said, wrong = checked("--json")
        assert code == 2 and json.loads(said)["verdict"]["verdict"] == "remote_service_down"
        assert not (tmp_path / "store").exists()


def test_check_that_could_not_measure(tmp_path: Path) -> None:
    """A denied address that only resolution brings: nothing is sent."""
    check = tcp("denied", 9) | {"target": "localhost"}
    far = {"url": "mqtts://192.0.2.1"}  # `check` connects to no broker
    file = str(written(tmp_path, config(tmp_path, [check], safety={"deny": ["127.0.0.0/8", "::1/128"]}, mqtt=far)))
    done = siteprobe("check", "denied", "--json", "-c", file)
    record = json.loads(done.stdout)["checks"][0]["records"][0]
    assert (done.returncode, record["outcome"], record["failure"]) == (3, "unknown", "local_policy")

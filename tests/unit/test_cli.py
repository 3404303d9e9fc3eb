"""The command line as scripts use it: exit codes, output that nobody takes, where a running agent is asked."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import siteprobe
from agent.web.socket import bound

CONFIG = """
version: 1
identity: {{org: o, site: s, node: n-1}}
mqtt: {{url: "mqtt://127.0.0.1:1"{more}}}
buffer: {{directory: {store}}}
standard: false
checks: [{{name: cable, type: link, interface: lo}}]
"""
FULL, GONE = ">/dev/full", "> >(exec 1>&- 0<&-; exit)"
HEALTHY = b"""{"verdict": {"verdict": "healthy", "summary": "Well.", "next": "-"}, "states": {}, "clock": "synced",
"buffer": {"in_memory": true, "pending": 0, "buffer_bytes": 1, "buffer_limit": 2, "first_seq": 1, "next_seq": 2,
"ep": "e", "trouble": null}, "delivery": {"connected": true, "address": "a"}}"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "siteprobe.yaml"
    path.write_text(CONFIG.format(store=tmp_path, more=""))
    return path


@pytest.fixture
def answers(tmp_path: Path) -> None:
    """Stand in for a running agent that is healthy, for one question."""
    listener = bound(tmp_path)
    listener.listen()

    def answer() -> None:
        with listener, listener.accept()[0] as asking:
            asking.sendall(HEALTHY)

    threading.Thread(target=answer, daemon=True).start()


def code(*words: str, stdout: str, stderr: str) -> tuple[int, str]:
    """Run a command whose output goes to a full disk, or to a reader that has gone; gives its code and what it said."""
    command = " ".join(["exec", sys.executable, "-m", "agent", *words, f"{stdout} {stderr}"])
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("words", "lost"),
    [
        ("config show", FULL),
        ("config check", GONE),
        ("acl mosquitto --org o --site s --node n", FULL),
        ("status", FULL),
        ("status", GONE),
    ],
)
def test_output_that_nobody_takes_changes_no_exit_code(file: Path, answers: None, words: str, lost: str) -> None:
    named = "" if words.startswith("acl") else f"-c {file}"
    ended, said = code(words, named, stdout=lost, stderr="")
    assert ended == 0 and "Traceback" not in said


@pytest.mark.parametrize(("words", "wanted"), [("config check", 2), ("check", 3), ("status", 3)])
def test_complaints_that_nobody_takes_change_no_exit_code(tmp_path: Path, words: str, wanted: int) -> None:
    assert code(words, f"-c {tmp_path}/none.yaml", stdout="", stderr="2>/dev/full")[0] == wanted


@pytest.mark.parametrize(
    "words", ["check --bogus", "check -c", "snmp try", "snmp try 127.0.0.1", "snmp try ::1 --port x"]
)
def test_wrong_usage_is_never_a_failed_target(words: str) -> None:
    assert CliRunner().invoke(siteprobe, words.split()).exit_code == 3


def test_what_is_interrupted_is_never_a_degraded_target(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agent", "snmp", "try", "127.0.0.1", "--community", "ask"]
    asked = subprocess.run(  # in a session of its own, so that no terminal can be asked
        command, stdin=subprocess.DEVNULL, start_new_session=True, capture_output=True, timeout=20, check=False
    )
    assert asked.returncode == 3
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        path = tmp_path / "siteprobe.yaml"
        options = f"type: http, url: 'http://127.0.0.1:{silent.getsockname()[1]}/', timeout: 60s"
        path.write_text(CONFIG.format(store=tmp_path, more="").replace("type: link, interface: lo", options))
        command = [sys.executable, "-m", "agent", "check", "-c", str(path)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as check, silent.accept()[0]:
            check.send_signal(signal.SIGINT)
            _, said = check.communicate(timeout=20)
    assert (check.returncode, said) == (3, "interrupted: nothing was concluded\n")


@pytest.mark.parametrize(
    "words", ["run --bogus", "config bogus", "bogus", "manifest x", "acl mosquitto", "config", "acl", "snmp", "doctor"]
)
def test_wrong_usage_of_the_others(words: str) -> None:
    assert CliRunner().invoke(siteprobe, words.split()).exit_code == 2


@pytest.mark.parametrize("slip", ["services: [x]\n", "nonsense: 1\n", "buffer: {directory: /elsewhere}\n"])
def test_an_agent_is_found_though_its_file_became_wrong(file: Path, answers: None, slip: str) -> None:
    file.write_text(file.read_text() + slip)
    done = CliRunner().invoke(siteprobe, ["status", "-c", str(file)])
    assert done.exit_code == 0 and "healthy" in done.output
    assert f"{file}:8:" in done.output, "the mistake is told too"


def test_where_the_file_is_no_yaml_the_service_is_asked(file: Path) -> None:
    file.write_text("version: [\n")
    done = CliRunner().invoke(siteprobe, ["status", "-c", str(file)])
    assert done.exit_code == 3 and "(asking in /run/siteprobe)" in done.output


def test_run_once_says_why_nothing_was_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.once.DELIVERY_S", 1.0)
    path = tmp_path / "siteprobe.yaml"
    path.write_text(CONFIG.format(store=tmp_path / "store", more=", username: u, password: {file: /nope}"))
    done = CliRunner().invoke(siteprobe, ["run", "--once", "-c", str(path)])
    assert done.exit_code == 1
    assert "(mqtt.password: secret file /nope cannot be read: No such file or directory) and wait in" in done.output


@pytest.mark.parametrize("words", ["--json", "--json status", "status --json"])
def test_json_is_json_wherever_it_stands(file: Path, answers: None, words: str) -> None:
    done = CliRunner().invoke(siteprobe, ["-c", str(file), *words.split()])
    assert (done.exit_code, json.loads(done.output)["clock"]) == (0, "synced")


@pytest.mark.parametrize("words", ["config check", "config show", "config schema", "manifest"])
def test_json_before_a_reading_command_holds_for_it(file: Path, words: str) -> None:
    done = CliRunner().invoke(siteprobe, ["--json", "-c", str(file), *words.split()])
    assert done.exit_code == 0 and json.loads(done.stdout)


def test_watch_is_for_status_with_and_without_its_name(file: Path) -> None:
    for words in (["--watch", "--json"], ["--watch", "--json", "status"]):
        assert "--watch draws for people" in CliRunner().invoke(siteprobe, ["-c", str(file), *words]).output


def test_a_word_for_later_is_no_typing_error() -> None:
    assert "collect is not built yet" in CliRunner().invoke(siteprobe, ["collect"]).output
    assert 'did you mean "status"?' in CliRunner().invoke(siteprobe, ["statsu"]).output


def test_the_verdict_of_check_has_the_words_of_the_published_one(file: Path) -> None:
    file.write_text(file.read_text().replace("type: link, interface: lo", "type: link, interface: nope0"))
    verdict = json.loads(CliRunner().invoke(siteprobe, ["check", "--json", "-c", str(file)]).stdout)["verdict"]
    assert (verdict["verdict"], verdict["fault_domain"]) == ("local_link_down", "probe")


def test_where_no_check_runs_nothing_was_measured(file: Path) -> None:
    file.write_text(file.read_text().replace("interface: lo}", "interface: lo, enabled: false}"))
    done = CliRunner().invoke(siteprobe, ["check", "-c", str(file)])
    assert done.exit_code == 3 and "nothing was measured" in done.output

"""Commands end to end: the real mosquitto, the whole agent, a centre that knows only the contract."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.ask import ROOT
from tests.rigs.centre import BASE, PACE, Centre, Target, in_s, service
from tests.rigs.mosquitto import Mosquitto, retained


@dataclass
class Scene:
    """Everything that a test acts on."""

    folder: Path
    broker: Mosquitto
    target: Target
    centre: Centre

    def verdict(self, wanted: str, seconds: float = 10.0) -> None:
        """Wait until the newest verdict is this one."""
        self.centre.wait_for(
            lambda _: (found := self.centre.under("verdict")) and found[-1].json["verdict"] == wanted, seconds
        )

    def events(self, kind: str) -> list[Any]:
        return [r for r in self.centre.records("event") if r["kind"] == kind]

    def commands(self) -> list[Any]:
        """Give the events of commands, but for those that only asked whether anybody is there."""
        return [e for e in self.events("command") if e["name"] != "hello"]

    def status(self) -> Any:
        """Ask the agent over its socket, as people do."""
        command = [sys.executable, "-m", "agent", "status", "--json", "-c", str(self.folder / "siteprobe.yaml")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        return json.loads(done.stdout)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Scene]:
    """A broker, a target and a centre; the agent is the test's to start."""
    with Mosquitto(tmp_path) as broker, Target() as target, Centre(broker.port) as centre:
        yield Scene(tmp_path, broker, target, centre)


@pytest.fixture
def scene(stage: Scene) -> Iterator[Scene]:
    """The stage with the agent running and healthy."""
    with service(stage.folder, stage.broker.port, stage.target.port):
        stage.centre.online()
        stage.verdict("healthy")
        yield stage


def test_every_refusal_has_its_code_and_its_event(scene: Scene) -> None:
    ask, send = scene.centre.ask, scene.centre.send
    once = {"id": "once", "exp": in_s(30), "args": {}}
    answers = [
        ("ok", send("report", once)),
        ("duplicate", send("report", once)),
        ("unknown", ask("reboot")),
        ("expired", ask("report", exp=in_s(-1))),
        ("expired", ask("report", exp=in_s(120))),
        ("invalid", ask("report", exp=None)),
        ("invalid", ask("report", id=None)),
        ("invalid", send("report", b"not json")),
        ("invalid", send("report", b"\xff\xfe")),
        ("invalid", send("report", b"[" * 5000)),
        ("invalid", send("report", b'{"id":"huge","args":"' + b"x" * 40_000 + b'"}')),
        ("invalid", ask("suppress", {"seconds": 14_401, "kind": "maintenance", "reason": "too long"})),
        ("invalid", ask("replay", {"ep": "e", "ranges": [[5, 1]]})),
        ("not_allowed", ask("check", {"check": "no-such"})),
        ("ok", ask("traceroute", {"check": "target"})),
    ]
    assert [wanted for wanted, _ in answers] == [answer["code"] for _, answer in answers]
    assert all(answer["ok"] is (wanted == "ok") for wanted, answer in answers)
    codes = [wanted for wanted, _ in answers]
    scene.centre.wait_for(lambda _: len(scene.commands()) >= len(codes))
    assert [e["code"] for e in scene.commands()] == codes
    duplicate = next(e for e in scene.commands() if e["code"] == "duplicate")
    assert (duplicate["name"], duplicate["id"]) == ("report", "once")


def test_a_disabled_command_is_refused_and_without_any_nothing_is_subscribed_to(stage: Scene) -> None:
    with service(stage.folder, stage.broker.port, stage.target.port, enabled="[replay, report]"):
        stage.centre.online()
        answer = stage.centre.ask("suppress", {"seconds": 60, "kind": "maintenance", "reason": "r"})
        assert (answer["code"], answer["ok"]) == ("disabled", False)
    (stage.folder / "quiet").mkdir()
    with service(stage.folder / "quiet", stage.broker.port, stage.target.port, enabled="[]"):
        stage.centre.wait_for(lambda ms: ms[-1].topic == f"{BASE}/live/tcp/target")
        assert stage.centre.ask("report", seconds=1.0) is None
    assert stage.broker.log.read_text().count("Received SUBSCRIBE from n\n") == 1


def test_retained_commands_are_answered_and_never_acted_on(stage: Scene) -> None:
    body = {"id": "r1", "exp": in_s(50), "args": {"seconds": 600, "kind": "maintenance", "reason": "junk"}}
    stage.centre.publish(f"{BASE}/command/suppress", body, retain=True)
    with service(stage.folder, stage.broker.port, stage.target.port):
        stage.centre.wait_for(lambda _: stage.centre.under("response"))
        answer = stage.centre.under("response")[0].json
        assert (answer["id"], answer["code"]) == ("r1", "retained")
        stage.verdict("healthy")
        live = {"id": "r2", "exp": in_s(50), "args": {}}
        assert stage.centre.send("report", live, retain=True)["code"] == "retained", "retained while we listen"
        assert stage.status()["suppression"] is None
    stage.centre.publish(f"{BASE}/command/suppress", b"", retain=True)
    stage.centre.publish(f"{BASE}/command/report", b"", retain=True)


def test_an_id_is_obeyed_once_even_after_a_restart(stage: Scene) -> None:
    body = {"id": "again", "exp": in_s(55), "args": {}}
    for wanted in ("ok", "duplicate"):
        with service(stage.folder, stage.broker.port, stage.target.port):
            stage.centre.online()
            assert stage.centre.send("report", body)["code"] == wanted
        stage.centre.messages.clear()


def test_report_publishes_every_card_again(scene: Scene) -> None:
    scene.centre.messages.clear()
    answer = scene.centre.ask("report")
    assert answer["ok"]
    wanted = {f"{BASE}/{suffix}" for suffix in ("about", "heartbeat", "verdict", "state/target")}
    scene.centre.wait_for(lambda ms: wanted <= {m.topic for m in ms if m.retain})


def test_check_runs_a_check_now_and_gives_its_record(stage: Scene) -> None:
    with service(stage.folder, stage.broker.port, stage.target.port, interval="1h"):
        stage.centre.online()
        stage.verdict("healthy")
        before = len(stage.target.connections)
        answer = stage.centre.ask("check", {"check": "target"})
        assert (answer["code"], answer["result"]["outcome"]) == ("ok", "pass")
        assert len(stage.target.connections) == before + 1
        stage.centre.wait_for(lambda _: answer["result"] in stage.centre.records("tcp"))


def test_maintenance_stops_all_packets_within_a_second_and_ends_by_itself(scene: Scene) -> None:
    answer = scene.centre.ask("suppress", {"seconds": 4, "kind": "maintenance", "reason": "router swap"})
    began = time.monotonic()
    assert answer["ok"]
    scene.verdict("suppressed")
    scene.centre.wait_for(lambda _: scene.centre.under("state/target")[-1].json["state"] == "unknown")
    assert scene.centre.under("state/target")[-1].json["state"] == "unknown"
    assert scene.status()["suppression"]["reason"] == "router swap"
    assert scene.centre.ask("check", {"check": "target"})["code"] == "not_allowed"
    scene.verdict("healthy")
    ended = time.monotonic()
    said = [message.json["verdict"] for message in scene.centre.under("verdict")]
    after = [word for word in said[said.index("suppressed") :] if word != "starting"]  # the first pass may be quicker
    assert after == ["suppressed", "healthy"]
    assert 3.5 < ended - began < 20
    quiet = [at for at in scene.target.connections if began + 1 < at < began + 3.5]
    assert not quiet, "packets left while active checks were suppressed"
    assert {r["outcome"] for r in scene.centre.records("tcp")} == {"pass"}, "nothing was even tried"
    scene.centre.wait_for(lambda _: scene.events("suppression_ended"))
    assert "router swap" in scene.events("suppression_began")[0]["detail"]


def test_the_suppress_file_does_the_same_and_outlives_a_restart(stage: Scene) -> None:
    file = stage.folder / "store" / "suppress"
    text = json.dumps({"seconds": 600, "kind": "maintenance", "reason": "by hand"})
    with service(stage.folder, stage.broker.port, stage.target.port):
        stage.centre.online()
        file.write_text("{")
        stage.centre.wait_for(lambda _: stage.events("suppression_refused"))
        assert stage.status()["suppression"] is None
        file.write_text(text)
        stage.verdict("suppressed", 2.0)
    time.sleep(1)
    with service(stage.folder, stage.broker.port, stage.target.port):
        stage.centre.wait_for(lambda ms: sum(m.topic == f"{BASE}/status" for m in ms) >= 3)
        stage.verdict("suppressed")
        found = stage.status()["suppression"]
        assert found["source"] == "file"
        assert found["left_s"] < 599
        count = len(stage.target.connections)
        file.unlink()
        stage.verdict("healthy")
        assert len(stage.target.connections) > count


def test_run_once_sends_nothing_while_it_is_quiet_and_obeys_nobody(stage: Scene) -> None:
    with service(stage.folder, stage.broker.port, stage.target.port):
        stage.centre.online()
    (stage.folder / "store" / "suppress").write_text(json.dumps({"seconds": 600, "kind": "maintenance"}))
    count, subscribed = len(stage.target.connections), stage.broker.log.read_text().count("SUBSCRIBE from n")
    command = [sys.executable, "-m", "agent", "run", "--once", "-c", str(stage.folder / "siteprobe.yaml")]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=40, check=False)
    stage.verdict("suppressed")
    assert len(stage.target.connections) == count
    assert stage.broker.log.read_text().count("SUBSCRIBE from n") == subscribed


def test_isolation_keeps_measuring_and_says_so(scene: Scene) -> None:
    scene.centre.ask("suppress", {"seconds": 60, "kind": "isolation", "reason": "cyber incident"})
    before = len(scene.target.connections)
    time.sleep(1)
    assert len(scene.target.connections) > before
    found = scene.status()
    assert (found["suppression"]["kind"], found["verdict"]["verdict"]) == ("isolation", "healthy")
    assert scene.centre.ask("suppress", {"seconds": 0, "kind": "isolation", "reason": ""})["ok"]
    assert scene.status()["suppression"] is None


def test_replay_fills_the_gap_of_a_reader_that_was_away(scene: Scene) -> None:
    away = [m.json for m in scene.centre.under("live/tcp/")]
    ep, first, last = away[0]["ep"], away[0]["seq"], away[-1]["seq"]
    with Centre(scene.broker.port) as late_comer:
        answer = late_comer.ask("replay", {"ep": ep, "ranges": [[first, last]]})
        assert answer["result"]["gone"] == []
        assert answer["result"]["queued"] == last - first + 1
        wanted = {r["seq"]: r | {"late": True} for r in away}
        late_comer.wait_for(lambda _: wanted.keys() <= {r["seq"] for m in late_comer.under("late/tcp") for r in m.json})
        got = [record for m in late_comer.under("late/tcp") for record in m.json if record["seq"] in wanted]
        assert got == [wanted[seq] for seq in sorted(wanted)]
        other = late_comer.ask("replay", {"ep": "zzzzzz", "ranges": [[1, 3], [7, 7]]})
        assert other["result"] == {"queued": 0, "gone": [[1, 3], [7, 7]]}
        future = late_comer.ask("replay", {"ep": ep, "ranges": [[10_000, 20_000]]})
        assert future["result"] == {"queued": 0, "gone": []}


def test_a_pace_holds_the_backlog_only_and_ends_by_itself(scene: Scene) -> None:
    scene.centre.publish(PACE, b"junk", retain=True)
    scene.centre.publish(PACE, {"hold": True, "late_rate": 5, "spread_s": 1, "exp": in_s(3)}, retain=True)
    began = time.monotonic()
    scene.centre.wait_for(lambda _: scene.events("pace_changed"))
    assert scene.events("pace_refused")
    ep = scene.centre.records("tcp")[0]["ep"]
    answer = scene.centre.ask("replay", {"ep": ep, "ranges": [[1, 5]]})
    assert answer["result"]["queued"] == 5
    live = len(scene.centre.under("live/tcp/"))
    time.sleep(1)
    assert not scene.centre.under("late/")
    assert len(scene.centre.under("live/tcp/")) > live
    scene.centre.wait_for(lambda _: scene.centre.under("late/"))
    assert time.monotonic() - began > 2.5
    scene.centre.publish(PACE, b"", retain=True)
    assert PACE not in retained(scene.broker.port)

"""`siteprobe replay`: a story that was recorded is judged again, with the same words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cards import Payload
from agent.messages import encode
from agent.model import Record
from agent.replaying import read_records
from tests.rigs.stories import STORIES, Play

CONFIG = """\
version: 1
identity: {org: o, site: s, node: node}
mqtt: {url: "mqtt://127.0.0.1"}
standard: false
checks:
  - {name: link, type: link}
  - {name: peer, type: icmp, target: 10.0.0.1, layer: lan}
  - {name: gateway, type: icmp, target: 10.0.0.2, layer: gateway}
  - {name: dc-a-1, type: icmp, target: 10.0.7.4, layer: datacentre, group: dc-a}
  - {name: net-1, type: icmp, target: 10.0.7.5, layer: internet}
  - {name: epr, type: http, url: "http://10.0.7.6/", group: dc-a}
"""


def recorded(story: str) -> list[str]:
    """Play a story and give all its records as JSON, as they would have been published."""
    play = Play(STORIES / f"{story}.yaml")
    for step in play.story["steps"]:
        if "say" not in step:
            play.act(step)
    return [encode(record, "node", "k3f9q2", seq) for seq, record in enumerate(play.notebook.records, 1)]


def replay(folder: Path, lines: list[str], *words: str, config: str = CONFIG) -> subprocess.CompletedProcess[str]:
    (folder / "siteprobe.yaml").write_text(config)
    (folder / "records.jsonl").write_text("\n".join(lines))
    command = [sys.executable, "-m", "agent", "replay", str(folder / "records.jsonl"), *words]
    return subprocess.run(
        [*command, "-c", str(folder / "siteprobe.yaml")], capture_output=True, text=True, timeout=60, check=False
    )


def said(entries: list[Payload], whose: str) -> list[Any]:
    return [
        e["verdict"] for e in entries if e["said"] == whose and e["type"] == "verdict" and e["verdict"] != "starting"
    ]


def test_a_recorded_fault_is_judged_as_it_was_then(tmp_path: Path) -> None:
    done = replay(tmp_path, recorded("gateway_dies"), "--json")
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)
    now, then = said(entries, "now"), said(entries, "then")
    assert list(dict.fromkeys(now)) == ["healthy", "lan_gateway_down"] == list(dict.fromkeys(then))
    assert now[-1] == then[-1] == "healthy"
    states = {(e["check"], e["new"]) for e in entries if e["said"] == "now" and e["type"] == "transition"}
    assert ("gateway", "down") in states and ("epr", "unreachable") in states


def test_another_config_gives_another_verdict(tmp_path: Path) -> None:
    without_peer = "".join(line for line in CONFIG.splitlines(keepends=True) if "peer" not in line)
    done = replay(tmp_path, recorded("gateway_dies"), config=without_peer)
    assert done.returncode == 1 and "peer; their records were passed over" in done.stderr
    now = [line for line in done.stdout.splitlines() if "  now   " in line and "lan_gateway_down" in line]
    assert now and "(site): The gateway 10.0.0.3 does not answer" in now[0]


def test_messages_arrays_and_repeated_records_are_all_the_same(tmp_path: Path) -> None:
    lines = recorded("gateway_dies")
    bodies = [json.loads(line) for line in lines]
    messages = [json.dumps({"topic": "x/live/icmp/gateway", "retain": False, "payload": body}) for body in bodies]
    cards = [json.dumps({"topic": "x/status", "retain": True, "payload": {"v": 1, "state": "online"}}), ""]
    as_records = read_records(lines)
    assert as_records == read_records([json.dumps(bodies[::-1])]) == read_records([*cards, *messages, *lines])
    assert all(isinstance(record, Record) for record in as_records)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("not json", 2, "line 1 is no JSON"),
        ('{"ep":"e","seq":1,"ts":"yesterday","mono_ms":1,"type":"tcp"}', 2, "a time is none"),
        ('{"some": "thing"}', 1, "holds no records"),
    ],
)
def test_what_is_no_record_is_said_in_a_sentence(tmp_path: Path, text: str, code: int, words: str) -> None:
    done = replay(tmp_path, [text])
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr


def test_maintenance_is_replayed_as_such(tmp_path: Path) -> None:
    lines = list(quiet(recorded("gateway_dies")))
    entries = json.loads(replay(tmp_path, lines, "--json").stdout)
    assert "suppressed" in said(entries, "now")


def quiet(lines: list[str]) -> Iterator[str]:
    """Put an announced maintenance before the last record."""
    last = json.loads(lines[-1])
    event = {key: last[key] for key in ("v", "node", "ep", "ts", "clock", "boot", "mono_ms")}
    event |= {"type": "event", "kind": "suppression_began", "detail": "maintenance by command for 60 s: swap"}
    yield from lines[:-1]
    yield json.dumps(event | {"seq": last["seq"]})
    yield json.dumps(last | {"seq": last["seq"] + 1})

"""What config/central/ gives to readers: Telegraf's and Node-RED's topics are the described ones, the flow works."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent.wording import TOPICS
from tests.rigs import need

CENTRAL = Path(__file__).parents[2] / "config" / "central"


def subscribed() -> dict[str, list[str]]:
    """Give what each example subscribes to."""
    telegraf = tomllib.loads((CENTRAL / "telegraf.conf").read_text())
    flow = json.loads((CENTRAL / "node-red-flow.json").read_text())
    return {
        "telegraf": [topic for consumer in telegraf["inputs"]["mqtt_consumer"] for topic in consumer["topics"]],
        "node-red": [node["topic"] for node in flow if node["type"] == "mqtt in"],
    }


@pytest.mark.parametrize("example", ["telegraf", "node-red"])
def test_the_examples_subscribe_to_topics_that_are_described(example: str) -> None:
    described = {name: re.sub(r"{\w+}", "+", topic.address) for name, topic in TOPICS.items()}
    topics = subscribed()[example]
    assert set(topics) <= set(described.values())
    assert {described["live"], described["late"]} <= set(topics)


def test_telegraf_takes_org_site_and_measurement_from_the_right_places() -> None:
    telegraf = tomllib.loads((CENTRAL / "telegraf.conf").read_text())
    for consumer in telegraf["inputs"]["mqtt_consumer"]:
        assert (consumer["qos"], consumer["persistent_session"]) == (1, True)
        (parsing,) = consumer["topic_parsing"]
        assert parsing["topic"] == consumer["topics"][0]
        kind = parsing["topic"].split("/")[5]
        places = dict(zip(TOPICS[kind].address.split("/"), parsing["tags"].split("/"), strict=True))
        measured = dict(zip(TOPICS[kind].address.split("/"), parsing["measurement"].split("/"), strict=True))
        assert {place: tag for place, tag in places.items() if tag != "_"} == {"{org}": "org", "{site}": "site"}
        assert {place: tag for place, tag in measured.items() if tag != "_"} == {"{type}": "measurement"}


def test_the_node_red_flow_is_wired_and_keeps_its_session() -> None:
    flow = json.loads((CENTRAL / "node-red-flow.json").read_text())
    ids = {node["id"] for node in flow}
    assert len(ids) == len(flow)
    used = [target for node in flow for wire in node.get("wires", []) for target in wire]
    assert set(used) | {node["broker"] for node in flow if node["type"].startswith("mqtt ")} <= ids
    (broker,) = [node for node in flow if node["type"] == "mqtt-broker"]
    assert broker["cleansession"] is False
    assert broker["clientid"]


RUN_FLOW = """
const [flowFile, input] = process.argv.slice(1);
const nodes = JSON.parse(require("fs").readFileSync(flowFile));
const kept = {};
const flow = { get: key => kept[key], set: (key, value) => { kept[key] = JSON.parse(JSON.stringify(value)); } };
const run = (id, msg) => new Function("msg", "flow", nodes.find(n => n.id === id).func)(msg, flow);
const out = JSON.parse(input).map(([id, msg]) => run("siteprobe-" + id, msg));
console.log(JSON.stringify(out));
"""


def run_flow(*steps: tuple[str, dict[str, Any]]) -> list[Any]:
    """Run the flow's functions on messages, as Node-RED would."""
    arguments = [need.tool("node"), "-e", RUN_FLOW, "--", str(CENTRAL / "node-red-flow.json"), json.dumps(steps)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=30)
    found: list[Any] = json.loads(done.stdout)
    return found


def record(seq: int, **fields: Any) -> dict[str, Any]:
    return {"node": "n", "ep": "e1", "seq": seq, "type": "icmp", **fields}


def heartbeat(next_seq: int, first_seq: int = 1) -> tuple[str, dict[str, Any]]:
    card = {"node": "n", "ep": "e1", "first_seq": first_seq, "next_seq": next_seq}
    return "gaps", {"topic": "siteprobe/v1/o/s/n/heartbeat", "payload": card}


def test_the_flow_passes_each_record_once_and_asks_for_gaps() -> None:
    loss = record(9, type="loss", from_seq=5, to_seq=6)
    first, second, third, early, asked, whole = run_flow(
        ("once", {"topic": "t", "payload": record(1)}),
        ("once", {"topic": "t", "payload": [record(1), record(3), record(3)]}),
        ("once", {"topic": "t", "payload": loss}),
        heartbeat(10),
        heartbeat(12),
        heartbeat(12, first_seq=9),
    )
    assert [[m["payload"]["seq"] for m in out[0]] for out in (first, second, third)] == [[1], [3], [9]]
    assert early is None  # what is missing only since this heartbeat may still be on its way
    assert asked["topic"] == "siteprobe/v1/o/s/n/command/replay"
    assert asked["payload"]["args"] == {"ep": "e1", "ranges": [[2, 2], [4, 4], [7, 8]]}
    assert whole["payload"]["args"]["ranges"] == [[10, 11]]

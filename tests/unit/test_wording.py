"""The described messages: whole, well-formed, and the same in every generated form."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from agent import checks, wording
from agent.describe import files
from agent.describe.asyncapi import asyncapi, document
from agent.describe.schemas import all_schemas
from agent.messages import EVENT_KINDS
from agent.model import Failure

TREE = Path(__file__).parents[2]
SCALARS = (float, int, bool, str)


def test_every_failure_has_its_sentence() -> None:
    assert set(wording.FAILURES) == set(Failure)


@pytest.mark.parametrize("name", all_schemas())
def test_every_schema_is_a_valid_one(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(all_schemas()[name])


@pytest.mark.parametrize("of", checks.load().values(), ids=lambda of: str(of.type))
def test_the_facts_of_a_check_type_are_scalars_of_its_own(of: type[checks.Check]) -> None:
    assert of.facts, "a check type describes its record fields"
    assert {fact.kind for fact in of.facts.values()} <= set(SCALARS)
    assert not of.facts.keys() & (wording.HEAD.keys() | wording.CHECK.keys() | wording.OUTCOME.keys())
    assert of.main_field in of.numbers()


@pytest.mark.parametrize("of", checks.load().values(), ids=lambda of: str(of.type))
def test_units_are_in_the_names(of: type[checks.Check]) -> None:
    kinds = {name: fact.kind for name, fact in of.facts.items()}
    assert all(kind is float for name, kind in kinds.items() if re.search(r"(?<!bits_per)_s$|_ratio$", name))
    assert all(kind in (int, float) for name, kind in kinds.items() if name.endswith(("_bytes", "_bits_per_s")))


def test_the_asyncapi_document_is_the_same_as_yaml() -> None:
    assert yaml.safe_load(asyncapi()) == document()


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    whole = document()
    made = {str(path.relative_to(TREE / "docs")) for path in files() if path.is_relative_to(TREE / "docs")}
    found = list(references(whole))
    assert len(found) > len(wording.TOPICS)
    for reference in found:
        if not reference.startswith("#/"):
            assert reference in made
            continue
        place: Any = whole
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [r for item in node.values() for r in references(item)]
    return []


@pytest.mark.parametrize("name", wording.TOPICS)
def test_each_topic_is_a_channel_with_its_parameters_its_messages_and_its_binding(name: str) -> None:
    topic, channel, operation = wording.TOPICS[name], document()["channels"][name], document()["operations"][name]
    assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", topic.address))
    assert channel["messages"], "a topic without a message"
    assert operation["bindings"]["mqtt"] | {"qos": 1, "retain": topic.retained} == operation["bindings"]["mqtt"]
    assert operation["action"] == ("send" if topic.from_agent else "receive")


def test_the_manual_names_every_topic_field_failure_and_event() -> None:
    page = files()[TREE / "docs" / "messages.md"]
    fields = {name for schema in all_schemas().values() for name in schema.get("properties", {})}
    wanted = {topic.address for topic in wording.TOPICS.values()} | {*fields, *Failure, *EVENT_KINDS}
    assert {word for word in wanted if f"`{word}`" not in page} == set()


def test_drift_is_noticed_both_ways(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.describe", "--check"], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    program = (
        "import sys, agent.describe as d, pathlib; d.SCHEMAS = pathlib.Path(sys.argv[1]); d.ROOT = d.SCHEMAS.parent"
    )
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "forgotten.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit(d.main(['--check']))", str(tmp_path / "schema")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "schema/forgotten.json is not what the classes say" in done.stderr
    assert "schema/status.json is not what the classes say" in done.stderr

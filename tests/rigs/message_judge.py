"""Holds every message of an agent against the published descriptions: its topic, its retain flag, its fields.

    judge = MessageJudge()
    judge.see(topic, payload, retain)     # raises Misfit with the topic and the reason
    judge.seen                            # Counter of schema names

The schemas in docs/schema/ are open, as readers must ignore unknown fields. Here each object is closed, so
that a field that nobody described is noticed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7

from agent.messages import compact
from agent.wording.topics import TOPICS, Topic

FOLDER = Path(__file__).parents[2] / "docs" / "schema"
MOST_BYTES = 32 * 1024


class Misfit(AssertionError):
    """A message that is not as described."""


def closed(schema: Any) -> Any:
    """Forbid what is not described, in every object that names its fields."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(item) for key, item in schema.items()}
    return made | {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else made


def pattern(topic: Topic) -> re.Pattern[str]:
    """Turn a topic with parameters into a pattern."""
    return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", topic.address))


class MessageJudge:
    """The closed schemas, and what was seen so far."""

    def __init__(self) -> None:
        """Read the schemas as they are published."""
        schemas = {path.name: closed(json.loads(path.read_text())) for path in FOLDER.glob("*.json")}
        registry: Registry[Any] = Registry().with_resources(
            (name, DRAFT7.create_resource(schema)) for name, schema in schemas.items()
        )
        self._validators = {
            name.removesuffix(".json"): Draft7Validator(schema, registry=registry) for name, schema in schemas.items()
        }
        self._topics = {name: (topic, pattern(topic)) for name, topic in TOPICS.items()}
        self.seen: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()

    def see(self, topic: str, payload: bytes, retain: bool) -> None:
        """Judge one message as it was published; raises Misfit."""
        name, described, found = self._found(topic)
        if retain != described.retained:
            raise Misfit(f"{topic}: retain is {retain}")
        if not payload:
            if name != "state":
                raise Misfit(f"{topic}: empty")
            self.removed[name] += 1
            return
        if len(payload) > MOST_BYTES:
            raise Misfit(f"{topic}: {len(payload)} bytes")
        content = json.loads(payload)
        if compact(content).encode() != payload and described.from_agent:
            raise Misfit(f"{topic}: not compact JSON: {payload[:200]!r}")
        schema = {"live": f"record-{found.get('type')}", "command": f"command-{found.get('name')}"}.get(name, name)
        self._fits(topic, schema, content)
        if name == "late":
            self._array(topic, found["type"], content)
        if name == "live" and (content.get("check") or "site") != found["check"]:
            raise Misfit(f"{topic}: of check {content.get('check')}")
        self.seen[name if name in ("late", "live") else schema] += 1

    def _found(self, topic: str) -> tuple[str, Topic, dict[str, str]]:
        matches = [(name, t, m.groupdict()) for name, (t, form) in self._topics.items() if (m := form.fullmatch(topic))]
        if len(matches) != 1:
            raise Misfit(f"{topic}: {len(matches)} described topics fit")
        return matches[0]

    def _fits(self, topic: str, schema: str, content: Any) -> None:
        if schema not in self._validators:
            raise Misfit(f"{topic}: there is no schema {schema}")
        for error in self._validators[schema].iter_errors(content):
            raise Misfit(f"{topic}: {error.json_path}: {error.message[:300]} in {str(content)[:600]}")
        if schema.startswith("record-"):
            self.seen[schema] += 1

    def _array(self, topic: str, record_type: str, content: list[dict[str, Any]]) -> None:
        for record in content:
            self._fits(topic, f"record-{record_type}", record)
            if record.get("late") is not True:
                raise Misfit(f"{topic}: a record without `late`: {record}")
        numbers = [record["seq"] for record in content]
        if numbers != sorted(set(numbers)):
            raise Misfit(f"{topic}: not ascending: {numbers}")

"""The JSON Schema of every message (draft-07, which AsyncAPI takes). Open, since readers ignore unknown fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent import checks, wording
from agent.describe.words import MADE_BY
from agent.messages import VERSION
from agent.model import Fact

Schema = dict[str, Any]
DIALECT = "http://json-schema.org/draft-07/schema#"
MOST_IN_ARRAY = 100
TYPES = {float: "number", int: "integer", bool: "boolean", str: "string", dict: "object", list: "array", tuple: "array"}
PAIR = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}


def schema_of(fact: Fact) -> Schema:
    """Describe one field."""
    found: Schema = {"type": [TYPES[fact.kind], "null"] if fact.nullable else TYPES[fact.kind]}
    found["description"] = fact.sentence
    if fact.words:
        found["enum"] = [*fact.words, None] if fact.nullable else list(fact.words)
    if fact.pattern:
        found["pattern"] = fact.pattern
    if fact.kind is list:
        found["items"] = object_of(fact.of) if fact.of else {"type": "string"}
    if fact.kind is tuple:
        found["items"] = PAIR
    return found | object_of(fact.of) | {"type": found["type"]} if fact.kind is dict and fact.of else found


def object_of(facts: Mapping[str, Fact]) -> Schema:
    """Describe an object by its fields; all but the optional ones are there in every message."""
    return {
        "type": "object",
        "properties": {name: schema_of(fact) for name, fact in facts.items()},
        "required": [name for name, fact in facts.items() if not fact.optional],
    }


def optional(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """Give fields that may each be missing, as all of a check's own may."""
    return {
        name: Fact(f.kind, f.sentence, f.words, f.pattern, f.of, optional=True, nullable=f.nullable)
        for name, f in facts.items()
    }


def in_record(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """Give fields as a record has them: flat, lists comma-joined, what is null left out."""
    return {
        name: Fact(str if f.kind is list else f.kind, f.sentence, f.words, f.pattern, optional=f.optional or f.nullable)
        for name, f in facts.items()
    }


def record_facts() -> dict[str, tuple[str, Mapping[str, Fact]]]:
    """Give the fields after the head of every record type, with a sentence for each type."""
    found: dict[str, tuple[str, Mapping[str, Fact]]] = {}
    for name, of in sorted(checks.load().items()):
        found[name] = (
            f"One run of a check of type {name}.",
            {**wording.CHECK, **wording.OUTCOME, **optional(of.facts)},
        )
        for more, facts in of.more_facts.items():
            found[more] = (f"Found in a run of a check of type {name}.", {**wording.CHECK, **optional(facts)})
    return found | {name: (sentence, in_record(facts)) for name, (sentence, facts) in wording.OWN_RECORDS.items()}


def record_schema(record_type: str, sentence: str, facts: Mapping[str, Fact]) -> Schema:
    """Describe a record of one type."""
    schema = object_of({**wording.HEAD, **facts, "late": wording.LATE})
    schema["properties"]["type"] = {"const": record_type}
    schema["properties"]["seq"]["minimum"] = 1
    return titled(f"record {record_type}", sentence, schema)


def titled(title: str, sentence: str, schema: Schema) -> Schema:
    """Put the head on a schema."""
    properties = schema.get("properties", {})
    if "v" in properties:
        properties["v"] = {"const": VERSION, "description": properties["v"]["description"]}
    return {"$schema": DIALECT, "title": title, "description": f"{sentence} {MADE_BY}", **schema}


def late_schema(types: list[str]) -> Schema:
    """Describe an array of the backlog."""
    items = {"anyOf": [{"$ref": f"record-{name}.json"} for name in types]}
    array = {"type": "array", "minItems": 1, "maxItems": MOST_IN_ARRAY, "items": items}
    return titled("late", wording.TOPICS["late"].sentence, array)


def command_schemas() -> dict[str, Schema]:
    """Describe each command as a message of its own: the common fields with its `args`."""
    found = {}
    for name, (sentence, arguments) in wording.ARGUMENTS.items():
        schema = object_of({**wording.COMMAND, "args": Fact(dict, sentence, of=arguments, optional=not arguments)})
        found[f"command-{name}"] = titled(f"command {name}", sentence, schema)
    return found


def card_schema(name: str, facts: Mapping[str, Fact]) -> Schema:
    """Describe a message that is no record."""
    return titled(name, wording.TOPICS[name].sentence, object_of(facts))


def all_schemas() -> dict[str, Schema]:
    """Give every schema by its file name without the ending."""
    records = record_facts()
    found = {f"record-{name}": record_schema(name, *described) for name, described in records.items()}
    found["late"] = late_schema(list(records))
    cards = {
        "status": wording.STATUS,
        "about": wording.ABOUT,
        "heartbeat": wording.HEARTBEAT,
        "verdict": wording.VERDICT,
        "state": wording.STATE,
        "response": wording.RESPONSE,
        "pace": wording.PACE,
    }
    found |= {name: card_schema(name, facts) for name, facts in cards.items()}
    return found | command_schemas()

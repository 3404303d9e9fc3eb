"""What the generated pages share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.model import Fact

MADE_BY = "Made by `make docs` from the classes; do not edit."
KINDS = {float: "number", int: "integer", bool: "true or false", str: "text", dict: "object", tuple: "list of pairs"}


def kind_words(fact: Fact) -> str:
    """Name the JSON type of a field."""
    word = KINDS.get(fact.kind) or ("list of objects" if fact.of else "list of texts")
    return f"{word} or null" if fact.nullable else word


def fact_table(facts: Mapping[str, Fact], always: bool = False) -> Iterator[str]:
    """Write fields as a table; with `always` it says which may be missing."""
    yield "| field | type | meaning |\n| --- | --- | --- |"
    for name, fact in facts.items():
        words = f" One of {', '.join(f'`{word}`' for word in fact.words)}." if fact.words else ""
        missing = " May be missing." if always and fact.optional else ""
        yield f"| `{name}` | {kind_words(fact)} | {fact.sentence}{words}{missing} |"

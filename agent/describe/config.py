"""What is written about the config, made from the classes: JSON Schema, sample file, manual."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator
from typing import Any

from agent import checks
from agent.check import CheckOptions
from agent.config.reading import RESERVED_TYPES
from agent.config.rules import CONSENT_TYPES
from agent.config.sections import File
from agent.config.show import plain
from agent.describe.words import MADE_BY, fact_table
from agent.options import Nullable, Option, Section, duration, options_of, section_schema

NULL = "null"


def config_schema() -> dict[str, Any]:
    """Write the JSON Schema (2020-12) of the config file, for editors."""
    types = checks.load()
    schema = section_schema(File)
    properties = schema["properties"]
    properties["checks"] |= {"type": "array", "items": {"oneOf": [check_schema(of) for of in types.values()]}}
    properties["defaults"] |= {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: default_schema(of) for name, of in types.items()},
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "siteprobe.yaml"}
    return head | {"description": MADE_BY} | schema


def check_schema(of: type[CheckOptions]) -> dict[str, Any]:
    """Describe one check type; `name` and `type` are required, the rest as its options say."""
    schema = section_schema(of)
    schema["properties"]["degraded"]["propertyNames"] = {"enum": list(of.numbers())}
    kind = {"type": {"const": of.type, "description": first_sentence(of)}}
    return schema | {"properties": kind | schema["properties"], "required": ["type", *schema.get("required", [])]}


def default_schema(of: type[CheckOptions]) -> dict[str, Any]:
    """Describe what `defaults` may say of a type: anything but the name, nothing required."""
    properties = check_schema(of)["properties"]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: value for key, value in properties.items() if key not in ("name", "type")},
    }


def first_sentence(of: type) -> str:
    """Give the first sentence of a class's manual."""
    return " ".join((inspect.getdoc(of) or "").split("\n\n")[0].split())


def shown_default(o: Option) -> str:
    """Write a default as YAML text; "" where there is none to show."""
    if (
        o.required
        or o.default is None
        or o.default in ("", (), 0.0)
        and o.key in ("interval", "timeout", "layer", "group")
    ):
        return ""
    value = plain(o.kind, o.default)
    return "" if value in ("", [], {}) else json.dumps(value).strip('"') if not isinstance(value, str) else value


def example_yaml() -> str:
    """Write a fully commented sample config."""
    return "\n".join(_example()) + "\n"


def _example() -> Iterator[str]:
    yield "# /etc/siteprobe/siteprobe.yaml: what this probe asks, and where it sends the answers."
    yield f"# {MADE_BY} Lines that begin with `#` show defaults and examples."
    yield "# yaml-language-server: $schema=siteprobe.schema.json"
    for o in options_of(File):
        yield ""
        if isinstance(o.kind, Section):
            yield from _comment(o.sentence)
            needed = any(inner.required for inner in options_of(o.kind.of))
            yield f"{'' if needed else '# '}{o.key}:"
            yield from (_line(inner, "" if needed else "# ", "  ") for inner in options_of(o.kind.of))
        elif o.key == "checks":
            yield from _comment(o.sentence)
            yield from _example_checks()
        else:
            yield _line(o, "", "")


def quoted(text: str) -> str:
    """Write an example so that YAML reads it as it is meant: what holds a colon and a space is put in quotes."""
    return json.dumps(text, ensure_ascii=False) if ": " in text and not text.startswith(("{", "[", '"')) else text


def _comment(sentence: str, indent: str = "") -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(sentence, 100)]


def _line(o: Option, prefix: str, indent: str) -> str:
    shown = quoted(o.example) or shown_default(o) or (NULL if isinstance(o.kind, Nullable) else quoted(o.kind.words()))
    off = prefix or ("" if o.required else "# ")
    return f"{off}{indent}{o.key}: {shown}".ljust(44) + f"  # {o.sentence}"


def _example_checks() -> Iterator[str]:
    yield "checks: []"
    yield from _comment("Keys of every check, with their defaults:")
    for o in options_of(CheckOptions):
        yield _line(o, "# ", "    ")
    for of in checks.load().values():
        yield ""
        yield from _comment(first_sentence(of))
        yield f"#  - name: my-{of.type}-check"
        yield f"#    type: {of.type}"
        common = {o.key for o in options_of(CheckOptions)}
        needed = {"consent"} if of.type in CONSENT_TYPES else set()
        for o in options_of(of):
            if o.key not in common - needed:
                yield _line(o, "# ", "   ")


def manual() -> str:
    """Write docs/config.md: each section and each check type with its options."""
    return "\n".join(_manual()) + "\n"


def _manual() -> Iterator[str]:
    yield f"# The config file\n\n{MADE_BY} Check a file with `siteprobe config check`; see what it became with"
    yield "`siteprobe config show`. Durations are written 500ms, 10s, 5m, 2h or 7d, sizes 256MiB. Unknown and"
    yield "repeated keys are errors, and all errors of a file are printed at once.\n\n## Top level\n"
    yield from option_table(options_of(File))
    for o in options_of(File):
        if isinstance(o.kind, Section):
            yield f"\n## {o.key}\n\n{first_sentence(o.kind.of)}\n"
            yield from option_table(options_of(o.kind.of))
    yield "\n## Keys of every check\n"
    yield from option_table(options_of(CheckOptions))
    common = {o.key for o in options_of(CheckOptions)}
    for name, of in sorted(checks.load().items()):
        yield f"\n## Check type `{name}`\n\n{inspect.getdoc(of)}\n"
        pace = f"every {duration(of.default_interval_s)}, timeout {duration(of.default_timeout_s)}"
        yield f"Layer {of.default_layer}, {pace}.\n"
        yield from option_table(tuple(o for o in options_of(of) if o.key not in common))
        yield f"\nRecord fields, beside those of every check ([messages](messages.md#record-{name})):\n"
        yield from fact_table(of.facts)
    yield f"\nReserved for later: {', '.join(sorted(set(RESERVED_TYPES) - set(checks.load())))}."


def option_table(options: tuple[Option, ...]) -> Iterator[str]:
    """Write options as a table."""
    yield "| key | value | default | meaning |\n| --- | --- | --- | --- |"
    for o in options:
        default = "required" if o.required else shown_default(o) or "-"
        yield f"| `{o.key}` | {o.kind.words()} | {default} | {o.sentence} |".replace("\n", " ")

"""Kinds made of other kinds, and the options of a section."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from agent.options.kinds import Kind

REQUIRED: Any = dataclasses.MISSING


@dataclass(frozen=True)
class Secret(Kind):
    """A secret: {credential: NAME}, {file: PATH} or {env: NAME}; a literal works with a warning."""

    expects: ClassVar[str] = "a secret: {credential: NAME}, {file: PATH} or {env: NAME}"

    def schema(self) -> dict[str, Any]:
        text = {"type": ["string", "number", "boolean"], "minLength": 1}
        source = {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
            "properties": dict.fromkeys(("credential", "file", "env"), text),
        }
        return {"anyOf": [source, text]}


@dataclass(frozen=True)
class ListOf(Kind):
    """A list; `single` also takes one bare value for a list of one."""

    item: Kind
    single: bool = False
    longest: int = 10_000
    shortest: int = 0

    def schema(self) -> dict[str, Any]:
        one = self.item.schema()
        many: dict[str, Any] = {"type": "array", "items": one, "maxItems": self.longest}
        many |= {"minItems": self.shortest} if self.shortest else {}
        return {"anyOf": [many, one]} if self.single else many

    def words(self) -> str:
        return f"a list; each item {self.item.words()}"


@dataclass(frozen=True)
class MapOf(Kind):
    """A map from keys of one kind to values of another."""

    key: Kind
    value: Kind

    def schema(self) -> dict[str, Any]:
        names = {k: v for k, v in self.key.schema().items() if k != "type"}
        return {"type": "object", "propertyNames": names, "additionalProperties": self.value.schema()}

    def words(self) -> str:
        return f"a map; each value {self.value.words()}"


@dataclass(frozen=True)
class Section(Kind):
    """A map with the options of a dataclass as its keys; with `off`, null stands for none of them."""

    of: type = object
    off: bool = False

    def schema(self) -> dict[str, Any]:
        one = section_schema(self.of)
        return {"anyOf": [one, {"type": "null"}]} if self.off else one

    def words(self) -> str:
        return "a map of options"


@dataclass(frozen=True)
class Nullable(Kind):
    """A value that `null` switches off."""

    item: Kind

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.item.schema(), {"type": "null"}]}

    def words(self) -> str:
        return f"{self.item.words()}, or null"


@dataclass(frozen=True)
class Raw(Kind):
    """A part of the file that is read later, by the check types that it names."""

    expects: ClassVar[str] = "a list or map of checks"

    def schema(self) -> dict[str, Any]:
        return {}


def option(kind: Kind, sentence: str, *, default: Any = REQUIRED, example: str = "", key: str = "") -> Any:
    """Describe one option: its kind, one sentence for people, a default and an example (YAML text).

    Without a default the option is required. `key` is the name in the file where it is no Python
    name (`class`). A callable default makes a fresh value.
    """
    metadata = {"kind": kind, "sentence": sentence, "example": example, "key": key}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """One described option of a section, as the walker and the writers of docs see it."""

    field: str
    key: str
    kind: Kind
    sentence: str
    example: str
    required: bool
    default: Any


def options_of(section: type) -> tuple[Option, ...]:
    """List the options of a section in the order of their definition."""
    return tuple(_option(f) for f in dataclasses.fields(section) if "kind" in f.metadata)


def _option(f: dataclasses.Field[Any]) -> Option:
    factory: Callable[[], Any] | Any = f.default_factory
    default = factory() if factory is not dataclasses.MISSING else f.default
    m = f.metadata
    return Option(f.name, m["key"] or f.name, m["kind"], m["sentence"], m["example"], default is REQUIRED, default)


def section_schema(section: type) -> dict[str, Any]:
    """Describe a section as JSON Schema."""
    options = options_of(section)
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {o.key: o.kind.schema() | {"description": o.sentence} for o in options},
    } | ({"required": [o.key for o in options if o.required]} if any(o.required for o in options) else {})

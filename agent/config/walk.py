"""The walker: reads a tree of nodes into frozen dataclasses by their described options.

It never stops at the first error: every problem is kept with its place, and what is wrong becomes
`WRONG`, so that the rest can still be read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import yaml

from agent.config.nodes import PLAIN_TAGS, Node, Problem, is_null, is_quoted
from agent.config.secret import SOURCES, SecretSource
from agent.options import (
    Kind,
    ListOf,
    MapOf,
    Nullable,
    Option,
    Raw,
    Secret,
    Section,
    did_you_mean,
    options_of,
    shown,
)

PLAIN_KEY = "[A-Za-z0-9_-]{1,60}"


class _Wrong:
    """The value of an option that could not be read."""

    def __bool__(self) -> bool:
        return False


WRONG: Any = _Wrong()


class Walker:
    """Reads nodes by kinds and collects problems; remembers where each path was written."""

    def __init__(self) -> None:
        """Start without problems."""
        self.problems: list[Problem] = []
        self.places: dict[str, Node] = {}

    def problem(self, path: str, reason: str, node: Node | None = None) -> Any:
        """Keep a problem at a node, or where the path (or the nearest part of it) was written."""
        found = node or self._place(path)
        line, column = (found.start_mark.line + 1, found.start_mark.column + 1) if found else (0, 0)
        self.problems.append(Problem(line, column, path, reason))
        return WRONG

    def _place(self, path: str) -> Node | None:
        while path and path not in self.places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.places.get(path)

    def value(self, kind: Kind, node: Node, path: str) -> Any:
        """Read one node by its kind; `WRONG` where it cannot be."""
        self.places[path] = node
        if node.tag not in PLAIN_TAGS:
            return self.problem(path, tag_reason(kind, node), node)
        if isinstance(kind, Raw):
            return node
        if isinstance(kind, Nullable):
            return None if is_null(node) else self.value(kind.item, node, path)
        if isinstance(kind, ListOf):
            return self._list(kind, node, path)
        if isinstance(kind, MapOf):
            return self._map(kind, node, path)
        if isinstance(kind, Section):
            return kind.of() if kind.off and is_null(node) else self.section(kind.of, node, path)
        return self._secret(node, path) if isinstance(kind, Secret) else self._scalar(kind, node, path)

    def _scalar(self, kind: Kind, node: Node, path: str) -> Any:
        if not isinstance(node, yaml.ScalarNode) or is_null(node):
            return self.problem(path, f"expected {kind.words()}, not {form(node)}", node)
        try:
            return kind.read(node.value, is_quoted(node))
        except ValueError as error:
            return self.problem(path, str(error), node)

    def _list(self, kind: ListOf, node: Node, path: str) -> Any:
        if kind.single and isinstance(node, yaml.ScalarNode) and not is_null(node):
            one = self.value(kind.item, node, path)
            return one if one is WRONG else (one,)
        if not isinstance(node, yaml.SequenceNode):
            return self.problem(path, f"expected {kind.words()}, not {form(node)}", node)
        if not kind.shortest <= len(node.value) <= kind.longest:
            return self.problem(path, f"expected {kind.shortest} to {kind.longest} items, not {len(node.value)}", node)
        items = [self.value(kind.item, item, f"{path}[{i}]") for i, item in enumerate(node.value)]
        return WRONG if any(item is WRONG for item in items) else tuple(items)

    def _map(self, kind: MapOf, node: Node, path: str) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return self.problem(path, f"expected {kind.words()}, not {form(node)}", node)
        pairs = []
        for key, key_node, item in self.pairs(node, path):
            try:
                read_key = kind.key.read(key, is_quoted(key_node))
            except ValueError as error:
                read_key = self.problem(joined(path, named(key)), str(error), key_node)
            pairs.append((read_key, self.value(kind.value, item, joined(path, named(key)))))
        return WRONG if any(WRONG in pair for pair in pairs) else tuple(pairs)

    def _secret(self, node: Node, path: str) -> Any:
        if isinstance(node, yaml.ScalarNode) and not is_null(node):
            return (
                SecretSource("literal", node.value) if node.value else self.problem(path, "the secret is empty", node)
            )
        pairs = list(self.pairs(node, path)) if isinstance(node, yaml.MappingNode) else []
        if len(pairs) != 1 or pairs[0][0] not in SOURCES or not isinstance(pairs[0][2], yaml.ScalarNode):
            return self.problem(path, f"expected {Secret.expects}", node)
        source, _, name = pairs[0]
        named = bool(name.value) and name.value.isprintable() and not is_null(name)
        if not named or (source == "credential" and not is_file_name(name.value)):
            return self.problem(f"{path}.{source}", f"expected {SOURCES[source]}", name)
        return SecretSource(source, name.value)

    def pairs(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[str, Node, Node]]:
        """Give (key, key node, value node); a key written twice is a problem."""
        seen: dict[str, Node] = {}
        for key_node, item in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(path, "a key must be a word", key_node)
                continue
            key = key_node.value
            if key in seen:
                first = seen[key].start_mark.line + 1
                self.problem(joined(path, named(key)), f"the key is written twice; first on line {first}", key_node)
                continue
            seen[key] = key_node
            yield key, key_node, item

    def section(self, of: type, node: Node, path: str) -> Any:
        """Read a map into the dataclass `of`; every problem inside is kept."""
        values = self.options(options_of(of), node, path)
        return WRONG if values is WRONG or any(v is WRONG for v in values.values()) else of(**values)

    def options(
        self, options: tuple[Option, ...], node: Node, path: str, partial: bool = False, others: Collection[str] = ()
    ) -> Any:
        """Read a map's keys by their options into {field: value}.

        `partial` asks for no required ones; `others` are known too, but read elsewhere.
        """
        self.places[path] = node
        if not isinstance(node, yaml.MappingNode):
            return self.problem(path, f"expected a map of options, not {form(node)}", node)
        known = {o.key: o for o in options}
        values: dict[str, Any] = {}
        for key, key_node, item in self.pairs(node, path):
            if key in known:
                values[known[key].field] = self.value(known[key].kind, item, joined(path, key))
            elif key not in others:
                hint = did_you_mean(key, [*known, *others])
                self.problem(joined(path, named(key)), f"unknown key{hint}", key_node)
        for o in options:
            if o.required and o.field not in values and not partial:
                values[o.field] = self.problem(joined(path, o.key), f"is missing: {o.kind.words()}", node)
        return values


def is_file_name(text: str) -> bool:
    """Tell whether a text names a file in a folder, and nothing outside it."""
    return "/" not in text and text not in (".", "..")


def joined(path: str, key: str) -> str:
    """Write the path of a key in a map."""
    return f"{path}.{key}" if path else key


def named(key: str) -> str:
    """Write a key in a path: without what follows a colon (a forgotten space), and never long or unprintable."""
    if re.fullmatch(PLAIN_KEY, key):
        return key
    return shown(f"{key.partition(':')[0]}:…" if ":" in key else key).strip("`")


def salvaged(kind: Kind, node: Node, path: str) -> Any:
    """Read what is right of a list or map that is partly wrong; a wrong item of a list is None."""
    walk = Walker()
    if isinstance(kind, ListOf) and isinstance(node, yaml.SequenceNode):
        items = (walk.value(kind.item, item, f"{path}[{i}]") for i, item in enumerate(node.value))
        return tuple(None if item is WRONG else item for item in items)
    if isinstance(kind, MapOf) and isinstance(node, yaml.MappingNode):
        pairs = ((key, salvaged(kind.value, item, joined(path, key))) for key, _, item in walk.pairs(node, path))
        return tuple((key, item) for key, item in pairs if item is not WRONG and _fits(kind.key, key))
    return walk.value(kind, node, path)


def _fits(kind: Kind, text: str) -> bool:
    try:
        kind.read(text)
    except ValueError:
        return False
    return True


def form(node: Node) -> str:
    """Name what stands in the file, for a message."""
    if is_null(node):
        return "nothing"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "a map" if isinstance(node, yaml.MappingNode) else shown(node.value, is_quoted(node))


def tag_reason(kind: Kind, node: Node) -> str:
    """Refuse a YAML tag; a secret that begins with `!` and stands unquoted looks like one, and is not shown."""
    if isinstance(kind, Secret):
        return "a YAML tag is not allowed; quote a secret that begins with `!`"
    return f"YAML tag {shown(node.tag)} is not allowed"

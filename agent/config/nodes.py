"""From a YAML file to a tree of nodes with positions, strictly: no types are guessed here.

YAML 1.1 reads `12:34:56:12:34:56` as a number, `NO` as false and `0123` as 83, and lets the last of
two equal keys win. So values are read from the text of the node by the kind that the option declares.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LARGEST_BYTES = 1024 * 1024
PLAIN_TAGS = {
    f"tag:yaml.org,2002:{word}" for word in ("str", "int", "float", "bool", "null", "seq", "map", "timestamp", "value")
}
LINE_BREAK = "\r\n|[\n\r\x85\u2028\u2029]"  # what YAML 1.1 counts as the end of a line
DEEPEST = 30
MOST_NODES = 2 * LARGEST_BYTES  # a file without aliases has fewer
NULL_WORDS = ("", "null", "Null", "NULL", "~")
Node = yaml.Node
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a file; `line` and `column` count from 1, 0 where there is no place."""

    line: int
    column: int
    path: str
    reason: str

    def sentence(self, file: str) -> str:
        """Write it as FILE:LINE:COL: path: reason."""
        place = f"{file}:{self.line}:{self.column}" if self.line else file
        return f"{place}: {self.path}: {self.reason}" if self.path else f"{place}: {self.reason}"


class Unreadable(Exception):
    """The file is no YAML map at all; holds the one problem."""

    def __init__(self, problem: Problem) -> None:
        """Keep the problem."""
        super().__init__(problem.reason)
        self.problem = problem


def read(path: Path) -> str:
    """Read the file as UTF-8 text; raises `Unreadable`."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise Unreadable(Problem(0, 0, "", f"cannot be read: {error.strerror}")) from None
    if len(raw) > LARGEST_BYTES:
        raise Unreadable(Problem(0, 0, "", "is larger than 1 MiB; this cannot be a config of siteprobe"))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = place_in(error.object[: error.start].decode())
        raise Unreadable(Problem(line, column, "", "is not UTF-8 text; save it as UTF-8")) from None


def place_in(before: str) -> tuple[int, int]:
    """Give line and column, from 1, of what follows a text."""
    lines = re.split(LINE_BREAK, before)
    return len(lines), len(lines[-1]) + 1


def parse(text: str) -> yaml.MappingNode:
    """Turn the text into its top map; raises `Unreadable` with line and column."""
    try:
        refuse_excess(text)
        node = yaml.compose(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise Unreadable(Problem(line, column, "", f"not YAML: {yaml_reason(error, text, line)}")) from None
    except yaml.reader.ReaderError as error:
        forbidden = yaml.reader.Reader.NON_PRINTABLE.search(text)  # libyaml tells a place in bytes
        line, column = place_in(text[: forbidden.start() if forbidden else error.position])
        raise Unreadable(Problem(line, column, "", "has a character that YAML forbids; remove it")) from None
    if not isinstance(node, yaml.MappingNode):
        raise Unreadable(Problem(1, 1, "", "expected a map of options; begin with `version: 1`"))
    return node


def refuse_excess(text: str) -> None:
    """Refuse a file nested deeper than any config is (the composer recurses), or swollen by aliases of aliases."""
    counts, names, sizes = [0], list[str | None](), dict[str, int]()
    for event in yaml.parse(text, Loader):
        counts[-1] += sizes.get(event.anchor or "", 1) if isinstance(event, yaml.AliasEvent) else 1
        if isinstance(event, yaml.CollectionStartEvent):
            counts.append(0)
            names.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            inside, name = counts.pop(), names.pop()
            counts[-1] += inside
            sizes |= {name: inside} if name else {}
        if len(names) > DEEPEST:
            raise _at(event, "is nested too deeply for a config")
        if sum(counts) > MOST_NODES:
            raise _at(event, "has aliases that stand for more than a config can hold; write less")


def _at(event: yaml.Event, reason: str) -> Unreadable:
    mark = event.start_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Unreadable(Problem(line, column, "", reason))


def yaml_reason(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    """Say what the parser met, with the most frequent cause named."""
    lines = re.split(LINE_BREAK, text)
    if line <= len(lines) and lines[line - 1].lstrip(" ").startswith("\t"):
        return "a tab begins the line; YAML takes only spaces as indentation"
    problem = re.sub("(alias|anchor) .*", r"\1", error.problem or "cannot be parsed")  # the word may be a secret
    if re.search("undefined alias|cannot start any token", problem):
        return f"{problem}; put quotes around a value that begins with one of * & ! % @ `"
    return f"{error.context}, {problem}" if problem.startswith("but") else problem


def is_null(node: Node) -> bool:
    """Tell whether a node is YAML's null, written plainly."""
    return isinstance(node, yaml.ScalarNode) and not is_quoted(node) and node.value in NULL_WORDS


def is_quoted(node: Node) -> bool:
    """Tell whether a scalar was written in quotes or as a block."""
    return isinstance(node, yaml.ScalarNode) and node.style in ("'", '"', "|", ">")


def scalar(value: str, like: Node) -> yaml.ScalarNode:
    """Make a plain scalar that claims the place of another node."""
    return yaml.ScalarNode("tag:yaml.org,2002:str", value, like.start_mark, like.end_mark)


def mapping(pairs: list[tuple[str, Node]], like: Node) -> yaml.MappingNode:
    """Make a map that claims the place of another node."""
    keyed = [(scalar(key, value), value) for key, value in pairs]
    return yaml.MappingNode("tag:yaml.org,2002:map", keyed, like.start_mark, like.end_mark)

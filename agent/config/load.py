"""From the file to a frozen `Config`: short forms written out, defaults filled in, every rule held."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from agent.check import CheckOptions
from agent.config.nodes import Node, Problem, Unreadable, parse, read
from agent.config.rules import check_problems, file_problems, forbidden, host_name_problem, medical_problems
from agent.config.sections import Buffer, Commands, File, Identity, Mqtt, Status, Traps
from agent.config.shorthand import Surroundings, made_checks
from agent.config.walk import WRONG, Walker, form, joined, salvaged
from agent.model import Layer
from agent.options import ID_PATTERN, Option, Text, did_you_mean, options_of, shown
from agent.policy import Policy

RESERVED_TYPES = ("arp", "dhcp", "dicom", "ldap", "listen", "mllp", "mqtt", "mtu", "ntp", "path", "sip", "tls", "train")
"""Words of the contract; one that is no check type yet is refused as such, not as a typing error."""
MOST_CHECKS = 5000
TOO_MANY = "{} checks are more than one small computer can ask (5000)"
SHORT_FORMS = ("anchors", "services", "devices")
MOST_PROBLEMS = 200
TYPE = Option("type", "type", Text(), "The check type.", "", True, None)
Types = Mapping[str, type[CheckOptions]]


class ConfigError(Exception):
    """The file is refused; `problems` are all that is wrong with it, in order of place."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        """Keep the file name and the problems, each once."""
        self.file = file
        self.problems = sorted(set(problems))
        super().__init__("\n".join(self.sentences()))

    def sentences(self) -> list[str]:
        """Write each problem as FILE:LINE:COL: path: reason; what is beyond 200 is only counted."""
        said = [problem.sentence(self.file) for problem in self.problems[:MOST_PROBLEMS]]
        more = len(self.problems) - MOST_PROBLEMS
        return [*said, f"{self.file}: and {more} more"] if more > 0 else said

    def places(self) -> list[str]:
        """Write each problem as FILE:LINE:COL: path, without the reason, which may show what stands in the file."""
        return [replace(problem, reason="is wrong").sentence(self.file) for problem in self.problems]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config in force. `places` tells where a path was written, for warnings."""

    file: str
    digest: str
    clock: str
    identity: Identity
    mqtt: Mqtt
    buffer: Buffer
    safety: Policy
    checks: tuple[CheckOptions, ...]
    status: Status
    commands: Commands
    traps: Traps
    places: Mapping[str, Node]

    @property
    def active(self) -> tuple[CheckOptions, ...]:
        """The checks that run."""
        return tuple(check for check in self.checks if check.enabled)


def load(path: Path, types: Types, around: Surroundings) -> Config:
    """Read a config file; raises `ConfigError` with everything that is wrong."""
    try:
        text = read(path)
        node = parse(text)
    except Unreadable as error:
        raise ConfigError(str(path), [error.problem]) from None
    return _Reader(str(path), types, around).config(node, text)


def directory_of(path: Path) -> str | None:
    """Say where the store of a file lies that may be wrong elsewhere; None where even that cannot be read."""
    walk = Walker()
    try:
        sections = {key: item for key, _, item in walk.pairs(parse(read(path)), "")}
    except Unreadable:
        return None
    values = walk.options(options_of(Buffer), sections["buffer"], "buffer") if "buffer" in sections else {}
    return (values or {}).get("directory", Buffer().directory) or None


class _Reader:
    """One reading of one file."""

    def __init__(self, file: str, types: Types, around: Surroundings) -> None:
        self.file = file
        self.types = types
        self.around = around
        self.walk = Walker()
        self.policy = Policy()

    def config(self, node: yaml.MappingNode, text: str) -> Config:
        values = self.walk.options(options_of(File), node, "")
        readable = self._readable_part(values)
        self.policy = readable.safety
        defaults = self._defaults(readable.defaults)
        written = self._written(readable.checks, defaults)
        made = tuple(self._made(readable, defaults, {check.name for check in written}))
        for path, reason in file_problems(readable):
            self.walk.problem(path, reason)
        identity = self._identity(readable.identity)
        checks = (*made, *written)
        for path, reason in medical_problems(checks):
            self.walk.problem(path, reason)
        if len(checks) > MOST_CHECKS:
            self.walk.problem("checks", TOO_MANY.format(len(checks)))
        if self.walk.problems:
            raise ConfigError(self.file, self.walk.problems)
        kept = {
            name: getattr(readable, name)
            for name in ("clock", "mqtt", "buffer", "safety", "status", "commands", "traps")
        }
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return Config(file=self.file, digest=digest, identity=identity, checks=checks, places=self.walk.places, **kept)

    def _readable_part(self, values: dict[str, Any]) -> File:
        """Fill what could not be read with stand-ins, so that the checks can still be judged."""
        stand_ins: dict[str, Any] = {
            "version": "1",
            "identity": Identity(org="x", site="x", node="x"),
            "mqtt": Mqtt(url="mqtts://localhost"),
        }
        good = {k: v for k, v in values.items() if v is not WRONG}
        kinds = {o.field: o.kind for o in options_of(File) if o.key in SHORT_FORMS and values.get(o.field) is WRONG}
        good |= {name: salvaged(kind, self.walk.places[name], name) or () for name, kind in kinds.items()}
        return File(**(stand_ins | good))

    def _identity(self, identity: Identity) -> Identity:
        if not identity.node and (reason := host_name_problem(self.around.host_name)):
            self.walk.problem("identity.node", reason)
        node = identity.node or self.around.host_name
        return replace(identity, node=node, title=identity.title or identity.site)

    def _defaults(self, node: Node | None) -> dict[str, yaml.MappingNode]:
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.walk.problem("defaults", f"expected a map from check type to options, not {form(node)}", node)
            return {}
        found = {}
        for name, key_node, item in self.walk.pairs(node, "defaults"):
            path = f"defaults.{name}"
            if (of := self._type(name, path, key_node)) is not None:
                self.walk.options(self._options(of, "name"), item, path, partial=True)
                if isinstance(item, yaml.MappingNode):
                    found[name] = item
        return found

    def _options(self, of: type[CheckOptions], *without: str) -> tuple[Option, ...]:
        return tuple(o for o in options_of(of) if o.key not in without)

    def _type(self, name: str, path: str, node: Node) -> type[CheckOptions] | None:
        if name in self.types:
            return self.types[name]
        if name in RESERVED_TYPES:
            self.walk.problem(path, f"check type {name} is not built yet", node)
        else:
            known = [*self.types, *RESERVED_TYPES]
            hint = did_you_mean(name, known) or f"; known are {', '.join(sorted(self.types))}"
            self.walk.problem(path, f"unknown check type {shown(name)}{hint}", node)
        return None

    def _written(self, node: Node | None, defaults: dict[str, yaml.MappingNode]) -> list[CheckOptions]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.walk.problem("checks", f"expected a list of checks, not {form(node)}", node)
            return []
        if len(node.value) > MOST_CHECKS:
            self.walk.problem("checks", TOO_MANY.format(len(node.value)), node)
            return []
        found: list[CheckOptions] = []
        seen: set[str] = set()
        for index, item in enumerate(node.value):
            check, name = self._check(item, f"checks[{index}]", defaults), name_node(item)
            if name and name.value in seen:
                self.walk.problem(f"checks[{index}].name", f"the name {name.value} is used twice", name)
            elif check is not None:
                found.append(check)
            seen |= {name.value} if name else set()
        return found

    def _made(self, file: File, defaults: dict[str, yaml.MappingNode], written: set[str]) -> Iterator[CheckOptions]:
        seen: dict[str, str] = {}
        for made in made_checks(file, self.walk.places, self.around, self.types):
            check = self._check(made.node, made.path, defaults)
            if check is None or check.name in written:
                continue
            if check.name in seen:
                self.walk.problem(made.path, f"its check would be called {check.name}, like that of {seen[check.name]}")
            seen[check.name] = made.path
            yield check

    def _check(self, node: Node, path: str, defaults: dict[str, yaml.MappingNode]) -> CheckOptions | None:
        if not isinstance(node, yaml.MappingNode):
            self.walk.problem(path, f"expected a map of options, not {form(node)}", node)
            return None
        types = [item for key, item in node.value if key.value == "type"]
        if not types or not isinstance(types[0], yaml.ScalarNode):
            self.walk.problem(joined(path, "type"), f"is missing: one of {', '.join(sorted(self.types))}", node)
            return None
        of = self._type(types[0].value, joined(path, "type"), types[0])
        return None if of is None else self._of_type(of, node, path, defaults.get(of.type))

    def _of_type(
        self, of: type[CheckOptions], node: yaml.MappingNode, path: str, default: yaml.MappingNode | None
    ) -> CheckOptions | None:
        before = len(self.walk.problems)
        values = self.walk.options((TYPE, *options_of(of)), with_defaults(node, default), path)
        found = self.walk.problems[before:]
        # What is wrong in `defaults` is said once, there, and not again for each check that takes it.
        self.walk.problems[before:] = [problem for problem in found if not within(problem, default)]
        values.pop(TYPE.field, None)
        if not found:
            return self._judged(completed(of(**values)), path)
        self._forbidden(of, values, path)
        return None

    def _forbidden(self, of: type[CheckOptions], values: dict[str, Any], path: str) -> None:
        """Judge where a check would go that is wrong in something else: a second reading must bring no new error."""
        good = {"name": "x"} | {field: value for field, value in values.items() if value is not WRONG}
        if all(o.field in good for o in options_of(of) if o.required):
            for key, reason in forbidden(completed(of(**good)), self.policy):
                self.walk.problem(joined(path, key), reason)

    def _judged(self, check: CheckOptions, path: str) -> CheckOptions:
        for key, reason in check_problems(check, self.policy):
            self.walk.problem(joined(path, key), reason)
        return check


def name_node(node: Node) -> yaml.ScalarNode | None:
    """Find the name of a written check, whatever else is wrong with the check; None where it is no id."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    names = [item for key, item in pairs if key.value == "name" and isinstance(item, yaml.ScalarNode)]
    return names[0] if names and re.fullmatch(ID_PATTERN, names[0].value) else None


def with_defaults(node: yaml.MappingNode, default: yaml.MappingNode | None) -> yaml.MappingNode:
    """Add the options that a check leaves out, each at the place where the default was written."""
    written = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
    more = default.value if default else []
    pairs = [pair for pair in more if isinstance(pair[0], yaml.ScalarNode) and pair[0].value not in written]
    return yaml.MappingNode(node.tag, [*node.value, *pairs], node.start_mark, node.end_mark)


def within(problem: Problem, node: Node | None) -> bool:
    """Tell whether a problem lies inside a node."""
    if node is None:
        return False
    start, end = node.start_mark, node.end_mark
    return (start.line, start.column) <= (problem.line - 1, problem.column - 1) < (end.line, end.column)


def completed(check: CheckOptions) -> CheckOptions:
    """Fill in what the type decides: interval, timeout, layer.

    A medical device gets one echo a run, and an echo to a LAN peer must not leave the subnet (field.md 3.2).
    """
    few: dict[str, Any] = {"count": 1} if check.device_class == "medical" and hasattr(check, "count") else {}
    if check.layer_or_default is Layer.LAN and getattr(check, "ttl", None) == 0:
        few["ttl"] = 1
    return replace(
        check,
        interval_s=check.interval_s or check.default_interval_s,
        timeout_s=check.timeout_s or check.default_timeout_s,
        layer=check.layer or str(Layer(check.default_layer)),
        **few,
    )

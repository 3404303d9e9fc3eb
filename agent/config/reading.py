"""The checks of a file: `defaults`, the written ones, and those that the short forms make.

A check that is wrong in one thing is judged in all others too, so that all errors are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import yaml

from agent.check import CheckOptions
from agent.config.nodes import Node, Problem, is_null
from agent.config.rules import check_problems, class_problems, medical_problems
from agent.config.sections import File
from agent.config.shorthand import Surroundings, made_checks
from agent.config.walk import WRONG, Walker, form, joined
from agent.model import Layer
from agent.options import ID_PATTERN, Option, Text, did_you_mean, options_of, shown
from agent.policy import Policy

RESERVED_TYPES = ("arp", "dhcp", "dicom", "ldap", "listen", "mllp", "mqtt", "mtu", "ntp", "path", "sip", "tls", "train")
"""Words of the contract; one that is no check type yet is refused as such, not as a typing error."""
MOST_CHECKS = 5000
TOO_MANY = f"there are more than {MOST_CHECKS} checks, which one small computer cannot ask; share them among several"
TYPE = Option("type", "type", Text(), "The check type.", "", True, None)
STAND_INS = {"name": "x", "consent": "x", "responsibility_agreement": "x", "interval_s": 86400.0}
"""For what could not be read, where a rule would take its absence for one more error."""
Types = Mapping[str, type[CheckOptions]]
Default = yaml.MappingNode | None


class CheckReader:
    """Reads the checks of one file."""

    def __init__(self, walk: Walker, types: Types, policy: Policy, defaults: Node | None) -> None:
        """Read `defaults` first: they hold for written and made checks alike."""
        self.walk = walk
        self.types = types
        self.policy = policy
        self.names: set[str] = set()
        """Names of all written checks, also of those that are wrong in something."""
        self._said: set[Problem] = set()
        self.paths: dict[str, str] = {}
        """Where each good check was written, by name."""
        self._defaults = self._read_defaults(defaults)

    def _read_defaults(self, node: Node | None) -> dict[str, yaml.MappingNode]:
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.walk.problem("defaults", f"expected a map from check type to options, not {form(node)}", node)
            return {}
        found = {}
        for name, key_node, item in self.walk.pairs(node, "defaults"):
            path = f"defaults.{name}"
            if (of := self._type(name, path, key_node)) is not None:
                options = tuple(o for o in options_of(of) if o.key != "name")
                values = self.walk.options(options, item, path, partial=True)
                if isinstance(item, yaml.MappingNode):
                    found[name] = item
                    self._say(path, class_problems(self._stood_in(of, values, path)))
        return found

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

    def written(self, node: Node | None) -> list[CheckOptions]:
        """Read the list `checks`."""
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.walk.problem("checks", f"expected a list of checks, not {form(node)}", node)
            return []
        if len(node.value) > MOST_CHECKS:
            self.walk.problem("checks", TOO_MANY, node)
            return []
        found: list[CheckOptions] = []
        for index, item in enumerate(node.value):
            check, name = self._check(item, f"checks[{index}]"), name_node(item)
            if name and name.value in self.names:
                self.walk.problem(f"checks[{index}].name", f"the name {name.value} is used twice", name)
            elif check is not None:
                found.append(check)
            self.names |= {name.value} if name else set()
        return found

    def made(self, file: File, around: Surroundings) -> Iterator[CheckOptions]:
        """Read what the short forms make; a written check of the same name takes the place of a made one."""
        seen: dict[str, str] = {}
        for made in made_checks(file, self.walk.places, around, self.types):
            if made.name in self.names:
                continue
            if made.name in seen:
                here, there = (seen[made.name], "standard") if made.path == "standard" else (made.path, seen[made.name])
                reason = f"its check would be called {made.name}, like that of {there}; write one of them in `checks`"
                self.walk.problem(here, reason)
            seen[made.name] = made.path
            check = self._check(made.node, made.path)
            if check is not None:
                yield check

    def judge_together(self, checks: Iterable[CheckOptions]) -> None:
        """Hold the rules that look at all checks."""
        for name, key, reason in medical_problems(checks):
            self.walk.problem(joined(self.paths[name], key), reason)

    def _check(self, node: Node, path: str) -> CheckOptions | None:
        if not isinstance(node, yaml.MappingNode):
            self.walk.problem(path, f"expected a map of options, not {form(node)}", node)
            return None
        kind = next((item for key, item in node.value if key.value == "type"), None)
        where, known, of = joined(path, "type"), f"one of {', '.join(sorted(self.types))}", None
        if kind is None:
            self.walk.problem(where, f"is missing: {known}", node)
        elif not isinstance(kind, yaml.ScalarNode) or is_null(kind):
            self.walk.problem(where, f"expected {known}, not {form(kind)}", kind)
        else:
            of = self._type(kind.value, where, kind)
        if of is None:
            every = {o.key for type_ in self.types.values() for o in options_of(type_)} | {"type"}
            self.walk.options(options_of(CheckOptions), node, path, others=every)
            return None
        return self._of_type(of, node, path)

    def _of_type(self, of: type[CheckOptions], node: yaml.MappingNode, path: str) -> CheckOptions | None:
        default, before = self._defaults.get(of.type), len(self.walk.problems)
        values = self.walk.options((TYPE, *options_of(of)), with_defaults(of, node, default), path)
        found = self.walk.problems[before:]
        # What is wrong in `defaults` is said once, there, and not again for each check that takes it.
        self.walk.problems[before:] = [problem for problem in found if not within(problem, default)]
        values.pop(TYPE.field, None)
        wrong = frozenset(o.key for o in options_of(of) if values.get(o.field) is WRONG)
        check = self._stood_in(of, values, path)
        self._say(path, check_problems(check, self.policy, wrong))
        if found:
            return None
        self.paths[check.name] = path
        return check

    def _stood_in(self, of: type[CheckOptions], values: Any, path: str) -> CheckOptions:
        """Make the check as far as it could be read."""
        read = values or {}
        good: dict[str, Any] = {o.field: STAND_INS.get(o.field) for o in options_of(of) if o.required}
        for field, value in read.items():
            if value is not WRONG:
                good[field] = value
            elif field in STAND_INS:
                good[field] = STAND_INS[field]
        limits = self.walk.places.get(joined(path, "degraded"))
        if read.get("degraded") is WRONG and isinstance(limits, yaml.MappingNode):
            good["degraded"] = tuple((key.value, 0.0) for key, _ in limits.value if isinstance(key, yaml.ScalarNode))
        return completed(of(**good))

    def _say(self, path: str, problems: Iterable[tuple[str, str]]) -> None:
        """Tell each problem once, however many checks take it from the same place in `defaults`."""
        for key, reason in problems:
            self.walk.problem(joined(path, key), reason)
            told = replace(self.walk.problems[-1], path="")
            if told in self._said:
                self.walk.problems.pop()
            self._said.add(told)


def name_node(node: Node) -> yaml.ScalarNode | None:
    """Find the name of a written check, whatever else is wrong with the check; None where it is no id."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    names = [item for key, item in pairs if key.value == "name" and isinstance(item, yaml.ScalarNode)]
    return names[0] if names and re.fullmatch(ID_PATTERN, names[0].value) else None


def with_defaults(of: type[CheckOptions], node: yaml.MappingNode, default: Default) -> yaml.MappingNode:
    """Add the options that a check leaves out, each at the place where the default was written.

    Of options that exclude each other the defaults of the one sort do not hold where a check writes the other.
    """
    written = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
    excluded = {key for sort in of.alternatives if not written & sort for key in sort}
    passed_over = excluded if any(written & sort for sort in of.alternatives) else set()
    more = default.value if default else []
    pairs = [p for p in more if isinstance(p[0], yaml.ScalarNode) and p[0].value not in written | passed_over]
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

"""From the file to a frozen `Config`: short forms written out, defaults filled in, every rule held."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from agent.check import CheckOptions
from agent.config.nodes import Node, Problem, Unreadable, parse, read
from agent.config.reading import MOST_CHECKS, TOO_MANY, CheckReader, Types
from agent.config.rules import file_problems, host_name_problem
from agent.config.sections import Buffer, Commands, File, Identity, Mqtt, Status, Traps
from agent.config.shorthand import Surroundings
from agent.config.walk import WRONG, Walker, salvaged
from agent.options import ListOf, MapOf, Section, options_of
from agent.policy import Policy

SHORT_FORMS = ("anchors", "services", "devices")
MOST_PROBLEMS = 200
STAND_INS: Mapping[type, dict[str, Any]] = {
    Identity: {"org": "x", "site": "x", "node": "x"},
    Mqtt: {"url": "mqtts://localhost", "cert_file": "x", "key_file": "x", "username": "x", "allow_plaintext": True},
}
"""For what could not be read, chosen so that no rule takes it for one more error."""


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
    """The config in force. `paths` tells the path of each check by name, `places` where a path was written."""

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
    paths: Mapping[str, str]

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

    def config(self, node: yaml.MappingNode, text: str) -> Config:
        values = self.walk.options(options_of(File), node, "")
        readable = self._readable_part(values)
        reader = CheckReader(self.walk, self.types, readable.safety, readable.defaults)
        written = reader.written(readable.checks)
        checks = (*islice(reader.made(readable, self.around), MOST_CHECKS + 1), *written)
        for path, reason in file_problems(readable):
            self.walk.problem(path, reason)
        identity = self._identity(readable.identity)
        reader.judge_together(checks)
        if len(checks) > MOST_CHECKS:
            self.walk.problem("checks", TOO_MANY)
        if self.walk.problems:
            raise ConfigError(self.file, self.walk.problems)
        kept = {
            name: getattr(readable, name)
            for name in ("clock", "mqtt", "buffer", "safety", "status", "commands", "traps")
        }
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return Config(
            file=self.file,
            digest=digest,
            identity=identity,
            checks=checks,
            places=self.walk.places,
            paths=reader.paths,
            **kept,
        )

    def _readable_part(self, values: dict[str, Any]) -> File:
        """Fill what could not be read with stand-ins, so that the checks can still be judged."""
        good = {k: v for k, v in values.items() if v is not WRONG}
        for o in options_of(File):
            if isinstance(o.kind, Section) and (o.required or values.get(o.field) is WRONG) and o.field not in good:
                good[o.field] = self._readable_section(o.kind.of, o.key)
            elif o.key in SHORT_FORMS and values.get(o.field) is WRONG:
                good[o.field] = salvaged(o.kind, self.walk.places[o.key], o.key) or ()
        return File(**({"version": "1"} | good))

    def _readable_section(self, of: type, name: str) -> Any:
        """Read a section that is partly wrong as far as it is right; of a list or map the right items."""
        walk, node, stand_ins = Walker(), self.walk.places.get(name), STAND_INS.get(of, {})
        if not isinstance(node, yaml.MappingNode):
            return of(**stand_ins)
        read = walk.options(options_of(of), node, name)
        for o in options_of(of):
            if read.get(o.field) is WRONG and isinstance(o.kind, ListOf | MapOf) and o.key != "allow":
                items = salvaged(o.kind, walk.places[f"{name}.{o.key}"], "") or ()
                read[o.field] = tuple(item for item in items if item is not None)
        return of(
            **{f: stand_ins.get(f) if v is WRONG else v for f, v in read.items() if v is not WRONG or f in stand_ins}
        )

    def _identity(self, identity: Identity) -> Identity:
        if not identity.node and (reason := host_name_problem(self.around.host_name)):
            self.walk.problem("identity.node", reason)
        node = identity.node or self.around.host_name
        return replace(identity, node=node, title=identity.title or identity.site)

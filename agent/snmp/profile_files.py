"""Reads profiles from YAML files and chooses the one that fits a device.

The strict loader of the config does the reading, so this folder needs no YAML library of its own and an
error has the form that users know: FILE:LINE:COL: path: reason. Files are read in a thread, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.config.nodes import Problem, Unreadable, parse, read
from agent.config.walk import WRONG, Walker
from agent.options import did_you_mean
from agent.snmp.profile import PROFILE_NAME, Metric, Profile, Symbol

PACKAGED = Path(__file__).parent / "profiles"
FALLBACK = "generic"
"""The profile of a device that no other fits."""
REFUSED = {
    "1.3.6.1.2.1.3.1": "the ARP table",
    "1.3.6.1.2.1.4.21": "the route table",
    "1.3.6.1.2.1.4.22": "the ARP table",
    "1.3.6.1.2.1.4.24": "the route table",
    "1.3.6.1.2.1.4.35": "the ARP table",
    "1.3.6.1.2.1.17.4.3": "the table of learnt addresses",
    "1.3.6.1.2.1.17.7.1.2.2": "the table of learnt addresses",
    "1.3.6.1.2.1.25.4": "the list of running programs",
    "1.3.6.1.2.1.43.16": "the printer's display, which may show names",
}
"""Walks of these load a device for minutes (field.md 2.2), or read what concerns people."""
RESERVED = (
    *("v", "node", "ep", "seq", "ts", "clock", "boot", "mono_ms", "type", "late", "check", "layer", "target"),
    *("address", "outcome", "failure", "detail", "duration_s", "sys_name", "sys_object_id", "uptime_s", "boots"),
    *("profile", "health", "reason", "findings", "ports_up", "ports_down", "unread", "label", "value"),
)
"""Record fields that have a meaning of their own."""


Read = tuple[Path, Walker, Profile]
"""A profile as its file has it, with the walker that knows the places."""


class ProfileError(Exception):
    """Profiles that cannot be used; `sentences` has one FILE:LINE:COL: path: reason each."""

    def __init__(self, sentences: Iterable[str]) -> None:
        """Keep the sentences."""
        self.sentences = tuple(sentences)
        super().__init__("; ".join(self.sentences))


@dataclass(frozen=True)
class Choice:
    """The profile that was chosen, and why, for people."""

    profile: Profile
    why: str
    unproven_parts: tuple[str, ...] = ()


@dataclass
class Profiles:
    """All profiles by name, whole; `own` are those of the user's folders."""

    by_name: Mapping[str, Profile]
    own: frozenset[str] = field(default_factory=frozenset)

    def by_object_id(self, object_id: str | None) -> Choice | None:
        """Choose by sysObjectID: the longest match, at equal length the user's own."""
        best: tuple[int, bool, str, str] | None = None
        for name, profile in self.by_name.items():
            for pattern in profile.sysobjectid:
                if object_id and fits(pattern, object_id):
                    best = max(best or (0, False, "", ""), (len(pattern.split(".")), name in self.own, name, pattern))
        if best is None:
            return None
        return self._choice(best[2], f"its sysObjectID {object_id} fits {best[3]}")

    def questions(self) -> tuple[str, ...]:
        """List the objects by which the kind of an unknown device is told."""
        return tuple(dict.fromkeys(oid for profile in self.by_name.values() for oid in profile.answers))

    def by_answers(self, object_id: str | None, answered: set[str]) -> Choice:
        """Choose by what an unknown device answers, else the generic profile."""
        unknown = f"no profile names its sysObjectID {object_id or '(none)'}"
        for profile in sorted(self.by_name.values(), key=lambda p: (p.last, p.name not in self.own, p.name)):
            for oid in profile.answers:
                if oid in answered:
                    return self._choice(profile.name, f"{unknown}, but it answers {oid}")
        return self._choice(FALLBACK, unknown)

    def _choice(self, name: str, why: str) -> Choice:
        profile = self.by_name[name]
        return Choice(profile, why, tuple(part for part in profile.ancestors if self.by_name[part].unproven))


class Shelf:
    """The profiles of the process, by the folders of a check. Make it with `ctx.tools.get(Shelf)`."""

    def __init__(self) -> None:
        """Start empty: without an SNMP check nothing is read."""
        self._read: dict[tuple[str, ...], asyncio.Task[Profiles]] = {}

    async def profiles(self, folders: tuple[str, ...]) -> Profiles:
        """Give the packaged profiles and those of the folders; raises `ProfileError`."""
        task = self._read.get(folders)
        if task is None or (task.done() and task.exception() is not None):
            task = self._read[folders] = asyncio.ensure_future(asyncio.to_thread(load, folders))
        return await asyncio.shield(task)


def fits(pattern: str, object_id: str) -> bool:
    """Tell whether a sysObjectID is the pattern's, or below it where it ends in `.*`."""
    stem = pattern.removesuffix(".*")
    return object_id == stem or (pattern != stem and object_id.startswith(stem + "."))


def load(folders: Iterable[str] = ()) -> Profiles:
    """Read the packaged profiles, then each folder; the same name later takes the earlier's place."""
    problems: list[str] = []
    packaged = _folder(PACKAGED, problems)
    own: dict[str, Read] = {}
    for folder in folders:
        own |= _folder(Path(folder), problems)
    found = packaged | own
    whole: dict[str, Profile] = {}
    for name in found:
        _whole(name, found, whole, (), problems)
    if problems:
        raise ProfileError(problems)
    return Profiles(whole, frozenset(own))


def problems_of(folders: Iterable[str]) -> tuple[str, ...]:
    """List what is wrong in the users' folders, one sentence each."""
    try:
        load(folders)
    except ProfileError as error:
        return error.sentences
    return ()


def fields_with_limits(folders: Iterable[str]) -> frozenset[str]:
    """List the fields for which a check may have limits of its own: the numbers. Raises `ProfileError`."""
    symbols = [symbol for profile in load(folders).by_name.values() for symbol in profile.symbols()]
    return frozenset(symbol.name for symbol in symbols if symbol.is_number)


def _folder(folder: Path, problems: list[str]) -> dict[str, Read]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".yaml")
    except OSError as error:
        problems.append(f"{folder}: the folder with profiles cannot be read: {error.strerror}")
        return {}
    found = {}
    for path in paths:
        walker = Walker()
        profile = _file(path, walker)
        problems += [problem.sentence(str(path)) for problem in sorted(walker.problems)]
        if profile is not None and not walker.problems:
            found[path.stem] = (path, walker, profile)
    return found


def _file(path: Path, walker: Walker) -> Profile | None:
    """Read one file; what is wrong is kept in the walker."""
    try:
        PROFILE_NAME.read(path.stem)
        node = parse(read(path))
    except ValueError as error:
        walker.problems.append(Problem(0, 0, "", f"its name: {error}"))
        return None
    except Unreadable as error:
        walker.problems.append(error.problem)
        return None
    profile: Profile = walker.section(Profile, node, "")
    if profile is WRONG:
        return None
    for i, oid in enumerate(profile.answers):
        _judge_oid(oid, f"answers[{i}]", walker)
    for i, metric in enumerate(profile.metrics):
        _judge(metric, f"metrics[{i}]", walker)
    return replace(profile, name=path.stem)


def _judge(metric: Metric, path: str, walker: Walker) -> None:
    """Say what of a metric does not go together."""
    if (metric.symbol is None) == (metric.table is None):
        walker.problem(path, "needs either `symbol`, or `table` and `symbols`")
        return
    if metric.table and not metric.symbols:
        walker.problem(path, "a table needs `symbols`")
    for key, oid in (("OID", metric.table.oid), ("label", metric.table.label)) if metric.table else ():
        _judge_oid(oid, f"{path}.table.{key}", walker)
    if metric.symbol:
        _judge_symbol(metric.symbol, f"{path}.symbol", walker, alone=True)
    for i, symbol in enumerate(metric.symbols):
        _judge_symbol(symbol, f"{path}.symbols[{i}]", walker, alone=False)


def _judge_symbol(symbol: Symbol, path: str, walker: Walker, *, alone: bool) -> None:
    for oid in (symbol.oid, *symbol.also_needed()):
        _judge_oid(oid, f"{path}.OID", walker)
    if symbol.name in RESERVED:
        walker.problem(f"{path}.name", f"{symbol.name} is a field of every record; choose another name")
    if alone and symbol.fold:
        walker.problem(f"{path}.fold", "belongs to the columns of a table")
    if symbol.form == "bits" and not symbol.mapping:
        walker.problem(path, "bits need a `mapping`")
    if symbol.window_s and symbol.form != "counter":
        walker.problem(f"{path}.window", "belongs to a counter")
    if symbol.states and not symbol.mapping:
        walker.problem(f"{path}.states", "needs a `mapping`")
    known = [word for _, word in symbol.mapping]
    for word, _ in symbol.states:
        if symbol.mapping and word not in known:
            walker.problem(f"{path}.states.{word}", f"is no word of the mapping{did_you_mean(word, known)}")


def _judge_oid(oid: str, path: str, walker: Walker) -> None:
    what = next((words for stem, words in REFUSED.items() if oid and overlaps(stem, oid)), "")
    if what:
        walker.problem(path, f"{oid} reaches {what}, which is never read")


def overlaps(stem: str, oid: str) -> bool:
    """Tell whether one of two OIDs lies below the other, or they are the same."""
    return (oid + ".").startswith(stem + ".") or (stem + ".").startswith(oid + ".")


def _whole(
    name: str,
    found: Mapping[str, Read],
    whole: dict[str, Profile],
    below: tuple[str, ...],
    problems: list[str],
) -> Profile | None:
    """Give a profile with all that it extends; None where that cannot be had."""
    if name in whole:
        return whole[name]
    path, walker, profile = found[name]
    parents = []
    for i, parent in enumerate(profile.extends):
        if parent not in found:
            reason = f"no profile is named {parent}{did_you_mean(parent, list(found))}"
        elif parent in (*below, name):
            reason = f"{parent} extends itself in the end"
        else:
            made = _whole(parent, found, whole, (*below, name), problems)
            parents += [made] if made else []
            continue
        walker.problems.clear()
        walker.problem(f"extends[{i}]", reason)
        problems.append(walker.problems[0].sentence(str(path)))
        return None
    if len(parents) < len(profile.extends):
        return None
    whole[name] = profile.merged(tuple(parents))
    return whole[name]

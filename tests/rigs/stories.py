"""Plays a story (tests/stories/*.yaml): answers of checks go in, verdicts and states come out.

A story is read by the real pipeline. Its `checks` are `name: type layer [group]`; a step is either
`{at: SECOND, check: answer…}` or `{say: VERDICT, …}`. Answers: `pass`, `fail FAILURE`, `fail FAILURE
from ADDRESS TYPE/CODE`, `unknown FAILURE`; a word `connected` adds connect_s, `field=value` a field.
A list of answers is given one after the other, with `times: N` steps a second apart (or `every: S`). In the words of a
check `target=WORD` is what it asks, `limit=FIELD:VALUE` one of its `degraded` limits.
In a step `site: {…}` changes the site's facts, and `quiet: REASON` begins maintenance ("" ends it). A story with
`clock: unset` is of a probe that booted in 1970, until a step says `clock: set`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from agent.check import CheckOptions, Traffic
from agent.clock import Instant
from agent.config import Buffer, Config, Identity, Mqtt, Status
from agent.config.sections import Commands, Traps
from agent.model import Record, Scalar
from agent.pipeline import Pipeline
from agent.policy import Policy
from agent.replaying import Notebook
from agent.verdict import SiteFacts

STORIES = Path(__file__).parents[1] / "stories"
EPOCH_S = 1_795_000_000.0
OWN_NETWORK = "10.0.0.50/24"


def moment(second: float) -> Instant:
    """The story's time; it begins an hour after boot."""
    return Instant(EPOCH_S + second, int((3600 + second) * 1000), "synced", "boot-1")


def unset(second: float) -> Instant:
    """The same moment as an unset clock shows it: the story begins two minutes into 1970."""
    return replace(moment(second), ts=120 + second, clock="unsynced")


def told(name: str, words: str) -> CheckOptions:
    """Make a check of any type that only a story answers for."""
    kind, layer, *rest = words.split()
    group = [word for word in rest if "=" not in word]
    options = dict(word.split("=", 1) for word in rest if "=" in word)
    of = type(f"Told{kind.title()}", (CheckOptions,), {"type": kind, "sends": lambda self: SENT[self.name]})
    SENT[name] = () if kind in ("link", "mqtt") else (Traffic(options.get("target", name), kind, None, 1),)
    limit, _, value = options.get("limit", "").partition(":")
    degraded = ((limit, float(value)),) if limit else ()
    whose = group[0] if group else ""
    made: CheckOptions = of(name=name, layer=layer, group=whose, interval_s=10.0, timeout_s=4.0, degraded=degraded)
    return made


SENT: dict[str, tuple[Traffic, ...]] = {}


def config_of(checks: tuple[CheckOptions, ...]) -> Config:
    return Config(
        file="story",
        digest="0" * 16,
        clock="auto",
        identity=Identity(org="org", site="site", node="node", title="Site"),
        mqtt=Mqtt(url="mqtt://127.0.0.1"),
        buffer=Buffer(),
        safety=Policy(),
        checks=checks,
        status=Status(),
        commands=Commands(),
        traps=Traps(),
        places={},
        paths={},
    )


def answer(check: CheckOptions, number: int, words: str) -> dict[str, Scalar]:
    """Turn the words of an answer into the fields of a record."""
    outcome, *rest = words.split()
    address = "" if check.type == "link" else f"10.0.{0 if check.layer in ('lan', 'gateway') else 7}.{number}"
    fields: dict[str, Scalar] = {"check": check.name, "layer": check.layer, "target": check.name, "address": address}
    fields["outcome"] = outcome
    if check.type == "link":
        fields["addresses"] = OWN_NETWORK
    if outcome != "pass":
        fields["failure"] = rest.pop(0)
    while rest:
        word = rest.pop(0)
        if word == "from":
            fields["responder"] = rest.pop(0)
            kind, code = rest.pop(0).split("/")
            fields |= {"icmp_type": int(kind), "icmp_code": int(code)}
        elif word == "connected":
            fields["connect_s"] = 0.01
        else:
            key, _, value = word.partition("=")
            fields[key] = yaml.safe_load(value)
    return fields


class Play:
    """One story on stage."""

    def __init__(self, path: Path, clock: Callable[[float], Instant] | None = None) -> None:
        self.story: dict[str, Any] = yaml.safe_load(path.read_text())
        self.checks = {name: told(name, words) for name, words in self.story["checks"].items()}
        self.notebook = Notebook("story1")
        self.posted: list[tuple[str, Any, int]] = []
        self.moment = clock or (unset if self.story.get("clock") == "unset" else moment)
        self.now = self.moment(-1)
        self.facts: dict[str, Any] = {}
        config = config_of(tuple(self.checks.values()))
        self.pipeline = Pipeline(config, self.notebook, lambda *card: self.posted.append(card), self.now)

    def act(self, step: dict[str, Any]) -> None:
        """Let a step happen, or several of one kind, `every` so many seconds."""
        step = dict(step)
        at, every = step.pop("at"), step.pop("every", 1)
        for number in range(step.pop("times", 1)):
            now = {
                name: value[number % len(value)] if isinstance(value, list) else value for name, value in step.items()
            }
            self._act(at + number * every, now)

    def _act(self, second: float, step: dict[str, Any]) -> None:
        """Let `site` facts change and checks answer, and judge it."""
        self.moment = moment if step.pop("clock", "") == "set" else self.moment
        self.now = self.moment(second)
        self.facts |= step.pop("site", {})
        if "quiet" in step:
            self.facts["suppressed"] = reason = step.pop("quiet")
            self.pipeline.suspend(reason, self.now)
        facts = SiteFacts(self.now, **self.facts)
        for number, (name, check) in enumerate(self.checks.items(), 1):
            if name in step:
                fields = answer(check, number, step.pop(name))
                self.pipeline.take(check, Record(check.type, self.now, fields), ())
        assert not step, f"unknown words in the story: {step}"
        self.asked = self.pipeline.judge(facts)

    def seen(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Give what the outside sees, as far as the story asks for it."""
        verdict = self.pipeline.verdict
        found = {key: verdict.get(key) for key in wanted if key in verdict}
        states = {name: str(state) for name, state in self.pipeline.shown.items()}
        found |= {"say": verdict["verdict"], "domain": verdict["fault_domain"], "ask": list(self.asked)}
        found["since"] = verdict["since"][11:19]
        found |= {f"state of {name}": states.get(name, "unknown") for name in self.checks}
        found |= {"sure": verdict["confidence"], "at most": None}
        return {key: found[key] for key in wanted}

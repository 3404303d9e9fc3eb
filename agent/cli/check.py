"""`siteprobe check`: run checks now and explain."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from agent import messages
from agent.cli.common import (
    COULD_NOT_MEASURE,
    Monitored,
    complain,
    config_option,
    json_option,
    leave,
    read_or_exit,
    say,
    say_json,
)
from agent.config import Config
from agent.once import Answer, ask_all, verdict_of
from agent.options import did_you_mean
from agent.verdict import Finding

MARKS = {"pass": "✔", "degraded": "▲", "fail": "✖", "unknown": "?"}
COLOURS = {"pass": "green", "degraded": "yellow", "fail": "red", "unknown": "magenta"}
EXIT_CODES = {"fail": 2, "unknown": 3, "degraded": 1, "pass": 0}
"""Worst first, after the convention of monitoring plugins."""


@click.command(cls=Monitored)
@click.argument("names", nargs=-1)
@config_option
@json_option
def command(names: tuple[str, ...], config_file: Path, as_json: bool) -> None:
    """Run the named checks (all of them and the verdict if none is named) and explain.

    A failing check is asked again, once a second, up to its fail_after. Exit: 0 ok, 1 degraded (a device
    that answers and is not well, too), 2 failed, 3 could not measure.
    """
    config = read_or_exit(config_file, code=COULD_NOT_MEASURE)
    wanted = _wanted(config, names)
    answers = asyncio.run(ask_all(config, wanted, lambda answer: None if as_json else _show(config, answer)))
    finding = None if names else verdict_of(config, answers)
    if as_json:
        say_json({"checks": [_as_json(config, a) for a in answers]} | _verdict_json(finding))
    elif finding:
        say(f"Verdict: {finding.verdict} (confidence {finding.confidence:g}). {finding.summary} {finding.next}")
    if not answers:  # a monitor must not take silence for health
        complain(f"{config.file}: no check runs, so nothing was measured; write some in `checks`, or standard: true")
        leave(COULD_NOT_MEASURE)
    found = {_look(answer) for answer in answers}
    leave(next((code for word, code in EXIT_CODES.items() if word in found), 0))


def _wanted(config: Config, names: tuple[str, ...]) -> list[Any]:
    known = {check.name: check for check in config.checks}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, list(known)) or f"; known are {', '.join(known)}"
            complain(f"{config.file}: no check is named {name}{hint}")
            leave(COULD_NOT_MEASURE)
    return [known[name] for name in dict.fromkeys(names)] if names else _askable(config)


def _askable(config: Config) -> list[Any]:
    """List the checks that run, but for our own delivery: here is no publisher."""
    return [check for check in config.active if not check.hearsay]


def _topic(config: Config, answer: Answer) -> str:
    identity = config.identity
    base = messages.base_topic(identity.org, identity.site, identity.node)
    return f"{base}/{messages.live_suffix(answer.check.type, answer.check.name)}"


def _payloads(config: Config, answer: Answer) -> list[dict[str, Any]]:
    """Write the records of the last run as they would be published; numbers are given when kept."""
    run = answer.runs[-1]
    texts = (messages.encode(r, config.identity.node, "", 0) for r in (run.record, *run.more))
    return [{k: v for k, v in json.loads(text).items() if k not in ("ep", "seq")} for text in texts]


def _show(config: Config, answer: Answer) -> None:
    say(_headline(answer))
    for line in answer.lines:
        say(f"    {line}")
    say(f"    would be published to {_topic(config, answer)}:")
    for payload in _payloads(config, answer):
        say(f"    {messages.compact(payload)}")


def _look(answer: Answer) -> str:
    """Give the word for its mark and the exit code: a device that answers may still be ill."""
    unwell = answer.word == "pass" and answer.record.fields.get("health", "ok") != "ok"
    return "degraded" if unwell else answer.word


def _headline(answer: Answer) -> str:
    check, fields, look = answer.check, answer.record.fields, _look(answer)
    unwell = look != answer.word
    mark = click.style(f"{MARKS[look]} {check.name}", fg=COLOURS[look], bold=True)
    why = f" {fields.get('failure')}: {fields.get('detail')}" if fields.get("failure") else ""
    why = f", health {fields['health']}: {fields.get('reason')}" if unwell else why
    asked = f" after {len(answer.runs)} times" if len(answer.runs) > 1 else ""
    return f"{mark}  {check.type} {check.asked or 'this machine'}: {answer.word}{asked}{why}"


def _as_json(config: Config, answer: Answer) -> dict[str, Any]:
    return {
        "name": answer.check.name,
        "result": answer.word,
        "state": str(answer.health.state),
        "asked": len(answer.runs),
        "explanation": list(answer.lines),
        "topic": _topic(config, answer),
        "records": _payloads(config, answer),
    }


def _verdict_json(finding: Finding | None) -> dict[str, Any]:
    if finding is None:
        return {}
    shown = ("verdict", "layer", "confidence", "summary", "next", "cause", "impacted", "working", "blind")
    told = {name: getattr(finding, name) for name in (*shown, "evidence", "contradicting", "also")}
    return {"verdict": {"fault_domain": finding.domain, **told}}

"""`siteprobe replay FILE`: health and verdict over recorded records, as a timeline."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import click

from agent.cli.common import complain, config_option, json_option, leave, read_or_exit, say, say_json
from agent.clock import rfc3339
from agent.replaying import Entry, Replay, Unreadable, read_records


@click.command()
@click.argument("file", type=click.File(encoding="utf-8", errors="replace"))
@config_option
@json_option
def command(file: TextIO, config_file: Path, as_json: bool) -> None:
    """Judge recorded records anew and print what was said then, and what is said now.

    FILE has one record, one array of records, or one message of `demo --json` a line; - reads from the input. The
    checks and their layers are those of the config: change it, or the program, and see what becomes of the verdict.
    """
    config = read_or_exit(config_file)
    try:
        records = read_records(file)
    except ValueError as error:
        complain(f"{file.name}: {error if isinstance(error, Unreadable) else f'a time is none ({error})'}")
        leave(2)
    if not records:
        complain(f"{file.name}: holds no records; a reader of the topics writes some (docs/delivery.md)")
        leave(1)
    replay = Replay(config, records[0].taken)
    entries = list(replay.play(records))
    if as_json:
        say_json([shown(entry) for entry in entries])
    else:
        for line in told(entries):
            say(line)
    if replay.unknown:
        complain(f"not in {config_file}: {', '.join(sorted(replay.unknown))}; their records were passed over")
        leave(1)


def shown(entry: Entry) -> dict[str, Any]:
    """Give an entry for programs."""
    return {"ts": rfc3339(entry.at.ts), "said": entry.whose, "type": entry.record.type, **entry.record.fields}


def told(entries: Iterable[Entry]) -> Iterable[str]:
    """Write a timeline for people: time, then or now, and what was said."""
    for entry in entries:
        fields = entry.record.fields
        if entry.record.type == "verdict":
            words = f"{fields['verdict']} ({fields.get('fault_domain')}): {fields.get('summary')}"
        else:
            words = f"{fields.get('check')}: {fields.get('old')} -> {fields.get('new')}  {fields.get('reason') or ''}"
        yield f"{rfc3339(entry.at.ts)}  {entry.whose:4}  {words}".rstrip()

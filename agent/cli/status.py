"""`siteprobe status`: what the running agent says."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import complain, config_option, either, json_option, leave, say, say_json
from agent.config import ConfigError, directory_of
from agent.verdict import HEALTHY
from agent.web.socket import ask_status

if TYPE_CHECKING:
    from rich.console import Group

RUNTIME_DIRECTORY = Path("/run/siteprobe")
COLOURS = {"up": "green", "degraded": "yellow", "down": "red", "unreachable": "magenta", "unknown": "dim"}
NOT_RUNNING = 3


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, callback=either, help="Show anew each second until Ctrl-C.")
def command(config_file: Path, as_json: bool, watch: bool) -> None:
    """Ask the running agent: 0 healthy, 1 not, 3 agent not running."""
    if watch and as_json:
        raise click.UsageError("--watch draws for people; ask --json again instead")
    directories = _directories(config_file)
    if watch:
        _watch(directories)
    found = ask_status(directories)
    if found is None:
        complain(
            f"no agent answers in {_named(directories)}; start it with `siteprobe run` or `systemctl start siteprobe`"
        )
        leave(NOT_RUNNING)
    if as_json:
        say_json(found)
    else:
        _print(found)
    leave(0 if found["verdict"]["verdict"] == HEALTHY else 1)


def _directories(config_file: Path) -> list[Path]:
    """Say where to ask; an agent goes on with the config it has when the file becomes wrong, and answers there."""
    from agent.app import read_config

    try:
        return [Path(read_config(config_file).buffer.directory), RUNTIME_DIRECTORY]
    except ConfigError as error:
        store = directory_of(config_file)
        directories = [*([Path(store)] if store else []), RUNTIME_DIRECTORY]
        complain(f"{error.sentences()[0]} (asking in {_named(directories)})")
        return directories


def _named(directories: list[Path]) -> str:
    return " or ".join(str(d) for d in directories)


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console

    screen, sheet = Console(), io.StringIO()  # rich ends the program where nobody takes its output
    Console(file=sheet, width=screen.width, force_terminal=screen.is_terminal, highlight=False).print(drawn(found))
    say(sheet.getvalue().removesuffix("\n"))


def _watch(directories: list[Path]) -> None:
    from rich.live import Live
    from rich.text import Text

    try:
        with Live(refresh_per_second=4, screen=False) as live:
            while True:
                found = ask_status(directories)
                live.update(drawn(found) if found else Text("no agent answers"))
                time.sleep(1)
    except KeyboardInterrupt:
        leave(0)


def drawn(found: dict[str, Any]) -> Group:
    """Draw a status answer: the verdict first, then checks, delivery and store."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    verdict = found["verdict"]
    colour = "green" if verdict["verdict"] == HEALTHY else "red"
    head = Text.assemble((f" {verdict['verdict']} ", f"bold reverse {colour}"), f"  {verdict['summary']}")
    table = Table(box=None, pad_edge=False)
    for title in ("check", "type", "layer", "state", "since", "reason"):
        table.add_column(title, style="dim" if title == "since" else "", overflow="fold")
    for name, card in found["states"].items():
        state = Text(card["state"], COLOURS.get(card["state"], ""))
        why = f"behind {card['because']}" if card.get("because") else card.get("reason") or ""
        layer = f"{card['layer']} {card['group']}" if card.get("group") else card["layer"]
        table.add_row(name, card["type"], layer, state, (card.get("since") or "")[11:19], Text(why))
    return Group(head, Text(f"Next: {verdict['next']}", "dim"), Text(), table, Text(), *_footer(found))


def _footer(found: dict[str, Any]) -> list[Any]:
    from rich.text import Text

    buffer, delivery = found["buffer"], found["delivery"]
    where = f"connected to {delivery['address']}" if delivery["connected"] else f"not connected: {delivery['reason']}"
    kept = "in memory only" if buffer["in_memory"] else buffer["directory"]
    lines = [
        f"delivery  {where}, {buffer['pending']} records wait",
        f"store     {kept}, {buffer['buffer_bytes'] / 1e6:.1f} of {buffer['buffer_limit'] / 1e6:.0f} MB"
        f", records {buffer['first_seq']} to {buffer['next_seq'] - 1} of epoch {buffer['ep']}",
        f"clock     {found['clock']}",
    ]
    if quiet := found.get("suppression"):
        words = f"{quiet['kind']} by {quiet['source']}, {quiet['left_s']:.0f} s left"
        lines.append(f"quiet     {words}" + (f": {quiet['reason']}" if quiet["reason"] else ""))
    if advice := delivery.get("advice"):
        lines.append(f"advice    {advice}")
    if buffer["trouble"]:
        lines.append(f"trouble   {buffer['trouble']}")
    return [Text(line) for line in lines]

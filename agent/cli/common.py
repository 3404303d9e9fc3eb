"""What the commands share: the config option, reading the file, and how errors are shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from agent.app import read_config
from agent.cli import DEFAULT_CONFIG
from agent.config import Config, ConfigError

F = Callable[..., Any]
COULD_NOT_MEASURE = 3


class Monitored(click.Command):
    """A command whose exit codes 1 and 2 mean `degraded` and `failed` to a monitor: what ended it early is a 3."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the command line; what is wrong with it ends in 3."""
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            error.exit_code = COULD_NOT_MEASURE
            raise
        except click.Abort:
            self._interrupted()

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; Ctrl-C ends in 3."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            self._interrupted()

    def _interrupted(self) -> NoReturn:
        complain("interrupted: nothing was concluded")
        leave(COULD_NOT_MEASURE)


def config_option(function: F) -> F:
    """Add -c/--config to a command; the group's own -c counts too."""
    return click.option(
        "-c",
        "--config",
        "config_file",
        type=click.Path(readable=False, path_type=Path),
        callback=_chosen,
        help=f"The config file; default {DEFAULT_CONFIG}.",
    )(function)


def _chosen(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path:
    return value or ctx.find_root().obj or DEFAULT_CONFIG


def json_option(function: F) -> F:
    """Add --json to a command."""
    return click.option("--json", "as_json", is_flag=True, callback=either, help="Print JSON for programs.")(function)


def either(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Take a flag from before the command too."""
    return value or bool(ctx.find_root().params.get(param.name or ""))


def read_or_exit(path: Path, code: int = 2) -> Config:
    """Read the config, or print all its errors and exit."""
    try:
        return read_config(path)
    except ConfigError as error:
        for sentence in error.sentences():
            complain(sentence)
        leave(code)


def leave(code: int) -> NoReturn:
    """Exit with a code, output written; where nobody takes the output the code stays what it is."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        drop_output()
    sys.exit(code)


def say(text: str) -> None:
    """Print a line; a reader that has gone (`| head`) or a full disk must not change the exit code."""
    try:
        click.echo(text)
    except OSError:
        drop_output()


def complain(text: object) -> None:
    """Print a line to standard error; there too a reader that has gone must not change the exit code."""
    try:
        click.echo(text, err=True)
    except OSError:
        drop_output(2)


def drop_output(descriptor: int = 1) -> None:
    """Let all further output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def say_json(value: Any) -> None:
    """Print a value as indented JSON."""
    say(json.dumps(value, indent=2, ensure_ascii=False))

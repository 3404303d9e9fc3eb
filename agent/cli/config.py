"""`siteprobe config check | show | schema`."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import complain, config_option, json_option, leave, read_or_exit, say, say_json
from agent.config import ConfigError, warnings


@click.group(no_args_is_help=False)
def command() -> None:
    """Check, show or describe the config."""


@command.command("check")
@config_option
@json_option
def check(config_file: Path, as_json: bool) -> None:
    """Print every error of the file, or its warnings: 0 usable, 2 not."""
    from agent.app import read_config

    try:
        config = read_config(config_file)
    except ConfigError as error:
        if as_json:
            say_json({"valid": False, "errors": error.sentences(), "warnings": []})
        else:
            complain("\n".join(error.sentences()))
        leave(2)
    found = [problem.sentence(config.file) for problem in warnings(config)]
    if as_json:
        say_json(
            {"valid": True, "errors": [], "warnings": found, "checks": len(config.active), "digest": config.digest}
        )
        return
    for sentence in found:
        complain(sentence)
    say(f"{config.file}: usable; checks: {len(config.active)}, warnings: {len(found)}, digest {config.digest}")


@command.command("show")
@config_option
@json_option
def show(config_file: Path, as_json: bool) -> None:
    """Print the config as siteprobe reads it: short forms written out, defaults filled in, secrets hidden."""
    from agent.config.show import as_yaml, effective

    config = read_or_exit(config_file)
    if as_json:
        say_json(effective(config))
    else:
        say(as_yaml(config).removesuffix("\n"))


@command.command("schema")
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON Schema of the config, for editors; it is JSON anyway."""
    from agent.describe import config_schema

    say_json(config_schema())

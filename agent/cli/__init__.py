"""The command line: one file a command, loaded when it is asked for.

Exit codes: `check` 0 ok, 1 degraded, 2 failed, 3 could not measure; `status` 0 healthy, 1 not, 3 agent
not running; all others 0 ok, 1 a problem was found, 2 usage or invalid config.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import click

from agent import __version__

DEFAULT_CONFIG = Path("/etc/siteprobe/siteprobe.yaml")
COMMANDS = {
    "run": "Run the service (or, with --once, measure, judge and publish once).",
    "check": "Run checks now and explain what was sent and what came back.",
    "status": "Ask the running agent how things stand.",
    "manifest": "Print everything that will be sent, listened on and told, with one digest, for approval.",
    "config": "Check, show or describe the config.",
    "replay": "Judge recorded records anew: what was said then, and what is said now.",
    "acl": "Print the access rights that a broker must give to an agent or a reader.",
    "snmp": "Ask one device over SNMP without a config, and explain.",
    "demo": "A broker, an agent and a live table in one command, without root.",
}
NOT_BUILT = ("init", "doctor", "tail", "export", "collect")
"""Words of the contract for later; each is refused as such, not as a typing error."""


class Lazy(click.Group):
    """A group whose commands live in modules of their own name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the manual."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the module of a command."""
        if cmd_name in NOT_BUILT:
            ctx.fail(f"the command {cmd_name} is not built yet; there are {', '.join(COMMANDS)}")
        if cmd_name not in COMMANDS:
            from agent.options import did_you_mean, shown

            hint = did_you_mean(cmd_name, COMMANDS) or f"; there are {', '.join(COMMANDS)}"
            ctx.fail(f"no command is named {shown(cmd_name)}{hint}")
        command: click.Command = importlib.import_module(f"agent.cli.{cmd_name}").command
        command.short_help = COMMANDS[cmd_name]
        return command


@click.group(cls=Lazy, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", "config_file", type=click.Path(readable=False, path_type=Path), help="The config file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option("--watch", is_flag=True, help="Of `status`: show anew each second until Ctrl-C.")
@click.version_option(__version__, prog_name="siteprobe")
@click.pass_context
def siteprobe(ctx: click.Context, config_file: Path | None, as_json: bool, watch: bool) -> None:
    """Network probe of a hospital site: measures, says where the fault lies, keeps and publishes results.

    Without a command: `status`. Options that stand before a command hold for it.
    """
    ctx.obj = config_file
    if os.environ.get("NO_COLOR"):  # https://no-color.org; rich obeys it by itself
        ctx.color = False
    if ctx.invoked_subcommand is None:
        status = siteprobe.get_command(ctx, "status")
        assert status is not None
        # `invoke` calls no option callbacks
        ctx.invoke(status, config_file=config_file or DEFAULT_CONFIG, as_json=as_json, watch=watch)

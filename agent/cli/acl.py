"""`siteprobe acl mosquitto`: the lines of a broker's access list for one agent, or for a reader."""

from __future__ import annotations

import re

import click

from agent.cli.common import say
from agent.messages import base_topic
from agent.options import ID_PATTERN
from agent.wording import TOPICS


class IdType(click.ParamType):
    """An id of the config: a broker's list must never hold a wildcard where a name is meant."""

    name = "id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take an id; fails with one sentence."""
        if not re.fullmatch(ID_PATTERN, value) or value == "fleet":
            self.fail(f"{value!r} is no id: a-z 0-9 and -, at most 40 characters, and not `fleet`", param, ctx)
        return value


ID = IdType()


@click.group(no_args_is_help=False)
def command() -> None:
    """Print the access rights that a broker must give."""


@command.command("mosquitto")
@click.option("--org", type=ID, required=True, help="Organisation, as in the config.")
@click.option("--site", type=ID, help="Site of the agent.")
@click.option("--node", type=ID, help="Agent; also the CN of its certificate.")
@click.option("--reader", type=ID, help="Instead of an agent: a reader of the whole organisation, by its CN.")
@click.option("--commands", is_flag=True, help="The reader may also send commands and set the pace.")
def mosquitto(org: str, site: str | None, node: str | None, reader: str | None, commands: bool) -> None:
    """Print lines for mosquitto's acl_file: of an agent (--site --node) or of a reader (--reader)."""
    if reader and not (site or node):
        lines = reader_lines(org, reader, commands)
    elif site and node and not (reader or commands):
        lines = agent_lines(org, site, node)
    else:
        raise click.UsageError("give --site and --node for an agent, or --reader (and --commands) for a reader")
    for line in lines:
        say(line)


def agent_lines(org: str, site: str, node: str) -> list[str]:
    """Give the lines of an agent: it writes below its own base only, and reads what is meant for it."""
    base = base_topic(org, site, node)
    return [
        f"user {node}",
        f"topic write {base}/#",
        f"topic read {base}/command/#",
        f"topic read {TOPICS['pace'].address.format(org=org)}",
    ]


def reader_lines(org: str, reader: str, commands: bool) -> list[str]:
    """Give the lines of a reader of all sites of an organisation."""
    command_topic = TOPICS["command"].address.format(org=org, site="+", node="+", name="+")
    sent = (command_topic, TOPICS["pace"].address.format(org=org)) if commands else ()
    return [f"user {reader}", f"topic read {base_topic(org, '+', '#')}", *(f"topic write {topic}" for topic in sent)]

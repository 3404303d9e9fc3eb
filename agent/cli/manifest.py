"""`siteprobe manifest`: everything that the config makes this probe send, listen on and tell, for approval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from agent.cli.common import config_option, json_option, read_or_exit, say, say_json
from agent.manifest import manifest


@click.command()
@config_option
@json_option
def command(config_file: Path, as_json: bool) -> None:
    """Print every destination, protocol, port and packets a day, every listener, and every field that leaves the site.

    The sha256 at the end stands for all of it; a running agent tells the one in force as `manifest_digest` in
    `about`. Nothing is asked. Exit: 0, or 2 for an unusable config.
    """
    told = manifest(read_or_exit(config_file))
    if as_json:
        say_json(told)
        return
    for line in sheet(told):
        say(line)


def sheet(told: Mapping[str, Any]) -> list[str]:
    """Write a manifest as a sheet of text, to be signed."""
    identity = "/".join(str(told[key]) for key in ("org", "site", "node"))
    listed = [f"{len(told['sends'])} destinations and ports of {identity}, with packets a day at most by the schedule"]
    listed += [_row(row) for row in told["sends"]]
    listed += ["", "Gone to by a proxy on our behalf:", *map(_row, told["asked_through_a_proxy"])] * bool(
        told["asked_through_a_proxy"]
    )
    listed += ["", "A failing check is asked again, within these limits:", *_pairs(told["limits"])]
    traced = told["traced"]
    listed += [f"  traced when down, or on command ({traced['packets_a_trace']} packets): {_names(traced['checks'])}"]
    listed += ["", "Listens on:", *(_listener(row) for row in told["listens"])]
    listed += ["", f"Obeys over MQTT: {', '.join(told['commands']) or 'nothing'}"]
    listed += ["", "Fields that leave the site, by message:"]
    listed += [f"  {name}: {', '.join(fields)}" for name, fields in told["fields"].items()]
    return [*listed, "", f"sha256 {told['sha256']}"]


def _row(row: Mapping[str, Any]) -> str:
    where = f"{row['destination']} {row['protocol']}" + (f" {row['port']}" if row["port"] else "")
    return f"  {where:48} {row['packets_per_day']:>9}  {', '.join(row['for'])}"


def _listener(row: Mapping[str, Any]) -> str:
    port = f" port {row['port']}" if row["port"] else ""
    return f"  {row['protocol']} {row['address']}{port}, for {row['for']}"


def _names(names: list[str]) -> str:
    return ", ".join(names) or "-"


def _pairs(limits: Mapping[str, Any]) -> list[str]:
    shown = {name: ", ".join(value) or "-" if isinstance(value, list) else value for name, value in limits.items()}
    return [f"  {name}: {value}" for name, value in shown.items()]

"""`siteprobe snmp try`: ask one device without a config, and explain."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import click

from agent.checks import Toolbox
from agent.checks.snmp import PORT, SnmpCheck
from agent.cli.common import COULD_NOT_MEASURE, Monitored, complain, json_option, leave, say, say_json
from agent.clock import Clock
from agent.config import SecretSource
from agent.model import Outcome
from agent.net.resolve import Resolver
from agent.policy import Policy
from agent.runner import Run, Runner
from agent.safety import Gate
from agent.snmp.credentials import AUTH_PROTOCOLS, PRIV_PROTOCOLS

SECRET_HELP = "env:NAME, file:PATH or ask (never the secret itself: others on this machine would see it)"
EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 2, Outcome.UNKNOWN: 3}
"""As of `check`; a device that answers and is not well is a 1."""
BETWEEN_S = 10.0
"""Rates and increases need two polls some time apart."""


class Secret(click.ParamType):
    """Where a secret comes from, never the secret."""

    name = "source"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SecretSource:
        """Read `env:NAME`, `file:PATH` or `ask`, which asks now."""
        if isinstance(value, SecretSource):
            return value
        source, colon, name = str(value).partition(":")
        if value == "ask":
            return SecretSource(
                "literal", click.prompt(f"{param.name if param else 'secret'}", hide_input=True, err=True)
            )
        if source not in ("env", "file") or not colon or not name:
            self.fail(f"expected {SECRET_HELP}", param, ctx)
        return SecretSource(source, name)


@click.group(no_args_is_help=False)
def command() -> None:
    """Ask devices over SNMP by hand, reading only."""


@command.command("try", cls=Monitored)
@click.argument("host")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(1, 65535), help="UDP port.")
@click.option("--community", type=Secret(), help=f"SNMP 2c: {SECRET_HELP}.")
@click.option("--user", default="", help="SNMPv3: the user.")
@click.option("--auth-protocol", default=AUTH_PROTOCOLS[0], show_default=True, type=click.Choice(AUTH_PROTOCOLS))
@click.option("--auth-key", type=Secret(), help=f"SNMPv3: {SECRET_HELP}.")
@click.option("--priv-protocol", default=PRIV_PROTOCOLS[0], show_default=True, type=click.Choice(PRIV_PROTOCOLS))
@click.option("--priv-key", type=Secret(), help=f"SNMPv3: {SECRET_HELP}.")
@click.option(
    "--watch-port", "watch_ports", multiple=True, help="A port to watch: index, name or alias; may be repeated."
)
@click.option("--profiles", multiple=True, help="A folder with further profiles; may be repeated.")
@click.option("--personal-text", is_flag=True, help="Also contact, location and aliases.")
@click.option("--polls", default=1, show_default=True, type=click.IntRange(1, 100), help=f"{BETWEEN_S:g} s apart.")
@click.option("--timeout", default=30.0, show_default=True, type=click.FloatRange(0.5, 300), help="Seconds for a poll.")
@json_option
def try_command(host: str, polls: int, timeout: float, as_json: bool, **options: Any) -> None:
    """Ask HOST once, without a config, and explain: profile, questions, answers, conclusions.

    Nothing is written to the device, kept or published. Exit: 0 the device is well, 1 it answers and is
    not, 2 it failed, 3 could not ask.
    """
    check = _check(host, timeout, options)
    wrong = check.problems()
    if wrong:
        for option, reason in wrong:
            complain(f"--{option.replace('_', '-')} {reason}")
        leave(COULD_NOT_MEASURE)
    run, lines = asyncio.run(_ask(check, polls, (lambda line: None) if as_json else lambda line: say(f"  {line}")))
    fields = dict(run.record.fields)
    more = [{"type": record.type, **record.fields} for record in run.more]
    if as_json:
        say_json({"record": fields, "more": more, "explanation": lines})
    else:
        _show(host, fields, more)
    leave(_exit_code(fields))


def _check(host: str, timeout: float, options: dict[str, Any]) -> SnmpCheck:
    watched, folders = tuple(options.pop("watch_ports")), tuple(options.pop("profiles"))
    check = SnmpCheck(name="try", target=host, watch_ports=watched, profiles=folders, **options)
    return replace(check, timeout_s=timeout, interval_s=check.default_interval_s, layer=check.default_layer)


async def _ask(check: SnmpCheck, polls: int, show: Any) -> tuple[Run, list[str]]:
    gate, tools = Gate(Policy()), Toolbox()
    runner, lines = Runner(gate, tools, Resolver(gate), Clock()), list[str]()

    def tell(line: str) -> None:
        lines.append(line)
        show(line)

    try:
        run = await runner.run(check, say=tell)
        for _ in range(polls - 1):
            await asyncio.sleep(BETWEEN_S)
            run = await runner.run(check, say=tell)
        return run, lines
    finally:
        await tools.aclose()


def _show(host: str, fields: dict[str, Any], more: list[dict[str, Any]]) -> None:
    if fields["outcome"] != Outcome.PASS:
        say(f"✖ {host}: {fields.get('failure')}: {fields.get('detail')}")
        return
    mark = "✔" if fields.get("health") == "ok" else "▲"
    say(f"{mark} {host}: health {fields.get('health')}" + (f": {fields['reason']}" if fields.get("reason") else ""))
    head = ("check", "layer", "target", "address", "outcome", "health", "reason")
    for key, value in fields.items():
        if key not in head:
            say(f"    {key} = {value}")
    for record in more:
        told = (f"{key} = {value}" for key, value in record.items() if key not in (*head, "type"))
        say(f"    {record['type']}: {', '.join(told)}")


def _exit_code(fields: dict[str, Any]) -> int:
    code = EXIT_CODES[Outcome(fields["outcome"])]
    return 1 if code == 0 and fields.get("health") != "ok" else code

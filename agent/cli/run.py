"""`siteprobe run`: the service."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import click

from agent.cli.common import complain, config_option, leave, read_or_exit, say


@click.command()
@config_option
@click.option("--once", is_flag=True, help="Measure, judge, publish, exit: 0 healthy and delivered, else 1.")
def command(config_file: Path, once: bool) -> None:
    """Run the service until it is told to stop (SIGTERM); SIGHUP reads the config anew."""
    if once:
        _once(config_file)
    # A process of its own without the command line's libraries: about 10 MB less on a small computer.
    sys.stdout.flush()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload that comes too early must not end what is starting
    os.execv(sys.executable, [sys.executable, "-m", "agent.service", str(config_file)])


def _once(config_file: Path) -> None:
    from agent.journal import JournalEnded, StoreInUse
    from agent.once import all_well, run_once

    config = read_or_exit(config_file)
    try:
        finding, waiting, reason, lost = asyncio.run(run_once(config))
    except StoreInUse as error:
        complain(error)
        leave(2)
    except JournalEnded as error:
        complain(error)
        leave(1)
    say(f"{finding.verdict}: {finding.summary}")
    if waiting:
        fate = f"are lost: {lost}" if lost else f"wait in {config.buffer.directory}"
        complain(f"{waiting} records could not be delivered{f' ({reason})' if reason else ''} and {fate}")
    leave(0 if all_well(finding) and not waiting else 1)

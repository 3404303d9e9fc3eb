"""The service process: `python -m agent.service FILE`. It loads nothing of the command line."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from agent.app import RESTART_SECTIONS, Agent, read_config
from agent.config import ConfigError
from agent.journal import JournalEnded, StoreInUse

log = logging.getLogger("siteprobe")
FAILED, INVALID = 1, 2


def serve(path: Path) -> int:
    """Run the service; gives the exit code: 0 after a stop, 2 for an invalid config or a store in use, 1 if it failed.

    systemd starts it anew, unless it was systemd that stopped it.
    """
    signal.signal(signal.SIGTERM, _end)  # until the loop runs and takes the signals over
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        agent, failed = asyncio.run(_run(path))
    except ConfigError as error:
        return _refused(str(error))
    except StoreInUse as error:
        return _refused(str(error))
    if failed:
        log.critical("%s", failed, exc_info=failed.__cause__)
        return FAILED
    if agent.restart:
        log.info("the config's %s changed: starting anew", " or ".join(RESTART_SECTIONS))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # stays so in the new program until it can read its config
        os.execv(sys.executable, [sys.executable, "-m", "agent.service", str(path)])
    return 0


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def _refused(sentences: str) -> int:
    sys.stderr.write(f"{sentences}\n")
    return INVALID


async def _run(path: Path) -> tuple[Agent, JournalEnded | None]:
    """Run to the end; gives the agent, and why it had to end if nobody asked for it."""
    agent, failed = Agent(read_config(path)), None
    try:
        await agent.run()
    except* JournalEnded as group:
        failed = next(leaves(group))
    return agent, failed


def leaves(group: ExceptionGroup[JournalEnded]) -> Iterator[JournalEnded]:
    """Give the exceptions of a group, those of groups within it included."""
    for each in group.exceptions:
        if isinstance(each, ExceptionGroup):
            yield from leaves(each)
        else:
            yield each


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1])))

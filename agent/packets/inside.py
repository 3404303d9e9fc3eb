"""The child itself: reads questions from standard input, answers each when it is done, ends with its parent.

Whatever goes wrong beyond an OSError ends the process with a traceback: the service then says so and
starts another.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from agent.packets import dhcp, neighbour
from agent.packets.lines import LINE_BYTES, packed, unpacked
from agent.packets.listening import Listeners

PR_SET_PDEATHSIG = 1  # linux/prctl.h
NICENESS = 10
"""Everything else on the machine goes first: under load the capture is what suffers."""
PERMISSION = "needs CAP_NET_RAW to open a raw socket; see AmbientCapabilities in systemd/siteprobe.service"
Doing = dict[str, Callable[..., Awaitable[dict[str, Any]]]]


def main() -> None:
    """Serve until standard input ends; the parent's process id is the first argument."""
    die_with_parent(int(sys.argv[1]))
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which then closes the pipe
    asyncio.run(serve())


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, or end now if that happened already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


async def serve() -> None:
    """Answer questions side by side until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    listeners = Listeners()
    does: Doing = {"discover": dhcp.discover, "neighbours": neighbour.listen, "listened": listeners.report}
    async with asyncio.TaskGroup() as group:
        tasks = set()
        while line := await reader.readline():
            task = group.create_task(answer(does, unpacked(line)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for task in tasks:
            task.cancel()
        listeners.close()


async def answer(does: Doing, question: dict[str, Any]) -> None:
    """Do what is asked and write the answer."""
    try:
        found: dict[str, Any] = {"found": await does[question["do"]](**question["given"])}
    except OSError as error:
        found = {"failure": failure_of(error), "detail": sentence_of(error)}
    line = packed({"id": question["id"], **found})
    while line:
        line = line[os.write(sys.stdout.fileno(), line) :]


def failure_of(error: OSError) -> str:
    """Give the failure (agent.model.Failure) that an error of a raw socket is."""
    if isinstance(error, TimeoutError):
        return "overload"
    if error.errno in (errno.EPERM, errno.EACCES):
        return "local_permission"
    gone = (errno.ENODEV, errno.ENETDOWN, errno.ENXIO, errno.ENOENT)
    return "local_link" if error.errno in gone else "internal"


def sentence_of(error: OSError) -> str:
    """Say what happened, and what to do."""
    if failure_of(error) == "local_permission":
        return PERMISSION
    if failure_of(error) == "local_link":
        return "the network interface is down or gone; look at `ip link`"
    if failure_of(error) == "overload":
        return f"this machine was {error}"
    return f"unexpected system error on a raw socket: {error.strerror or error}"

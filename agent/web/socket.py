"""The Unix socket of `siteprobe status`: whoever may connect gets one JSON object and the end of file.

A socket's path is limited to 108 bytes (unix(7)), a directory's is not: so the socket is bound and
reached through the directory's file descriptor under /proc/self/fd.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

NAME = "siteprobe.sock"
PARTS = {"verdict": dict, "states": dict, "buffer": dict, "delivery": dict, "clock": str}
MODE = 0o660
ANSWER_S = 5.0
LARGEST_ANSWER_BYTES = 16 * 1024 * 1024
log = logging.getLogger("siteprobe")


@contextmanager
def short_path(directory: Path) -> Iterator[str]:
    """Give a path to the socket in a directory that is short however long the directory's is."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)


async def serve_status(directories: Iterable[Path], answer: Callable[[], dict[str, Any]]) -> None:
    """Answer on a socket in each directory until cancelled; a directory that cannot be used is named once."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(answer()).encode())
        writer.close()

    with ExitStack() as ends:
        for directory in directories:
            try:
                listener = bound(directory)
            except OSError as error:
                log.warning("no status socket in %s: %s", directory, error.strerror)
                continue
            ends.callback((directory / NAME).unlink, missing_ok=True)
            server = await asyncio.start_unix_server(reply, sock=listener)
            ends.callback(server.close)
        await asyncio.get_running_loop().create_future()


def bound(directory: Path) -> socket.socket:
    """Make the listening socket, replacing one that a killed agent left; raises OSError."""
    (directory / NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        with short_path(directory) as path:
            listener.bind(path)
            Path(path).chmod(MODE)
    except OSError:
        listener.close()
        raise
    return listener


def ask_status(directories: Iterable[Path]) -> dict[str, Any] | None:
    """Ask the agent that answers in the first of the directories; None if none runs there."""
    for directory in directories:
        try:
            with short_path(directory) as path, socket.socket(socket.AF_UNIX) as asking:
                asking.settimeout(ANSWER_S)
                asking.connect(path)
                found = json.loads(_all(asking))
            if isinstance(found, dict) and all(isinstance(found.get(part), kind) for part, kind in PARTS.items()):
                return found
        except (OSError, ValueError):
            continue
    return None


def _all(asking: socket.socket) -> bytes:
    parts = bytearray()
    while (part := asking.recv(65536)) and len(parts) < LARGEST_ANSWER_BYTES:
        parts += part
    return bytes(parts)

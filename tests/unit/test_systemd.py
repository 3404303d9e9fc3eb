"""The notify protocol against a real datagram socket, at a path and in the abstract namespace."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.systemd import STATUS_LIMIT, Notifier, watchdog_interval_s


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A stand-in for systemd: gives the value of $NOTIFY_SOCKET and the socket behind it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@siteprobe-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listener.settimeout(5)
        yield name, listener


@pytest.mark.parametrize(
    ("say", "heard"),
    [
        (lambda n: n.ready("9 checks"), b"READY=1\nSTATUS=9 checks"),
        (lambda n: n.status("healthy"), b"STATUS=healthy"),
        (lambda n: n.watchdog(), b"WATCHDOG=1"),
        (lambda n: n.stopping(), b"STOPPING=1"),
    ],
)
def test_says_it(manager: tuple[str, socket.socket], say: Callable[[Notifier], None], heard: bytes) -> None:
    name, listener = manager
    say(Notifier({"NOTIFY_SOCKET": name}))
    assert listener.recv(4096) == heard


def test_a_status_cannot_smuggle_in_a_second_line_and_is_cut(manager: tuple[str, socket.socket]) -> None:
    name, listener = manager
    Notifier({"NOTIFY_SOCKET": name}).status("down\nMAINPID=1 " + "x" * 1000)
    heard = listener.recv(4096)
    assert heard.startswith(b"STATUS=down MAINPID=1 xxx")
    assert len(heard) == len("STATUS=") + STATUS_LIMIT


def test_without_a_manager_nothing_is_said_and_nothing_breaks(tmp_path: Path) -> None:
    Notifier({}).ready("fine")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("fine")


def test_a_manager_that_does_not_read_never_blocks_the_agent(manager: tuple[str, socket.socket]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager[0]})
    for _ in range(2000):  # more than net.unix.max_dgram_qlen holds
        notifier.watchdog()
    assert manager[1].recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environment: dict[str, str], expected: float | None) -> None:
    assert watchdog_interval_s(environment) == expected

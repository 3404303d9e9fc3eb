"""What systemd is told about the service: ready, alive, stopping, and one line of status.

The protocol is sd_notify(3): one datagram of `KEY=value` lines to the socket named by
$NOTIFY_SOCKET. Started in any other way there is no such socket, and nothing is said.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

STATUS_LIMIT = 500
"""`systemctl status` shows one line; longer ones only hide its end."""


class Notifier:
    """Speaks to the service manager; silent where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Take the address from $NOTIFY_SOCKET: a path, or `@name` in the abstract namespace."""
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self, status: str) -> None:
        """Say that start-up is done, or that a reload is."""
        self._send("READY=1\n" + _status_line(status))

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        self._send(_status_line(text))

    def watchdog(self) -> None:
        """Say that the agent makes headway; without it systemd restarts the service after WatchdogSec."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that an orderly end has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify:
                notify.sendto(message.encode(), self._address)
        except OSError:
            return  # a service manager that does not listen, or no descriptor left, is no reason to stop measuring


def _status_line(text: str) -> str:
    return "STATUS=" + " ".join(text.split())[:STATUS_LIMIT]


def watchdog_interval_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Give the time within which systemd wants to hear `watchdog`, or None if it does not.

    After sd_watchdog_enabled(3): $WATCHDOG_USEC counts only for the process that $WATCHDOG_PID names.
    """
    wanted_of = environment.get("WATCHDOG_PID", "")
    if wanted_of and wanted_of != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None

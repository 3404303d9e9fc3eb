"""The kernel's own word that a link, an address or a route has changed: rtnetlink's multicast groups, rtnetlink(7).

What has changed is not read out of the messages: they can be lost when many come at once, and then the kernel
says only that (ENOBUFS). Whoever is woken looks at the whole anew.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from agent.net.netlink import RECEIVE_BYTES

GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR and _IPV6_ROUTE of linux/rtnetlink.h."""
MOST_READ = 100
"""Messages thrown away at one wake-up: on a machine whose routes change all the time the rest wakes us again."""


class ChangeListener:
    """Calls `changed` on the running loop after the kernel told of a change, once for many that came together."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Begin to listen; raises OSError where this machine forbids it."""
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._sock = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            self._sock.bind((0, GROUPS))
        except OSError:
            self._sock.close()
            raise
        self._loop.add_reader(self._sock, self._read)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _read(self) -> None:
        for _ in range(MOST_READ):
            try:
                self._sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: messages were lost, so something did change
                continue
        self._changed()

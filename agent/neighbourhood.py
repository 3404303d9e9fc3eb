"""Watches which switch and port our own cable ends at: at the start and each hour, by listening only.

A change is an event `own_neighbour_changed`; the first one known after a start is a change too, so that
whoever reads the records always finds the present one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from agent.check import CheckOptions
from agent.checks import Toolbox
from agent.clock import Instant
from agent.model import Failed, Record, event
from agent.net.own_port import own_port
from agent.packets import Neighbour, PacketChild, neighbours

START_S = 10.0
"""The first answers of the checks come first: starting a process is work for a small machine."""
LISTEN_S = 65.0
"""CDP is sent every 60 s, LLDP every 30 s."""
ANSWER_S = 15.0
"""For the start of the packet helper on a slow machine, and the way back."""
EVERY_S = 3600.0
RETRY_S = 300.0
"""After a try that could not listen."""
log = logging.getLogger(__name__)


async def watch(
    tools: Toolbox,
    tell: Callable[[Record], object],
    now: Callable[[], Instant],
    checks: Callable[[], Iterable[CheckOptions]],
) -> None:
    """Look for the neighbour for ever, where the config has a `link` check: its interface is the one looked at."""
    neighbourhood = Neighbourhood(tools.get(PacketChild), tell, now)
    await asyncio.sleep(START_S)
    while True:
        link = next((check for check in checks() if check.type == "link"), None)
        heard = await neighbourhood.look(str(getattr(link, "interface", ""))) if link else True
        await asyncio.sleep(EVERY_S if heard else RETRY_S)


class Neighbourhood:
    """Remembers the neighbour and tells a change."""

    def __init__(self, child: PacketChild, tell: Callable[[Record], object], now: Callable[[], Instant]) -> None:
        """Have `tell` keep each event; `now` gives the moment of it."""
        self._child, self._tell, self._now = child, tell, now
        self.neighbour: Neighbour | None = None
        self._said = ""

    async def look(self, interface: str = "", seconds: float = LISTEN_S) -> bool:
        """Listen once and tell a change; gives whether it could listen."""
        deadline = asyncio.get_running_loop().time() + seconds + ANSWER_S
        known = self.neighbour.key if self.neighbour else ""
        try:
            port = own_port(interface)
            heard = await neighbours(self._child, port.name, deadline, seconds=seconds, known=known)
        except Failed as failed:
            if failed.detail != self._said:
                log.info("the switch at our own port is not known: %s", failed.detail)
            self._said = failed.detail
            return False
        if heard and known not in {neighbour.key for neighbour in heard}:
            self._tell(self._changed(heard[0], port.name))
            self.neighbour = heard[0]
        return True

    def _changed(self, new: Neighbour, interface: str) -> Record:
        before = f", before it was port {self.neighbour.port} of {self.neighbour.switch}" if self.neighbour else ""
        detail = f"{interface} is connected to port {new.port} of {new.switch}{before}"
        fields = {"switch": new.switch, "switch_port": new.port, "heard_by": new.protocol}
        vlan = {} if new.vlan is None else {"switch_vlan": new.vlan}
        return event("own_neighbour_changed", detail, self._now(), **fields, **vlan)

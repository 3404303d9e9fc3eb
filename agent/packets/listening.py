"""The passive listener's sockets in the child: headers only, filtered in the kernel, never promiscuous.

Capture is the first thing that goes under load: at most 2,000 frames a second are looked at, the rest is
left to the kernel, which counts what it drops; rates are then estimated from the share that was seen.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from dataclasses import dataclass, field
from typing import Any

from agent.packets.indicators import Around, Watch, frozen
from agent.packets.wire import (
    AND,
    BROADCAST,
    DROP,
    HEADER_LENGTH_TO_X,
    IF_ANY_BIT,
    IF_EQUAL,
    KEEP,
    LOAD_BYTE,
    LOAD_BYTE_AT_X,
    LOAD_HALF,
    LOAD_HALF_AT_X,
    OTHER_HOST,
    OUTGOING,
    PACKET_TYPE_AT,
    Filter,
    Step,
    open_wire,
    statistics,
)

SNAP_BYTES = 96
"""Headers and no payload (field.md, 3.2): Ethernet 14, IPv6 40, TCP 20."""
BATCH, PAUSE_S = 200, 0.1
"""Frames looked at in one go, and the pause after so many: 2,000 a second, some 1 % of a small core."""
SMB, NETBIOS, REMOTE_DESKTOP = 445, 139, 3389
SYN, SYN_OR_ACK = 0x02, 0x12


def _ports(half: int, at: int, flags: int) -> tuple[Step, ...]:
    """Keep a TCP SYN without ACK to a watched port; `half` and `flags` are the kinds of load."""
    return (
        Step(half, at, label=f"ports-{at}"),
        Step(IF_EQUAL, SMB, yes=f"flags-{at}"),
        Step(IF_EQUAL, NETBIOS, yes=f"flags-{at}"),
        Step(IF_EQUAL, REMOTE_DESKTOP, no=DROP),
        Step(flags, at + 11, label=f"flags-{at}"),
        Step(AND, SYN_OR_ACK),
        Step(IF_EQUAL, SYN, yes=KEEP, no=DROP),
    )


HEADERS_ONLY = Filter(
    (
        Step(LOAD_BYTE, PACKET_TYPE_AT),
        Step(IF_EQUAL, OUTGOING, yes=DROP),
        Step(IF_EQUAL, OTHER_HOST, yes=DROP),  # another program made the interface promiscuous: not for us
        Step(IF_EQUAL, BROADCAST, yes=KEEP),
        Step(LOAD_HALF, 12),
        Step(IF_EQUAL, 0x0806, yes=KEEP),  # ARP
        Step(IF_EQUAL, 0x86DD, yes="ipv6"),
        Step(IF_EQUAL, 0x0800, no=DROP),
        Step(LOAD_BYTE, 23),
        Step(IF_EQUAL, 6, no=DROP),  # TCP
        Step(LOAD_HALF, 20),
        Step(IF_ANY_BIT, 0x1FFF, yes=DROP),  # a later fragment
        Step(HEADER_LENGTH_TO_X, 14),
        *_ports(LOAD_HALF_AT_X, 16, LOAD_BYTE_AT_X),
        Step(LOAD_BYTE, 20, label="ipv6"),
        Step(IF_EQUAL, 6, no=DROP),
        *_ports(LOAD_HALF, 56, LOAD_BYTE),
    ),
    SNAP_BYTES,
)


@dataclass
class Listener:
    """One interface that is listened to."""

    wire: socket.socket
    began: float
    until: float
    watch: Watch = field(default_factory=Watch)
    error: int = 0

    def read(self) -> None:
        """Look at what waits; after a full batch the kernel keeps the rest for a while."""
        loop = asyncio.get_running_loop()
        for _ in range(BATCH):
            try:
                frame, where = self.wire.recvfrom(SNAP_BYTES)
            except BlockingIOError:
                return
            except OSError as error:  # the interface went away or down
                self.error = error.errno or errno.ENETDOWN
                loop.remove_reader(self.wire)
                return
            self.watch.take(frame, where[2], loop.time())
        loop.remove_reader(self.wire)
        loop.call_later(PAUSE_S, self.resume)

    def resume(self) -> None:
        """Read on, unless it was closed meanwhile."""
        if self.wire.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self.wire, self.read)

    def close(self) -> None:
        """Stop listening."""
        if self.wire.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.wire)
            self.wire.close()


class Listeners:
    """The listeners by interface; one that nobody asks any more stops by itself."""

    def __init__(self) -> None:
        """Listen to nothing."""
        self._found: dict[str, Listener] = {}

    async def report(
        self, interface: str, key: str, own: list[str], gateways: list[str], known: list[str], listen_s: float
    ) -> dict[str, Any]:
        """Give what was heard since the last report, and listen on for at least `listen_s`.

        Gives `seconds` (0 at the first), `counts` and `indicators`. Raises OSError.
        """
        now = asyncio.get_running_loop().time()
        listener = self._found.get(interface) or self._begin(interface, now)
        if listener.error:
            self._end(interface)
            raise OSError(listener.error, os.strerror(listener.error))
        listener.until = now + listen_s
        listener.watch.around = Around(frozen(own), frozen(gateways), frozen(known), bytes.fromhex(key))
        seconds, listener.began = now - listener.began, now
        return {"seconds": round(seconds, 3), **listener.watch.report(now)}

    def _begin(self, interface: str, now: float) -> Listener:
        listener = self._found[interface] = Listener(open_wire(interface, HEADERS_ONLY), now, now)
        listener.resume()
        asyncio.get_running_loop().call_later(1.0, self._second, interface, listener)
        return listener

    def _second(self, interface: str, listener: Listener) -> None:
        """Once a second: count what the kernel dropped, end what nobody wants any more."""
        loop = asyncio.get_running_loop()
        if self._found.get(interface) is not listener:
            return
        listener.watch.second(loop.time(), statistics(listener.wire)[1])
        if loop.time() > listener.until:
            self._end(interface)
        else:
            loop.call_later(1.0, self._second, interface, listener)

    def _end(self, interface: str) -> None:
        self._found.pop(interface).close()

    def close(self) -> None:
        """Stop all."""
        for interface in list(self._found):
            self._end(interface)

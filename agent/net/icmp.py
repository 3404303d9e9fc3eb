"""ICMP echoes to many targets over one socket a version of IP: no task, thread or timer an echo.

A check opens a `Flight`, sends its echoes (each with a permit of its own) and waits once, until all are
answered or its time is over. RTT is the difference of the kernel's stamps at departure and arrival;
where the kernel gives only the second, or none, the echo says so in `timestamping`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from agent.model import Failed
from agent.net import kernel
from agent.net.errors import failed_from_icmp
from agent.net.icmp_channel import Channel
from agent.net.icmp_echo import Aftermath, Echo
from agent.net.icmp_wire import IcmpError, open_wire
from agent.policy import parsed
from agent.safety import Permit

__all__ = ["Aftermath", "Echo", "Flight", "IcmpEndpoint", "IcmpError", "failed_from_error"]


class Flight:
    """Echoes that are waited for together; leaving the `with` block forgets them."""

    def __init__(self, channel: Callable[[int], Channel], aftermath: Aftermath | None = None) -> None:
        """Begin empty; made by `IcmpEndpoint.flight`."""
        self._channel = channel
        self._aftermath = aftermath
        self._sent: list[tuple[Channel, Echo]] = []
        self._unanswered = 0
        self._latest_sent_s = 0.0
        self._done: asyncio.Future[None] | None = None

    @property
    def echoes(self) -> list[Echo]:
        """The echoes in the order in which they were sent."""
        return [echo for _, echo in self._sent]

    @property
    def overflowed(self) -> bool:
        """Whether the kernel threw replies away meanwhile because this process did not read: silence proves nothing."""
        return any(channel.overflowed_s >= echo.sent_s for channel, echo in self._sent if echo.rtt_s is None)

    def __enter__(self) -> Flight:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for channel, echo in self._sent:
            channel.forget(echo)

    def send(self, permit: Permit, *, size: int = 56, ttl: int | None = None) -> Echo:
        """Send one echo with `size` bytes of payload; raises `Failed` where this machine cannot send it."""
        channel = self._channel(parsed(permit.address).version)
        echo = channel.send(permit, size, ttl, self._answered, self._aftermath)
        self._unanswered += 1  # below 0 for a moment where sending has read the reply already
        self._sent.append((channel, echo))
        return echo

    async def wait(self, until: float) -> float:
        """Wait until all are answered, or until `until` (loop clock); give by how many seconds we woke too late."""
        loop = asyncio.get_running_loop()
        if self._unanswered:
            self._done = loop.create_future()
            timer = loop.call_at(until, self._settle)
            try:
                await self._done
            finally:
                timer.cancel()
        late_s = max(loop.time() - until, 0.0)
        if self._unanswered:
            # What came in time may still wait to be read, much of it where the loop was busy.
            for channel in {channel for channel, _ in self._sent}:
                channel.read_all()
        return late_s

    def _answered(self, echo: Echo) -> None:
        self._unanswered -= not echo.settled
        echo.settled = True
        if echo.rtt_s is not None:
            echo.reordered = echo.sent_s < self._latest_sent_s  # RFC 4737: one sent later was answered before
            self._latest_sent_s = max(self._latest_sent_s, echo.sent_s)
        if self._done and not self._unanswered:
            self._settle()

    def _settle(self) -> None:
        if self._done and not self._done.done():
            self._done.set_result(None)


class IcmpEndpoint:
    """The ICMP sockets of the agent, opened at the first echo: `ctx.tools.get(IcmpEndpoint)`."""

    def __init__(self) -> None:
        """Start without sockets."""
        self._channels: dict[int, Channel] = {}

    def flight(self, aftermath: Aftermath | None = None) -> Flight:
        """Begin a group of echoes; use it as a context manager.

        Replies that come after its end, within a minute, are counted in `aftermath`.
        """
        return Flight(self._channel, aftermath)

    async def echo(self, permit: Permit, *, size: int = 56, ttl: int | None = None, until: float) -> Echo:
        """Send one echo and wait for what becomes of it until `until` (loop clock).

        Raises `Failed` where it cannot be sent; a silent target is an `Echo` without `rtt_s` and `error`.
        """
        with self.flight() as flight:
            echo = flight.send(permit, size=size, ttl=ttl)
            await flight.wait(until)
        return echo

    async def aclose(self) -> None:
        """Close the sockets."""
        while self._channels:
            self._channels.popitem()[1].close()

    def _channel(self, version: int) -> Channel:
        if version not in self._channels:
            self._channels[version] = Channel(open_wire(version))
        return self._channels[version]


def failed_from_error(error: IcmpError) -> Failed:
    """Classify an ICMP error, with `responder`, `icmp_type` and `icmp_code` as fields."""
    try:
        own = kernel.own_addresses()
    except OSError:  # then a failure on our own network reads as if a router had told it: still a fail
        own = frozenset()
    # What asks itself may be refused by itself: then the address speaks as the target.
    return failed_from_icmp(error.icmp_type, error.icmp_code, error.responder, own - {error.destination})

"""paho as a wire: one fresh client per connection, on its own thread, thrown away at the end.

What paho would decide itself is kept from it: it never reconnects, never queues (nothing is handed to it
while offline), never resolves a name. Its callbacks only enqueue to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

from agent.config.sections import Mqtt
from agent.model import Failed
from agent.mqtt.client import PahoClient
from agent.mqtt.files import Files
from agent.policy import is_loopback
from agent.publisher import Closed, Event, Limits, Message, NotConnected, Papers, WireFactory

CONNACK_DEADLINE_S = 15.0
"""From the name look-up to the broker's CONNACK; paho alone would wait for the keep-alive."""
RESOLVE_S = 5.0
CLOSE_S = 1.0

Look = Callable[[], Awaitable[Papers]]
Resolve = Callable[[str, float], Awaitable[str]]


def wire_factory(
    mqtt: Mqtt,
    client_id: str,
    resolve: Resolve,
    judge: Callable[[str], None],
    certificate_dates: Callable[[], bool],
) -> WireFactory:
    """Give the publisher its wires to the configured broker.

    `resolve(host, deadline)` gives the address, `judge(address)` raises `Failed` where the policy forbids
    it, `certificate_dates()` tells whether the clock is good enough to judge certificates by it.
    """

    async def open_wire(will: Message) -> PahoWire:
        files = await asyncio.to_thread(Files, mqtt)

        async def papers() -> Papers:
            return await asyncio.to_thread(files.look, certificate_dates())

        try:
            return await connect(will, papers)
        except NotConnected as failure:
            raise NotConnected(failure.reason, failure.kind, papers, failure.failure) from None

    async def connect(will: Message, papers: Look) -> PahoWire:
        deadline = asyncio.get_running_loop().time() + CONNACK_DEADLINE_S
        address = await _allowed_address(mqtt, resolve, judge)
        wire = PahoWire(mqtt, client_id, address, will, certificate_dates(), papers)
        try:
            await wire.open(deadline)
        except NotConnected as failure:
            if failure.kind != "retain" or not will.retain:
                raise
            # A broker that retains nothing refuses a Will that asks for it, before it can say so (3.1.2.6).
            return await connect(replace(will, retain=False), papers)
        return wire

    return open_wire


async def _allowed_address(mqtt: Mqtt, resolve: Resolve, judge: Callable[[str], None]) -> str:
    try:
        async with asyncio.timeout(RESOLVE_S):
            address = await resolve(mqtt.host, asyncio.get_running_loop().time() + RESOLVE_S)
    except Failed as failed:
        reason = f"the broker's name {mqtt.host} has no address: {failed.detail}"
        raise NotConnected(reason, failure=failed.failure) from None
    except TimeoutError:
        raise NotConnected(f"the broker's name {mqtt.host} has no address: no answer in {RESOLVE_S:g} s") from None
    try:
        judge(address)
    except Failed as failed:
        raise NotConnected(f"the broker may not be contacted: {failed.detail}", "policy") from None
    if not (mqtt.tls or mqtt.allow_plaintext or is_loopback(address)):
        raise NotConnected(f"mqtt:// is unencrypted and {address} is not this machine; use mqtts://", "policy")
    return address


class PahoWire:
    """A `Wire` (agent.publisher.wire) made of one paho client."""

    def __init__(
        self, mqtt: Mqtt, client_id: str, address: str, will: Message, judge_dates: bool, papers: Look
    ) -> None:
        """Prepare a connection to `address`; `open` makes it. Call on the event loop."""
        self.address = address
        self._look = papers
        self.limits = Limits()
        self._mqtt = mqtt
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._accepted: asyncio.Future[Limits] = self._loop.create_future()
        self._over = asyncio.Event()
        self._client = PahoClient(mqtt, client_id, address, will, judge_dates, self._tell)

    async def open(self, deadline: float) -> None:
        """Connect and wait for the broker's acceptance; raises `NotConnected`."""
        try:
            self._client.loop_start()
            async with asyncio.timeout_at(deadline):
                self.limits = await self._accepted
        except TimeoutError:
            raise NotConnected(
                f"{self._mqtt.host} ({self.address}) port {self._mqtt.port} took the connection but did not answer"
                f" CONNECT within {CONNACK_DEADLINE_S:g} s"
            ) from None
        except (OSError, RuntimeError) as error:  # no descriptor for its own pipe, no thread
            raise NotConnected(f"no connection can be begun on this machine: {error}") from None
        finally:
            if not self.opened:
                self.abort()

    @property
    def opened(self) -> bool:
        """Whether the broker has accepted us."""
        done = self._accepted.done() and not self._accepted.cancelled()
        return done and self._accepted.exception() is None

    def publish(self, message: Message) -> int:
        """Hand over a message at QoS 1 and give its number; raises ConnectionError once the wire is over."""
        if self._over.is_set():
            raise ConnectionError("the connection is over")
        info = self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionError(paho.error_string(info.rc))
        return info.mid

    def subscribe(self, filters: Sequence[str]) -> None:
        """Ask for messages at QoS 1; `Subscribed` follows. Raises ConnectionError once the wire is over."""
        if self._over.is_set() or self._client.ask_for(filters) != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionError("the connection is over")

    async def papers(self) -> Papers:
        """Look at the files that this connection was made with, on a thread: their disk may be slow."""
        return await self._look()

    async def event(self) -> Event:
        """Wait for what happens next."""
        return await self._events.get()

    async def close(self) -> None:
        """Disconnect cleanly, so that the broker drops the Will; waits a second at most."""
        self._client.disconnect()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._over.wait()
        self.abort()

    def abort(self) -> None:
        """Drop the TCP connection at once; the thread ends by itself."""
        self._client.drop()
        self._ended(Closed("the connection was dropped on this side", "dropped"))

    def _tell(self, news: Event | Limits | NotConnected) -> None:
        """Pass news from paho's thread to the loop; a loop that has ended needs none."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._take, news)

    def _take(self, news: Event | Limits | NotConnected) -> None:
        match news:
            case Limits():
                if not self._accepted.done():
                    self._accepted.set_result(news)
            case NotConnected():
                if not self._accepted.done():
                    self._accepted.set_exception(news)
            case Closed():
                self._client.release()
                self._ended(news)
            case _:
                self._events.put_nowait(news)

    def _ended(self, closed: Closed) -> None:
        if not self._over.is_set():
            self._over.set()
            self._events.put_nowait(closed)

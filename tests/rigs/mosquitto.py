"""A real mosquitto on a free loopback port, and a reader that collects what arrives there.

    with Mosquitto(folder) as broker, Reader(broker.port) as reader:
        …
        broker.kill(); broker.start()       # comes back on the same port
        reader.wait_for(lambda messages: …)

Skips the test where mosquitto is not installed. Only processes started here are ended, by their id.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.rigs import need

START_S = 10.0


def free_port() -> int:
    """Find a TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Mosquitto:
    """One broker; `lines` are further lines of its configuration (those of the listener included)."""

    def __init__(self, folder: Path, lines: Sequence[str] = (), port: int = 0) -> None:
        self._program = need.tool("mosquitto")
        self.port = port or free_port()
        self.log = folder / f"mosquitto-{self.port}.log"
        self._config = folder / f"mosquitto-{self.port}.conf"
        # As root mosquitto changes its user, and could not read keys in a folder that pytest keeps private.
        head = ["user root", "persistence false", f"listener {self.port} 127.0.0.1", "allow_anonymous true"]
        self._config.write_text("\n".join([*head, *lines]) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it listens."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(self._config), "-v"], stdout=log, stderr=log)
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self._process.poll() is None, self.log.read_text()
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(f"mosquitto did not listen within {START_S:g} s: {self.log.read_text()}")

    def stop(self) -> None:
        """End it in an orderly way (SIGTERM)."""
        if self._process:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut would."""
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@dataclass(frozen=True)
class Arrived:
    """One message as the reader got it; `retain` as it was published."""

    topic: str
    payload: bytes
    retain: bool

    @property
    def json(self) -> Any:
        """The payload as JSON; None where it is empty."""
        return json.loads(self.payload) if self.payload else None


class Reader:
    """Subscribes with MQTT 5 and keeps every message; connects again when the broker is back."""

    def __init__(self, port: int, topics: str = "siteprobe/v1/#", context: ssl.SSLContext | None = None) -> None:
        self.messages: list[Arrived] = []
        self._topics = topics
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        if context:
            self._client.tls_set_context(context)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._keep
        self._port = port

    def _connected(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(self._topics, options=SubscribeOptions(qos=1, retainAsPublished=True))

    def _keep(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self.messages.append(Arrived(message.topic, bytes(message.payload), message.retain))

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self.wait_subscribed()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_subscribed(self) -> None:
        """Wait until the subscription stands; call `forget_subscription` before the broker goes."""
        assert self._subscribed.wait(START_S), "the reader could not subscribe"

    def forget_subscription(self) -> None:
        """Have `wait_subscribed` wait for the next connection."""
        self._subscribed.clear()

    def under(self, topic_start: str) -> list[Arrived]:
        """Give the messages whose topic, below the base of the node, begins so."""
        return [m for m in self.messages if "/".join(m.topic.split("/")[5:]).startswith(topic_start)]

    def wait_for(self, condition: Callable[[list[Arrived]], Any], seconds: float = 10.0) -> None:
        """Wait until the condition holds for what has arrived."""
        end = time.monotonic() + seconds
        while not condition(self.messages):
            assert time.monotonic() < end, f"not within {seconds:g} s; arrived: {[m.topic for m in self.messages]}"
            time.sleep(0.02)


def retained(port: int, topics: str = "siteprobe/v1/#", seconds: float = 0.3) -> dict[str, Arrived]:
    """Give what the broker has retained, by topic."""
    with Reader(port, topics) as reader:
        time.sleep(seconds)
        return {m.topic: m for m in reader.messages}

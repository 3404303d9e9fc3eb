"""A real mosquitto on a free loopback port, and a reader that keeps what arrives."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

DAEMON_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


class Missing(Exception):
    """Something this machine lacks; the figure is skipped by name."""


class BenchError(Exception):
    """A figure could not be measured."""


def tool(name: str) -> str:
    """Give the path of a command; raises Missing."""
    found = shutil.which(name, path=DAEMON_PATH)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


@dataclass(frozen=True)
class Heard:
    """One message: when it came (time.monotonic), its topic below the base, its JSON."""

    at: float
    suffix: str
    payload: dict[str, Any]


class Reader:
    """Subscribes to all that the agents publish."""

    def __init__(self, port: int) -> None:
        """Connect and subscribe, and wait until the broker has agreed to it."""
        self.heard: list[Heard] = []
        self._subscribed = False
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="bench-reader")
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("siteprobe/v1/#", qos=1)
        self._client.loop_start()
        wait_for(lambda: self._subscribed, 10, "the broker did not agree to the subscription")

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed = True

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        if message.payload and not message.retain:
            suffix = "/".join(message.topic.split("/")[5:])
            payload = json.loads(message.payload)
            if isinstance(payload, dict):
                self.heard.append(Heard(time.monotonic(), suffix, payload))

    def records(self, after: float = 0.0, until: float = float("inf")) -> list[Heard]:
        """Give the records that came live in a span of time."""
        return [h for h in list(self.heard) if h.suffix.startswith("live/") and after <= h.at < until]

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


def wait_for(true: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Look every 10 ms until it is true; raises BenchError when the time is over."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise BenchError(otherwise)
        time.sleep(0.01)


def free_port() -> int:
    """Find a TCP port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def broker(directory: Path) -> Iterator[int]:
    """Run mosquitto; gives its port. Raises Missing."""
    path, port = tool("mosquitto"), free_port()
    config = directory / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n")
    config.chmod(0o644)  # mosquitto reads it as a user of its own
    process = subprocess.Popen([path, "-c", str(config)], stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: _accepts(port), 10, "mosquitto did not start within 10 s")
        yield port
    finally:
        process.terminate()
        process.wait(10)

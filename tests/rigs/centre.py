"""The centre's side of commands, and the whole agent as its other side: a process of its own, with loopback targets.

with Mosquitto(folder) as broker, Target() as target, service(folder, broker.port, target.port) as agent:
    with Centre(broker.port) as centre:
        answer = centre.ask("report")
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.rigs.ask import ROOT
from tests.rigs.mosquitto import Reader

BASE = "siteprobe/v1/o/s/n"
PACE = "siteprobe/v1/o/fleet/pace"
CONFIG = """
version: 1
clock: trusted
identity: {{org: o, site: s, node: n}}
mqtt: {{url: "mqtt://127.0.0.1:{port}", spread: 0s, late_rate: 0, retry_max: 1s}}
buffer: {{directory: {directory}, commit: 50ms}}
standard: false
checks:
  - {{name: target, type: tcp, target: 127.0.0.1, port: {target}, interval: {interval}, layer: gateway}}
commands: {{enabled: {enabled}}}
"""
ALL = "[replay, report, check, suppress, traceroute]"


def in_s(seconds: float) -> str:
    """Write an RFC 3339 time so many seconds from now."""
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


class Target:
    """A TCP server of 127.0.0.1 that counts the connections it got; `delay_s` holds nothing back, it only accepts."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.connections: list[float] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections.append(time.monotonic())
            connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@contextmanager
def service(
    folder: Path, port: int, target: int, enabled: str = ALL, interval: str = "200ms"
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the whole agent on a store in `folder`, and end it in an orderly way (it may have been ended before)."""
    file = folder / "siteprobe.yaml"
    directory = folder / "store"
    directory.mkdir(exist_ok=True)
    text = CONFIG.format(port=port, directory=directory, target=target, enabled=enabled, interval=interval)
    file.write_text(text)
    with (folder / "agent.log").open("ab") as log:
        command = [sys.executable, "-m", "agent.service", str(file)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            assert process.wait(10) == 0, (folder / "agent.log").read_text()
        finally:
            process.kill()


class Centre(Reader):
    """Reads everything, sends commands and reads what is answered."""

    def __init__(self, port: int, topics: str = "siteprobe/v1/#") -> None:
        super().__init__(port, topics)
        self._number = 0
        self._sender = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._sender.connect("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._sender.loop_start()
        return super().__enter__()

    def __exit__(self, *args: object) -> None:
        self._sender.disconnect()
        self._sender.loop_stop()
        super().__exit__(*args)

    def publish(self, topic: str, payload: Any, retain: bool = False) -> None:
        """Publish bytes as they are, anything else as JSON; returns once the broker has it."""
        sent = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._sender.publish(topic, sent, qos=1, retain=retain).wait_for_publish(10)

    def online(self) -> None:
        """Wait until the agent is there and has subscribed."""
        self.wait_for(lambda ms: any(m.topic == f"{BASE}/status" and m.json["state"] == "online" for m in ms))
        end = time.monotonic() + 10
        while time.monotonic() < end:  # the subscription follows the CONNACK: ask until somebody answers
            if self.ask("hello", seconds=0.5):
                return
        raise AssertionError("the agent answers no command")

    def ask(self, name: str, args: Any = None, seconds: float = 5.0, **changes: Any) -> Any:
        """Send a well-formed command but for `changes`, and give the answer; None where none comes in time."""
        self._number += 1
        body = {"id": f"c{self._number}-{time.time_ns()}", "exp": in_s(30), "args": args or {}} | changes
        return self.send(name, {key: value for key, value in body.items() if value is not None}, seconds)

    def send(self, name: str, payload: Any, seconds: float = 5.0, retain: bool = False) -> Any:
        """Send a payload as a command, and give the next answer; None where none comes in time."""
        before = len(self.under("response"))
        self.publish(f"{BASE}/command/{name}", payload, retain)
        end = time.monotonic() + seconds
        while len(self.under("response")) == before:
            if time.monotonic() > end:
                return None
            time.sleep(0.01)
        return self.under("response")[before].json

    def records(self, kind: str) -> list[Any]:
        """Give the records of a type that came, live or late, in the order of arrival."""
        live = [m.json for m in self.under(f"live/{kind}/")]
        return live + [record for m in self.under(f"late/{kind}") for record in m.json]

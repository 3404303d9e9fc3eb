"""What the demo starts: a broker, two services to ask, the agent; and how each of them ends."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

STARTED_S = 20.0
ENDED_S = 8.0


def free_port() -> int:
    """Find a free TCP port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def child(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child in a session of its own, so that Ctrl-C is ours alone; end it by its id afterwards.

    setpriv(1) has the kernel end it too, should the demo itself be killed.
    """
    leash = [setpriv, "--pdeathsig", "TERM"] if (setpriv := shutil.which("setpriv")) else []
    with log.open("wb") as output:
        process = subprocess.Popen([*leash, *command], stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(ENDED_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def start_broker(folder: Path, port: int) -> Iterator[str]:
    """Start mosquitto, or the pure-Python amqtt where it is missing; gives the MQTT protocol to speak."""
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if mosquitto:
        settings = folder / "mosquitto.conf"
        # As another user than ours it would lose the leash of `child`, and could not read its file.
        user = "user root\n" if os.geteuid() == 0 else ""
        settings.write_text(f"{user}listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        command, protocol = [mosquitto, "-c", str(settings)], "5"
    else:
        command, protocol = [sys.executable, "-m", "agent.cli.demo.broker", str(port)], "3.1.1"
    log = folder / "broker.log"
    with child(command, log) as process:
        _await_port(port, process, log)
        yield protocol


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTED_S
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    said = log.read_text(errors="replace").strip().splitlines()
    raise click.ClickException(f"the broker did not start: {said[-1] if said else 'it said nothing'}")


class _Page(BaseHTTPRequestHandler):
    """Answers each GET with one line."""

    def do_GET(self) -> None:
        """Say that all is well."""
        body = b"all is well\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep the terminal for the table."""


class Services:
    """Two things to ask on the loopback: a web page, and a bare TCP port."""

    def __init__(self) -> None:
        """Take two free ports."""
        self._page = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
        self._bare = socket.create_server(("127.0.0.1", 0))
        self.page_port = int(self._page.server_address[1])
        self.bare_port = int(self._bare.getsockname()[1])

    def __enter__(self) -> Services:
        """Serve on threads of their own."""
        threading.Thread(target=self._page.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close both."""
        self._page.shutdown()
        self._page.server_close()
        self._bare.shutdown(socket.SHUT_RDWR)
        self._bare.close()

    def _accept(self) -> None:
        while True:
            try:
                self._bare.accept()[0].close()
            except OSError:
                return


def config_text(folder: Path, port: int, protocol: str, services: Services) -> str:
    """Write the demo's config: what every site needs on this machine, and the two services."""
    return f"""\
version: 1
identity: {{org: demo, site: this-machine, node: demo-probe, title: This machine}}
mqtt: {{url: "mqtt://127.0.0.1:{port}", protocol: {protocol}}}
buffer: {{directory: {json.dumps(str(folder / "store"))}}}
defaults: {{icmp: {{interval: 5s}}, dns: {{interval: 10s}}, http: {{interval: 5s}}, tcp: {{interval: 5s}}}}
checks:
  - {{name: time, type: ntp, server: 127.0.0.1, enabled: false}}  # a demo asks no time server of the internet
  - {{name: demo-page, type: http, url: "http://127.0.0.1:{services.page_port}/health", group: site}}
  - {{name: demo-port, type: tcp, target: 127.0.0.1, port: {services.bare_port}, group: site}}
"""

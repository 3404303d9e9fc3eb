"""Real brokers that are not mosquitto, each on a free loopback port, started and ended by its process group.

All speak MQTT 3.1.1. Each skips the test where its program is not installed, saying which. RabbitMQ gets an epmd of
its own in the foreground, so that no Erlang daemon is left behind; aedes comes from npm into a cache outside the tree.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.rigs import need
from tests.rigs.mosquitto import free_port

START_S = 60.0
END_S = 20.0
AEDES = Path(__file__).parent / "aedes"


class Broker:
    """One broker; a subclass says in `command` how it is started."""

    def __init__(self, folder: Path) -> None:
        """Prepare everything but the start."""
        self.folder, self.port = folder, free_port()
        self.log = folder / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.prepare()

    def prepare(self) -> None:
        """Write the settings."""

    def command(self) -> Sequence[str]:
        """Give the command that runs the broker in the foreground."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Give what it needs in its environment."""
        return os.environ

    def __enter__(self) -> Self:
        """Give the broker; `start` starts it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if it still runs."""
        self.stop()

    def start(self) -> None:
        """Start it and wait until it listens."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                env=dict(self.environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        self._await_port()

    def _await_port(self) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self._process
            assert self._process.poll() is None, self.log.read_text(errors="replace")
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the broker did not listen within {START_S:g} s: {self.log.read_text(errors='replace')}")

    def stop(self) -> None:
        """End it in an orderly way, and whatever is left of its process group by force."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                pass  # killed with its group
            self._kill_group(self._process.pid)
            self._process.wait(END_S)
            self._process = None

    @staticmethod
    def _kill_group(group: int) -> None:
        try:
            os.killpg(group, signal.SIGKILL)  # a session of its own: nobody else is in the group
        except ProcessLookupError:
            return


class Nats(Broker):
    """nats-server with its MQTT gateway; JetStream keeps sessions and retained messages."""

    def prepare(self) -> None:
        """Write the settings."""
        self._program = need.tool("nats-server")
        (self.folder / "nats.conf").write_text(
            f"server_name: test\nlisten: 127.0.0.1:{free_port()}\n"
            f'jetstream {{ store_dir: "{self.folder}/jetstream" }}\n'
            f"mqtt {{ host: 127.0.0.1, port: {self.port} }}\n"
        )

    def command(self) -> Sequence[str]:
        """Give the command."""
        return (self._program, "-c", str(self.folder / "nats.conf"))


class Aedes(Broker):
    """aedes in node, in memory."""

    def prepare(self) -> None:
        """Install it into the cache, once for each lock file."""
        self._program = need.tool("node")
        npm = need.tool("npm")
        digest = hashlib.sha256((AEDES / "package-lock.json").read_bytes()).hexdigest()[:16]
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        self._home = cache / "siteprobe-tests" / f"aedes-{digest}"
        if not (self._home / "installed").exists():
            self._install(npm)
        shutil.copy(AEDES / "server.js", self._home)

    def _install(self, npm: str) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(AEDES / name, self._home)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, check=False, cwd=self._home, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"needs aedes, which npm could not install: {done.stderr.strip().splitlines()[-1:]}")
        (self._home / "installed").touch()

    def command(self) -> Sequence[str]:
        """Give the command."""
        return (self._program, str(self._home / "server.js"), str(self.port))


class RabbitMq(Broker):
    """RabbitMQ with its MQTT plugin; nothing of it listens beyond loopback."""

    def prepare(self) -> None:
        """Write the settings, and find the program itself: Debian's wrapper changes the user."""
        need.tool("rabbitmq-server")
        self._epmd = need.tool("epmd")
        found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
        if not found:
            pytest.skip("needs RabbitMQ in /usr/lib/rabbitmq, where Debian has it")
        self._program = str(found[-1])
        self._epmd_port = free_port()
        self._epmd_process: subprocess.Popen[bytes] | None = None
        (self.folder / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{self.port}\nmqtt.allow_anonymous = true\n"
        )

    def environment(self) -> Mapping[str, str]:
        """Keep every file in the test's folder, and Erlang's own ports on loopback."""
        folder = str(self.folder)
        return os.environ | {
            "HOME": folder,
            "RABBITMQ_NODENAME": f"siteprobe-{self.port}@localhost",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def command(self) -> Sequence[str]:
        """Give the command."""
        return (self._program,)

    def start(self) -> None:
        """Start epmd in the foreground first: Erlang would start one as a daemon otherwise."""
        self._dist_port = free_port()
        if self._epmd_process is None:
            command = [self._epmd, "-address", "127.0.0.1", "-port", str(self._epmd_port)]
            self._epmd_process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        super().start()

    def __exit__(self, *_: object) -> None:
        """End both."""
        self.stop()
        if self._epmd_process:
            self._epmd_process.kill()
            self._epmd_process.wait(END_S)

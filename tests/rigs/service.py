"""The whole agent as an outside user runs it, its answers, and loopback peers for it to ask.

    with serving(says(OK)) as port, Service(tmp_path, config(tmp_path, checks)) as agent:
        agent.wait_for(lambda status: status["verdict"]["verdict"] == "healthy")
        assert agent.stop() == 0

The agent is a process of its own (`siteprobe run -c FILE`); it is judged by what it publishes, says on its
socket, writes to stderr and exits with. Only processes started here are ended, by their id.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from agent.web.socket import ask_status
from tests.rigs.mosquitto import Arrived, Reader
from tests.rigs.servers import Handler, stream_server

SIGNS_OF_A_BUG = ("Traceback (most recent call last)", "Task exception was never retrieved", "was never awaited")
START_S = 15.0
COMMAND = (sys.executable, "-m", "agent")
Found = dict[str, Any]


def config(folder: Path, checks: Sequence[Mapping[str, Any]], port: int = 9, **sections: Any) -> Found:
    """Make a config of loopback checks only; further sections replace or (mqtt, buffer) add to these."""
    mqtt = {"url": f"mqtt://127.0.0.1:{port}", "spread": "0s", "retry_max": "2s", **sections.pop("mqtt", {})}
    buffer = {"directory": str(folder / "store"), "commit": "100ms", **sections.pop("buffer", {})}
    made: Found = {
        "version": 1,
        "clock": "trusted",
        "standard": False,
        "identity": {"org": "org", "site": "site", "node": "node", "title": "Test site"},
        "mqtt": mqtt,
        "buffer": buffer,
        "checks": list(checks),
    }
    return made | sections


def tcp(name: str, port: int, **options: Any) -> Found:
    """Make a tcp check of a loopback port that is asked twice a second."""
    return {"name": name, "type": "tcp", "target": "127.0.0.1", "port": port, "interval": "500ms", **options}


def http(name: str, port: int, **options: Any) -> Found:
    """Make an http check of a loopback server that is asked twice a second."""
    return {"name": name, "type": "http", "url": f"http://127.0.0.1:{port}/", "interval": "500ms", **options}


def written(folder: Path, values: Mapping[str, Any] | str) -> Path:
    """Write a config file (JSON is YAML too) and give its path."""
    file = folder / "siteprobe.yaml"
    file.write_text(values if isinstance(values, str) else json.dumps(values, indent=1))
    return file


def is_healthy(status: Found) -> bool:
    """Tell whether an answer says that all is well, delivery included."""
    return bool(status["verdict"]["verdict"] == "healthy" and status["delivery"]["connected"])


def siteprobe(
    *words: str, env: Mapping[str, str] | None = None, wait_s: float = 20
) -> subprocess.CompletedProcess[str]:
    """Run one command of siteprobe to its end."""
    return subprocess.run(
        [*COMMAND, *words],
        capture_output=True,
        text=True,
        timeout=wait_s,
        check=False,
        env={**os.environ, **(env or {})},
    )


class Service:
    """One running agent; `with` starts it, waits until it answers, and at the end kills what is left of it."""

    def __init__(
        self, folder: Path, values: Mapping[str, Any], env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> None:
        """Write the config into the folder; `prefix` is a command that the agent's is given to, and becomes."""
        folder.mkdir(exist_ok=True)
        self.file = written(folder, values)
        self.directories = [Path(values["buffer"]["directory"])]
        if env and "RUNTIME_DIRECTORY" in env:
            self.directories.insert(0, Path(env["RUNTIME_DIRECTORY"]))
        self._command = [*prefix, *COMMAND, "run", "-c", str(self.file)]
        self._log = folder / "agent.log"
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.kill()
        if kind is None:
            assert not any(sign in self.log for sign in SIGNS_OF_A_BUG), self.log

    @property
    def pid(self) -> int:
        """The process id; the command gives its own to the service."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the agent wrote to stdout and stderr, over all its starts."""
        return self._log.read_text()

    def start(self) -> None:
        """Start it and wait until it answers on its socket."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._env)
        self.wait_for(lambda status: True, START_S)

    def ended(self, seconds: float = 10) -> int:
        """Wait for its end; gives the exit code."""
        assert self._process is not None
        code = self._process.wait(seconds)
        self._process = None
        return code

    def stop(self) -> int:
        """End it in an orderly way; gives the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process:
            self._process.kill()
            self.ended()

    def reload(self, values: Mapping[str, Any] | str) -> None:
        """Change the config file and have it read anew."""
        written(self.file.parent, values)
        os.kill(self.pid, signal.SIGHUP)

    def status(self) -> Found | None:
        """Give its answer on the socket; None while it gives none."""
        return ask_status(self.directories)

    def wait_for(self, condition: Callable[[Found], Any], seconds: float = 10.0) -> Found:
        """Wait until its answer meets the condition; gives the answer."""
        end, found = time.monotonic() + seconds, None
        while not (found and condition(found)):
            assert self._process is not None and self._process.poll() is None, f"the agent ended: {self.log}"
            assert time.monotonic() < end, f"not within {seconds:g} s; last answer {found}; log: {self.log}"
            time.sleep(0.05)
            found = self.status()
        return found

    def wait_logged(self, words: str, seconds: float = 10.0) -> None:
        """Wait until the log has the words."""
        end = time.monotonic() + seconds
        while words not in self.log:
            assert time.monotonic() < end, f"{words!r} was not logged within {seconds:g} s: {self.log}"
            time.sleep(0.05)


class Ledger(Reader):
    """A reader that knows when each message came, and keeps records by number as a data centre would."""

    def __init__(self, port: int) -> None:
        """Subscribe to everything of siteprobe."""
        self.came: list[float] = []
        super().__init__(port)
        self._client.reconnect_delay_set(0.1, 0.1)  # type: ignore[arg-type]  # back before the agent is, mostly

    def _keep(self, _client: Any, _data: Any, message: Any) -> None:
        self.came.append(time.time())
        super()._keep(_client, _data, message)

    def records(self) -> list[tuple[Found, float]]:
        """Give every record that arrived, live or late, with the second (since 1970) when it came."""
        return [(record, at) for m, at in zip(list(self.messages), self.came, strict=False) for record in records_of(m)]

    def by_number(self) -> dict[tuple[str, int], Found]:
        """Give each record once: the first of each (ep, seq); fails where two contents have one number."""
        kept: dict[tuple[str, int], Found] = {}
        for record, _ in self.records():
            same = kept.setdefault((record["ep"], record["seq"]), record)
            assert {**same, "late": 0} == {**record, "late": 0}, "one number, two contents"
        return kept

    def missing(self, ep: str, next_seq: int) -> list[int]:
        """Give the numbers below `next_seq` that have not arrived."""
        kept = self.by_number()
        return [seq for seq in range(1, next_seq) if (ep, seq) not in kept]

    def wait_complete(self, agent: Service, seconds: float = 15.0) -> Found:
        """Wait until nothing waits at the agent and every number is here; gives the agent's answer."""
        now = agent.wait_for(lambda status: status["delivery"]["connected"], seconds)
        ep, next_seq = now["buffer"]["ep"], now["buffer"]["next_seq"]
        self.wait_for(lambda _: not self.missing(ep, next_seq), seconds)
        return now

    def newest(self, topic: str) -> Any:
        """Give the JSON of the last message on a topic (below the base); None if it was empty or none came."""
        found = [m for m in self.under(topic) if m.topic.endswith(topic)]
        return found[-1].json if found else None


def records_of(message: Arrived) -> list[Found]:
    """Give the records in a live or late message; none in any other."""
    lane = message.topic.split("/")[5]
    if lane == "live":
        return [message.json]
    return list(message.json) if lane == "late" else []


def seconds_of(ts: str) -> float:
    """Read an RFC 3339 time as seconds since 1970."""
    return datetime.fromisoformat(ts).timestamp()


@contextmanager
def serving(*handlers: Handler | tuple[Handler, ssl.SSLContext]) -> Iterator[list[int]]:
    """Serve on a free loopback port for each handler (with TLS settings: as a pair), from a thread; gives the ports."""
    ports: list[int] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for handler, tls in _pairs(handlers):
                ports.append(await stack.enter_async_context(stream_server(handler, tls=tls)))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="loopback peers")
    thread.start()
    assert ready.wait(START_S), "the loopback peers did not start"
    try:
        yield ports
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


def _pairs(
    handlers: Iterable[Handler | tuple[Handler, ssl.SSLContext]],
) -> Iterator[tuple[Handler, ssl.SSLContext | None]]:
    for handler in handlers:
        yield handler if isinstance(handler, tuple) else (handler, None)

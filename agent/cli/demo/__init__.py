"""`siteprobe demo`: broker, agent, services to ask and a reader in one command, without root or config."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click

from agent.cli.common import complain, drop_output, either, leave
from agent.cli.demo.parts import Services, child, config_text, free_port, start_broker
from agent.cli.demo.table import Board
from agent.options import Duration

Message = tuple[str, bool, bytes]
Retain = Callable[[str, bool], bool]
RETAINED = ("status", "about", "heartbeat", "verdict", "state")
BASE_LEVELS = 5


class Span(click.ParamType):
    """A duration such as 20s, on the command line."""

    name = "duration"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it as the config does."""
        try:
            return float(Duration(0.1).read(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("--duration", type=Span(), help="End by itself after this long, such as 20s; default: Ctrl-C.")
@click.option(
    "--json", "as_json", is_flag=True, callback=either, help="Print each message received as one line of JSON."
)
def command(duration: float | None, as_json: bool) -> None:
    """Show siteprobe at work on this machine: a broker, an agent, and what arrives as a live table."""
    received: queue.Queue[Message] = queue.Queue()
    until = time.monotonic() + duration if duration else float("inf")
    retain: Retain = as_published_5
    try:
        with stage(received) as here:
            retain = as_published_5 if here.protocol == "5" else as_published_3
            if as_json:
                _print_until(received, until, retain, here.watch)
            else:
                Board(here.folder, here.port).show(received, until, here.watch)
    except KeyboardInterrupt:
        complain("ended")
    except BrokenPipeError:
        drop_output()  # the reader of our output has seen enough (`| head`)
        leave(0)
    except OSError as error:
        raise click.ClickException(f"the demo could not be set up: {error}") from None
    if as_json:
        _print_until(received, time.monotonic(), retain, lambda: None)  # what arrived while everything ended
    leave(0)


@dataclass(frozen=True)
class Stage:
    """Where everything of a running demo is."""

    folder: Path
    port: int
    protocol: str
    agent: subprocess.Popen[bytes]

    def watch(self) -> None:
        """Raise a sentence if the agent has ended: an empty table would not say so."""
        if self.agent.poll() is not None:
            said = (self.folder / "agent.log").read_text(errors="replace").strip().splitlines()
            raise click.ClickException(f"the agent ended: {said[-1] if said else 'it said nothing'}")


@contextmanager
def stage(received: queue.Queue[Message]) -> Iterator[Stage]:
    """Start everything in a temporary folder; end and remove all of it afterwards, whatever happens."""
    from agent.mqtt.listener import Listener

    with ExitStack() as ends:
        ends.enter_context(signals_as_interrupt())
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="siteprobe-demo-")))
        port = free_port()
        protocol = ends.enter_context(start_broker(folder, port))
        services = ends.enter_context(Services())
        reader = Listener("127.0.0.1", port, protocol, "siteprobe/v1/#", lambda *m: received.put(m))
        reader.start()
        ends.callback(reader.stop)
        config = folder / "siteprobe.yaml"
        config.write_text(config_text(folder, port, protocol, services))
        ends.callback(time.sleep, 0.2)  # the last messages travel before the reader goes
        command = [sys.executable, "-m", "agent.service", str(config)]
        yield Stage(folder, port, protocol, ends.enter_context(child(command, folder / "agent.log")))


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the demo as orderly as Ctrl-C does; once it ends, no signal cuts that short."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in wanted:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before: list[Callable[[int, FrameType | None], object] | int | None] = [signal.signal(s, interrupt) for s in wanted]
    try:
        yield
    finally:
        for number, handler in zip(wanted, before, strict=True):
            signal.signal(number, handler)


def as_published_5(_topic: str, retain: bool) -> bool:
    """Say whether a message was published as retained: MQTT 5 tells (retain as published)."""
    return retain


def as_published_3(topic: str, _retain: bool) -> bool:
    """Say whether a message was published as retained: MQTT 3.1.1 hides it, so the topic tells."""
    return topic.split("/")[BASE_LEVELS] in RETAINED


def _print_until(received: queue.Queue[Message], until: float, retained: Retain, watch: Callable[[], None]) -> None:
    while True:
        try:
            topic, retain, payload = received.get(timeout=max(0.0, min(until - time.monotonic(), 1.0)))
        except queue.Empty:
            if time.monotonic() >= until:
                return
            watch()
            continue
        shown = json.loads(payload) if payload else None
        line = {"topic": topic, "retain": retained(topic, retain), "payload": shown}
        click.echo(json.dumps(line, ensure_ascii=False, separators=(",", ":")))

"""A listener for notifications with the real parts of the agent, but its rounds, which only note who is asked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent import checks
from agent.checks import Toolbox
from agent.clock import Clock
from agent.config import Config, Surroundings, load
from agent.model import Record
from agent.net.resolve import Resolver
from agent.policy import Policy
from agent.safety import Gate
from agent.trapping import Trapping
from tests.rigs.snmpd import free_udp_port

HEAD = "version: 1\nidentity: {org: o, site: s, node: n-1}\nmqtt: {url: 'mqtt://127.0.0.1'}\nstandard: false\n"
WAIT_S = 20.0


class Noted:
    """Stands for rounds and journal: notes who is asked and which events are kept."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.events: list[Record] = []

    async def ask_now(self, name: str) -> tuple[str, int]:
        self.asked.append(name)
        return "ep", 1

    def append(self, record: Record, urgent: bool = False) -> int:
        self.events.append(record)
        return len(self.events)


@dataclass
class Rig:
    config: Config
    noted: Noted = field(default_factory=Noted)
    gate: Gate = field(default_factory=lambda: Gate(Policy()))
    tools: Toolbox = field(default_factory=Toolbox)
    clock: Clock = field(default_factory=lambda: Clock("trusted"))

    def __post_init__(self) -> None:
        self.resolver = Resolver(self.gate)
        self.rounds: Any = self.noted
        self.journal: Any = self.noted
        self.trapping = Trapping(self)
        self.port = self.config.traps.listen[1] if self.config.traps.listen else 0

    def kinds(self) -> list[str]:
        return [str(record.fields["kind"]) for record in self.noted.events]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():
                await asyncio.sleep(0.02)

    async def summary_until(self, words: str) -> None:
        """Ask for summaries until one has these words."""

        def told() -> bool:
            self.trapping.summary()
            return any(words in str(record.fields["detail"]) for record in self.noted.events)

        await self.until(told)

    def listen(self, place: tuple[str, int] | None) -> None:
        self.config = replace(self.config, traps=replace(self.config.traps, listen=place))

    def send(self, data: bytes, source: str = "127.0.0.1") -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((source, 0))
            sender.sendto(data, ("127.0.0.1", self.port))


def read(folder: Path, checks_yaml: str, port: int = 0) -> Config:
    """Read a config whose listener has a free port."""
    file = folder / "siteprobe.yaml"
    file.write_text(f'{HEAD}traps: {{listen: "127.0.0.1:{port or free_udp_port()}"}}\nchecks: {checks_yaml}\n')
    return load(file, checks.load(), Surroundings("n-1", ()))


@asynccontextmanager
async def listening(config: Config) -> AsyncIterator[Rig]:
    """Run the listener until its socket is open, and to the end."""
    rig = Rig(config)
    task = asyncio.ensure_future(rig.trapping.run())
    try:
        await rig.until(lambda: rig.trapping.open or task.done())
        yield rig
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await rig.tools.aclose()

"""Sessions of one process to scripted SNMP agents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pysnmp.proto.api import v2c

from agent.model import Failed, Failure
from agent.policy import Policy
from agent.safety import Gate
from agent.snmp import oids
from agent.snmp.credentials import Credentials
from agent.snmp.session import Session, Snmp
from tests.rigs.snmp_agent import Agent, Script
from tests.rigs.snmp_agent import agent as scripted_agent

WHO = Credentials("2c", "canary-secret")
SYSTEM = {oids.SYS_NAME: v2c.OctetString("sw")}


class Asker:
    """Sessions of one process to one scripted agent."""

    def __init__(self) -> None:
        self.snmp, self.gate, self.said = Snmp(), Gate(Policy()), list[str]()

    async def session(self, port: int, within: float = 20.0, who: Credentials = WHO, most: int = 10) -> Session:
        deadline = asyncio.get_running_loop().time() + within
        return await self.snmp.session(self.gate, "127.0.0.1", port, who, deadline, self.said.append, most)

    async def get(self, port: int, within: float = 20.0) -> Any:
        return (await (await self.session(port, within)).get([oids.SYS_NAME]))[oids.SYS_NAME]


def play(script: Script, scene: Callable[[Asker, Agent], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        asker = Asker()
        async with scripted_agent(script) as peer:
            try:
                return await scene(asker, peer)
            finally:
                await asker.snmp.aclose()

    return asyncio.run(go())


def failure(script: Script, scene: Callable[[Asker, Agent], Awaitable[Any]]) -> tuple[Failure, str]:
    with pytest.raises(Failed) as caught:
        play(script, scene)
    return caught.value.failure, caught.value.detail


async def silent_polls(asker: Asker, peer: Agent, times: int) -> Failed:
    for _ in range(times):
        with pytest.raises(Failed) as caught:
            await asker.get(peer.port, within=0.2)
    return caught.value

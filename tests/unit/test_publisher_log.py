"""What the log says of the connection: why there is none, once a reason, and that there is one again."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from agent.app import Agent
from agent.config.secret import SecretSource
from agent.config.sections import Mqtt
from agent.publisher import Closed, NotConnected
from tests.rigs.publishing import FakeNetwork, FakeStore, pace, publishing
from tests.rigs.stories import config_of
from tests.rigs.virtual_time import run

KEPT = "results are kept, and not delivered: "


class Log:
    """Keeps the lines as (level, sentence)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def warn(self, sentence: str) -> None:
        self.lines.append(("warning", sentence))

    def inform(self, sentence: str) -> None:
        self.lines.append(("info", sentence))

    def take(self) -> list[tuple[str, str]]:
        taken, self.lines = self.lines, []
        return taken


def test_each_reason_is_told_once_and_the_connection_after_it() -> None:
    async def scene() -> None:
        net, log = FakeNetwork(), Log()
        net.reachable = False
        async with publishing(FakeStore(), net.open_wire, pace(retry_max_s=10), warn=log.warn, inform=log.inform):
            await asyncio.sleep(120)
            assert len(net.attempts) > 5
            assert log.take() == [("warning", f"{KEPT}nobody listens")]
            net.failure = NotConnected("mqtt.password: secret file /x is empty", "certificate")
            await asyncio.sleep(600)
            assert log.take() == [("warning", f"{KEPT}mqtt.password: secret file /x is empty")]
            net.reachable = True
            await asyncio.sleep(200)
            assert log.take() == [("info", f"connected to the broker at {net.wires[0].address}")]

    run(scene())


def test_a_lost_connection_is_told_anew_also_for_a_reason_that_was_told_before() -> None:
    async def scene() -> None:
        net, log = FakeNetwork(), Log()
        async with publishing(FakeStore(), net.open_wire, warn=log.warn, inform=log.inform):
            await asyncio.sleep(1)
            assert log.take() == [], "nothing was wrong"
            for _ in range(2):
                net.wires[-1].end(Closed("the broker closed the connection"))
                await asyncio.sleep(200)
                assert [level for level, _ in log.lines] == ["warning", "info"]
                assert log.take()[0][1] == f"{KEPT}the broker closed the connection"
        assert log.take() == [], "an orderly end is no trouble"

    run(scene())


def test_connecting_anew_with_changed_files_is_no_trouble() -> None:
    async def scene() -> None:
        net, log = FakeNetwork(), Log()
        async with publishing(FakeStore(), net.open_wire, warn=log.warn, inform=log.inform):
            await asyncio.sleep(1)
            net.wires[0].end(Closed("certificates or password have changed: connecting with them", "renewed"))
            await asyncio.sleep(60)
            assert len(net.wires) == 2 and log.take() == []

    run(scene())


CANARY = "c4n4ry-Zq8\udce9"


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        (SecretSource("file", "/nowhere/password"), "mqtt.password: secret file /nowhere/password cannot be read"),
        (SecretSource("literal", CANARY), "mqtt.username or mqtt.password is not UTF-8 text"),
    ],
)
def test_the_agent_writes_it_to_its_log_and_never_a_secret(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, password: SecretSource, reason: str
) -> None:
    mqtt = Mqtt(url="mqtt://127.0.0.1", username="u", password=password)
    made = config_of(())
    config = replace(made, mqtt=mqtt, buffer=replace(made.buffer, directory=str(tmp_path)))

    async def scene() -> None:
        agent = Agent(config)
        await agent.open()
        publishing = asyncio.create_task(agent.publisher.run())
        while not (agent.publisher.delivery.reason and agent.publisher.way().failure):
            await asyncio.sleep(0.01)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await agent.close()

    with caplog.at_level(logging.INFO, "siteprobe"):
        asyncio.run(scene())
    (line,) = (record for record in caplog.records if KEPT in record.getMessage())
    assert line.levelname == "WARNING" and reason in line.getMessage()
    assert "udce9" not in caplog.text and CANARY[:5] not in caplog.text

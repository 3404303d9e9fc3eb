"""A fragile device that stops answering after our question: it is left alone, and both ends of that are told once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from pysnmp.proto.api import v2c

from agent.checks import Check, Toolbox
from agent.checks.snmp import SnmpCheck
from agent.clock import Clock
from agent.policy import Policy
from agent.rounds import Rounds
from agent.runner import Run, Runner
from agent.safety import Gate
from agent.snmp import oids
from tests.rigs.snmp_agent import agent as scripted_agent
from tests.rigs.snmp_agent import from_tree
from tests.unit.test_check_snmp import Known, device, literal

SWITCH = from_tree(device() | {oids.SYS_OBJECT_ID: v2c.ObjectIdentifier("1.3.6.1.4.1.99999.1")})


def test_a_device_that_dies_of_our_question_is_left_alone_until_it_answers_again() -> None:
    taken: list[Run] = []

    def take(check: Check, run: Run) -> tuple[str, int]:
        taken.append(run)
        return "e", len(taken)

    def events() -> list[tuple[Any, Any]]:
        found = (record.fields for run in taken for record in run.more if record.type == "event")
        return [(fields["kind"], fields["detail"]) for fields in found]

    async def until(what: Any) -> None:
        async with asyncio.timeout(10):
            while not what():
                await asyncio.sleep(0.02)

    async def go() -> None:
        tools = Toolbox()
        runner = Runner(Gate(Policy()), tools, literal, Clock("trusted"))
        rounds = Rounds(runner, "n", take, lambda late_s: None)
        async with scripted_agent(SWITCH) as peer:
            made = SnmpCheck(name="ups", target="127.0.0.1", port=peer.port, community=Known())
            rounds.plan([replace(made, interval_s=0.3, timeout_s=0.3, layer="device")])
            running = asyncio.create_task(rounds.run())
            await until(lambda: len(taken) >= 2)
            peer.script = lambda request: []  # it has hung itself up
            await until(events)
            assert [run.record.fields["outcome"] for run in taken[-3:]] == ["fail"] * 3
            asked = len(peer.requests)
            await asyncio.sleep(1.0)
            assert len(peer.requests) == asked, "three intervals later it is still left alone"
            peer.script = SWITCH
            runner.reopen()
            rounds.at_once(["ups"])
            await until(lambda: len(events()) == 2)
            many = len(taken)
            await until(lambda: len(taken) > many + 2)
            running.cancel()
        await tools.aclose()

    asyncio.run(go())
    assert [kind for kind, _ in events()] == ["target_left_alone", "target_answers_again"]
    began, back = (detail for _, detail in events())
    assert began.startswith("ups (127.0.0.1) fails since ") and "(timeout) and is left alone" in began
    assert back.startswith("ups (127.0.0.1) passes again after ")

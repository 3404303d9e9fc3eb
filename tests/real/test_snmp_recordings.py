"""Recordings of real devices, each beside a file with what a technician would want to know of it.

Each file of tests/recordings names a recording, what the device is, and what a poll must say; `then` lists
what changes on the device and what the next poll must say of that. Only the fields that are named are compared,
but health, reason and findings always are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pysnmp.proto.api import v2c

from agent.checks import Context, Toolbox
from agent.checks.snmp import SnmpCheck
from agent.model import Facts, Failed
from agent.policy import Policy
from agent.safety import Gate
from agent.snmp.profile_files import load
from agent.snmp.report import FACTS
from tests.rigs.recordings import Recording, recording
from tests.rigs.snmp_agent import agent

FOLDER = Path(__file__).parents[1] / "recordings"
EXPECTED = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
MAKERS: dict[str, Any] = {"integer": v2c.Integer32, "text": v2c.OctetString, "counter": v2c.Counter32}
KINDS = {"switch", "ups", "pdu", "sensor", "firewall", "wifi", "printer", "host"}
WITHIN_S = 30.0


class Known:
    def reveal(self) -> str:
        return "public"


async def literal(target: str, deadline: float) -> str:
    return target


class Bench:
    """Polls one recording again and again."""

    def __init__(self, expected: Mapping[str, Any], port: int) -> None:
        self.tools, self.memory = Toolbox(), dict[str, Any]()
        watched = tuple(expected.get("watch_ports", ()))
        self.check = SnmpCheck(name="device", target="127.0.0.1", port=port, community=Known(), watch_ports=watched)
        assert self.check.problems() == []

    async def poll(self) -> Facts:
        deadline = asyncio.get_running_loop().time() + WITHIN_S
        gate = Gate(Policy())
        ctx = Context(gate, self.tools, literal, deadline, "snmp", judge_certificate_dates=False, memory=self.memory)
        return await self.check.run(ctx)


def compare(facts: Facts, expected: Mapping[str, Any]) -> None:
    fields = dict(facts.fields)
    assert set(fields) <= set(FACTS)
    always = {"health": expected["health"], "reason": expected.get("reason", ""), "findings": expected.get("findings")}
    assert {key: fields.get(key) for key in always} == always
    assert fields.get("unread") is None
    says = expected.get("says", {})
    assert {key: fields.get(key) for key in says} == says
    ports = {str(found["name"]): found for kind, found in facts.more if kind == "snmp_port"}
    for name, wanted in expected.get("ports", {}).items():
        assert {key: ports[name].get(key) for key in wanted} == wanted
    events = [str(found["kind"]) for kind, found in facts.more if kind == "event"]
    assert events == expected.get("events", [])


def change(device: Recording, values: Mapping[str, Any]) -> None:
    """Set objects as `OID: 5`, `OID: text` or `OID: {counter: 7}`."""
    for oid, value in values.items():
        kind, plain = next(iter(value.items())) if isinstance(value, dict) else (None, value)
        device.changed[oid] = MAKERS[kind or ("integer" if isinstance(plain, int) else "text")](plain)


@pytest.mark.parametrize("name", list(EXPECTED))
def test_what_a_technician_wants_to_know(name: str) -> None:
    expected = EXPECTED[name]

    async def go() -> None:
        device = recording(expected["recording"])
        async with agent(device.script) as peer:
            bench = Bench(expected, peer.port)
            try:
                facts = await bench.poll()
                assert facts.fields["profile"] == expected["profile"]
                compare(facts, expected)
                for step in expected.get("then", ()):
                    change(device, step["set"])
                    compare(await bench.poll(), step)
            finally:
                await bench.tools.aclose()

    asyncio.run(go())


def test_there_are_recordings_of_every_kind_and_of_each_profile_that_is_not_called_unproven() -> None:
    assert len({expected["recording"] for expected in EXPECTED.values()}) >= 25
    assert {expected["kind"] for expected in EXPECTED.values()} >= KINDS - {"printer"}
    profiles = load().by_name
    used = {expected["profile"] for expected in EXPECTED.values()}
    proven = used | {part for name in used for part in profiles[name].ancestors}
    assert {name for name, profile in profiles.items() if not profile.unproven} <= proven
    assert not {name for name in used if profiles[name].unproven}


def test_a_device_that_shows_nothing_is_not_called_well() -> None:
    async def go() -> None:
        async with agent(recording("camera/hikvision.snmprec.bz2").script) as peer:
            bench = Bench({}, peer.port)
            try:
                with pytest.raises(Failed, match="look at its SNMP view"):
                    await bench.poll()
            finally:
                await bench.tools.aclose()

    asyncio.run(go())

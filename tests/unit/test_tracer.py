"""The tracer: what is traced by itself when targets go down, what never is, and what a command may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

import pytest

from agent.check import CheckOptions
from agent.checks import Check, Toolbox
from agent.checks.dns import Dns
from agent.checks.http import Http
from agent.checks.icmp import Icmp
from agent.checks.path import Path, trace_of
from agent.checks.tcp import Tcp
from agent.clock import Clock, Instant
from agent.model import Record
from agent.policy import Policy
from agent.rounds import NotNow, Running
from agent.runner import Run, Runner
from agent.safety import Gate
from agent.tracer import AGAIN_S, TOGETHER_S, Tracer
from tests.rigs import virtual_time

NOW = Instant(1_795_000_000.0, 3_600_000, "synced", "boot-1")
RUN_S = 5.0


class Runs:
    """A runner that notes what it is asked to trace, and takes its time."""

    def __init__(self) -> None:
        self.asked: list[Path] = []
        self.at_once = self.most_at_once = 0

    async def run(self, check: Check) -> Run:
        assert isinstance(check, Path)
        self.asked.append(check)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(RUN_S)
        self.at_once -= 1
        return Run(Record("path", NOW, {"check": check.name, "hop_list": "10.0.0.1"}))


@dataclass
class Notes:
    records: list[Record] = field(default_factory=list)
    ep: str = "ep1"

    def append(self, record: Record, urgent: bool = False) -> int:
        self.records.append(record)
        return len(self.records)


@dataclass
class Stage:
    tracer: Tracer
    runs: Runs
    notes: Notes
    gate: Gate

    async def down(self, *names: str, seq: int = 7) -> None:
        """Have these go down in one judgement, and let pass what follows."""
        for name in names:
            self.tracer.went_down(CHECKS[name], ("ep1", seq))
        await asyncio.sleep(RUN_S + 1)

    def traced(self) -> list[str]:
        return [check.name for check in self.runs.asked]


def icmp(name: str, layer: str, **options: Any) -> CheckOptions:
    return Icmp(name=name, target="198.51.100.9", layer=layer, **options)


CHECKS: dict[str, CheckOptions] = {
    check.name: check
    for check in (
        icmp("gateway", "gateway"),
        icmp("lan-1", "lan"),
        icmp("uplink-1", "uplink"),
        icmp("carrier-1", "carrier"),
        icmp("carrier-2", "carrier"),
        icmp("dc-a-1", "datacentre", group="dc-a"),
        icmp("printer", "service", group="site"),
        icmp("pump", "service", device_class="medical", responsibility_agreement="R"),
        Tcp(name="pacs", target="198.51.100.20", port=104, layer="service"),
        Http(name="epr", url="https://epr.example.org:8443/x", layer="service"),
        Dns(name="names", server="198.51.100.53", query="a.example", layer="service"),
        Path(name="way", target="198.51.100.9", layer="carrier", timeout_s=9.0),
    )
}


def played(scene: Callable[[Stage], Awaitable[None]]) -> None:
    async def play() -> None:
        runs, notes, gate = Runs(), Notes(), Gate(Policy(deny=(ip_network("10.66.0.0/16"),)))
        tracer = Tracer(runs, gate, notes, CHECKS.values)  # type: ignore[arg-type]
        task = asyncio.create_task(tracer.run())
        await scene(Stage(tracer, runs, notes, gate))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time.run(play())


def test_only_the_nearest_of_those_that_go_down_together_is_traced_and_its_transition_named() -> None:
    async def scene(stage: Stage) -> None:
        await stage.down("pacs", "dc-a-1", "carrier-1", seq=42)
        await stage.down("epr")  # a little later: it went down with them
        assert stage.traced() == ["carrier-1"]
        (record,) = stage.notes.records
        assert (record.type, record.fields["check"], record.fields["transition"]) == ("path", "carrier-1", "ep1-42")
        await asyncio.sleep(TOGETHER_S)
        await stage.down("epr")
        assert stage.traced() == ["carrier-1", "epr"]

    played(scene)


@pytest.mark.parametrize("name", ["gateway", "lan-1", "printer", "pump", "names", "way"])
def test_what_is_near_or_medical_or_asks_otherwise_is_never_traced_by_itself(name: str) -> None:
    async def scene(stage: Stage) -> None:
        await stage.down(name)
        assert stage.traced() == []
        await stage.down(name, "pacs")
        assert stage.traced() == ["pacs"]

    played(scene)


def test_a_place_is_traced_once_an_incident() -> None:
    async def scene(stage: Stage) -> None:
        await stage.down("carrier-1")
        for _ in range(3):
            await asyncio.sleep(TOGETHER_S)
            await stage.down("carrier-1")
            await stage.down("carrier-2")  # another check of the same place
        assert stage.traced() == ["carrier-1"]
        await asyncio.sleep(AGAIN_S)
        await stage.down("carrier-2")
        assert stage.traced() == ["carrier-1", "carrier-2"]

    played(scene)


def test_nothing_is_traced_while_active_checks_are_suppressed() -> None:
    async def scene(stage: Stage) -> None:
        stage.gate.suppressed = True
        await stage.down("carrier-1")
        with pytest.raises(NotNow, match="suppressed"):
            await stage.tracer.trace_now("carrier-1")
        assert stage.traced() == []

    played(scene)


def test_a_denied_target_gets_a_record_of_ours_and_no_packet() -> None:
    """With the real runner: the gate stands in the way, whatever asks."""

    async def scene(stage: Stage) -> None:
        async def resolve(target: str, deadline: float) -> str:
            return "10.66.0.9"

        runner = Runner(stage.gate, Toolbox(), resolve, Clock("trusted"))
        tracer = Tracer(runner, stage.gate, stage.notes, CHECKS.values)
        assert await tracer.trace_now("pacs") == ("ep1", 1)
        fields = stage.notes.records[0].fields
        assert (fields["outcome"], fields["failure"]) == ("unknown", "local_policy")

    played(scene)


def test_one_trace_at_a_time_whoever_asks() -> None:
    async def scene(stage: Stage) -> None:
        asked = asyncio.create_task(stage.tracer.trace_now("epr"))
        await asyncio.sleep(1)
        with pytest.raises(Running):
            await stage.tracer.trace_now("pacs")
        stage.tracer.went_down(CHECKS["carrier-1"], ("ep1", 9))
        await asyncio.sleep(2 * RUN_S + 1)
        assert await asked == ("ep1", 1)
        assert stage.traced() == ["epr", "carrier-1"], "an incident waits for the command's trace"
        assert stage.runs.most_at_once == 1
        assert "transition" not in stage.notes.records[0].fields

    played(scene)


@pytest.mark.parametrize(
    ("name", "words"), [("gone", "not in the config"), ("names", "is not traced"), ("pump", "no medical device")]
)
def test_a_command_cannot_add_a_target_nor_ask_by_what_the_check_does_not_send(name: str, words: str) -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(NotNow, match=words):
            await stage.tracer.trace_now(name)
        assert stage.traced() == []

    played(scene)


def test_a_command_is_held_to_the_pace_of_the_type() -> None:
    async def scene(stage: Stage) -> None:
        await stage.tracer.trace_now("gateway")
        with pytest.raises(NotNow, match="every 20 s"):
            await stage.tracer.trace_now("gateway")
        await stage.tracer.trace_now("pacs")
        await asyncio.sleep(20)
        await stage.tracer.trace_now("gateway")
        assert stage.traced() == ["gateway", "pacs", "gateway"]

    played(scene)


def test_a_trace_asks_the_same_place_in_the_same_way_as_its_check() -> None:
    for name in ("pacs", "epr", "dc-a-1"):
        trace = trace_of(CHECKS[name])
        assert trace is not None
        own, (sent,) = CHECKS[name].sends()[0], trace.sends()
        assert (sent.destination, sent.protocol, sent.port) == (own.destination, own.protocol, own.port)
        assert (trace.name, trace.layer, trace.group) == (name, CHECKS[name].layer, CHECKS[name].group)
    assert trace_of(CHECKS["way"]) is CHECKS["way"]
    assert trace_of(replace(CHECKS["pump"], device_class="")) is not None

"""Ports that are watched by what their owner calls them."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.rigs.snmp_agent import agent as scripted_agent
from tests.rigs.snmp_agent import from_tree
from tests.unit.test_check_snmp import Bench, device, port_rows


def test_an_alias_that_was_given_to_another_port_is_followed_and_never_told() -> None:
    def wired(first: str, second: str, seconds: int) -> Any:
        ports = {"a": port_rows(1, "Gi1", alias=first), "b": port_rows(2, "Gi2", alias=second)}
        return from_tree(device(4200 + 100 * seconds) | ports["a"] | ports["b"])

    async def play() -> list[Any]:
        bench, seen = Bench(), []
        try:
            async with scripted_agent(wired("uplink", "", 0)) as peer:
                for number, script in enumerate(
                    (wired("uplink", "", 1), wired("", "uplink", 2), wired("", "uplink", 3))
                ):
                    peer.script = script
                    facts = await bench.run(peer.port, watch_ports=("uplink",))
                    seen.append((number, facts.fields["reason"], [fields.get("name") for _, fields in facts.more]))
                    assert not any("alias" in fields for _, fields in facts.more)
        finally:
            await bench.tools.aclose()
        return seen

    assert asyncio.run(play()) == [
        (0, "", ["Gi1"]),
        (1, "port uplink not found yet (0 names read)", []),
        (2, "", ["Gi2"]),
    ]


def test_a_name_that_the_device_pads_is_found() -> None:
    async def play() -> Any:
        bench = Bench()
        try:
            async with scripted_agent(from_tree(device(a=port_rows(1, "Gi1  ")))) as peer:
                return await bench.run(peer.port, watch_ports=("Gi1",))
        finally:
            await bench.tools.aclose()

    assert [fields["name"] for _, fields in asyncio.run(play()).more] == ["Gi1"]


def test_a_name_that_several_ports_bear_is_told_since_only_one_of_them_is_watched() -> None:
    ports = port_rows(1, "Gi1", alias="uplink") | port_rows(2, "Gi2", oper=2, alias="uplink")

    async def play(**options: Any) -> Any:
        bench = Bench()
        try:
            async with scripted_agent(from_tree(device(a=ports))) as peer:
                return await bench.run(peer.port, **options)
        finally:
            await bench.tools.aclose()

    told = "2 ports are called uplink and only the first is watched: write their indexes (1, 2) in watch_ports"
    shared, by_index = (asyncio.run(play(watch_ports=watched)) for watched in (("uplink",), ("1",)))
    assert (shared.fields["health"], shared.fields["reason"]) == ("warning", told)
    assert by_index.fields["reason"] == ""

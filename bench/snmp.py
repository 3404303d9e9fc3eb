"""The figures of SNMP, against a real snmpd: what a poll costs, how many a second, and what stays in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from agent.policy import Policy
from agent.safety import Gate, Permit
from agent.snmp import oids
from agent.snmp.credentials import Credentials
from agent.snmp.session import Snmp
from bench.broker import BenchError, Missing
from bench.figures import Bench, Figure, passing
from bench.rack import (
    AUTH_KEY,
    COLUMNS,
    COMMUNITY,
    OIDS,
    PORTS,
    PRIV_KEY,
    SWITCHES,
    USER,
    Rack,
    bulkwalk_cpu_s,
    exporter_cpu_s,
)

V2C = Credentials("2c", COMMUNITY)
V3 = Credentials("3", user=USER, auth_key=AUTH_KEY, priv_key=PRIV_KEY)
SMALL = (oids.SYS_NAME, oids.SYS_OBJECT_ID, oids.SYS_UP_TIME, oids.ENGINE_BOOTS, *OIDS[:7])
WARM_UP = 2000
"""Polls after which caches are full and the heap has its shape."""
ELSEWHERE = "192.0.2.1"
"""Loopback addresses are not rated; this one, to which nothing is sent, stands for a device that is."""


class RatedGate(Gate):
    """A gate that paces questions to the loopback as if they went to a device elsewhere."""

    async def snmp_permit(self, address: str, port: int, deadline: float) -> Permit:
        """Wait as for a device elsewhere, then give leave for the one asked."""
        await super().snmp_permit(ELSEWHERE, port, deadline)
        return await super().snmp_permit(address, port, deadline)


class Poller:
    """One process's SNMP side, and the rack that it asks."""

    def __init__(self, rack: Rack, who: Credentials, gate: Gate | None = None) -> None:
        """Ask nothing yet."""
        self.snmp, self._rack, self._who, self._gate = Snmp(), rack, who, gate or Gate(Policy())

    async def poll(self, wanted: list[str], number: int = 0) -> None:
        """Read objects of one switch; raises BenchError where one is missing."""
        deadline, address = asyncio.get_running_loop().time() + 60, self._rack.addresses[number]
        session = await self.snmp.session(self._gate, address, self._rack.port, self._who, deadline, lambda line: None)
        if None in (await session.get(wanted)).values():
            raise BenchError("the switch did not give every object")


def run(
    rack: Rack, who: Credentials, work: Callable[[Poller], Coroutine[Any, Any, Any]], gate: Gate | None = None
) -> Any:
    """Run some work against the rack, and close everything after it."""

    async def go() -> Any:
        poller = Poller(rack, who, gate)
        try:
            return await work(poller)
        finally:
            await poller.snmp.aclose()

    return asyncio.run(go())


def cpu(rack: Rack, quick: bool, who: Credentials) -> Figure:
    """CPU time of polling one switch of 48 ports and 7 columns, an object at a time; beside others for v2c."""
    times = 10 if quick else 40

    async def work(poller: Poller) -> float:
        await poller.poll(OIDS)
        before = time.process_time()
        for _ in range(times):
            await poller.poll(OIDS)
        return (time.process_time() - before) / times

    used = run(rack, who, work)
    how = f"{used * 1e3:.2f} ms a poll of {len(OIDS)} objects, {times} polls"
    if who.version == "2c":
        how += _beside("snmpbulkwalk, a process a column", bulkwalk_cpu_s, rack, 5)
        how += _beside("prometheus-snmp-exporter", exporter_cpu_s, rack, 5 * times)
    return Figure(f"SNMP CPU per object, v{who.version}", f"{used / len(OIDS) * 1e6:.1f} µs", "", how)


def _beside(name: str, measure: Callable[[Rack, int], float], rack: Rack, times: int) -> str:
    try:
        return f"; {name}: {measure(rack, times) / times / len(OIDS) * 1e6:.1f} µs"
    except Missing as error:
        return f"; {name} not compared: {error}"


def many(rack: Rack, who: Credentials) -> Figure:
    """Fifty switches at once, the budgets lifted (as they are on the loopback)."""

    async def work(poller: Poller) -> float:
        await poller.poll(list(SMALL))
        before = time.monotonic()
        await asyncio.gather(*(poller.poll(OIDS, number) for number in range(SWITCHES)))
        return time.monotonic() - before

    took = run(rack, who, work)
    how = f"{SWITCHES} switches × {PORTS} ports × {len(COLUMNS)} columns at once, budgets lifted"
    return Figure(f"SNMP, {SWITCHES} switches, v{who.version}", f"{took:.2f} s", "≤ 10 s", how, took <= 10)


def budgeted(rack: Rack) -> Figure:
    """One switch within the default budget of 5 questions a second."""

    async def work(poller: Poller) -> float:
        before = time.monotonic()
        await poller.poll(OIDS)
        return time.monotonic() - before

    took = run(rack, V3, work, RatedGate(Policy()))
    how = f"one switch of {PORTS} ports × {len(COLUMNS)} columns at 5 datagrams a second, v3 discovery included"
    return Figure("SNMP poll within the budget", f"{took:.1f} s", "≤ 20 s", how, took <= 20)


def growth(rack: Rack, quick: bool, who: Credentials) -> Figure:
    """What 10,000 polls leave in memory, after those that fill the caches."""
    polls = 1000 if quick else 10_000

    async def work(poller: Poller) -> int:
        for number in range(WARM_UP):
            await poller.poll(list(SMALL), number % SWITCHES)
        before = _rss_bytes()
        for number in range(polls):
            await poller.poll(list(SMALL), number % SWITCHES)
        return _rss_bytes() - before

    grown = run(rack, who, work) / 1e6
    how = f"VmRSS before and after {polls} polls of {SWITCHES} devices, after {WARM_UP} others"
    return Figure(f"SNMP memory growth, v{who.version}", f"{grown:.1f} MB", "0", how, grown < 0.3)


def _rss_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def service_memory(on: Bench, rack: Rack) -> Figure:
    """Resident memory of a service that asks fifty v3 devices and their ports."""
    keys = f"user: {USER}, auth_key: {AUTH_KEY}, priv_key: {PRIV_KEY}, watch_ports: [{FIRST}, {FIRST + 1}]"
    checks = [
        f"{{name: switch-{n}, type: snmp, interval: 5s, target: {address}, port: {rack.port}, {keys}}}"
        for n, address in enumerate(rack.addresses)
    ]
    with on.run(checks) as running:
        begin, end = running.rest(on.seconds(60, 20))
        rss, cpu_share = running.rss_bytes() / 1e6, running.cpu_s() / (end - running.started)
        passing(on.reader.records(begin, end), "snmp")
    how = f"VmRSS after {end - begin:.0f} s of {SWITCHES} v3 devices at 5 s, two ports each; {cpu_share:.1%} of a core"
    return Figure("service RSS with SNMP", f"{rss:.1f} MB", "≤ 60 MB", how, rss <= 60)


FIRST = int(OIDS[0].rpartition(".")[2])

"""What the echo figures run as a process of its own: `python -m bench.echo_worker MODE …` prints one line of JSON.

timed ADDRESS COUNT PER_S   echoes at a pace: [identifier, sequence, rtt_s, who took the time] of each
flat TARGETS ROUNDS         as fast as it goes, to addresses of the loopback network
engine TARGETS SECONDS      each target once a second, the tenth part of them at each tick: the echo engine alone
checks TARGETS SECONDS      the same as checks with their schedule, judgement and record (as JSON text)
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from agent.checks import Check, Toolbox
from agent.checks.icmp import Icmp
from agent.clock import Clock
from agent.net.icmp import Echo, IcmpEndpoint
from agent.net.resolve import Resolver
from agent.policy import Policy
from agent.rounds import Rounds
from agent.runner import Run, Runner
from agent.safety import TICK_S, Gate, Permit
from bench.service import address

UNRATED = Policy(packets_per_second=0, burst=0, target_per_second=0, target_burst=0)
WAIT_S = 4.0
WARM_S = 1.0
"""The kernel switches its stamps on a moment after they are first asked for; the first runs also import and open."""


async def permits(targets: int) -> list[Permit]:
    """Get leave for addresses of the loopback network."""
    gate = Gate(UNRATED)
    return [await gate.permit(address(n), None, "icmp", 1e12) for n in range(targets)]


async def timed(target: str, count: int, per_s: int) -> dict[str, Any]:
    """Send at a pace, some at each tick."""
    endpoint, loop, found = IcmpEndpoint(), asyncio.get_running_loop(), []
    permit = await Gate(UNRATED).permit(target, None, "icmp", 1e12)
    for _ in range(3):
        await endpoint.echo(permit, until=loop.time() + WAIT_S)
        await asyncio.sleep(0.1)
    together = max(1, round(per_s * TICK_S))
    began = loop.time()
    for number in range(count // together):
        await asyncio.sleep(began + number * TICK_S - loop.time())
        with endpoint.flight() as flight:
            for _ in range(together):
                flight.send(permit)
            await flight.wait(loop.time() + WAIT_S)
            found += [(echo.sequence, echo.rtt_s, echo.timestamping) for echo in flight.echoes]
    await endpoint.aclose()
    return {"echoes": found}


async def flat(targets: int, rounds: int) -> dict[str, Any]:
    """Send as fast as it goes, every target once a round."""
    endpoint, loop = IcmpEndpoint(), asyncio.get_running_loop()
    allowed = await permits(targets)
    await endpoint.echo(allowed[0], until=loop.time() + WAIT_S)
    await asyncio.sleep(WARM_S)
    cpu_s, began, lost = time.process_time(), time.monotonic(), 0
    for _ in range(rounds):
        lost += sum(echo.rtt_s is None for echo in await together(endpoint, allowed))
    await endpoint.aclose()
    spent = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.monotonic() - began}
    return {"sent": targets * rounds, "lost": lost, **spent}


async def together(endpoint: IcmpEndpoint, allowed: list[Permit]) -> list[Echo]:
    """Send one echo for each permit at once and wait for all."""
    with endpoint.flight() as flight:
        for permit in allowed:
            flight.send(permit)
        await flight.wait(asyncio.get_running_loop().time() + WAIT_S)
        return flight.echoes


async def engine(targets: int, seconds: int) -> dict[str, Any]:
    """Ask each target once a second by the engine alone."""
    endpoint, loop, lost = IcmpEndpoint(), asyncio.get_running_loop(), 0
    allowed = await permits(targets)
    await together(endpoint, allowed)
    await asyncio.sleep(WARM_S)
    ticks = round(1 / TICK_S)
    cpu_s, began = time.process_time(), loop.time()
    for number in range(seconds * ticks):
        await asyncio.sleep(began + number * TICK_S - loop.time())
        lost += sum(echo.rtt_s is None for echo in await together(endpoint, allowed[number % ticks :: ticks]))
    spent = time.process_time() - cpu_s
    await endpoint.aclose()
    return {"sent": targets * seconds, "lost": lost, "cpu_s": spent}


async def checks(targets: int, seconds: int) -> dict[str, Any]:
    """Ask each target once a second by a check, and make its record."""
    gate, tools, taken = Gate(UNRATED), Toolbox(), []

    def take(check: Check, run: Run) -> tuple[str, int]:
        taken.append(json.dumps({"check": check.name, **run.record.fields}))
        return "bench", len(taken)

    rounds = Rounds(Runner(gate, tools, Resolver(gate), Clock("trusted")), "bench", take, lambda late_s: None)
    rounds.plan(
        Icmp(name=f"icmp-{n}", target=address(n), count=1, interval_s=1.0, timeout_s=4.0) for n in range(targets)
    )
    running = asyncio.create_task(rounds.run())
    await asyncio.sleep(2 * WARM_S)
    taken.clear()
    cpu_s = time.process_time()
    await asyncio.sleep(seconds)
    spent = time.process_time() - cpu_s
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await tools.aclose()
    return {**counted([json.loads(text) for text in taken]), "cpu_s": spent}


def counted(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up records."""
    sent = sum(record.get("sent", 0) for record in records)
    lost = sent - sum(record.get("received", 0) for record in records)
    failures = sorted({str(record["failure"]) for record in records if "failure" in record})
    return {"sent": sent, "lost": lost, "failures": failures}


MODES = {"flat": flat, "engine": engine, "checks": checks}


def main(words: list[str]) -> None:
    """Run a mode and print what it found."""
    if words[0] == "timed":
        found = asyncio.run(timed(words[1], int(words[2]), int(words[3])))
    else:
        found = asyncio.run(MODES[words[0]](int(words[1]), int(words[2])))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])

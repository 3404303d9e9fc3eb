"""Measures by name while the name servers die: run inside a namespace by tests/real/test_names_netns.py.

dead_names.py FILE SERVER SERVER HOST NAME PORT: asks while all is well and prints a line; once FILE is there (the
servers are silent by then), asks again for some seconds and prints all that it found as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from agent.checks import Check, Context, Toolbox
from agent.checks.dns import Dns
from agent.checks.tcp import Tcp
from agent.model import Facts, Failed
from agent.net import resolve
from agent.policy import Policy
from agent.safety import Gate

SECONDS = 7.0
PAUSE_S = 0.1


class Asker:
    """What the runner does, for checks of this script."""

    def __init__(self) -> None:
        self.gate, self.tools = Gate(Policy(packets_per_second=0, target_per_second=0)), Toolbox()
        self.resolver = resolve.Resolver(self.gate)

    async def ask(self, check: Check, seconds: float) -> dict[str, Any]:
        began = asyncio.get_running_loop().time()
        try:
            ctx = Context(self.gate, self.tools, self.resolver, began + seconds, check_type=check.type)
            facts = await check.run(ctx)
        except Failed as failed:
            facts = Facts(failed.fields, failure=failed.failure, detail=failed.detail)
        took_s = asyncio.get_running_loop().time() - began
        return {"failure": facts.failure, "address": facts.address, "took_s": took_s, "detail": facts.detail}


async def main(go: Path, servers: list[str], host: str, name: str, port: int) -> None:
    resolve.FRESH_S = 0.0  # each run looks its name up anew
    asker = Asker()
    by_name, by_address = (Tcp(name="a", target=target, port=port) for target in (name, host))
    before = await asker.ask(by_name, 5)
    print("asked", flush=True)
    async with asyncio.timeout(30):
        while not go.exists():
            await asyncio.sleep(0.05)
    lag_s, probes = 0.0, []

    async def probe() -> None:
        nonlocal lag_s
        end = asyncio.get_running_loop().time() + SECONDS
        while (now := asyncio.get_running_loop().time()) < end:
            probes.append((await asker.ask(by_address, 5))["failure"])
            await asyncio.sleep(PAUSE_S)
            lag_s = max(lag_s, asyncio.get_running_loop().time() - now - PAUSE_S)

    found = await asyncio.gather(
        asker.ask(by_name, 5),
        asker.ask(Tcp(name="b", target=f"unknown.{name}", port=port), 2),
        *(asker.ask(Dns(name="c", server=server, query=name), 2) for server in servers),
        probe(),
    )
    again = await asker.ask(by_name, 5)
    result = {"before": before, "by_name": found[0], "unknown": found[1], "dns": found[2:-1], "again": again}
    print(json.dumps(result | {"probes": probes, "lag_s": lag_s}), flush=True)


if __name__ == "__main__":
    go, *servers, host, name, port = sys.argv[1:]
    asyncio.run(main(Path(go), servers, host, name, int(port)))

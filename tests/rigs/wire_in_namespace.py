"""Run in a namespace: connects to a broker, says `connected`, then how the connection ended and after how long.

python -m tests.rigs.wire_in_namespace ADDRESS PORT PROTOCOL
"""

from __future__ import annotations

import asyncio
import sys
import time

from agent.config.sections import Mqtt
from agent.mqtt import wire_factory
from agent.publisher import Closed, Message, NotConnected, Wire, WireFactory


async def patiently(open_wire: WireFactory) -> Wire:
    """Connect to a broker that may not listen yet."""
    for _ in range(50):
        try:
            return await open_wire(Message("siteprobe/v1/o/s/n/status", b"{}", retain=True))
        except NotConnected:
            await asyncio.sleep(0.1)
    raise SystemExit("the broker did not listen within 5 s")


async def main(address: str, port: str, protocol: str) -> None:
    """Open one wire and wait for its end."""
    mqtt = Mqtt(url=f"mqtt://{address}:{port}", protocol=protocol, keepalive_s=5.0, allow_plaintext=True)

    async def resolve(host: str, deadline: float) -> str:
        return host

    open_wire = wire_factory(mqtt, "n", resolve, lambda host: None, lambda: True)
    wire = await patiently(open_wire)
    print("connected", flush=True)
    began = time.monotonic()
    closed = await wire.event()
    assert isinstance(closed, Closed)
    print(f"{time.monotonic() - began:.1f} {closed.kind} {closed.reason}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

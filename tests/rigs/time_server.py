"""A scripted time server on loopback that can answer anything, and the ntp check against it."""

from __future__ import annotations

import asyncio
import struct
import time

from agent.checks.ntp import Ntp
from agent.model import Facts
from tests.rigs.servers import LOOPBACK, Answer, datagram_server, measured

EPOCH_S = 2_208_988_800  # 1900 to 1970, RFC 5905 figure 4


def reply(
    query: bytes,
    *,
    ahead_s: float = 0.0,
    first: int = 0x24,
    stratum: int = 2,
    delay_s: float = 0.01,
    dispersion_s: float = 0.002,
    name: bytes = b"\x0a\x14\x00\x01",
    set_ago_s: float | None = 10.0,
    received: int | None = None,
    sent: int | None = None,
) -> bytes:
    """Answer a client's packet as a server whose clock is `ahead_s` of ours; `first` is leap, version and mode."""
    now = time.time() + ahead_s
    head = struct.pack(">BBbb", first, stratum, 6, -20)
    root = struct.pack(">II4s", round(delay_s * 2**16), round(dispersion_s * 2**16), name)
    last_set = 0 if set_ago_s is None else stamp(now - set_ago_s)
    times = (stamp(now) if received is None else received, stamp(now) if sent is None else sent)
    return head + root + struct.pack(">Q", last_set) + query[40:48] + struct.pack(">QQ", *times)


def stamp(unix_s: float) -> int:
    return int((unix_s + EPOCH_S) * 2**32) % 2**64


def ask(answer: Answer, *, seconds: float = 5.0) -> Facts:
    async def go() -> Facts:
        async with datagram_server(answer) as port:
            return await measured(ntp_check(port)(name="a", server=LOOPBACK), seconds)

    return asyncio.run(go())


def ntp_check(at: int) -> type[Ntp]:
    """Give the check with another port than 123, which only root may listen on."""

    class NtpElsewhere(Ntp):
        port = at

    return NtpElsewhere

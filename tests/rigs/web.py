"""Asks scripted web servers with the http check."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from agent.checks.http import Http
from agent.model import Facts
from tests.rigs.servers import LOOPBACK, Handler, measured, stream_server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nstatus: up"
NAMES = {"epr.example.org": LOOPBACK, "localhost": LOOPBACK, "proxy.example.org": LOOPBACK}


def ask(
    handler: Handler,
    url: str = "http://127.0.0.1:{port}/",
    *,
    seconds: float = 5.0,
    tls: ssl.SSLContext | None = None,
    address: str = LOOPBACK,
    judge_dates: bool = True,
    **options: Any,
) -> Facts:
    async def go() -> Facts:
        async with stream_server(handler, tls=tls, address=address) as port:
            check = Http(name="a", url=url.format(port=port), **options)
            return await measured(check, seconds, names=NAMES, judge_dates=judge_dates)

    return asyncio.run(go())


def hears(into: list[bytes], answer: bytes = OK) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        into.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()

    return handler


def number(facts: Facts, name: str) -> float:
    value = facts.fields[name]
    assert isinstance(value, int | float)
    return value

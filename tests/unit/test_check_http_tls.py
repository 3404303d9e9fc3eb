"""The http check against scripted servers, over TLS and through a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.check import Traffic
from agent.checks.http import Http
from agent.model import Facts, Failure
from tests.rigs.servers import (
    LOOPBACK,
    Certificates,
    measured,
    says,
    stream_server,
)
from tests.rigs.web import OK, ask, hears, number


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_https_tells_the_handshake_and_the_days_left(certificates: Certificates) -> None:
    server = certificates.server(ends_in_days=2)
    facts = ask(says(OK), "https://localhost:{port}/", tls=server, ca_file=certificates.ca_file)
    assert facts.failure is None
    assert number(facts, "certificate_left_s") == pytest.approx(2 * 86400, abs=60)
    assert 0 < number(facts, "tls_s") < number(facts, "first_byte_s")


def test_https_by_address(certificates: Certificates) -> None:
    facts = ask(says(OK), "https://127.0.0.1:{port}/", tls=certificates.server(), ca_file=certificates.ca_file)
    assert facts.failure is None


@pytest.mark.parametrize(
    ("how", "failure"),
    [
        ({"starts_in_days": -9, "ends_in_days": -1}, Failure.TLS_EXPIRED),
        ({"starts_in_days": 1, "ends_in_days": 9}, Failure.TLS_NOT_YET_VALID),
        ({"other_ca": True}, Failure.TLS_UNTRUSTED),
    ],
)
def test_a_wrong_certificate(certificates: Certificates, how: dict[str, Any], failure: Failure) -> None:
    facts = ask(says(OK), "https://localhost:{port}/", tls=certificates.server(**how), ca_file=certificates.ca_file)
    assert facts.failure is failure
    assert "connect_s" in facts.fields
    assert "status" not in facts.fields


def test_a_certificate_for_another_name(certificates: Certificates) -> None:
    facts = ask(says(OK), "https://epr.example.org:{port}/", tls=certificates.server(), ca_file=certificates.ca_file)
    assert facts.failure is Failure.TLS_NAME


def test_dates_are_not_judged_while_our_clock_is_unset(certificates: Certificates) -> None:
    server = certificates.server(starts_in_days=-9, ends_in_days=-1)
    facts = ask(says(OK), "https://localhost:{port}/", tls=server, ca_file=certificates.ca_file, judge_dates=False)
    assert facts.failure is None
    assert "certificate_left_s" not in facts.fields


def test_a_ca_file_that_is_missing_is_not_the_services_fault(tmp_path: Path) -> None:
    facts = ask(says(OK), "https://localhost:{port}/", ca_file=str(tmp_path / "ca.pem"))
    assert facts.failure is Failure.LOCAL_PERMISSION


@asynccontextmanager
async def connect_proxy(heard: list[bytes], answer: bytes = b"HTTP/1.1 200 Connected\r\n\r\n") -> AsyncIterator[int]:
    """Serve as a CONNECT proxy for loopback ports."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        if b" 200 " in answer:
            port = int(heard[-1].split()[1].rpartition(b":")[2])
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
            finally:
                far_writer.close()

    async with stream_server(handler) as port:
        yield port


def through_proxy(certificates: Certificates, heard: list[bytes], **how: Any) -> Facts:
    async def go() -> Facts:
        async with (
            stream_server(says(OK), tls=certificates.server("epr.example.org")) as port,
            connect_proxy(heard, **how) as proxy,
        ):
            check = Http(
                name="a",
                url=f"https://epr.example.org:{port}/",
                proxy=f"http://proxy.example.org:{proxy}",
                ca_file=certificates.ca_file,
            )
            facts = await measured(check, names={"proxy.example.org": LOOPBACK})
            assert check.sends() == (Traffic("proxy.example.org", "tcp", proxy, 1),)
            assert check.asked == check.url
            return facts

    return asyncio.run(go())


def test_https_through_a_proxy_proves_the_services_name(certificates: Certificates) -> None:
    heard: list[bytes] = []
    facts = through_proxy(certificates, heard)
    assert facts.failure is None
    assert heard[0].startswith(b"CONNECT epr.example.org:")
    assert b"host: epr.example.org:" in heard[0].lower()
    assert facts.fields["status"] == 200
    assert {"dns_s", "connect_s", "tls_s", "certificate_left_s"} <= set(facts.fields)


@pytest.mark.parametrize(
    ("answer", "failure", "status"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", Failure.AUTH, 407),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", Failure.HTTP_STATUS, 502),
        (b"what?\r\n\r\n", Failure.PROTOCOL, None),
    ],
)
def test_a_proxy_that_will_not(certificates: Certificates, answer: bytes, failure: Failure, status: int | None) -> None:
    facts = through_proxy(certificates, [], answer=answer)
    assert facts.failure is failure
    assert facts.fields.get("status") == status


def test_plain_http_is_asked_from_the_proxy_itself() -> None:
    heard: list[bytes] = []

    async def go() -> Facts:
        async with stream_server(hears(heard)) as proxy:
            check = Http(name="a", url="http://epr.example.org/health?a=1", proxy=f"http://127.0.0.1:{proxy}")
            return await measured(check)

    assert asyncio.run(go()).failure is None
    assert heard[0].startswith(b"GET http://epr.example.org/health?a=1 HTTP/1.1\r\n")
    assert b"host: epr.example.org\r\n" in heard[0].lower()

"""TCP and TLS streams against real sockets and real certificates."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from contextlib import aclosing
from pathlib import Path

import pytest

from agent.model import Failed, Failure
from agent.net.streams import Stream, TlsContexts, TlsFacts, connect, tls_context
from tests.rigs.servers import (
    LOOPBACK,
    Certificates,
    Handler,
    closed_port,
    deaf_port,
    in_seconds,
    open_descriptors,
    permit,
    resets,
    says,
    stream_server,
)

DAY_S = 86400


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def shake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost", handler: Handler | None = None
) -> TlsFacts:
    """Shake hands with a server, and read one byte of it, so that TLS 1.3 shows its late errors too."""

    async def go() -> TlsFacts:
        async with (
            stream_server(handler or says(b"x", after_bytes=0, then=1), tls=server) as port,
            aclosing(await connect(permit(port), in_seconds(5))) as stream,
        ):
            facts = await stream.start_tls(client, name, in_seconds(5))
            assert await stream.read(1, in_seconds(5)) == b"x"
            return facts

    return asyncio.run(go())


def failing(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> Failed:
    with pytest.raises(Failed) as caught:
        shake(server, client, name)
    return caught.value


def with_plain(handler: Handler, seconds: float = 5.0) -> Failed:
    """Try a TLS handshake with a server that speaks no TLS."""

    async def go() -> None:
        async with stream_server(handler) as port, aclosing(await connect(permit(port), in_seconds(5))) as stream:
            await stream.start_tls(tls_context("", True), "localhost", in_seconds(seconds))

    with pytest.raises(Failed) as caught:
        asyncio.run(go())
    return caught.value


def test_reads_and_writes_more_than_one_buffer() -> None:
    sent = random.Random(1).randbytes(3_000_000)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def read_all(stream: Stream) -> bytes:
        got = bytearray()
        while len(got) < len(sent):
            got += await stream.read(65536, in_seconds(5))
        return bytes(got)

    async def go() -> bytes:
        async with stream_server(echo) as port, aclosing(await connect(permit(port), in_seconds(5))) as stream:
            _, got = await asyncio.gather(stream.write(sent, in_seconds(5)), read_all(stream))
            return got

    assert asyncio.run(go()) == sent


def test_the_end_of_the_other_side_reads_as_no_bytes() -> None:
    async def go() -> bytes:
        async with (
            stream_server(says(b"", after_bytes=0)) as port,
            aclosing(await connect(permit(port), in_seconds(5))) as stream,
        ):
            return await stream.read(10, in_seconds(5))

    assert asyncio.run(go()) == b""


@pytest.mark.parametrize(
    ("handler", "failure"), [(says(after_bytes=0, then=5), Failure.TIMEOUT), (resets(), Failure.RESET)]
)
def test_reading_fails_by_its_own_word(handler: Handler, failure: Failure) -> None:
    async def go() -> None:
        async with stream_server(handler) as port, aclosing(await connect(permit(port), in_seconds(5))) as stream:
            await stream.write(b"hello", in_seconds(1))
            await stream.read(10, in_seconds(0.2))

    with pytest.raises(Failed) as caught:
        asyncio.run(go())
    assert caught.value.failure is failure


def test_writing_to_one_who_does_not_read_ends_at_the_deadline() -> None:
    async def go() -> None:
        async with (
            stream_server(says(after_bytes=0, then=5)) as port,
            aclosing(await connect(permit(port), in_seconds(5))) as stream,
        ):
            await stream.write(bytes(50_000_000), in_seconds(0.3))

    with pytest.raises(Failed) as caught:
        asyncio.run(go())
    assert caught.value.failure is Failure.TIMEOUT


def test_connecting_fails_by_its_own_word() -> None:
    with closed_port() as port, pytest.raises(Failed) as refused:
        asyncio.run(_connect(port))
    assert refused.value.failure is Failure.REFUSED
    with deaf_port() as port, pytest.raises(Failed) as silent:
        asyncio.run(_connect(port, 0.2))
    assert silent.value.failure is Failure.TIMEOUT


def test_the_handshake_tells_its_facts(certificates: Certificates) -> None:
    facts = shake(certificates.server(ends_in_days=3), tls_context(certificates.ca_file, True))
    assert facts.protocol == "TLSv1.3"
    assert facts.cipher.startswith("TLS_")
    assert 0 < facts.handshake_s < 5
    assert facts.certificate_left_s == pytest.approx(3 * DAY_S, abs=60)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "localhost."])
def test_the_name_proven_may_be_an_address_or_end_in_a_dot(certificates: Certificates, name: str) -> None:
    assert shake(certificates.server(), tls_context(certificates.ca_file, True), name).protocol


def test_expired(certificates: Certificates) -> None:
    server = certificates.server(starts_in_days=-9, ends_in_days=-1)
    assert failing(server, tls_context(certificates.ca_file, True)).failure is Failure.TLS_EXPIRED


def test_not_yet_valid(certificates: Certificates) -> None:
    server = certificates.server(starts_in_days=1, ends_in_days=9)
    assert failing(server, tls_context(certificates.ca_file, True)).failure is Failure.TLS_NOT_YET_VALID


@pytest.mark.parametrize(("starts", "ends"), [(-9, -1), (1, 9)])
def test_dates_are_not_judged_while_our_clock_is_unset(certificates: Certificates, starts: int, ends: int) -> None:
    server = certificates.server(starts_in_days=starts, ends_in_days=ends)
    assert shake(server, tls_context(certificates.ca_file, False)).certificate_left_s is None


def test_all_but_the_dates_is_judged_while_our_clock_is_unset(certificates: Certificates) -> None:
    client = tls_context(certificates.ca_file, False)
    assert failing(certificates.server("other.example.org"), client).failure is Failure.TLS_NAME
    assert failing(certificates.server(other_ca=True), client).failure is Failure.TLS_UNTRUSTED


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_wrong_name(certificates: Certificates, name: str) -> None:
    server = certificates.server("other.example.org", "127.0.0.9")
    assert failing(server, tls_context(certificates.ca_file, True), name).failure is Failure.TLS_NAME


def test_other_ca_and_the_system_store(certificates: Certificates) -> None:
    server = certificates.server(other_ca=True)
    assert failing(server, tls_context(certificates.ca_file, True)).failure is Failure.TLS_UNTRUSTED
    assert failing(certificates.server(), tls_context("", True)).failure is Failure.TLS_UNTRUSTED


@pytest.mark.parametrize(
    ("handler", "failure"),
    [
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n", then=5), Failure.TLS_HANDSHAKE),
        (says(b"\x15\x03\x03\x00\x02\x02\x46", then=5), Failure.TLS_HANDSHAKE),  # alert 70 of RFC 8446, 6
        (says(b"\x15\x03\x03\x00\x02\x02\x28", then=5), Failure.TLS_HANDSHAKE),
        (says(), Failure.TLS_HANDSHAKE),
        (resets(), Failure.RESET),
        (says(then=5), Failure.TIMEOUT),
        (says(b"\x16\x03\x03\x00\x7a", then=5), Failure.TIMEOUT),
    ],
    ids=[
        "plain HTTP",
        "knows only old TLS",
        "no common cipher",
        "closes",
        "resets",
        "silent",
        "stops in the first record",
    ],
)
def test_no_tls_behind_the_port(handler: Handler, failure: Failure) -> None:
    assert with_plain(handler, 0.3).failure is failure


def test_random_bytes_for_tls_are_a_failure_and_never_an_error() -> None:
    context = tls_context("", True)
    rng = random.Random(7)

    async def go() -> set[Failure]:
        async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65536)
            writer.write(rng.choice([b"", b"\x16\x03\x03\x00\x30\x02", b"\x15\x03\x03\x00\x02"]) + rng.randbytes(60))
            await writer.drain()

        seen = set()
        async with stream_server(garbage) as port:
            for _ in range(200):
                async with aclosing(await connect(permit(port), in_seconds(5))) as stream:
                    with pytest.raises(Failed) as caught:
                        await stream.start_tls(context, "localhost", in_seconds(5))
                    seen.add(caught.value.failure)
        return seen

    assert Failure.TLS_HANDSHAKE in asyncio.run(go())


def test_a_ca_file_that_cannot_be_used_is_our_own_fault(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    for path, reason in ((tmp_path / "missing.pem", "No such file"), (empty, "holds no certificate")):
        with pytest.raises(Failed) as caught:
            tls_context(str(path), True)
        assert caught.value.failure is Failure.LOCAL_PERMISSION
        assert str(path) in caught.value.detail
        assert reason in caught.value.detail


def test_contexts_are_kept_until_the_file_changes(certificates: Certificates) -> None:
    contexts = TlsContexts()
    first = contexts.get(certificates.ca_file, True)
    assert contexts.get(certificates.ca_file, True) is first
    assert contexts.get(certificates.ca_file, False) is not first
    assert contexts.get("", True) is not first
    os.utime(certificates.ca_file, ns=(1, 1))
    assert contexts.get(certificates.ca_file, True) is not first


def test_cancelled_half_way_leaves_nothing_open(certificates: Certificates) -> None:
    async def go() -> None:
        with deaf_port() as port:
            await _cancel(connect(permit(port), in_seconds(5)))
        async with (
            stream_server(says(then=5)) as port,
            aclosing(await connect(permit(port), in_seconds(5))) as stream,
        ):
            await _cancel(stream.start_tls(tls_context("", True), "localhost", in_seconds(5)))

    before = open_descriptors()
    asyncio.run(go())
    assert open_descriptors() == before


async def _cancel(work: object) -> None:
    assert asyncio.iscoroutine(work)
    task = asyncio.create_task(work)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _connect(port: int, seconds: float = 5.0) -> Stream:
    return await connect(permit(port, address=LOOPBACK), in_seconds(seconds))

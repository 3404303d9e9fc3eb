"""The tls check against TLS servers with certificates right and wrong, and against what is no TLS server."""

from __future__ import annotations

import asyncio
import random
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest

from agent.check import Traffic
from agent.checks.tls import Tls
from agent.model import Facts, Failure
from tests.rigs.servers import LOOPBACK, Certificates, Handler, closed_port, deaf_port, measured, says, stream_server

NAMES = {"ldap.example.org": LOOPBACK, "localhost": LOOPBACK, "gateway": LOOPBACK}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def ask(
    certificates: Certificates,
    server: ssl.SSLContext | None,
    handler: Handler | None = None,
    *,
    target: str = "localhost",
    seconds: float = 10.0,
    judge_dates: bool = True,
    **options: Any,
) -> Facts:
    async def go() -> Facts:
        async with stream_server(handler or says(), tls=server) as port:
            check = Tls(name="a", target=target, port=port, **({"ca_file": certificates.ca_file} | options))
            return await measured(check, seconds, names=NAMES, judge_dates=judge_dates)

    return asyncio.run(go())


def test_passes_with_its_figures_and_sends_nothing_after_the_handshake(certificates: Certificates) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append(await reader.read())
        except ConnectionError:
            heard.append(b"")

    facts = ask(certificates, certificates.server(ends_in_days=3), listen)
    assert facts.failure is None
    assert facts.address == LOOPBACK
    assert list(facts.fields) == ["connect_s", "handshake_s", "certificate_left_s", "protocol", "cipher"]
    assert facts.fields["certificate_left_s"] == pytest.approx(3 * 86400, abs=60)
    assert facts.fields["protocol"] == "TLSv1.3"
    assert str(facts.fields["cipher"]).startswith("TLS_")
    assert heard in ([], [b""])


@pytest.mark.parametrize(
    ("target", "server_name", "names"),
    [
        (LOOPBACK, "", (LOOPBACK,)),
        (LOOPBACK, "ldap.example.org", ("ldap.example.org",)),
        ("ldap.example.org", "", ("*.example.org",)),
        ("ldap.example.org", LOOPBACK, (LOOPBACK,)),
        ("gateway", "", (LOOPBACK,)),
    ],
)
def test_the_name_to_be_proven(
    certificates: Certificates, target: str, server_name: str, names: tuple[str, ...]
) -> None:
    server = certificates.server(*names)
    assert ask(certificates, server, target=target, server_name=server_name).failure is None


@pytest.mark.parametrize(
    ("how", "failure"),
    [
        ({"starts_in_days": -9, "ends_in_days": -1}, Failure.TLS_EXPIRED),
        ({"starts_in_days": 1, "ends_in_days": 9}, Failure.TLS_NOT_YET_VALID),
        ({"other_ca": True}, Failure.TLS_UNTRUSTED),
    ],
)
def test_a_wrong_certificate_is_told_apart(certificates: Certificates, how: dict[str, Any], failure: Failure) -> None:
    facts = ask(certificates, certificates.server(**how))
    assert facts.failure is failure
    assert set(facts.fields) == {"connect_s"}


@pytest.mark.parametrize("target", ["localhost", LOOPBACK])
def test_a_certificate_for_another_name(certificates: Certificates, target: str) -> None:
    assert ask(certificates, certificates.server("epr.example.org"), target=target).failure is Failure.TLS_NAME


def test_the_systems_store_does_not_trust_our_ca(certificates: Certificates) -> None:
    assert ask(certificates, certificates.server(), ca_file="").failure is Failure.TLS_UNTRUSTED


@pytest.mark.parametrize("days", [(-9, -1), (1, 9)])
def test_dates_are_not_judged_while_our_clock_is_unset(certificates: Certificates, days: tuple[int, int]) -> None:
    server = certificates.server(starts_in_days=days[0], ends_in_days=days[1])
    facts = ask(certificates, server, judge_dates=False)
    assert facts.failure is None
    assert facts.fields["certificate_left_s"] is None
    other = certificates.server(other_ca=True)
    assert ask(certificates, other, judge_dates=False).failure is Failure.TLS_UNTRUSTED


def tls_alert(description: int) -> bytes:
    """Write a fatal alert in the clear (RFC 8446, 6)."""
    return b"\x15\x03\x03\x00\x02\x02" + bytes([description])


@pytest.mark.parametrize(
    ("handler", "failure", "word"),
    [
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Failure.TLS_HANDSHAKE, "does not speak TLS"),
        (says(b"220 mail.example.org ESMTP\r\n", after_bytes=0, then=5), Failure.TLS_HANDSHAKE, "does not speak TLS"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n", after_bytes=0, then=5), Failure.TLS_HANDSHAKE, "does not speak TLS"),
        (says(), Failure.TLS_HANDSHAKE, "closed"),
        (says(tls_alert(40)), Failure.TLS_HANDSHAKE, "no cipher"),
        (says(tls_alert(70)), Failure.TLS_HANDSHAKE, "older than 1.2"),
        (says(tls_alert(112)), Failure.TLS_HANDSHAKE, "no such name"),
        (says(b"\x16\x03\x03\xff\xff" + b"x" * 65535), Failure.TLS_HANDSHAKE, "TLS failed"),
        (says(b"\x16\x03\x03\x40\x00\x02\xff\xff\xff" + b"x" * 65535, then=5), Failure.TLS_HANDSHAKE, "TLS failed"),
        (says(after_bytes=0, then=9), Failure.TIMEOUT, "handshake"),
        (says(b"\x16\x03\x03", then=9), Failure.TIMEOUT, "handshake"),
        (says(b"\x16\x03\x03\x00\x7a\x02", *[b"\x00"] * 60, pause_s=0.05), Failure.TIMEOUT, "handshake"),
    ],
    ids=[
        "HTTP", "SMTP", "SSH", "closes", "no cipher", "old", "no such name", "long record", "endless hello",
        "silent", "stops", "drips",
    ],
)  # fmt: skip
def test_what_is_no_tls_server(certificates: Certificates, handler: Handler, failure: Failure, word: str) -> None:
    facts = ask(certificates, None, handler, seconds=0.5 if failure is Failure.TIMEOUT else 20.0)
    assert facts.failure is failure, facts.detail
    assert word in facts.detail
    assert set(facts.fields) == {"connect_s"}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_a_server_of_old_versions_only(certificates: Certificates) -> None:
    server = certificates.server()
    server.set_ciphers("ALL:@SECLEVEL=0")
    server.minimum_version, server.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    facts = ask(certificates, server)
    assert facts.failure is Failure.TLS_HANDSHAKE


def test_no_connection(certificates: Certificates) -> None:
    async def go(port: int, target: str = LOOPBACK, **policy: Any) -> Facts:
        return await measured(Tls(name="a", target=target, port=port), 0.3, names=NAMES, **policy)

    with closed_port() as port:
        assert asyncio.run(go(port)).failure is Failure.REFUSED
    with deaf_port() as port:
        facts = asyncio.run(go(port))
    assert (facts.failure, facts.fields) == (Failure.TIMEOUT, {})
    assert asyncio.run(go(443, "nowhere.example.org")).failure is Failure.DNS_NXDOMAIN
    assert asyncio.run(go(9100)).failure is Failure.LOCAL_POLICY


def test_a_ca_file_that_is_missing_is_not_the_services_fault(certificates: Certificates, tmp_path: Path) -> None:
    facts = ask(certificates, certificates.server(), ca_file=str(tmp_path / "ca.pem"))
    assert facts.failure is Failure.LOCAL_PERMISSION


def test_random_bytes_are_a_failure_and_never_an_error(certificates: Certificates) -> None:
    rng = random.Random(7)

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        size = rng.randrange(1, 400)
        record = struct.pack(">BHH", rng.choice((20, 21, 22, 23, 99)), rng.choice((0x301, 0x303, 0)), size)
        writer.write(rng.choice((b"", record)) + rng.randbytes(size))
        await writer.drain()

    async def go() -> set[Failure | None]:
        async with stream_server(garbage) as port:
            check = Tls(name="a", target=LOOPBACK, port=port, ca_file=certificates.ca_file)
            return {(await measured(check, 1.0)).failure for _ in range(100)}

    assert asyncio.run(go()) <= {Failure.TLS_HANDSHAKE, Failure.TIMEOUT, Failure.RESET}


def test_declares_what_it_sends() -> None:
    check = Tls(name="a", target="gateway", port=636)
    assert check.sends() == (Traffic("gateway", "tcp", 636, 1),)
    assert (check.asked, check.layer_or_default, check.main_field) == ("gateway", "service", "handshake_s")
    assert {"certificate_left_s", "handshake_s"} <= set(check.numbers())

"""The http check where somebody stands in between (portals, injected pages, wrong addresses), and mad servers."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

import pytest

from agent.checks.http import LARGEST_BODY
from agent.model import Failure
from agent.net import portal
from tests.rigs.servers import Certificates, Handler, says
from tests.rigs.web import ask

URL = "http://epr.example.org:{port}/health"
PORTAL = "http://login.hotspot.test/?u=secret-token"


def answer(status: int, *headers: str, body: bytes = b"") -> Handler:
    lines = "".join(f"{header}\r\n" for header in (*headers, f"Content-Length: {len(body)}"))
    return says(f"HTTP/1.1 {status} Word\r\n{lines}\r\n".encode() + body)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_stranger_is_a_portals(status: int) -> None:
    facts = ask(answer(status, f"Location: {PORTAL}"), URL)
    assert facts.failure is Failure.CAPTIVE_PORTAL
    assert "login.hotspot.test" in facts.detail and "secret-token" not in facts.detail
    assert facts.fields["status"] == status


@pytest.mark.parametrize(
    "location",
    [
        "/login",
        "?x",
        "https://epr.example.org/health",
        "https://www.epr.example.org/",
        "https://sso.example.org/",
        "//example.org/",
        "mailto:a@hotspot.test",
        "http://[::1",
        "",
    ],
)
def test_a_redirect_within_the_own_domain_is_a_status(location: str) -> None:
    facts = ask(answer(302, f"Location: {location}"), URL)
    assert facts.failure is Failure.HTTP_STATUS
    assert "redirects" in facts.detail


def test_a_redirect_that_is_expected_passes_and_is_not_followed() -> None:
    assert ask(answer(302, f"Location: {PORTAL}"), URL, expect_status=(302,)).failure is None


def test_an_address_has_no_domain() -> None:
    assert ask(answer(302, "Location: http://10.0.0.1/")).failure is Failure.CAPTIVE_PORTAL
    assert ask(answer(302, "Location: http://127.0.0.1:81/")).failure is Failure.HTTP_STATUS


def test_status_511_is_made_for_portals() -> None:
    assert ask(answer(511), URL).failure is Failure.CAPTIVE_PORTAL


def test_a_page_in_place_of_no_content() -> None:
    page = answer(200, "Content-Type: Text/HTML; charset=utf-8", body=b"<h1>Welcome</h1>")
    assert ask(page, URL, expect_status=(204,)).failure is Failure.CAPTIVE_PORTAL
    assert ask(answer(200), URL, expect_status=(204,)).failure is Failure.HTTP_STATUS
    assert ask(page, URL, expect_status=(201,)).failure is Failure.HTTP_STATUS


@pytest.mark.parametrize(
    "page",
    [
        b'<meta http-equiv="refresh" content="0; url=http://login.hotspot.test/">',
        b"<META HTTP-EQUIV=refresh CONTENT='0;URL=http://login.hotspot.test/'>",
        b'<form method="post" action="https://login.hotspot.test/auth"><input name=user></form>',
        b'<script>window.location.href = "http://login.hotspot.test/";</script>',
        b"<html><!-- <WISPAccessGatewayParam></WISPAccessGatewayParam> --></html>",
    ],
)
def test_a_page_without_the_text_that_sends_its_reader_away(page: bytes) -> None:
    facts = ask(answer(200, body=page), URL, expect_text="status: up")
    assert facts.failure is Failure.CAPTIVE_PORTAL
    both = answer(200, body=page + b"status: up")
    assert ask(both, URL, expect_text="status: up").failure is None


@pytest.mark.parametrize(
    "page",
    [
        b"status: down",
        b'<form action="/login">',
        b'<meta http-equiv="refresh" content="30">',
        b'<a href="http://vendor.test/">made by</a>',
        b'<script>location = "https://sso.example.org/"</script>',
        b"\xff\xfe\x00<form action=\xff\xfe>",
    ],
)
def test_a_page_of_its_own_without_the_text_is_the_services_fault(page: bytes) -> None:
    assert ask(answer(200, body=page), URL, expect_text="status: up").failure is Failure.HTTP_TEXT


def test_a_hostile_page_does_not_hold_up_the_loop() -> None:
    for piece in (b"<meta http-equiv=refresh ", b"<form ", b"location=", b"<form action=", b"<meta " + b" " * 190):
        page = (piece * LARGEST_BODY)[:LARGEST_BODY]
        began = time.process_time()
        portal.sent_away("http://epr.example.org/", page)
        assert time.process_time() - began < 2.0, piece


def test_behind_https_a_redirect_is_the_services_own(certificates: Certificates) -> None:
    server = certificates.server("epr.example.org")
    url = URL.replace("http:", "https:")
    facts = ask(answer(302, f"Location: {PORTAL}"), url, tls=server, ca_file=certificates.ca_file)
    assert facts.failure is Failure.HTTP_STATUS
    facts = ask(answer(511), url, tls=server, ca_file=certificates.ca_file)
    assert facts.failure is Failure.HTTP_STATUS


@pytest.mark.parametrize(
    ("how", "failure"),
    [
        ({"names": ("evil.example.org",)}, Failure.TLS_NAME),
        ({"names": ("epr.example.org",), "other_ca": True}, Failure.TLS_UNTRUSTED),
    ],
)
def test_at_a_poisoned_address_nothing_of_the_request_is_told(
    certificates: Certificates, how: dict[str, Any], failure: Failure
) -> None:
    """DNS led us to somebody else, who can prove another name only: he hears a handshake, and not one byte more."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append(await reader.read())
        except (ConnectionError, ssl.SSLError):
            heard.append(b"")

    names = how.pop("names")
    server = certificates.server(*names, **how)
    url = "https://epr.example.org:{port}/health?token=secret"
    facts = ask(listen, url, tls=server, ca_file=certificates.ca_file)
    assert facts.failure is failure
    assert not b"".join(heard)
    assert "status" not in facts.fields and "first_byte_s" not in facts.fields


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "failure"),
    [
        ((CHUNKED, b"zz\r\nbody\r\n"), Failure.PROTOCOL),
        ((CHUNKED, b"-5\r\nbody\r\n"), Failure.PROTOCOL),
        ((CHUNKED, b"4\r\nbodyXX0\r\n\r\n"), Failure.PROTOCOL),
        ((CHUNKED, b"ffffffffffffffffffff1\r\nx"), Failure.PROTOCOL),
        ((CHUNKED, b"4;" + b"x" * 70_000), Failure.PROTOCOL),
        ((CHUNKED, b"4\r\nbody\r\n0\r\n" + b"X: y\r\n" * 20_000), Failure.PROTOCOL),
        ((CHUNKED, b"4\r\nbody\r\n"), Failure.PROTOCOL),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", b"x"), Failure.PROTOCOL),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",), Failure.PROTOCOL),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", b"x"), Failure.PROTOCOL),
        ((b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 9000 + b"\r\n",), Failure.PROTOCOL),
        ((b"HTTP/1.1 103 Early\r\n\r\n" * 200,), Failure.PROTOCOL),
        ((b"HTTP/1.1 200 " + b"x" * 65_536,), Failure.PROTOCOL),
        ((b"\0" * 65_536,), Failure.PROTOCOL),
    ],
    ids=lambda value: value[-1][:24].decode("ascii", "replace") if isinstance(value, tuple) else "",
)
def test_nonsense_is_a_protocol_failure(pieces: tuple[bytes, ...], failure: Failure) -> None:
    facts = ask(says(*pieces), seconds=20)
    assert facts.failure is failure
    assert facts.detail.isprintable() and len(facts.detail) < 300


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", CHUNKED]
)
def test_a_drip_is_stalled_at_the_deadline(start: bytes) -> None:
    facts = ask(says(start, *[b"1"] * 60, pause_s=0.05), seconds=0.5)
    assert facts.failure is Failure.STALLED


def test_interim_answers_without_end_are_stalled_at_the_deadline() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
            await writer.drain()

    assert ask(endless, seconds=0.5).failure is Failure.STALLED


def test_a_compressed_body_cannot_be_read_and_says_so() -> None:
    facts = ask(answer(200, "Content-Encoding: gzip", body=b"\x1f\x8b..."), expect_text="status: up")
    assert facts.failure is Failure.HTTP_TEXT
    assert "compressed" in facts.detail
    assert ask(answer(200, "Content-Encoding: gzip", body=b"\x1f\x8b...")).failure is None

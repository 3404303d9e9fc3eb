"""The `http` check, whether a web service answers a GET rightly: RFC 9110 and 9112."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlsplit

from agent import __version__
from agent.check import Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Failure, Scalar
from agent.net import portal
from agent.net.streams import Stream, TlsContexts, connect
from agent.net.urls import authority, host_and_port, request_target
from agent.options import ListOf, Number, Text, Url, is_address, option

LARGEST_BODY = 32 * 1024
"""Bytes read of a body: enough for a health page, little enough for a metered line."""
READ_BYTES = 16 * 1024
PROXY_WANTS_LOGIN = 407


@dataclass(frozen=True, kw_only=True)
class Http(Check):
    """Sends one GET and looks at the answer: connection, certificate, status, text, and each one's time.

    No log-in, no cookies, no redirect followed: give the address of a page that says whether the
    service is well. At most 32 KiB of the body are read, uncompressed. TLS is 1.2 or later; chain, name
    and dates of the certificate are judged (the dates only while our own clock is right), all before
    the first byte of the request is sent.

    With `proxy` the connection goes to the proxy: `http` URLs are asked from it, for `https` URLs it
    is told to CONNECT. `address` is then the proxy's, and the service's name is the proxy's to resolve.

    It passes when the status is right and `expect_text` is in the body as UTF-8. Before that it may fail
    with `dns_…` (its name), `refused timeout unreachable prohibited reset` (the connection, see `tcp`) or
    `tls_…` (the certificate or the handshake); then: `timeout`, not one byte of an answer; `stalled`, an
    answer that stopped half-way or drips; `protocol`, an answer that is not HTTP; `http_status`, a status
    that is not expected, a redirect too (the body is then not read); `http_text`; `auth`, the proxy wants a
    log-in.

    `captive_portal`: somebody on the way answers a plain `http` URL in the service's place. Its signs are a
    redirect to a host of another domain, status 511, a page where `expect_status: 204` was to come, and a
    page without `expect_text` that sends its reader to another domain: so give `expect_text`. Under `https` a
    portal cannot answer in the service's name and shows as `tls_untrusted`, `tls_name` or a `timeout`.
    """

    type: ClassVar[str] = "http"
    main_field: ClassVar[str] = "total_s"
    facts: ClassVar[Mapping[str, Fact]] = {
        "dns_s": Fact(float, "Seconds that looking up the name took; left out where there was none."),
        "connect_s": Fact(float, "Seconds that the TCP connection took."),
        "tls_s": Fact(float, "Seconds that the TLS handshake took; left out without TLS."),
        "first_byte_s": Fact(float, "Seconds from the start to the first byte of the answer."),
        "total_s": Fact(float, "Seconds from the start to the end, without what our own packet budget made us wait."),
        "status": Fact(int, "HTTP status code."),
        "body_bytes": Fact(int, "Bytes of the body, as read."),
        "certificate_left_s": Fact(float, "Seconds until the certificate ends; left out while our clock is unset."),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {
        "dns_s": 0.0021,
        "connect_s": 0.0119,
        "tls_s": 0.0274,
        "certificate_left_s": 6825600.5,
        "first_byte_s": 0.0718,
        "status": 200,
        "body_bytes": 412,
        "total_s": 0.0722,
    }

    url: str = option(Url(("http", "https")), "Page to ask for.", example="https://epr.example.org/health")
    expect_status: tuple[int, ...] = option(
        ListOf(Number(100, 599, whole=True), single=True),
        "Status codes that are right; without it 200 to 299.",
        default=(),
        example="[200, 401]",
    )
    expect_text: str = option(Text(), "Text that the body must hold.", default="", example="status: up")
    ca_file: str = option(
        Text(), "CA certificates (PEM) in place of the system's.", default="", example="/etc/siteprobe/ca.pem"
    )
    proxy: str = option(Url(("http",)), "Proxy to go through.", default="", example="http://proxy.example.org:3128")

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the one connection, to the proxy if there is one."""
        host, port = self.hop()
        return (Traffic(host, "tcp", port, 1),)

    def reaches(self) -> tuple[Traffic, ...]:
        """Declare where the proxy goes for us."""
        host, port = host_and_port(urlsplit(self.url))
        return (Traffic(host, "tcp", port, 0),) if self.proxy else ()

    async def run(self, ctx: Context) -> Facts:
        """Ask and judge; see the class for the failures."""
        return await _Run(self, ctx).facts()

    @property
    def asked(self) -> str:
        """The URL as configured."""
        return self.url

    def hop(self) -> tuple[str, int]:
        """Give the host and port that the connection goes to."""
        return host_and_port(urlsplit(self.proxy or self.url))


@dataclass
class _Run:
    """One run, phase by phase, with what is known so far."""

    check: Http
    ctx: Context
    address: str = ""
    fields: dict[str, Scalar] = field(default_factory=dict)
    began: float = 0.0

    def __post_init__(self) -> None:
        self.url = urlsplit(self.check.url)
        self.now = asyncio.get_running_loop().time

    async def facts(self) -> Facts:
        try:
            async with AsyncExitStack() as closing:
                await self._measure(closing)
        except Failed as failed:
            return Facts({**self.fields, **failed.fields}, self.address, failed.failure, failed.detail)
        return Facts(self.fields, self.address)

    async def _measure(self, closing: AsyncExitStack) -> None:
        secure = self.url.scheme == "https"
        contexts = self.ctx.tools.get(TlsContexts)
        context = contexts.get(self.check.ca_file, self.ctx.judge_certificate_dates) if secure else None
        self.began = self.now()
        stream = await self._connect()
        await closing.enter_async_context(aclosing(stream))
        if context:
            await self._secure(stream, context)
        await self._get(stream)

    async def _connect(self) -> Stream:
        host, port = self.check.hop()
        self.address = await self.ctx.resolve(host)
        if not is_address(host):
            self.fields["dns_s"] = self.now() - self.began
        asked = self.now()
        permit = await self.ctx.permit(self.address, port, "tcp")
        self.began += self.now() - asked  # the wait for our own packet budget is not the service's time
        stream = await connect(permit, self.ctx.deadline)
        self.fields["connect_s"] = stream.connect_s
        self.ctx.say(f"connected to {self.address} port {port} in {stream.connect_s:.4f} s")
        return stream

    async def _secure(self, stream: Stream, context: ssl.SSLContext) -> None:
        if self.check.proxy:
            await self._tunnel(stream)
        tls = await stream.start_tls(context, self.url.hostname or "", self.ctx.deadline)
        self.fields["tls_s"] = tls.handshake_s
        self.ctx.say(f"{tls.protocol} with {tls.cipher} in {tls.handshake_s:.4f} s")
        if tls.certificate_left_s is not None:
            self.fields["certificate_left_s"] = tls.certificate_left_s

    async def _tunnel(self, stream: Stream) -> None:
        target = authority(self.url, always_port=True)
        exchange = _Exchange(stream, self.ctx.deadline)
        status = await exchange.ask("CONNECT", target, target)
        self.ctx.say(f"the proxy answered {status} to CONNECT {target}")
        if not 200 <= status <= 299:
            self.fields["status"] = status
            raise _wrong_status(status, "the proxy")

    async def _get(self, stream: Stream) -> None:
        exchange = _Exchange(stream, self.ctx.deadline)
        try:
            status = await exchange.ask("GET", request_target(self.url, bool(self.check.proxy)), authority(self.url))
        finally:
            if exchange.first_byte_at is not None:
                self.fields["first_byte_s"] = exchange.first_byte_at - self.began
        self.fields["status"] = status
        self.ctx.say(f"status {status}")
        if not self._wanted(status):
            self.fields["total_s"] = self.now() - self.began
            raise self._unwanted(status, exchange.headers)
        try:
            await exchange.read_body()
        finally:
            self.fields["body_bytes"] = len(exchange.body)
        self.fields["total_s"] = self.now() - self.began
        if self.check.expect_text.encode() not in exchange.body:
            raise self._without_text(exchange)

    def _unwanted(self, status: int, headers: Mapping[str, str]) -> Failed:
        if self.url.scheme == "http":
            away = portal.redirected_away(self.check.url, status, headers.get("location", ""))
            page = 200 <= status <= 299 and "html" in headers.get("content-type", "").lower()
            in_place = page and self.check.expect_status == (portal.NO_CONTENT,)
            if away or in_place or status == portal.LOG_IN_FIRST:
                return _captive(away)
        return _wrong_status(status, "the proxy" if status == PROXY_WANTS_LOGIN else "the service")

    def _without_text(self, exchange: _Exchange) -> Failed:
        away = portal.sent_away(self.check.url, exchange.body) if self.url.scheme == "http" else ""
        if away:
            return _captive(away)
        if exchange.headers.get("content-encoding", "identity") != "identity":
            return Failed(Failure.HTTP_TEXT, "the body is compressed, which was not asked for: its text cannot be read")
        return Failed(Failure.HTTP_TEXT, "the body does not hold the expected text")

    def _wanted(self, status: int) -> bool:
        return status in self.check.expect_status if self.check.expect_status else 200 <= status <= 299


def _wrong_status(status: int, who: str) -> Failed:
    if status == PROXY_WANTS_LOGIN:
        return Failed(Failure.AUTH, "the proxy wants a log-in; let it pass this machine without one")
    hint = "; ask the page that it redirects to, or list the status in expect_status" if 300 <= status <= 399 else ""
    return Failed(Failure.HTTP_STATUS, f"{who} answered with status {status}{hint}")


def _captive(leads_to: str) -> Failed:
    where = f", which leads to {leads_to}" if leads_to else ""
    return Failed(Failure.CAPTIVE_PORTAL, f"a captive portal answers in the service's place{where}; log in there once")


class _Exchange:
    """One request on a stream and its answer. h11 is loaded by the first run, where one is configured."""

    def __init__(self, stream: Stream, deadline: float) -> None:
        import h11

        self._stream = stream
        self._deadline = deadline
        self._connection = h11.Connection(h11.CLIENT)
        self.first_byte_at: float | None = None
        self.headers: dict[str, str] = {}
        self.body = b""

    async def ask(self, method: str, target: str, host: str) -> int:
        """Send the request and give the status of the final answer. Raises `Failed`."""
        import h11

        headers = [("Host", host), ("User-Agent", f"siteprobe/{__version__}"), ("Accept", "*/*")]
        headers += [("Accept-Encoding", "identity"), ("Connection", "close")] if method == "GET" else []
        request = h11.Request(method=method, target=target, headers=headers)
        data = [self._connection.send(event) or b"" for event in (request, h11.EndOfMessage())]
        await self._stream.write(b"".join(data), self._deadline)
        while not isinstance(event := await self._event(), h11.Response):
            pass  # 1xx: the answer proper is still to come
        self.headers = {name.decode().lower(): value.decode(errors="replace") for name, value in event.headers}
        return event.status_code

    async def read_body(self) -> None:
        """Read the body into `body`, up to its cap. Raises `Failed` with stalled, reset or protocol."""
        import h11

        while len(self.body) < LARGEST_BODY and isinstance(event := await self._event(), h11.Data):
            self.body = (self.body + bytes(event.data))[:LARGEST_BODY]

    async def _event(self) -> object:
        import h11

        while True:
            try:
                event = self._connection.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._connection.receive_data(await self._read())
            except h11.RemoteProtocolError as error:
                raise Failed(Failure.PROTOCOL, self._broken(str(error).partition(":")[0])) from None

    def _broken(self, why: str) -> str:
        """Say what is wrong with an answer that h11 does not take."""
        if "closed connection" in why:
            return "the server closed the connection before its answer was whole; look at its log"
        return f"the answer is not HTTP: {why}"

    async def _read(self) -> bytes:
        try:
            data = await self._stream.read(READ_BYTES, self._deadline)
        except Failed as failed:
            if failed.failure is Failure.TIMEOUT and self.first_byte_at is not None:
                raise Failed(Failure.STALLED, "the answer began and then stopped before it was whole") from None
            raise
        if self.first_byte_at is None:
            if not data:
                raise Failed(Failure.PROTOCOL, "the connection was closed without an answer")
            self.first_byte_at = asyncio.get_running_loop().time()
        return data

"""TCP connections and TLS over them, each step with its own time and its own failure.

Non-blocking sockets straight on the event loop, without asyncio's transports: what the kernel says is
seen as it is (also the ICMP error behind a failed connect), and a stream is closed when `aclose`
returns. OpenSSL's own words decide about certificates; nothing is judged twice.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.model import Failed, Failure
from agent.net.errors import failed_from_os_error
from agent.net.sockets import address_of, failed_from_socket, keep_icmp_errors, open_socket, signalled
from agent.safety import Permit

T = TypeVar("T")

NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of openssl/x509_vfy.h; Python does not name it
VERIFY_FAILURES = {  # X509_V_ERR_* of openssl/x509_vfy.h; any other is a chain that we do not trust
    9: (Failure.TLS_NOT_YET_VALID, "the certificate is not valid yet"),
    10: (Failure.TLS_EXPIRED, "the certificate has expired"),
    62: (Failure.TLS_NAME, "the certificate is for another name"),
    64: (Failure.TLS_NAME, "the certificate does not cover this address"),
}
TLS_SENTENCES = {  # OpenSSL's reasons (openssl/sslerr.h); its versions call one fault by several names
    (
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "PACKET_LENGTH_TOO_LONG",
        "HTTP_REQUEST",
        "UNEXPECTED_MESSAGE",
        "BAD_RECORD_TYPE",
    ): "what answers there does not speak TLS; check the port, and whether the service has TLS switched on",
    ("UNEXPECTED_EOF_WHILE_READING", "CLOSED"): "the server closed the connection in the middle",
    ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"): "the server knows only TLS older than 1.2; renew it",
    ("SSLV3_ALERT_HANDSHAKE_FAILURE",): "no cipher is known to both sides, or the server wants a certificate of ours",
    ("TLSV13_ALERT_CERTIFICATE_REQUIRED",): "the server wants a certificate of ours",
    ("TLSV1_UNRECOGNIZED_NAME", "TLSV1_ALERT_UNRECOGNIZED_NAME"): "the server knows no such name; check it",
}


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What a handshake showed: seconds it took, TLS version, cipher, seconds until the certificate ends.

    `certificate_left_s` is None where dates are not judged (our own clock is unset).
    """

    handshake_s: float
    protocol: str
    cipher: str
    certificate_left_s: float | None


class TlsContexts:
    """Keeps the TLS settings of each CA file: reading the system's store takes 30 ms, on a small Pi ten times that.

    A file that has changed is read again.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[str, bool, int], ssl.SSLContext] = {}

    def get(self, ca_file: str, judge_dates: bool) -> ssl.SSLContext:
        """Give the settings as `tls_context` makes them, with its failure."""
        key = (ca_file, judge_dates, _modified_ns(ca_file))
        if key not in self._made:
            self._made = {k: v for k, v in self._made.items() if k[:2] != key[:2]}
            self._made[key] = tls_context(ca_file, judge_dates)
        return self._made[key]


def _modified_ns(ca_file: str) -> int:
    """Say when the file (the system's store for "") was last changed; 0 where that cannot be told."""
    try:
        return Path(ca_file or ssl.get_default_verify_paths().cafile or "").stat().st_mtime_ns
    except OSError:
        return 0


def tls_context(ca_file: str, judge_dates: bool) -> ssl.SSLContext:
    """Make the settings of a client: TLS 1.2 or later, the chain and the name always judged.

    `ca_file` takes the place of the system's store ("" = the system's). Without `judge_dates` an expired
    or future certificate passes, and everything else is still judged. Raises `Failed` with
    local_permission where the CA file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs()
    except OSError as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise Failed(Failure.LOCAL_PERMISSION, f"the CA file {ca_file} cannot be used: {reason}") from None
    if not judge_dates:
        context.verify_flags |= NO_CHECK_TIME
    return context


class Stream:
    """A TCP connection, after `start_tls` a TLS one. Close it with `aclose` (contextlib.aclosing)."""

    def __init__(self, sock: socket.socket, connect_s: float) -> None:
        """Take a connected non-blocking socket; `connect_s` is how long the connecting took."""
        self._sock = sock
        self.connect_s = connect_s

    async def start_tls(self, context: ssl.SSLContext, server_name: str, deadline: float) -> TlsFacts:
        """Shake hands as a client that wants `server_name` (a name or an address) to be proven.

        Raises `Failed`: tls_expired, tls_not_yet_valid, tls_untrusted, tls_name, tls_handshake, timeout, reset.
        """
        began = asyncio.get_running_loop().time()
        waiting_for = "the TLS handshake was not finished before the deadline"
        wrap = partial(
            context.wrap_socket,
            self._sock,
            server_hostname=server_name.partition("%")[0].rstrip("."),
            do_handshake_on_connect=False,
        )
        wrapped = await self._attempt(wrap, self._readable, deadline, waiting_for)
        self._sock = wrapped
        await self._attempt(wrapped.do_handshake, self._readable, deadline, waiting_for)
        handshake_s = asyncio.get_running_loop().time() - began
        cipher = wrapped.cipher()
        return TlsFacts(handshake_s, wrapped.version() or "", cipher[0] if cipher else "", _left_s(wrapped))

    async def read(self, most: int, deadline: float) -> bytes:
        """Give what has arrived, at least 1 and at most `most` bytes; b"" once the other side has ended.

        Raises `Failed`: timeout, reset, unreachable…, tls_handshake (TLS broken off).
        """
        await asyncio.sleep(0)  # a peer that never stops sending must not keep the loop from its turn,
        if asyncio.get_running_loop().time() >= deadline:  # nor us from our deadline
            raise Failed(Failure.TIMEOUT, "the deadline came before the end of the data")
        return await self._attempt(
            partial(self._sock.recv, most), self._readable, deadline, "no data before the deadline"
        )

    async def write(self, data: bytes, deadline: float) -> None:
        """Send all of `data`. Raises `Failed` as `read` does."""
        left = memoryview(data)
        while left:
            send = partial(self._sock.send, left)
            sent = await self._attempt(send, self._writable, deadline, "the other side does not take our data")
            left = left[sent:]

    async def aclose(self) -> None:
        """Close at once, without a TLS farewell: the other side may not be listening."""
        self._sock.close()

    async def _attempt(
        self, action: Callable[[], T], blocked: Callable[[], Awaitable[None]], deadline: float, waiting_for: str
    ) -> T:
        """Repeat the action until it no longer waits for the other side; every error becomes a `Failed`."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._repeat(action, blocked)
        except TimeoutError:
            raise Failed(Failure.TIMEOUT, waiting_for) from None
        except ssl.SSLError as error:
            raise _failed_from_tls(error) from None
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # the reset came before TLS could begin
                error = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            raise failed_from_os_error(error) from None

    async def _repeat(self, action: Callable[[], T], blocked: Callable[[], Awaitable[None]]) -> T:
        while True:
            try:
                return action()
            except BlockingIOError:
                await blocked()
            except ssl.SSLWantReadError:
                await self._readable()
            except ssl.SSLWantWriteError:
                await self._writable()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        await signalled(self._sock, loop.add_reader, loop.remove_reader)

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        await signalled(self._sock, loop.add_writer, loop.remove_writer)


async def connect(permit: Permit, deadline: float) -> Stream:
    """Connect to the permit's address and port before `deadline` (loop clock).

    Raises `Failed`: timeout, refused, reset, unreachable and prohibited (with responder, icmp_type and
    icmp_code where an ICMP error came), local_* and overload.
    """
    loop = asyncio.get_running_loop()
    with ExitStack() as on_failure:
        sock = on_failure.enter_context(open_socket(permit, socket.SOCK_STREAM))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                await _connected(sock, address_of(permit))
        except TimeoutError:
            raise Failed(Failure.TIMEOUT, "no answer to the connection request before the deadline") from None
        except OSError as error:
            raise failed_from_socket(sock, error, permit) from None
        connect_s = loop.time() - began
        keep_icmp_errors(sock, False)  # RFC 1122 4.2.3.9: they must not break an established connection
        on_failure.pop_all()
        return Stream(sock, connect_s)


async def _connected(sock: socket.socket, address: tuple[object, ...]) -> None:
    loop = asyncio.get_running_loop()
    try:
        sock.connect(address)
    except BlockingIOError:
        await signalled(sock, loop.add_writer, loop.remove_writer)
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if not number and _with_itself(sock):
        number = errno.ECONNREFUSED
    if number:
        raise OSError(number, os.strerror(number))


def _with_itself(sock: socket.socket) -> bool:
    """Tell whether nobody listens, and our own end came to be the port that we asked (RFC 9293, 3.5)."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return False  # broken off again already: the next to use it is told


def _failed_from_tls(error: ssl.SSLError) -> Failed:
    if isinstance(error, ssl.SSLCertVerificationError):
        untrusted = (Failure.TLS_UNTRUSTED, f"the certificate is not trusted: {error.verify_message}")
        return Failed(*VERIFY_FAILURES.get(error.verify_code, untrusted))
    reason = error.reason or ("UNEXPECTED_EOF_WHILE_READING" if isinstance(error, ssl.SSLEOFError) else "CLOSED")
    said = next((sentence for words, sentence in TLS_SENTENCES.items() if reason in words), "")
    return Failed(Failure.TLS_HANDSHAKE, f"TLS failed: {said or reason.replace('_', ' ').lower()}")


def _left_s(sock: ssl.SSLSocket) -> float | None:
    """Say how long the server's certificate is still valid, by our wall clock; None if that is not judged."""
    if sock.context.verify_flags & NO_CHECK_TIME:
        return None
    certificate = sock.getpeercert() or {}
    return ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()

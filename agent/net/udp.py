"""One question over UDP and its answer."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from agent.model import Failed, Failure
from agent.net.sockets import address_of, failed_from_socket, open_socket, signalled
from agent.safety import Permit

LARGEST_DATAGRAM = 65535
SO_TIMESTAMPNS_NEW = 64  # asm-generic/socket.h: receive stamps of 64 bits on every machine, since Linux 5.1
STAMP = struct.Struct("=qq")  # struct __kernel_timespec
STAMP_ANCILLARY_BYTES = 64
NANO = 1_000_000_000
STEADY_S = 0.001
"""Wall clock and monotonic clock apart by more than this during a question: somebody set the clock."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer that counts, and when it came.

    `ignored` counts the answers before it that were none to our question. `sent_ns` and `received_ns` are
    wall time (nanoseconds since 1970), the second by the kernel's stamp where there is one;
    `clock_jump_s` is how far the wall clock moved on its own between the two (0 but for small change).
    """

    data: bytes
    ignored: int
    sent_ns: int
    received_ns: int
    clock_jump_s: float

    @property
    def took_s(self) -> float | None:
        """Seconds from the sending to the kernel's stamp, without our own delays; None where the clock was moved."""
        return None if abs(self.clock_jump_s) > STEADY_S else (self.received_ns - self.sent_ns) / NANO


async def exchange(permit: Permit, payload: bytes, deadline: float, accept: Callable[[bytes], bool]) -> Heard:
    """Send one datagram to the permit's address and give the first answer that `accept` takes.

    The socket is connected: the kernel drops what other addresses send, and reports ICMP errors. An
    answer that `accept` refuses may be late or forged, so the wait goes on until `deadline` (loop clock).
    Raises `Failed`: timeout (silence), mismatch (only refused answers came; `ignored_answers` counts them),
    refused, unreachable, prohibited (with responder, icmp_type and icmp_code), local_* and overload.
    """
    ignored = 0
    with open_socket(permit, socket.SOCK_DGRAM) as sock:
        try:
            with suppress(OSError):  # a kernel without them: our own clock stands in
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
            sock.connect(address_of(permit))
            async with asyncio.timeout_at(deadline):
                sent_ns, began_ns = time.time_ns(), time.monotonic_ns()
                await asyncio.get_running_loop().sock_sendall(sock, payload)
                while True:
                    data, stamp_ns = await _receive(sock)
                    now_ns, took_ns = time.time_ns(), time.monotonic_ns() - began_ns
                    if accept(data):
                        received_ns = stamp_ns if sent_ns <= stamp_ns <= now_ns else now_ns
                        return Heard(data, ignored, sent_ns, received_ns, (now_ns - sent_ns - took_ns) / NANO)
                    ignored += 1
                    await asyncio.sleep(0)  # a flood of answers must not keep the loop, and the deadline, from its turn
        except TimeoutError:
            raise _nothing_fitting(ignored) from None
        except OSError as error:
            raise failed_from_socket(sock, error, permit) from None


async def _receive(sock: socket.socket) -> tuple[bytes, int]:
    """Give the next datagram and the kernel's receive stamp (0 where it gave none)."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            data, ancillary, _, _ = sock.recvmsg(LARGEST_DATAGRAM, STAMP_ANCILLARY_BYTES)
            return data, _stamp_ns(ancillary)
        except BlockingIOError:
            await signalled(sock, loop.add_reader, loop.remove_reader)


def _stamp_ns(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW) and len(data) >= STAMP.size:
            seconds, nanoseconds = STAMP.unpack_from(data)
            return int(seconds * NANO + nanoseconds)
    return 0


def _nothing_fitting(ignored: int) -> Failed:
    if ignored:
        came = "an answer came, but not" if ignored == 1 else f"{ignored} answers came, but none"
        sentence = f"{came} to our question: late, or forged by somebody; see what stands between us and the server"
        return Failed(Failure.MISMATCH, sentence, ignored_answers=ignored)
    return Failed(Failure.TIMEOUT, "no answer before the deadline")

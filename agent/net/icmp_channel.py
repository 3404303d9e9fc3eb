"""One ICMP socket with all the echoes under way on it: sends them, and finds for each reply its echo.

A reply counts only if it comes from the address that was asked, with our identifier, the sequence
number and our token in its payload: a forged one is ignored.

The kernel keeps what arrives, with its time: a busy loop that reads late loses nothing, and each wake-up
takes in all that has come. Echoes that nobody waits for any longer stay known for a while, so that a late
reply is told from a forged one.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache

from agent.model import Failed, Failure
from agent.net import icmp_wire as wires
from agent.net.errors import failed_from_os_error
from agent.net.icmp_echo import Aftermath, Echo, count_late, fits, round_trip
from agent.policy import parsed
from agent.safety import Permit

SEQUENCES = 0x10000
BATCH = 512
"""Messages of a kind read at one wake-up: a flood cannot hold the loop; what is left waits for the next."""
ALL = 16_384
"""More than any receive buffer holds: who reads so many has read all that had come when reading began."""
UNREAD_LIMIT = 64
"""After so many sends in one busy moment we read in between, before the receive buffer is full."""
FULL = 64
"""A receive buffer that has overflowed holds more messages than this, however large they are."""
UNANSWERED_KEPT, ANSWERED_KEPT = 4096, 512
"""Echoes that stay known after their run: room for 10 s of 400 lost echoes a second, in 2 MB at most."""
NAME = b"siteprobe "
"""Begins each payload, so that whoever captures it knows whose it is."""


class Channel:
    """The socket of one IP version; used on the loop on which it was made."""

    def __init__(self, wire: wires.Wire) -> None:
        """Begin to listen on the running loop."""
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._secret = secrets.token_hex(4)
        self._count = 0
        self._key = 0  # the number that the kernel gives the next packet (OPT_ID)
        self._unread = 0
        self._by_sequence: dict[int, Echo] = {}
        self._by_key: dict[int, Echo] = {}
        self._unanswered: deque[Echo] = deque()
        self._answered: deque[Echo] = deque()
        self._dropped = 0
        self.overflowed_s = float("-inf")  # when the kernel was last seen to throw replies away (loop clock)
        self._loop.add_reader(wire.sock, self.read)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._wire.sock)
        self._wire.sock.close()

    def send(
        self,
        permit: Permit,
        size: int,
        ttl: int | None,
        answered: Callable[[Echo], None],
        aftermath: Aftermath | None = None,
    ) -> Echo:
        """Send one echo request; raises `Failed` where this machine cannot send it.

        `answered` is called at the first reply, and at an ICMP error that comes before it.
        """
        sequence, token = self._next(size)
        data = wires.request(self._wire.version, self._wire.identifier, sequence, token.ljust(size, b"."))
        now_s, now_ns = self._loop.time(), time.time_ns()
        echo = Echo(parsed(permit.address), sequence, token, self._key, now_s, now_ns, answered, size)
        echo.aftermath, echo.asked = aftermath, _plain(permit.address)
        try:
            self._transmit(data, ttl, echo.asked)
        except OSError as error:
            self._restart_keys()
            raise failed_from_os_error(error) from error
        echo.key = self._key
        self._by_sequence[sequence] = self._by_key[echo.key] = echo
        self._key = (self._key + 1) & 0xFFFFFFFF
        self._unread += 1
        if self._unread >= UNREAD_LIMIT:
            self.read()
        return echo

    def forget(self, echo: Echo) -> None:
        """Wait for this echo no longer; what still comes for it is counted in its aftermath, for a while."""
        echo.over, echo.answered = True, _nobody
        if self._by_key.get(echo.key) is echo:
            del self._by_key[echo.key]
        kept, limit = (self._answered, ANSWERED_KEPT) if echo.rtt_s is not None else (self._unanswered, UNANSWERED_KEPT)
        kept.append(echo)
        if len(kept) > limit:
            oldest = kept.popleft()
            if self._by_sequence.get(oldest.sequence) is oldest:
                del self._by_sequence[oldest.sequence]

    def read(self, most: int = BATCH) -> None:
        """Take in what has arrived: stamps and errors first, then replies."""
        self._unread = 0
        count = _drain(self._read_error, most) + _drain(self._read_reply, most)
        if count >= FULL:
            self._look_for_overflow()

    def read_all(self) -> None:
        """Take in all that has arrived until now, however much it is."""
        self.read(ALL)

    def _look_for_overflow(self) -> None:
        dropped = wires.dropped(self._wire)
        if dropped != self._dropped:
            self._dropped, self.overflowed_s = dropped, self._loop.time()

    def _next(self, size: int) -> tuple[int, bytes]:
        """Choose a sequence number that nobody waits for, and the token that goes with it."""
        for _ in range(SEQUENCES):
            self._count += 1
            sequence = self._count % SEQUENCES
            known = self._by_sequence.get(sequence)
            if known is None or known.over:
                return sequence, (NAME + f"{self._secret}{self._count:08x}".encode())[:size]
        raise Failed(Failure.OVERLOAD, f"{SEQUENCES} echoes are under way: no sequence number is left")

    def _transmit(self, data: bytes, ttl: int | None, address: str) -> None:
        try:
            self._put(data, ttl, (address, 0))
        except OSError:
            # The kernel hands an ICMP error about an earlier echo to the next call, whatever its target
            # (ip(7), IP_RECVERR): read what waits, then ask again; what fails now is about this one.
            self.read()
            self._restart_keys()
            self._put(data, ttl, (address, 0))

    def _put(self, data: bytes, ttl: int | None, destination: tuple[str, int]) -> None:
        if ttl is None:
            self._wire.sock.sendto(data, destination)
        else:
            self._wire.sock.sendmsg([data], [wires.hop_limit(self._wire.version, ttl)], 0, destination)

    def _restart_keys(self) -> None:
        """Count from 0 again with the kernel: whether a refused packet took a number differs by version."""
        if self._wire.timestamping == "kernel":
            wires.restart_keys(self._wire)
            self._key = 0
            self._by_key.clear()

    def _read_error(self) -> None:
        found = wires.receive_error(self._wire)
        if isinstance(found, wires.Sent):
            echo = self._by_key.get(found.key)
            # An earlier time is that of another packet, from before the numbers began anew.
            if echo is not None and found.stamp_ns >= echo.sent_ns:
                del self._by_key[found.key]
                echo.left_ns = found.stamp_ns
        elif found is not None:
            self._refused(found)

    def _refused(self, error: wires.IcmpError) -> None:
        echo = self._by_sequence.get(error.sequence)
        if echo is None or echo.over or parsed(error.destination) != echo.address or echo.settled:
            return
        echo.error = error
        echo.answered(echo)

    def _read_reply(self) -> None:
        reply = wires.receive(self._wire)
        echo = self._by_sequence.get(reply.sequence) if reply else None
        if reply is None or echo is None or not fits(reply, echo):
            return
        waited_s = self._loop.time() - echo.sent_s
        if echo.over:
            count_late(echo, waited_s)
        elif echo.rtt_s is None:
            echo.rtt_s, echo.timestamping = round_trip(echo, reply.stamp_ns, waited_s)
            echo.answered(echo)
        else:
            echo.duplicates += 1


def _nobody(_: Echo) -> None:
    """Take the place of who waited: a flight is not kept in memory for the sake of its late replies."""


@lru_cache(maxsize=4096)
def _plain(address: str) -> str:
    """Write an address as the sockets take it: an IPv4 one without the coat of IPv6; a zone is kept."""
    found = parsed(address)
    return str(found) if found.version == 4 else address


def _drain(read_one: Callable[[], None], most: int) -> int:
    """Read until nothing waits, `most` messages at most; gives how many were read."""
    for count in range(most):
        try:
            read_one()
        except BlockingIOError:
            return count
        except OSError:
            continue  # an error about an earlier echo, told a second time: its full text is on the error queue
    return most

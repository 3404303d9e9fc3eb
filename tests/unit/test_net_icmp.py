"""Echoes as bytes, and the shared endpoint on loopback."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, TypeVar

import pytest

from agent.model import Failed, Failure
from agent.net import icmp_channel, icmp_wire
from agent.net.icmp import Aftermath, Echo, IcmpEndpoint, IcmpError, failed_from_error
from agent.net.icmp_echo import fits, round_trip
from agent.policy import Policy
from agent.safety import Gate, Permit


def test_checksum() -> None:
    assert icmp_wire.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D  # the example of RFC 1071, 3
    assert icmp_wire.checksum(bytes.fromhex("0001f203f4f5f6f7220d")) == 0
    assert icmp_wire.checksum(b"\0\0") == 0xFFFF
    assert icmp_wire.checksum(b"\xff\xff\xff") == icmp_wire.checksum(b"\xff\xff\xff\x00")


def test_request() -> None:
    data = icmp_wire.request(4, 0x1234, 7, b"siteprobe")
    assert data[:2] == b"\x08\x00" and data[4:] == b"\x12\x34\x00\x07siteprobe"
    assert icmp_wire.checksum(data) == 0
    assert icmp_wire.request(6, 1, 2, b"x") == b"\x80\x00\x00\x00\x00\x01\x00\x02x"


IP_HEADER = bytes.fromhex("4500002400000000400166cf7f0000017f000001")
REPLY = b"\x00\x00\x30\x95\x12\x34\x00\x07payload"


@pytest.mark.parametrize(
    ("version", "with_header", "data", "expected"),
    [
        (4, True, IP_HEADER + REPLY, (7, b"payload")),
        (4, True, b"\x46" + IP_HEADER[1:] + b"\x01" * 4 + REPLY, (7, b"payload")),  # with an IP option
        (4, False, REPLY, (7, b"payload")),
        (6, False, b"\x81" + REPLY[1:], (7, b"payload")),
        (4, False, b"\x08" + REPLY[1:], None),
        (4, False, b"\x00\x01" + REPLY[2:], None),
        (4, False, REPLY.replace(b"\x12\x34", b"\x12\x35"), None),
        (4, True, IP_HEADER + REPLY[:7], None),
        (4, True, IP_HEADER + REPLY[:-1] + b"x", None),  # the checksum does not fit
        (4, True, b"", None),
        (6, False, REPLY, None),
    ],
)
def test_replies(version: int, with_header: bool, data: bytes, expected: tuple[int, bytes] | None) -> None:
    assert icmp_wire.parse_reply(version, with_header, 0x1234, data) == expected


def test_offender() -> None:
    four = struct.pack("=HH4s8x", socket.AF_INET, 0, bytes([10, 0, 0, 1]))
    six = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, ip_address("fd00::1").packed, 0)
    assert [icmp_wire.offender(a) for a in (four, six, b"\0\0", b"", four[:6])] == ["10.0.0.1", "fd00::1", "", "", ""]


def echo(**changes: object) -> Echo:
    values: dict[str, object] = {"left_ns": None, **changes}
    left = values["left_ns"]
    made = Echo(ip_address("10.0.0.1"), 1, b"", 0, 0.0, 1_000_000_000, lambda _: None)
    made.left_ns = left if isinstance(left, int) else None
    return made


@pytest.mark.parametrize(
    ("left_ns", "arrived_ns", "waited_s", "expected"),
    [
        (1_000_100_000, 1_000_600_000, 0.01, (0.0005, "kernel")),
        (None, 1_000_600_000, 0.01, (0.0006, "kernel_rx")),
        (None, None, 0.01, (0.01, "user")),
        (1_000_100_000, 4_600_000_000_000, 0.01, (0.01, "user")),  # the wall clock was set forward meanwhile
        (1_000_100_000, 900_000_000, 0.01, (0.01, "user")),  # or back
    ],
)
def test_round_trip(left_ns: int | None, arrived_ns: int | None, waited_s: float, expected: tuple[float, str]) -> None:
    rtt_s, word = round_trip(echo(left_ns=left_ns), arrived_ns, waited_s)
    assert (round(rtt_s, 9), word) == expected


def test_an_error_from_ourselves_about_another_is_a_silent_neighbour() -> None:
    assert "neighbour" in failed_from_error(IcmpError("10.9.9.9", 1, "127.0.0.1", 3, 1)).detail
    assert failed_from_error(IcmpError("127.0.0.1", 1, "127.0.0.1", 3, 13)).failure is Failure.PROHIBITED


@pytest.fixture
def permit() -> Permit:
    """Give leave for 127.0.0.1; skips where no ICMP socket may be opened."""
    try:
        icmp_wire.open_wire(4).sock.close()
    except Failed as failed:
        pytest.skip(f"needs an ICMP socket: {failed.detail}")

    async def ask() -> Permit:
        return await Gate(Policy()).permit("127.0.0.1", None, "icmp", 1e12)

    return asyncio.run(ask())


@contextmanager
def onlooker() -> Iterator[socket.socket]:
    """A raw socket that sees each echo request on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as seen:
        seen.settimeout(1)
        yield seen


def test_one_echo(permit: Permit) -> None:
    async def story() -> Echo:
        endpoint = IcmpEndpoint()
        try:
            return await endpoint.echo(permit, until=asyncio.get_running_loop().time() + 2)
        finally:
            await endpoint.aclose()

    found = asyncio.run(story())
    assert found.rtt_s is not None and 0 < found.rtt_s < 1
    assert found.error is None and found.timestamping in ("kernel", "kernel_rx", "user")


def test_many_at_once_are_all_found(permit: Permit) -> None:
    async def story() -> list[Echo]:
        endpoint = IcmpEndpoint()
        try:
            with endpoint.flight() as flight:
                for size in (0, 4, 56, 1472) * 100:
                    flight.send(permit, size=size)
                assert await flight.wait(asyncio.get_running_loop().time() + 5) == 0.0
                return flight.echoes
        finally:
            await endpoint.aclose()

    found = asyncio.run(story())
    assert len({echo.sequence for echo in found}) == 400
    assert all(echo.rtt_s is not None and echo.settled for echo in found)
    assert sum(echo.duplicates for echo in found) == 0


def test_what_leaves_says_whose_it_is(permit: Permit) -> None:
    async def story() -> Echo:
        endpoint = IcmpEndpoint()
        try:
            return await endpoint.echo(permit, size=56, ttl=9, until=asyncio.get_running_loop().time() + 2)
        finally:
            await endpoint.aclose()

    with onlooker() as seen:
        asyncio.run(story())
        packet = seen.recv(2048)
    assert packet[8] == 9  # time to live
    assert packet[1] == 0  # DSCP
    assert packet[28:].startswith(b"siteprobe ") and len(packet) == 20 + 8 + 56


def test_a_refused_send_is_told_and_the_next_echo_still_timed(permit: Permit) -> None:
    async def story() -> tuple[Echo, Echo]:
        endpoint = IcmpEndpoint()
        loop = asyncio.get_running_loop()
        try:
            before = await endpoint.echo(permit, until=loop.time() + 2)
            with endpoint.flight() as flight, pytest.raises(Failed):
                flight.send(permit, size=70_000)  # longer than any packet: never leaves
            return before, await endpoint.echo(permit, until=loop.time() + 2)
        finally:
            await endpoint.aclose()

    before, after = asyncio.run(story())
    assert after.rtt_s is not None
    assert (after.timestamping, after.left_ns is None) == (before.timestamping, before.left_ns is None)


def test_sequence_numbers_under_way_are_not_used_again(permit: Permit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icmp_channel, "SEQUENCES", 8)

    async def story() -> None:
        endpoint = IcmpEndpoint()
        try:
            with endpoint.flight() as flight:
                for _ in range(8):
                    flight.send(permit)
                with pytest.raises(Failed) as caught:
                    flight.send(permit)
                assert caught.value.failure is Failure.OVERLOAD
            await endpoint.echo(permit, until=asyncio.get_running_loop().time() + 2)  # all free again
        finally:
            await endpoint.aclose()

    asyncio.run(story())


T = TypeVar("T")
Story = Callable[[IcmpEndpoint], Coroutine[Any, Any, T]]


def with_endpoint(story: Story[T]) -> T:
    async def whole() -> T:
        endpoint = IcmpEndpoint()
        try:
            return await story(endpoint)
        finally:
            await endpoint.aclose()

    return asyncio.run(whole())


async def until_true(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def test_replies_after_the_end_of_a_flight_are_counted(permit: Permit) -> None:
    aftermath = Aftermath()

    async def story(endpoint: IcmpEndpoint) -> None:
        with endpoint.flight(aftermath) as flight:
            sent = [flight.send(permit) for _ in range(3)]
        assert [echo.rtt_s for echo in sent] == [None] * 3  # nobody has read yet
        await until_true(lambda: aftermath.late_replies == 3)

    with_endpoint(story)
    assert aftermath == Aftermath(late_replies=3, duplicates=0)


def test_only_so_many_lost_echoes_stay_known(permit: Permit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icmp_channel, "UNANSWERED_KEPT", 2)
    aftermath = Aftermath()

    async def story(endpoint: IcmpEndpoint) -> None:
        with endpoint.flight(aftermath) as flight:
            for _ in range(5):
                flight.send(permit)
        await until_true(lambda: aftermath.late_replies == 2)
        await endpoint.echo(permit, until=asyncio.get_running_loop().time() + 5)

    with_endpoint(story)
    assert aftermath.late_replies == 2


def test_a_lagging_loop_makes_neither_loss_nor_a_long_time(permit: Permit) -> None:
    """The process stands still from the sending to long after the deadline, with all replies in the socket."""

    async def story(endpoint: IcmpEndpoint) -> tuple[float, bool, list[Echo]]:
        loop = asyncio.get_running_loop()
        await endpoint.echo(permit, until=loop.time() + 5)
        await asyncio.sleep(0.1)  # the kernel switches its stamps on a moment after they are first asked for
        with endpoint.flight() as flight:
            for _ in range(50):
                flight.send(permit)
            until = loop.time() + 0.1
            time.sleep(0.5)
            late_s = await flight.wait(until)
            return late_s, flight.overflowed, flight.echoes

    late_s, overflowed, echoes = with_endpoint(story)
    assert late_s > 0.3 and not overflowed
    assert all(echo.rtt_s is not None for echo in echoes)
    assert all(echo.rtt_s < 0.3 for echo in echoes if echo.rtt_s and echo.timestamping == "kernel")


def test_replies_that_the_kernel_threw_away_are_told(permit: Permit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icmp_channel, "UNREAD_LIMIT", 10**9)

    async def story(endpoint: IcmpEndpoint) -> tuple[bool, bool, int]:
        loop = asyncio.get_running_loop()
        with endpoint.flight() as flight:
            for _ in range(6000):  # more than the receive buffer holds
                flight.send(permit, size=1000)
            await flight.wait(loop.time() + 0.2)
            lost = sum(echo.rtt_s is None for echo in flight.echoes)
            overflowed = flight.overflowed
        with endpoint.flight() as later:
            later.send(permit)
            await later.wait(loop.time() + 5)
            return overflowed, later.overflowed, lost

    overflowed, still, lost = with_endpoint(story)
    assert (overflowed, still) == (lost > 0, False)
    assert lost > 0  # or this machine's buffers are so large that the test shows nothing


def test_a_reply_longer_than_what_was_asked_is_none_of_ours() -> None:
    made = echo()
    made.token, made.size, made.asked = b"siteprobe", 12, "10.0.0.1"
    for payload, expected in ((b"siteprobe...", True), (b"siteprobe....", False), (b"siteprob", False), (b"", False)):
        assert fits(icmp_wire.Reply("10.0.0.1", 1, payload, None), made) is expected
    assert not fits(icmp_wire.Reply("10.0.0.2", 1, b"siteprobe...", None), made)

"""One question over UDP, against real sockets."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from agent.model import Failed, Failure
from agent.net.udp import Heard, exchange
from tests.rigs.servers import LOOPBACK, Answer, closed_port, datagram_server, in_seconds, open_descriptors, permit


def ask(answer: Answer, seconds: float = 5.0, address: str = LOOPBACK) -> bytes:
    async def go() -> bytes:
        async with datagram_server(answer, address=address) as port:
            where = permit(port, "udp", address)
            return (await exchange(where, b"question", in_seconds(seconds), lambda data: data.startswith(b"yes"))).data

    return asyncio.run(go())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_gives_the_answer(address: str) -> None:
    assert ask(lambda data: [b"yes, " + data], address=address) == b"yes, question"


def test_ignores_refused_answers_before_the_right_one() -> None:
    assert ask(lambda data: [b"no", b"", b"no", b"yes"]) == b"yes"


def test_silence_is_a_timeout() -> None:
    with pytest.raises(Failed) as caught:
        ask(lambda data: [], seconds=0.2)
    assert caught.value.failure is Failure.TIMEOUT


def test_only_refused_answers_are_a_mismatch() -> None:
    with pytest.raises(Failed) as caught:
        ask(lambda data: [b"no", b"no"], seconds=0.2)
    assert caught.value.failure is Failure.MISMATCH
    assert "2 answers" in caught.value.detail


def test_closed_port_is_refused_by_its_icmp_error() -> None:
    with closed_port(socket.SOCK_DGRAM) as port, pytest.raises(Failed) as caught:
        asyncio.run(_ask_once(port))
    assert caught.value.failure is Failure.REFUSED
    assert caught.value.fields == {"responder": "127.0.0.1", "icmp_type": 3, "icmp_code": 3}


def test_closed_port_over_ipv6() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as held:
        held.bind(("::1", 0))
        port = held.getsockname()[1]
    with pytest.raises(Failed) as caught:
        asyncio.run(_ask_once(port, "::1"))
    assert caught.value.failure is Failure.REFUSED
    assert caught.value.fields == {"responder": "::1", "icmp_type": 1, "icmp_code": 4}


def test_an_answer_from_another_address_is_not_heard() -> None:
    async def go() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.2", 0))

            def answer_from_elsewhere(data: bytes) -> list[bytes]:
                stranger.sendto(b"yes", seen[0])
                return []

            seen: list[tuple[str, int]] = []
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(
                lambda: Remembers(seen, answer_from_elsewhere), local_addr=(LOOPBACK, 0)
            )
            port = transport.get_extra_info("sockname")[1]
            try:
                await exchange(permit(port, "udp"), b"question", in_seconds(0.2), lambda data: True)
            finally:
                transport.close()
                await asyncio.sleep(0)

    with pytest.raises(Failed) as caught:
        asyncio.run(go())
    assert caught.value.failure is Failure.TIMEOUT


def test_a_flood_of_wrong_answers_does_not_outlive_the_deadline() -> None:
    async def go() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((LOOPBACK, 0))

            def never(data: bytes) -> bool:
                server.sendto(b"no", client)  # the next wrong answer is there before this one is judged
                return False

            loop = asyncio.get_running_loop()
            server.setblocking(False)
            task = asyncio.create_task(
                exchange(permit(server.getsockname()[1], "udp"), b"question", in_seconds(0.3), never)
            )
            _, client = await loop.sock_recvfrom(server, 100)
            server.sendto(b"no", client)
            await task

    with pytest.raises(Failed) as caught:
        asyncio.run(go())
    assert caught.value.failure is Failure.MISMATCH


def test_the_kernel_stamps_the_answer_however_late_we_look() -> None:
    async def go() -> tuple[Heard, int]:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((LOOPBACK, 0))
            server.setblocking(False)
            where = permit(server.getsockname()[1], "udp")
            asking = asyncio.create_task(exchange(where, b"question", in_seconds(20), lambda data: True))
            _, client = await loop.sock_recvfrom(server, 100)
            server.sendto(b"answer", client)
            time.sleep(0.5)  # the loop is held up: the answer waits in the socket
            return await asking, time.time_ns()

    heard, end_ns = asyncio.run(go())
    assert heard.sent_ns <= heard.received_ns <= end_ns - 400_000_000
    assert abs(heard.clock_jump_s) < 0.1


def test_leaves_no_socket_open() -> None:
    before = open_descriptors()
    for answer in (lambda data: [], lambda data: [b"no"]):
        with pytest.raises(Failed):
            ask(answer, seconds=0.05)
    assert open_descriptors() == before


async def _ask_once(port: int, address: str = LOOPBACK) -> bytes:
    return (await exchange(permit(port, "udp", address), b"question", in_seconds(5), lambda data: True)).data


class Remembers(asyncio.DatagramProtocol):
    def __init__(self, seen: list[tuple[str, int]], answer: Answer) -> None:
        self._seen, self._answer = seen, answer

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._seen.append(addr)
        self._answer(data)

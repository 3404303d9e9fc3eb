"""The tcp check against real sockets."""

from __future__ import annotations

import asyncio

import pytest

from agent.check import Traffic
from agent.checks.tcp import Tcp
from agent.model import Facts, Failure
from agent.options import options_of
from tests.rigs.servers import (
    LOOPBACK,
    Handler,
    closed_port,
    deaf_port,
    measured,
    open_descriptors,
    resets,
    says,
    stream_server,
)


def tcp(port: int, target: str = LOOPBACK) -> Tcp:
    return Tcp(name="a", target=target, port=port)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_passes_where_something_listens_and_sends_nothing(address: str) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())

    async def go() -> Facts:
        async with stream_server(listen, address=address) as port:
            facts = await measured(tcp(port, address))
            while not heard:
                await asyncio.sleep(0.01)
            return facts

    facts = asyncio.run(go())
    assert facts.failure is None
    assert facts.address == address
    assert list(facts.fields) == ["connect_s"]
    assert isinstance(facts.fields["connect_s"], float)
    assert 0 < facts.fields["connect_s"] < 5
    assert heard == [b""]


def test_closed_port_is_refused() -> None:
    with closed_port() as port:
        facts = asyncio.run(measured(tcp(port)))
    assert facts.failure is Failure.REFUSED
    assert facts.address == LOOPBACK


def test_no_answer_is_a_timeout() -> None:
    with deaf_port() as port:
        facts = asyncio.run(measured(tcp(port), 0.2))
    assert facts.failure is Failure.TIMEOUT


@pytest.mark.parametrize(
    "handler",
    [
        says(b"220 ready\r\n" * 8000, after_bytes=0, then=9),
        says(after_bytes=0),
        says(*[b"x"] * 100, after_bytes=0, pause_s=0.05),
        resets(),
    ],
    ids=["64 kB at once", "closes at once", "drips", "resets"],
)
def test_whatever_is_said_after_the_connection_does_not_count(handler: Handler) -> None:
    async def go() -> list[Facts]:
        async with stream_server(handler) as port:
            return [await measured(tcp(port)) for _ in range(5)]

    found = asyncio.run(go())
    assert [facts.failure for facts in found] == [None] * 5
    assert all(list(facts.fields) == ["connect_s"] for facts in found)


def test_many_fruitless_connections_leave_no_socket_open() -> None:
    before = open_descriptors()
    with closed_port() as closed, deaf_port() as deaf:
        for port in (closed, deaf) * 3:
            assert asyncio.run(measured(tcp(port), 0.05)).failure in (Failure.REFUSED, Failure.TIMEOUT)
    assert open_descriptors() == before


def test_a_name_is_resolved_and_the_address_told() -> None:
    with closed_port() as port:
        facts = asyncio.run(measured(tcp(port, "epr.example.org"), names={"epr.example.org": LOOPBACK}))
    assert facts.address == LOOPBACK


def test_a_name_that_does_not_resolve_is_its_failure() -> None:
    assert asyncio.run(measured(tcp(443, "nowhere.example.org"))).failure is Failure.DNS_NXDOMAIN


def test_the_gate_is_asked_with_port_and_protocol() -> None:
    facts = asyncio.run(measured(tcp(9100)))
    assert facts.failure is Failure.LOCAL_POLICY
    assert "printer" in facts.detail


def test_declares_what_it_sends() -> None:
    assert tcp(443, "gateway").sends() == (Traffic("gateway", "tcp", 443, 1),)
    assert tcp(443, "gateway").asked == "gateway"


def test_options_have_examples_and_the_class_a_manual() -> None:
    own = {o.key: o for o in options_of(Tcp) if o.key in ("target", "port")}
    assert all(o.sentence.endswith(".") and o.example and o.required for o in own.values())
    assert own["target"].kind.read("gateway") == "gateway"
    assert Tcp.main_field == "connect_s"


@pytest.mark.parametrize(
    ("target", "failure", "told"),
    [
        ("fe80::1", Failure.LOCAL_ROUTE, "fe80::1 is on every link: add the interface, as in fe80::1%eth0"),
        ("fe80::1%nosuch0", Failure.LOCAL_LINK, "this machine has no interface nosuch0"),
    ],
)
def test_a_link_local_address_needs_the_link(target: str, failure: Failure, told: str) -> None:
    facts = asyncio.run(measured(tcp(80, target)))
    assert (facts.failure, facts.detail) == (failure, told)

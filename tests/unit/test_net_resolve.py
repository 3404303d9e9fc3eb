"""Targets become addresses, and a dead name server holds nothing up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from typing import Any

import pytest

from agent.model import Failed, Failure
from agent.net import resolve
from agent.net.resolve import Resolver
from agent.policy import Policy
from agent.safety import Gate
from tests.rigs import virtual_time

FOUR = (socket.AF_INET, 1, 6, "", ("192.0.2.4", 0))
SIX = (socket.AF_INET6, 1, 6, "", ("2001:db8::6", 0, 0, 0))


def answers(*entries: Any) -> Callable[[str], Any]:
    """A lookup that gives (or raises) one thing after the other, the last for ever."""
    left = list(entries)

    def lookup(name: str) -> Any:
        entry = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(entry, Exception):
            raise entry
        return entry

    return lookup


def resolver(lookup: Callable[[str], Any] | None = None, policy: Policy | None = None, **system: Any) -> Resolver:
    system = {"gateway": lambda: "192.0.2.1", "name_servers": lambda: ("127.0.0.1", "192.0.2.54"), **system}
    return Resolver(Gate(policy or Policy()), lookup=lookup or answers([FOUR]), **system)


async def ask(asked: Resolver, target: str, seconds: float = 2.0) -> str:
    return await asked(target, asyncio.get_running_loop().time() + seconds)


def one(asked: Resolver, target: str, seconds: float = 2.0) -> str | Failure:
    """Resolve once; gives the address or the failure."""
    try:
        return asyncio.run(ask(asked, target, seconds))
    except Failed as failed:
        assert failed.detail
        return failed.failure


@pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8::9", "::1"])
def test_addresses_pass_as_they_are(address: str) -> None:
    assert one(resolver(answers(OSError("not asked"))), address) == address


def test_words() -> None:
    assert one(resolver(), "gateway") == "192.0.2.1"
    assert one(resolver(), "resolver") == "127.0.0.1"
    assert one(resolver(), "resolver-1") == "127.0.0.1"
    assert one(resolver(), "resolver-2") == "192.0.2.54"
    assert one(resolver(), "resolver-3") is Failure.LOCAL_ADDRESS
    assert one(resolver(name_servers=lambda: ()), "resolver") is Failure.LOCAL_ADDRESS
    assert one(resolver(gateway=lambda: None), "gateway") is Failure.LOCAL_ROUTE
    assert one(resolver(gateway=lambda: ""), "gateway") is Failure.LOCAL_ROUTE
    assert one(resolver(), "resolver-host") == "192.0.2.4"


def test_ipv4_is_taken_unless_only_ipv6_exists() -> None:
    assert one(resolver(answers([SIX, FOUR])), "host.example") == "192.0.2.4"
    assert one(resolver(answers([SIX])), "host.example") == "2001:db8::6"


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), Failure.DNS_NXDOMAIN),
        (socket.gaierror(socket.EAI_NODATA, "x"), Failure.DNS_NXDOMAIN),
        (socket.gaierror(socket.EAI_AGAIN, "x"), Failure.DNS_SERVFAIL),
        (socket.gaierror(socket.EAI_FAIL, "x"), Failure.DNS_REFUSED),
        (OSError(24, "too many open files"), Failure.OVERLOAD),
        (UnicodeError("label too long"), Failure.DNS_NXDOMAIN),
    ],
)
def test_failures(error: Exception, failure: Failure) -> None:
    assert one(resolver(answers(error)), "host.example") is failure


def test_a_real_lookup_knows_localhost() -> None:
    assert one(resolver(resolve.system_lookup), "localhost") in ("127.0.0.1", "::1")


def test_the_name_server_must_be_allowed() -> None:
    denied = Policy(deny=(ip_network("127.0.0.0/8"),))
    assert one(resolver(policy=denied), "host.example") is Failure.LOCAL_POLICY
    assert one(resolver(policy=denied), "gateway") == "192.0.2.1"


def test_a_silent_server_is_a_timeout_and_does_not_hold_the_process() -> None:
    hold = threading.Event()
    asked = resolver(lambda name: [FOUR] if hold.wait(10) else [])
    assert one(asked, "host.example", 0.2) is Failure.DNS_TIMEOUT  # asyncio.run ended while the thread still waits
    hold.set()


def test_a_lookup_without_packet_budget_is_our_own_fault_and_serves_the_next_run() -> None:
    tight = Policy(packets_per_second=2, burst=1)
    asked = resolver(policy=tight, name_servers=lambda: ("192.0.2.54",))

    async def scene() -> str:
        with pytest.raises(Failed, match=r"host\.example was not looked up in .* no packet budget") as refused:
            await ask(asked, "host.example", 0.2)
        assert refused.value.failure is Failure.OVERLOAD
        return await ask(asked, "host.example", 20.0)

    assert asyncio.run(scene()) == "192.0.2.4"


def test_one_lookup_a_name_is_under_way() -> None:
    hold, count = threading.Event(), []

    def lookup(name: str) -> Any:
        count.append(name)
        hold.wait(10)
        return [FOUR]

    async def story() -> None:
        asked = resolver(lookup)
        many = [asyncio.create_task(ask(asked, "host.example")) for _ in range(5)]
        await asyncio.sleep(0.05)
        hold.set()
        assert await asyncio.gather(*many) == ["192.0.2.4"] * 5

    asyncio.run(story())
    assert count == ["host.example"]


def test_threads_are_few_and_a_queue_waits_for_them() -> None:
    hold = threading.Event()

    def lookup(name: str) -> Any:
        hold.wait(10)
        return [FOUR]

    async def story() -> int:
        asked = resolver(lookup)
        many = [asyncio.create_task(ask(asked, f"host{n}.example")) for n in range(20)]
        await asyncio.sleep(0.05)
        busy = sum(thread.name == "lookup" for thread in threading.enumerate()) - before
        hold.set()
        assert await asyncio.gather(*many) == ["192.0.2.4"] * 20
        return busy

    before = sum(thread.name == "lookup" for thread in threading.enumerate())
    assert asyncio.run(story()) == resolve.THREADS


class Later:
    """A loop clock that can be put forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real, self.ahead = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + self.ahead)


def run(story: Callable[[Later], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    async def told() -> None:
        await story(Later(monkeypatch))

    asyncio.run(told())


def test_answers_are_fresh_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(clock: Later) -> None:
        asked = resolver(answers([FOUR], [SIX]))
        assert await ask(asked, "host.example") == "192.0.2.4"
        clock.ahead = resolve.FRESH_S - 1
        assert await ask(asked, "host.example") == "192.0.2.4"
        clock.ahead = resolve.FRESH_S + 1
        assert await ask(asked, "host.example") == "2001:db8::6"

    run(story, monkeypatch)


def test_the_last_good_address_outlives_a_dead_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(clock: Later) -> None:
        asked = resolver(answers([FOUR], socket.gaierror(socket.EAI_AGAIN, "x"), [SIX]))
        assert await ask(asked, "host.example") == "192.0.2.4"
        clock.ahead = resolve.FRESH_S + 1
        assert await ask(asked, "host.example") == "192.0.2.4"
        assert await ask(asked, "host.example") == "192.0.2.4"  # not asked again at once
        clock.ahead += resolve.RETRY_S + 1
        assert await ask(asked, "host.example") == "2001:db8::6"

    run(story, monkeypatch)


def test_a_late_lookup_leaves_time_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()

    async def story(clock: Later) -> None:
        first = [True]

        def lookup(name: str) -> Any:
            if not first:
                hold.wait(10)
            first.clear()
            return [FOUR]

        asked = resolver(lookup)
        assert await ask(asked, "host.example") == "192.0.2.4"
        clock.ahead = resolve.FRESH_S + 1
        began = asyncio.get_running_loop().time()
        assert await ask(asked, "host.example", 0.4) == "192.0.2.4"
        assert asyncio.get_running_loop().time() - began < 0.4
        hold.set()

    run(story, monkeypatch)


def test_silence_is_told_from_servfail_by_its_length() -> None:
    error = socket.gaierror(socket.EAI_AGAIN, "x")
    assert resolve._failed("a", error, 0.1).failure is Failure.DNS_SERVFAIL
    assert resolve._failed("a", error, 10.0).failure is Failure.DNS_TIMEOUT


@pytest.mark.parametrize("found", [[FOUR], socket.gaierror(socket.EAI_AGAIN, "silence")])
def test_a_hundred_names_leave_a_name_server_room_for_its_own_check(found: Any) -> None:
    async def story() -> tuple[int, int]:
        gate = Gate(Policy())
        asked = Resolver(gate, lookup=answers(found), name_servers=lambda: ("192.0.2.53",))
        loop = asyncio.get_running_loop()
        refused = 0
        got: set[int] = set()

        async def service(number: int) -> None:
            while loop.time() < end:
                with contextlib.suppress(Failed):
                    await ask(asked, f"host{number}.example", 5.0)
                    got.add(number)
                await asyncio.sleep(30)

        end = loop.time() + 1200
        services = [asyncio.create_task(service(number)) for number in range(100)]
        await asyncio.sleep(1)
        while loop.time() < end:
            try:
                await gate.permit("192.0.2.53", 53, "udp", loop.time() + 2)
            except Failed:
                refused += 1
            await asyncio.sleep(30)
        for each in services:
            each.cancel()
        return refused, len(got)

    refused, known = virtual_time.run(story())
    assert not refused, "the check of the name server itself is always asked"
    assert known == (0 if isinstance(found, Exception) else 100), "and each name has its turn"

"""Turns the target of a check into an address: a name, `gateway`, `resolver`, or an address as it is.

`getaddrinfo` asks the way every other program on this machine does (hosts file, search list, order of
the resolvers), but two dead name servers block it for 20 s. So it runs in daemon threads of our own.
A name that cannot be looked up now keeps its last good address: that DNS is broken is the finding of
the `dns` checks, not of every check that has a name in it.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any

from agent.model import Failed, Failure
from agent.net import kernel
from agent.net.errors import failed_from_os_error
from agent.net.workers import Workers
from agent.options import is_address
from agent.policy import is_loopback
from agent.safety import Budget, Gate

FRESH_S = 60.0
"""How long an answer is used without asking again: a moved service is noticed within a minute, or where there are
more than 24 names, as soon as the budget of a name server (`target_per_second`) allows."""
RETRY_S = 10.0
"""After a failed lookup the last good address is used for this long before the next try."""
PATIENCE = 0.5
"""The part of a check's time that a lookup may take while an older address is at hand; the rest is for measuring."""
MARGIN_S = 0.05
"""We stop waiting this long before the check's own deadline, so that the check can still say why."""
THREADS = 4
"""Lookups under way at a time: a dead resolver holds no more threads than this."""
SILENCE_S = 4.0
"""EAI_AGAIN means a server's SERVFAIL as well as silence; the C library waits 5 s for a silent one, resolv.conf(5)."""
DNS_PORT = 53
PERMIT_S = 20.0
"""How long a lookup waits for packet budget, whoever asked first: its answer serves the next run of each that asks."""
LOOKUPS_SHARE = 0.8
"""Of what one server may be asked, all lookups together take no more: the rest is for the checks of that server,
which else would wait behind the names of a large config for ever and say `overload` of a dead server."""
QUERIES_A_LOOKUP = 2
"""The C library asks for A and AAAA at once, each in a datagram of its own."""
LIBC_NAME_SERVER = "127.0.0.1"  # what the C library asks where resolv.conf names nobody; resolv.conf(5)

AddressInfo = Sequence[tuple[Any, ...]]

_LOOKUP_ERRORS = {
    socket.EAI_NONAME: (Failure.DNS_NXDOMAIN, "there is no such name"),
    socket.EAI_NODATA: (Failure.DNS_NXDOMAIN, "the name has no address"),
    socket.EAI_ADDRFAMILY: (Failure.DNS_NXDOMAIN, "the name has no address"),
    socket.EAI_AGAIN: (Failure.DNS_SERVFAIL, "the name servers gave no usable answer"),
    socket.EAI_FAIL: (Failure.DNS_REFUSED, "the name servers refused the question"),
    socket.EAI_MEMORY: (Failure.OVERLOAD, "no memory left to look it up"),
}


def system_lookup(name: str) -> AddressInfo:
    """Ask the system for the addresses of a name, as RFC 3493 6.1; raises socket.gaierror, OSError, UnicodeError."""
    return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)


def default_gateway() -> str | None:
    """Give the gateway of the best default route; "" for a direct line, None without any. Raises OSError."""
    routes = kernel.default_gateways()
    return next((route.gateway for route in routes if route.gateway), "") if routes else None


class Resolver:
    """The `Resolve` of the agent: `await resolver(target, deadline)`; one for the life of the process."""

    def __init__(
        self,
        gate: Gate,
        *,
        lookup: Callable[[str], AddressInfo] = system_lookup,
        gateway: Callable[[], str | None] = default_gateway,
        name_servers: Callable[[], Sequence[str]] = kernel.name_servers,
    ) -> None:
        """Judge and pace lookups by `gate`; the three questions to the system are replaced in tests."""
        self._gate = gate
        self._gateway = gateway
        self._name_servers = name_servers
        self._workers = Workers(lookup, THREADS)
        self._known: dict[str, tuple[str, float]] = {}  # name: address, fresh until (loop clock)
        self._running: dict[str, asyncio.Task[str | Failed]] = {}
        self._unsent: set[str] = set()  # names whose lookup waits for packet budget
        self._share = Budget(1.0, 1.0)

    async def __call__(self, target: str, deadline: float) -> str:
        """Give the address of the target before `deadline` (loop clock).

        Raises `Failed`: dns_timeout, dns_nxdomain, dns_servfail, dns_refused, local_route (no gateway),
        local_address (no such name server), local_policy or overload (the lookup may not be sent).
        """
        if is_address(target):
            return target
        if target == "gateway":
            return self._default_gateway()
        if match := re.fullmatch(r"resolver(?:-([1-9]))?", target):
            return self._name_server(int(match[1] or 1))
        return await self._address_of(target, deadline)

    def _default_gateway(self) -> str:
        try:
            gateway = self._gateway()
        except OSError as error:
            raise failed_from_os_error(error) from error
        if gateway is None:
            raise Failed(Failure.LOCAL_ROUTE, "this machine has no default route; look at `ip route` and DHCP")
        if not gateway:
            raise Failed(Failure.LOCAL_ROUTE, "the default route is a direct line without a gateway to ask")
        return gateway

    def _name_server(self, place: int) -> str:
        servers = self._name_servers()
        if len(servers) < place:
            raise Failed(Failure.LOCAL_ADDRESS, f"name server {place} is not configured; look at /etc/resolv.conf")
        return servers[place - 1]

    async def _address_of(self, name: str, deadline: float) -> str:
        now = asyncio.get_running_loop().time()
        known, fresh_until = self._known.get(name, ("", 0.0))
        if known and now < fresh_until:
            return known
        left = max(deadline - now, 0.0)
        wait_s = left * PATIENCE if known else max(left - MARGIN_S, left * PATIENCE)
        answer = await self._ask(name, wait_s)
        if isinstance(answer, str):
            return answer
        if not known:
            raise answer
        self._known[name] = (known, asyncio.get_running_loop().time() + self._held_s(RETRY_S))
        return known

    async def _ask(self, name: str, wait_s: float) -> str | Failed:
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(self._look_up(name))
            task.add_done_callback(lambda _: self._running.pop(name))
        done, _ = await asyncio.wait({task}, timeout=wait_s)
        if done and not task.cancelled():
            return task.result()
        if name in self._unsent:
            return Failed(Failure.OVERLOAD, f"{name} was not looked up in {wait_s:.1f} s: no packet budget")
        return Failed(Failure.DNS_TIMEOUT, f"no name server gave an address for {name} in {wait_s:.1f} s")

    async def _look_up(self, name: str) -> str | Failed:
        """Look the name up once, however long it takes; the failure is returned, for each who waits."""
        server = next(iter(self._name_servers()), LIBC_NAME_SERVER)
        loop = asyncio.get_running_loop()
        self._unsent.add(name)
        try:
            await self._in_share(server)
            for _ in range(QUERIES_A_LOOKUP):
                await self._gate.permit(server, DNS_PORT, "udp", loop.time() + PERMIT_S)
        except Failed as refused:
            return Failed(refused.failure, f"{name} was not looked up: {refused.detail}")
        finally:
            self._unsent.discard(name)
        began = loop.time()
        found = await self._workers.run(name)
        if isinstance(found, OSError | UnicodeError):
            return _failed(name, found, loop.time() - began)
        address = preferred(found)
        self._known[name] = (address, loop.time() + self._held_s(FRESH_S))
        return address

    def _held_s(self, least_s: float) -> float:
        """Say how long an address is used: longer where so many are known that their share would not do for all."""
        rate = self._gate.policy.target_per_second * LOOKUPS_SHARE
        rated = rate and not is_loopback(next(iter(self._name_servers()), LIBC_NAME_SERVER))
        return max(least_s, len(self._known) * QUERIES_A_LOOKUP / rate) if rated else least_s

    async def _in_share(self, server: str) -> None:
        """Wait until lookups have spent no more than their share; raises `Failed` with overload where that is far."""
        if is_loopback(server):
            return
        policy, now = self._gate.policy, asyncio.get_running_loop().time()
        rate, burst = policy.target_per_second * LOOKUPS_SHARE, policy.target_burst * LOOKUPS_SHARE
        self._share = self._share.at_rate(rate, burst)
        at = self._share.earliest(now)
        if at > now + PERMIT_S:
            raise Failed(Failure.OVERLOAD, "other names come first, and a name server is asked only so often")
        for _ in range(QUERIES_A_LOOKUP):
            self._share.spend(at)
        if at > now:
            await asyncio.sleep(at - now)


def preferred(found: AddressInfo) -> str:
    """Take the first IPv4 address, or the first IPv6 one if there is no other (getaddrinfo gives at least one)."""
    best = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return str(best[4][0])


def _failed(name: str, error: OSError | UnicodeError, took_s: float) -> Failed:
    if isinstance(error, UnicodeError):
        return Failed(Failure.DNS_NXDOMAIN, f"{name} cannot be a host name (RFC 1035: parts of 1 to 63 characters)")
    if not isinstance(error, socket.gaierror):
        return failed_from_os_error(error)
    if error.errno == socket.EAI_AGAIN and took_s >= SILENCE_S:
        return Failed(Failure.DNS_TIMEOUT, f"no name server gave an address for {name} in {took_s:.1f} s")
    otherwise = (Failure.DNS_SERVFAIL, f"the lookup failed: {error.strerror}")
    failure, sentence = _LOOKUP_ERRORS.get(error.errno or 0, otherwise)
    return Failed(failure, f"{name}: {sentence}")

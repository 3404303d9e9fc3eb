"""The one gate: no packet leaves without its permit.

Every function in `agent/net` that sends takes a `Permit` and sends to the address *in* it; only the
gate makes permits. A permit is for one request: an echo, a datagram, a TCP connection, a who-has.

Budgets are leaky buckets kept as one number each, the time at which the bucket would be empty again
(the generic cell rate algorithm of ITU-T I.371): a request may go when that time is not further away
than the burst allows, and pushes it on by 1/rate.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack
from dataclasses import dataclass

from agent.model import Failed, Failure
from agent.policy import ARP_BURST, ARP_PER_SECOND, Policy, forbidden_address, forbidden_port, is_loopback

TICK_S = 0.1
"""Sends wait for a common tick and leave together: fewer wake-ups, same accuracy (kernel stamps)."""
TARGETS_REMEMBERED = 4096
SNMP_PDUS_PER_SECOND = 5
"""Per device, without a burst, so that no second ever holds more (contract, section 1)."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave for one request to this address (and port), over this protocol. Made by `Gate` only."""

    address: str
    port: int | None
    protocol: str


def on_tick(at: float) -> float:
    """Round a time of the loop clock up to the next tick."""
    return math.ceil(at / TICK_S - 1e-6) * TICK_S


class Budget:
    """One rate with its burst; 0 is no limit, for either: without one of the burst all may leave at once.

    Who waits for it holds its `turn`, so that all are served in the order in which they came.
    """

    def __init__(self, rate: float, burst: float) -> None:
        """Start with the whole burst unspent."""
        self._rate = rate
        self._burst_s = (max(burst, 1.0) - 1.0) / rate if rate and burst else math.inf
        self._empty_at = self._left_at = -math.inf
        self.turn = asyncio.Lock()

    def earliest(self, now: float) -> float:
        """Say when the next request may leave, `now` at the earliest (seconds of the loop clock)."""
        return max(now, self._empty_at - self._burst_s) if self._rate else now

    def spend(self, at: float) -> None:
        """Take one request that leaves at `at`."""
        if self._rate:
            self._empty_at = max(self._empty_at, at) + 1.0 / self._rate

    def earliest_leave(self, now: float) -> float:
        """Say when a booked request may really leave: one that was held up must not catch up with the next ones."""
        return max(now, self._left_at - self._burst_s - TICK_S) if self._rate else now

    def leave(self, at: float) -> None:
        """Note that a booked request really leaves at `at`."""
        if self._rate:
            self._left_at = max(self._left_at, at) + 1.0 / self._rate

    def at_rate(self, rate: float, burst: float) -> Budget:
        """Give the budget at another rate, what was spent still spent."""
        changed = Budget(rate, burst)
        changed._empty_at, changed._left_at, changed.turn = self._empty_at, self._left_at, self.turn
        return changed

    def idle(self, now: float) -> bool:
        """Tell whether the budget is whole again, so that it need not be remembered."""
        return max(self._empty_at, self._left_at) <= now and not self.turn.locked()


class Gate:
    """Judges and paces every request of the agent."""

    def __init__(self, policy: Policy) -> None:
        """Open the gate under a policy; `suppressed` closes it for every check."""
        self.policy = policy
        self.suppressed = False
        self._agent = Budget(policy.packets_per_second, policy.burst)
        self._arp = Budget(ARP_PER_SECOND, ARP_BURST)
        self._targets: dict[str, Budget] = {}
        self._snmp: dict[str, Budget] = {}

    def judge(self, address: str, port: int | None = None, protocol: str = "", check_type: str = "") -> None:
        """Raise `Failed` with `local_policy` if nothing may ever be sent there."""
        reason = forbidden_address(self.policy, address, protocol) or forbidden_port(protocol, port, check_type)
        if self.suppressed:
            reason = "active checks are suppressed"
        if reason:
            raise Failed(Failure.LOCAL_POLICY, reason)

    def judge_collector(self, address: str) -> None:
        """Raise `Failed` with `local_policy` if the broker may not be reached there.

        The collector is no check: `deny` holds for it, the fence of `allow` and a suppression do not.
        """
        if reason := forbidden_address(Policy(deny=self.policy.deny), address):
            raise Failed(Failure.LOCAL_POLICY, reason)

    def use(self, policy: Policy) -> None:
        """Go on under a changed policy; what was spent stays spent."""
        self.policy = policy
        self._agent = self._agent.at_rate(policy.packets_per_second, policy.burst)
        rate, burst = policy.target_per_second, policy.target_burst
        self._targets = {address: budget.at_rate(rate, burst) for address, budget in self._targets.items()}

    def book(
        self, address: str, now: float, deadline: float, whole_agent_only: bool = False, arp: bool = False
    ) -> tuple[bool, float]:
        """Book one request if only the whole agent's budget is in its way; gives (booked, when it may leave).

        A request that waits for its target's budget, or for that of ARP, is not booked: its far turn must not
        push the whole agent's budget away from all others. It asks again when that turn comes.
        """
        if is_loopback(address):
            return True, now
        narrow = [] if whole_agent_only else self._narrow(address, now, arp)
        at_narrow, at = max((budget.earliest(now) for budget in narrow), default=now), self._agent.earliest(now)
        booked, at = at_narrow <= at, max(at_narrow, at)
        at = on_tick(at) if at > now else now
        if at > deadline:
            raise _no_budget()
        for budget in (self._agent, *narrow) if booked else ():
            budget.spend(at)
        return booked, at

    async def permit(
        self,
        address: str,
        port: int | None,
        protocol: str,
        deadline: float,
        *,
        check_type: str = "",
        whole_agent_only: bool = False,
    ) -> Permit:
        """Wait for the budget, then give leave for one request.

        `protocol` is icmp, udp, tcp, arp (neighbour discovery too) or dhcp; `deadline` in seconds of the loop clock;
        `path`, `mtu` and `train` spend `whole_agent_only`. Raises `Failed`: local_policy or overload.
        """
        self.judge(address, port, protocol, check_type)
        loop = asyncio.get_running_loop()
        if whole_agent_only or is_loopback(address):
            at = self.book(address, loop.time(), deadline, whole_agent_only)[1]
        else:
            at = await self._in_turn(address, deadline, protocol == "arp")
        if at > loop.time():
            await asyncio.sleep(at - loop.time())
        if not is_loopback(address):
            narrow = [] if whole_agent_only else self._narrow(address, loop.time(), protocol == "arp")
            await _leave([self._agent, *narrow], deadline)
        self.judge(address, port, protocol, check_type)
        return Permit(address, port, protocol)

    async def _in_turn(self, address: str, deadline: float, arp: bool) -> float:
        """Book a request behind those that came before it for the same budgets; gives when it may leave."""
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as held:
            for budget in self._narrow(address, loop.time(), arp):
                try:
                    async with asyncio.timeout_at(deadline):
                        await held.enter_async_context(budget.turn)
                except TimeoutError:
                    raise _no_budget() from None
                await _pause(budget.earliest(loop.time()), deadline)
            booked, at = self.book(address, loop.time(), deadline, arp=arp)
            while not booked:
                await _pause(at, deadline)
                booked, at = self.book(address, loop.time(), deadline, arp=arp)
            return at

    async def snmp_permit(self, address: str, port: int, deadline: float) -> Permit:
        """Wait for the device's own SNMP budget, then give leave for one PDU over UDP.

        SNMP spends nothing of `packets_per_second`. Raises `Failed`: local_policy or overload.
        """
        self.judge(address, port, "udp", "snmp")
        now = asyncio.get_running_loop().time()
        if not is_loopback(address):
            budget = _remembered(self._snmp, address, now, SNMP_PDUS_PER_SECOND, 1)
            at = budget.earliest(now)
            if at > deadline:
                raise Failed(Failure.OVERLOAD, f"no SNMP budget ({SNMP_PDUS_PER_SECOND} PDU/s) before the deadline")
            budget.spend(at)
            if at > now:
                await asyncio.sleep(at - now)
            await _leave([budget], deadline)
            self.judge(address, port, "udp", "snmp")
        return Permit(address, port, "udp")

    def _narrow(self, address: str, now: float, arp: bool) -> list[Budget]:
        """Give the budgets beside the whole agent's, in the order in which their turns are taken."""
        rate, burst = self.policy.target_per_second, self.policy.target_burst
        target = _remembered(self._targets, address, now, rate, burst)
        return [target, self._arp] if arp else [target]


async def _leave(budgets: list[Budget], deadline: float) -> None:
    """Let a booked request out, later than booked where a loop that stood still has just let others out.

    Without this all that was due during a stall would leave on top of what is due after it.
    """
    loop = asyncio.get_running_loop()
    while (at := max(budget.earliest_leave(loop.time()) for budget in budgets)) > loop.time():
        if at > deadline:
            raise _no_budget()
        await asyncio.sleep(at - loop.time())
    for budget in budgets:
        budget.leave(loop.time())


async def _pause(at: float, deadline: float) -> None:
    """Wait for the first tick from `at` on; raises `Failed` with overload at once where it lies too far away."""
    now = asyncio.get_running_loop().time()
    if at > now and on_tick(at) > deadline:
        raise _no_budget()
    if at > now:
        await asyncio.sleep(on_tick(at) - now)


def _no_budget() -> Failed:
    return Failed(Failure.OVERLOAD, "no packet budget before the deadline; see safety in the config")


def _remembered(book: dict[str, Budget], address: str, now: float, rate: float, burst: float) -> Budget:
    """Give the budget of an address, made at first use; whole ones are forgotten when there are too many."""
    if len(book) > TARGETS_REMEMBERED:
        for idle in [a for a, budget in book.items() if budget.idle(now)]:
            del book[idle]
    if address not in book:
        book[address] = Budget(rate, burst)
    return book[address]

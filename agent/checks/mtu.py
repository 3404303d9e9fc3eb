"""The `mtu` check, how large a packet the way takes, and whether it says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from agent.check import TARGET_WORDS, Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Failure, Layer, Scalar
from agent.net.dont_fragment import Sized, SizedEchoes
from agent.net.told_socket import failed_from_told, own_addresses
from agent.options import Host, option
from agent.policy import parsed
from agent.safety import Permit

USUAL = (1500, 1492, 1480, 1476, 1472, 1464, 1460, 1454, 1450, 1440, 1430, 1420, 1400, 1380, 1360, 1350, 1320, 1300)
SIZES = {4: (*USUAL, 1280, 1200, 1006, 576), 6: (*USUAL, 1280)}
"""Sizes that links have: Ethernet, PPPoE, IP in IP, GRE, VXLAN, WireGuard, IPsec… and the least that all must take."""
WAIT_S = 0.7
"""For the answers to a round of echoes; three rounds, and two to find the size that passes, fit into 5 s."""
TRIES, TRIES_UNDER_LOSS = 3, 6
"""So many large echoes must vanish before a hole is believed; more where small ones are lost too (field.md 4.2)."""
EDGE_ROUNDS = 2
"""To find the size that passes; under loss one more, so that the large one has had all its tries."""
LOST_AT_MOST = 0.34
"""The part of the small echoes that may be lost: with more, large ones vanish by chance too often."""
MOST_STEPS = 8
"""So many routers may name a smaller size, one after the other, before we take it for nonsense."""
MOST_ECHOES = 2 * TRIES_UNDER_LOSS + 2 * len(SIZES[4])
"""Of a run that finds a black hole under loss; as long as all is well it sends two."""
MARGIN_S = 0.05
"""We stop waiting this long before the deadline, so that what was found until then becomes the record."""


@dataclass(frozen=True, kw_only=True)
class Mtu(Check):
    """Asks how large a packet the way to a target takes without fragmentation: the path MTU.

    It sends echoes that may not be fragmented: one of 1,500 bytes (or as our own interface takes) and a small one.
    If the large one is answered, that is all. A router that says "too big" and names a smaller size does right: the
    size is tried, and the check passes with it in `mtu_bytes` (RFC 1191, RFC 8201): a smaller MTU that is signalled
    breaks nothing.

    It fails with `timeout` and `black_hole` true where large packets vanish without a word while small ones
    pass: connections open, and stand still as soon as something larger is sent ("the page half loads").
    `mtu_bytes` is then the largest usual size that passes, to a few bytes. Mostly a firewall eats ICMP, or
    a tunnel is smaller than its ends believe; the direction cannot be told from here.

    Other failures: `timeout` with `black_hole` missing, the target answers no echo at all; `unreachable` or
    `prohibited`, a router said so. Where even small echoes are lost too often to tell, it is `unknown`, `overload`.
    """

    type: ClassVar[str] = "mtu"
    default_layer: ClassVar[Layer] = Layer.CARRIER
    default_interval_s: ClassVar[float] = 300.0
    least_interval_s: ClassVar[float] = 20.0
    main_field: ClassVar[str] = "mtu_bytes"
    facts: ClassVar[Mapping[str, Fact]] = {
        "mtu_bytes": Fact(int, "Largest IP packet that passed, bytes."),
        "black_hole": Fact(bool, "Whether larger packets vanish and nobody says why."),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {"mtu_bytes": 1500, "black_hole": False}

    target: str = option(Host(TARGET_WORDS), "Host that answers echoes (ping).", example="198.51.100.10")

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the echoes: at the most; as long as all is well a run sends two."""
        return (Traffic(self.target, "icmp", None, MOST_ECHOES, whole_agent_only=True),)

    async def run(self, ctx: Context) -> Facts:
        """Ask once; see the class for the failures. A confirmation does not look for the edge."""
        address = await ctx.resolve(self.target)
        permit = await ctx.permit(address, None, "icmp", whole_agent_only=True)
        with SizedEchoes(permit) as echoes:
            return await Search(ctx, echoes, permit).run()


class Search:
    """One run: what was sent, and what follows from what became of it."""

    def __init__(self, ctx: Context, echoes: SizedEchoes, permit: Permit) -> None:
        """Begin; `permit` is the one for the first echo."""
        self._ctx, self._echoes = ctx, echoes
        self._address = permit.address
        self._first: Permit | None = permit
        self._sizes = SIZES[parsed(permit.address).version]
        self._largest = min(self._sizes[0], echoes.interface_mtu() or self._sizes[0])
        self._small = min(self._sizes[-1], self._largest)
        self._sent: list[Sized] = []

    async def run(self) -> Facts:
        """Find the size that passes, from the largest down as routers say."""
        size = self._largest
        for _ in range(MOST_STEPS):
            if await self._passes(size):
                return self._facts(size, False)
            smaller = self._named(size)
            if smaller is None or smaller < self._small:
                return await self._hole(size)
            self._ctx.say(f"{size} bytes are too big, somebody says; next is {smaller}")
            size = smaller
        raise Failed(Failure.PROTOCOL, f"routers on the way name ever smaller sizes, the last one {size} bytes")

    async def _passes(self, size: int) -> bool:
        """Try a size, several times where nothing comes back, always with a small one for company."""
        tries = 0
        while tries < self._tries() and (not tries or self._left_s() > WAIT_S / 2):
            tries += 1
            await self._round([size, self._small] if size != self._small else [size])
            if self._answered(size) or self._about(size):
                break
        return self._answered(size)

    def _tries(self) -> int:
        return TRIES_UNDER_LOSS if self._lost()[0] else TRIES

    async def _round(self, sizes: Iterable[int]) -> None:
        """Send one echo of each size and wait for what becomes of them."""
        sent = []
        for size in sizes:
            sent.append(self._echoes.send(await self._permit(), size))
        self._sent += sent
        now = asyncio.get_running_loop().time()
        await self._echoes.wait(sent, min(now + WAIT_S, self._ctx.deadline - MARGIN_S))
        for echo in sent:
            self._ctx.say(f"{echo.size} bytes: {_told(echo)}")

    async def _permit(self) -> Permit:
        permit, self._first = self._first, None
        return permit or await self._ctx.permit(self._address, None, "icmp", whole_agent_only=True)

    def _named(self, size: int) -> int | None:
        """Give the size to try next, as a router or our own interface wants it; None where nobody says a word."""
        echo = self._about(size)
        if echo is None or (echo.told is not None and not echo.told.too_big):
            return None
        named = echo.told.info if echo.told else 0
        lower = next((usual for usual in self._sizes if usual < size), None)
        return named if self._sizes[-1] <= named < size else lower  # 0 of an old router (RFC 1191), or nonsense

    async def _hole(self, size: int) -> Facts:
        """Judge a silence: nobody there, too much loss, or a hole whose edge is looked for."""
        told = next((e.told for e in self._sent if e.told and not e.told.too_big), None)
        if told:
            raise failed_from_told(told, own_addresses(self._address))
        if not self._answered(self._small):
            raise _nobody(len(self._sent))
        if not (self._chance(size) or self._ctx.once):
            await self._edge(size)
        if self._answered(size):
            return self._facts(size, False)
        if self._chance(size):
            raise Failed(Failure.OVERLOAD, f"too many smaller echoes are lost to tell whether {size} bytes pass")
        return self._facts(self._passed(), True)

    async def _edge(self, size: int) -> None:
        """Look for the largest usual size that passes: all at once, then once more those that were perhaps lost.

        The large one goes along, and more often where the many smaller ones show that the way loses packets.
        """
        for number in range(EDGE_ROUNDS + 1):
            between = [usual for usual in self._sizes if self._passed() < usual < size and number < EDGE_ROUNDS]
            if self._answered(size) or not (between or self._chance(size)) or self._left_s() < WAIT_S / 2:
                break
            await self._round([size, *(between or [self._small])])

    def _facts(self, size: int, hole: bool) -> Facts:
        fields: dict[str, Scalar] = {"mtu_bytes": size, "black_hole": hole}
        if not hole:
            return Facts(fields, self._address)
        sentence = f"packets of more than {size} bytes vanish and nobody says why, smaller ones pass: a black hole"
        return Facts(fields, self._address, Failure.TIMEOUT, sentence)

    def _answered(self, size: int) -> bool:
        return any(echo.answered for echo in self._sent if echo.size == size)

    def _about(self, size: int) -> Sized | None:
        """Give an echo of this size of which somebody said something."""
        return next((e for e in self._sent if e.size == size and (e.told or e.local)), None)

    def _passed(self) -> int:
        """Give the largest size that was answered, 0 where none was."""
        return max((echo.size for echo in self._sent if echo.answered), default=0)

    def _lost(self) -> tuple[int, int]:
        """Count the echoes that were lost, though their size passes (the smallest must), and all of such sizes."""
        passing = [echo for echo in self._sent if echo.size <= max(self._passed(), self._small)]
        return sum(not echo.settled for echo in passing), len(passing)

    def _chance(self, size: int) -> bool:
        """Whether the silence may well be chance: too few large ones asked for, given how many others are lost."""
        lost, passing = self._lost()
        asked = sum(echo.size == size for echo in self._sent)
        return asked < self._tries() or lost > LOST_AT_MOST * passing

    def _left_s(self) -> float:
        return self._ctx.deadline - MARGIN_S - asyncio.get_running_loop().time()


def _nobody(sent: int) -> Failed:
    return Failed(Failure.TIMEOUT, f"no reply to {sent} echoes, large and small")


def _told(echo: Sized) -> str:
    if echo.answered:
        return "answered"
    if echo.told:
        return f"ICMP {echo.told.icmp_type}/{echo.told.icmp_code} from {echo.told.responder}"
    return "too big for our own interface" if echo.local else "not answered"

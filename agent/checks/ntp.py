"""The `ntp` check, whether a time server is right and how far our clock is from it: RFC 5905."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from agent.check import TARGET_WORDS, Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Failure, Layer, Scalar
from agent.net import ntp
from agent.net.udp import Heard, exchange
from agent.options import Host, option

LEAP_UNKNOWN = 3  # leap indicator of a server whose own clock is not synchronised
STRATUM_KISS, STRATUM_UNSYNCHRONISED = 0, 16
KISSES = {  # RFC 5905, 7.4: what a client must obey
    b"RATE": "it is asked too often; raise `interval`",
    b"DENY": "it is told to refuse us; ask its owner",
    b"RSTR": "it is told to refuse us; ask its owner",
}
QUIET_S = 900.0
"""So long nothing is sent after a refusal: the longest back-off of the contract."""
MOST_ROOT_DISTANCE_S = 16.0
"""MAXDISP of RFC 5905: beyond it a server says of itself that it knows nothing. The RFC's 1 s would fail every
Windows domain controller, which commonly says 10 s; limit `root_distance_s` by `degraded` instead."""
MOST_CLOCK_JUMP_S = 0.1
"""Our own clock was set in the middle of the question: neither offset nor delay means anything then."""
LEAST_DELAY_S = -0.001
"""A server that kept our question longer than the whole took counts wrong; small change is the two clocks' rates."""


@dataclass(frozen=True, kw_only=True)
class Ntp(Check):
    """Sends one client packet (mode 3, NTPv4) to one time server and holds its answer against RFC 5905.

    It passes when the server answers and says that its own clock is synchronised. `offset_s` is how far
    the server's clock is ahead of this machine's (negative: behind), right to half of `delay_s`; the
    kernel's stamp of the answer is used. How much is too much is for `degraded` to say: Kerberos log-ins
    fail beyond 300 s, `{offset_s: 0.5}` warns long before. Nothing is ever set by this check.

    The packet tells nothing of us: a random number stands where our time would, and the server must give
    it back. An answer without it, or from another address, is not heard.

    `timeout`: silence; firewalls often drop UDP port 123. `refused`: no time service there. `prohibited`:
    the server itself refuses us (kiss-o'-death RATE, DENY or RSTR); it is then left alone for 15 minutes
    (`local_policy`), as the RFC demands. `protocol`: it says that it is not synchronised (leap 3, or no
    stratum), or that its time may be wrong by more than 16 s, or its packet cannot be right; `detail`
    tells which. `mismatch`: answers came, but none to our question (somebody may be forging them).

    Public pools ask not to be asked more often than once a minute; the standard check `time` asks the
    machine's own source every 5 minutes.
    """

    type: ClassVar[str] = "ntp"
    default_layer: ClassVar[Layer] = Layer.TIME
    default_timeout_s: ClassVar[float] = 2.0
    main_field: ClassVar[str] = "offset_s"
    facts: ClassVar[Mapping[str, Fact]] = {
        "offset_s": Fact(float, "Seconds that the server's clock is ahead of ours; negative where it is behind."),
        "delay_s": Fact(float, "Seconds on the way to the server and back, without the time it took to answer."),
        "stratum": Fact(int, "Steps from a reference clock: 1 has one itself; 0 or 16: none."),
        "leap": Fact(int, "Leap indicator: 0 none, 1 a second more at midnight, 2 one less, 3 not synchronised."),
        "root_distance_s": Fact(float, "Seconds by which the server's time may be wrong, as it says itself."),
        "ignored_answers": Fact(int, "Answers that were none to our question: late, or forged; left out where none."),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {
        "offset_s": -0.000412,
        "delay_s": 0.00873,
        "stratum": 2,
        "leap": 0,
        "root_distance_s": 0.0124,
    }
    port: ClassVar[int] = ntp.PORT

    server: str = option(Host(TARGET_WORDS), "Time server to ask.", example="10.20.0.123")

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the one packet."""
        return (Traffic(self.server, "udp", self.port, 1),)

    async def run(self, ctx: Context) -> Facts:
        """Ask and judge; see the class for the failures."""
        now = asyncio.get_running_loop().time()
        if now < ctx.memory.get("quiet_until", now):
            minutes = (ctx.memory["quiet_until"] - now) / 60
            raise Failed(Failure.LOCAL_POLICY, f"the server refused us and is left alone for {minutes:.0f} min more")
        address = await ctx.resolve(self.server)
        fields: dict[str, Scalar] = {}
        try:
            heard, answer = await self._ask(ctx, address)
            fields |= _shown(heard, answer)
            ahead = f", {fields['offset_s']:+} s ahead of us" if fields["offset_s"] is not None else ""
            ctx.say(f"{address} answered: stratum {answer.stratum}{ahead}")
            if answer.stratum == STRATUM_KISS and answer.reference_id in KISSES:
                ctx.memory["quiet_until"] = now + QUIET_S
            _judge(heard, answer)
        except Failed as failed:
            return Facts({**fields, **failed.fields}, address, failed.failure, failed.detail)
        return Facts(fields, address)

    async def _ask(self, ctx: Context, address: str) -> tuple[Heard, ntp.Answer]:
        nonce = secrets.randbelow(ntp.WRAP - 1) + 1  # 0 would mean "unknown" to the server
        permit = await ctx.permit(address, self.port, "udp")
        heard = await exchange(permit, ntp.question(nonce), ctx.deadline, lambda data: ntp.answers(nonce, data))
        try:
            return heard, ntp.read(heard.data)
        except ValueError:
            raise Failed(Failure.PROTOCOL, "the answer is cut off: it is shorter than an NTP packet") from None


def root_distance_s(answer: ntp.Answer) -> float:
    """Say by how much the server's time may be wrong (RFC 5905, 10), the way from it to us left out."""
    return answer.root_delay_s / 2 + answer.root_dispersion_s


def _shown(heard: Heard, answer: ntp.Answer) -> dict[str, Scalar]:
    """Write what the record shows; offset and delay only where both of the server's stamps are there."""
    fields: dict[str, Scalar] = {"offset_s": None, "delay_s": None}
    if answer.received and answer.sent and abs(heard.clock_jump_s) < MOST_CLOCK_JUMP_S:
        offset_s, delay_s = ntp.offset_and_delay_s(answer, heard.sent_ns, heard.received_ns)
        fields |= {"offset_s": round(offset_s, 9), "delay_s": round(max(delay_s, 0.0), 9)}
    fields |= {"stratum": answer.stratum, "leap": answer.leap, "root_distance_s": round(root_distance_s(answer), 6)}
    return fields | ({"ignored_answers": heard.ignored} if heard.ignored else {})


def _judge(heard: Heard, answer: ntp.Answer) -> None:
    """Hold the answer against RFC 5905; raises `Failed` for the first thing that is wrong."""
    if answer.mode != ntp.SERVER or not 1 <= answer.version <= ntp.VERSION:
        raise Failed(Failure.PROTOCOL, f"not a server's packet: NTP version {answer.version}, mode {answer.mode}")
    if answer.stratum == STRATUM_KISS and answer.reference_id in KISSES:
        code = answer.reference_id
        raise Failed(Failure.PROHIBITED, f"the server refuses us (kiss-o'-death {code.decode()}): {KISSES[code]}")
    for sentence in (*_unsynchronised(answer), *_impossible(heard, answer)):
        raise Failed(Failure.PROTOCOL, sentence)
    if abs(heard.clock_jump_s) >= MOST_CLOCK_JUMP_S:
        raise Failed(Failure.ABORTED, "this machine's clock was set in the middle of the question")


def _unsynchronised(answer: ntp.Answer) -> Iterator[str]:
    if answer.leap == LEAP_UNKNOWN or not STRATUM_KISS < answer.stratum < STRATUM_UNSYNCHRONISED:
        code = answer.reference_id.rstrip(b"\0")
        said = f" ({code.decode()})" if answer.stratum == STRATUM_KISS and code.isalpha() and code.isupper() else ""
        figures = f"leap {answer.leap}, stratum {answer.stratum}"
        yield f"the server says that its own clock is not synchronised{said}: {figures}"
    elif root_distance_s(answer) >= MOST_ROOT_DISTANCE_S:
        yield f"the server says that its time may be wrong by {root_distance_s(answer):.0f} s"


def _impossible(heard: Heard, answer: ntp.Answer) -> Iterator[str]:
    """Name what no working server sends (RFC 5905, A.5.1.1 and 8)."""
    if not answer.sent or not answer.received:
        yield "the server's packet has no time in it"
    elif ntp.apart_s(answer.sent, answer.received) < 0:
        yield "the server says that it answered before it was asked"
    elif answer.reference and ntp.apart_s(answer.sent, answer.reference) < 0:
        yield "the server says that its clock was last set in the future"
    elif abs(heard.clock_jump_s) < MOST_CLOCK_JUMP_S and _delay_s(heard, answer) < LEAST_DELAY_S:
        yield "the server says that it kept our question longer than its answer took"


def _delay_s(heard: Heard, answer: ntp.Answer) -> float:
    return ntp.offset_and_delay_s(answer, heard.sent_ns, heard.received_ns)[1]

"""The `dns` check, whether a name server answers and answers rightly: RFC 1035, 6891 and 7766."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, ClassVar

from agent.check import Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Failure, Layer, Scalar
from agent.net.streams import Stream, connect
from agent.net.udp import exchange
from agent.options import HOST_PATTERN, Choice, Host, ListOf, Text, is_address, option
from agent.safety import Permit

if TYPE_CHECKING:  # 6 MB and 80 ms: loaded by the first run, and only where a dns check is configured
    from dns.message import Message

RECORDS = ("A", "AAAA", "SRV", "PTR", "TXT", "NS", "SOA", "CNAME", "MX")
QUERY = Text(rf"\.|{HOST_PATTERN}|[0-9a-fA-F]{{0,4}}(:[0-9a-fA-F.]{{0,15}}){{2,7}}", "a DNS name or an address", 254)
LARGEST_UDP_ANSWER = 1232  # what DNS flag day 2020 agreed on: fits every path without fragments
LONGEST_ANSWERS = 1000
"""Characters of `answers` in a record; a TXT record alone may have 64 kB."""
FAILURES = {
    "NXDOMAIN": Failure.DNS_NXDOMAIN,
    "SERVFAIL": Failure.DNS_SERVFAIL,
    "REFUSED": Failure.DNS_REFUSED,
}
"""Every other rcode (FORMERR, NOTIMP, BADVERS…) is a server that cannot make sense of a plain question: protocol."""
COMPARED = ("NOERROR", "NXDOMAIN")
"""The codes that say something of the name; the others only say something of the server."""
COMPARED_RUNS = 2.5
"""For so many intervals an answer is held against those of other servers: one missed run does not end it."""
MOST_QUESTIONS = 1024
"""Questions whose answers are remembered; more only where a reload changes the config again and again."""


@dataclass(frozen=True, kw_only=True)
class Dns(Check):
    """Asks one given name server one question, over UDP; over TCP too when the answer does not fit.

    Ask each configured name server in a check of its own, by a name that the hospital needs: a fault
    of one server and a fault of the name are then easy to tell apart. The question wants recursion.

    It passes when the server gives at least one record of the wanted type, by itself or at the end of
    a CNAME chain that the answer holds. With `expect` every such record must also be one of the list;
    it need not be the whole list, so that a server which gives a few of many addresses in turn passes.
    Letter case and the dot at the end do not count (in TXT records everything does).

    `dns_timeout`: silence. `refused`: nothing listens on port 53. `dns_nxdomain`: the name does not
    exist. `dns_servfail`: the server could not find out. `dns_refused`: it will not tell us.
    `dns_mismatch`: the name has no such record, or one that `expect` does not list. `mismatch`: answers
    came, but none to our question (an old one, or somebody forging). `protocol`: an answer that cannot
    be read, or a code such as FORMERR.

    Two checks that ask the same of two servers are held against each other: `disagreeing_servers` counts
    the servers that answered otherwise (NXDOMAIN is an answer too), `disagrees_with` names them. Which one
    is right cannot be known here, so that alone fails nothing; where all must say the same,
    `degraded: {disagreeing_servers: 0}` makes it seen. Names that give each asker another address, or a few
    of many in turn, always differ.
    """

    type: ClassVar[str] = "dns"
    default_layer: ClassVar[Layer] = Layer.DNS
    default_timeout_s: ClassVar[float] = 2.0
    main_field: ClassVar[str] = "response_s"
    facts: ClassVar[Mapping[str, Fact]] = {
        "response_s": Fact(float, "Seconds from the question to the answer that counts."),
        "rcode": Fact(str, "The answer's code, such as NOERROR."),
        "answers": Fact(str, "The records found, sorted, comma-joined, cut at 1000 characters."),
        "disagreeing_servers": Fact(int, "Servers that lately answered the same question otherwise; needs two checks."),
        "disagrees_with": Fact(str, "Their addresses, comma-joined; left out where there are none."),
        "ignored_answers": Fact(int, "Answers that were none to our question: late, or forged; left out where none."),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {
        "response_s": 0.00184,
        "rcode": "NOERROR",
        "answers": "198.51.100.20,198.51.100.21",
        "disagreeing_servers": 0,
    }
    port: ClassVar[int] = 53

    server: str = option(
        Host(words_allowed=("resolver",)), "Name server to ask; `resolver` is this machine's first.", example="resolver"
    )
    query: str = option(QUERY, "Name to ask for; for PTR also an address; `.` is the root.", example="epr.example.org")
    record: str = option(Choice(RECORDS), "Type of the record to ask for.", default="A", example="SRV")
    expect: tuple[str, ...] = option(
        ListOf(Text(), single=True),
        "The answers that are right; any other fails. SRV and MX as text: `0 100 389 dc1.example.org`.",
        default=(),
        example="[198.51.100.20, 198.51.100.21]",
    )

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the question, and the second one over TCP that a long answer takes."""
        return (Traffic(self.server, "udp", self.port, 1), Traffic(self.server, "tcp", self.port, 1))

    async def run(self, ctx: Context) -> Facts:
        """Ask and judge; see the class for the failures."""
        address = await ctx.resolve(self.server)
        fields: dict[str, Scalar] = {}
        try:
            answer = await self._ask(ctx, address, fields)
            ctx.say(f"{address} answered {fields['rcode']}")
            found = _found(answer, self.record) if fields["rcode"] == "NOERROR" else [str(fields["rcode"])]
            fields |= self._compared(ctx, address, found) if fields["rcode"] in COMPARED else {}
            self._judge(found, fields)
        except Failed as failed:
            return Facts({**fields, **failed.fields}, address, failed.failure, failed.detail)
        return Facts(fields, address)

    async def _ask(self, ctx: Context, address: str, fields: dict[str, Scalar]) -> Message:
        import dns.flags

        question = _question(self.query, self.record)
        permit = await ctx.permit(address, self.port, "udp")
        now = asyncio.get_running_loop().time
        began = now()
        try:
            heard = await exchange(permit, question.to_wire(), ctx.deadline, lambda data: _ours(question, data))
            fields |= {"ignored_answers": heard.ignored} if heard.ignored else {}
            took_s = now() - began if heard.took_s is None else heard.took_s
            answer = _noted(_read(heard.data), took_s, fields)
            if answer.flags & dns.flags.TC:
                ctx.say("the answer does not fit into a datagram: asking again over TCP")
                asked = now()
                permit = await ctx.permit(address, self.port, "tcp")
                began += now() - asked  # the wait for our own packet budget is not the server's time
                answer = _noted(await _ask_over_tcp(permit, question, ctx.deadline), now() - began, fields)
        except Failed as failed:
            raise _as_dns_failure(failed) from None
        return answer

    def _judge(self, found: list[str], fields: dict[str, Scalar]) -> None:
        rcode = str(fields["rcode"])
        if rcode != "NOERROR":
            raise Failed(FAILURES.get(rcode, Failure.PROTOCOL), f"the server answered {rcode} for {self.query}")
        fields["answers"] = ",".join(found)[:LONGEST_ANSWERS]
        if not found:
            raise Failed(Failure.DNS_MISMATCH, f"{self.query} has no {self.record} record")
        expected = {_plain(text, self.record) for text in self.expect}
        wrong = [text for text in found if text not in expected]
        if expected and wrong:
            raise Failed(Failure.DNS_MISMATCH, f"{self.query} gave {wrong[0][:100]}, which `expect` does not list")

    def _compared(self, ctx: Context, address: str, found: list[str]) -> dict[str, Scalar]:
        """Hold the answer against those of the other servers asked the same; {} where there are none."""
        now = asyncio.get_running_loop().time()
        fresh_s = COMPARED_RUNS * (self.interval_s or self.default_interval_s)
        question = (self.query.lower().rstrip("."), self.record)
        others = ctx.tools.get(Answers).others(question, address, found, now, fresh_s)
        differ = sorted(server for server, said in others.items() if said != frozenset(found))
        if differ:
            ctx.say(f"{', '.join(differ)} answered otherwise")
        named: dict[str, Scalar] = {"disagrees_with": ",".join(differ)} if differ else {}
        return {"disagreeing_servers": len(differ), **named} if others else {}


@dataclass
class Answers:
    """What the name servers answered lately, by question and server, to find those that disagree."""

    _said: dict[tuple[str, str], dict[str, tuple[frozenset[str], float]]] = field(default_factory=dict)

    def others(
        self, question: tuple[str, str], server: str, answer: list[str], now: float, fresh_s: float
    ) -> dict[str, frozenset[str]]:
        """Note what a server answered at `now` (loop clock, good for `fresh_s`); give what the others said."""
        if question not in self._said and len(self._said) >= MOST_QUESTIONS:
            self._said.clear()
        known = self._said.setdefault(question, {})
        known[server] = frozenset(answer), now + fresh_s
        fresh = {other: said for other, (said, until) in known.items() if other != server and until > now}
        self._said[question] = {other: known[other] for other in (*fresh, server)}
        return fresh


def _noted(answer: Message, response_s: float, fields: dict[str, Scalar]) -> Message:
    """Keep what an answer shows whatever is in it."""
    import dns.rcode

    fields |= {"response_s": response_s, "rcode": dns.rcode.to_text(answer.rcode())}
    return answer


async def _ask_over_tcp(permit: Permit, question: Message, deadline: float) -> Message:
    """Ask over TCP, where a length goes before each message (RFC 7766, 8)."""
    async with aclosing(await connect(permit, deadline)) as stream:
        wire = question.to_wire()
        await stream.write(len(wire).to_bytes(2, "big") + wire, deadline)
        length = int.from_bytes(await _read_exactly(stream, 2, deadline), "big")
        data = await _read_exactly(stream, length, deadline)
    if not _ours(question, data):
        raise Failed(Failure.MISMATCH, "the answer over TCP is not one to our question")
    return _read(data)


def _as_dns_failure(failed: Failed) -> Failed:
    """Call the silence of a name server by its own name."""
    if failed.failure is not Failure.TIMEOUT:
        return failed
    return Failed(Failure.DNS_TIMEOUT, "the name server did not answer before the deadline", **failed.fields)


def _question(query: str, record: str) -> Message:
    import dns.message
    import dns.reversename

    name = dns.reversename.from_address(query) if record == "PTR" and is_address(query) else query
    return dns.message.make_query(name, record, id=secrets.randbelow(2**16), use_edns=0, payload=LARGEST_UDP_ANSWER)


def _ours(question: Message, data: bytes) -> bool:
    """Tell whether an answer is one to this question; one with our id that cannot be read is."""
    if int.from_bytes(data[:2], "big") != question.id:
        return False
    try:
        return question.is_response(_read(data))
    except Failed:
        return True


def _read(data: bytes) -> Message:
    """Decode an answer, as far as it goes where it is marked as cut; raises `Failed` with protocol."""
    import dns.exception
    import dns.message

    try:
        return dns.message.from_wire(data, raise_on_truncation=True)
    except dns.message.Truncated as cut:
        truncated: Message = cut.kwargs["message"]
        return truncated
    except dns.exception.DNSException:
        raise Failed(Failure.PROTOCOL, "the answer of the name server cannot be read") from None


async def _read_exactly(stream: Stream, length: int, deadline: float) -> bytes:
    data = b""
    while len(data) < length:
        chunk = await stream.read(length - len(data), deadline)
        if not chunk:
            raise Failed(Failure.PROTOCOL, "the name server closed the connection before its answer was whole")
        data += chunk
    return data


def _found(answer: Message, record: str) -> list[str]:
    """List the wanted records of an answer as text, sorted, at the end of its CNAME chain."""
    import dns.exception
    from dns.message import QueryMessage

    if not isinstance(answer, QueryMessage):
        raise Failed(Failure.PROTOCOL, "the answer of the name server is not one to a query")
    try:
        rrset = answer.resolve_chaining().answer
    except dns.exception.DNSException:
        raise Failed(Failure.PROTOCOL, "the CNAME chain of the answer cannot be followed") from None
    return sorted({_text(rdata, record) for rdata in rrset or ()})


def _text(rdata: object, record: str) -> str:
    if record == "TXT":
        joined = b"".join(getattr(rdata, "strings", ())).decode(errors="backslashreplace")
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in joined)
    return _plain(str(rdata), record)


def _plain(text: str, record: str) -> str:
    """Write an answer the way it is compared: lower case, addresses in short form, no dot at the end of a name."""
    if record == "TXT":
        return text
    if is_address(text):
        return str(ip_address(text))
    return " ".join(word.rstrip(".") or "." for word in text.lower().split())

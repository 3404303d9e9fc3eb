"""docs/checks.md: each check type on about half a page, for those who decide whether it may be asked.

The text is the docstring of the class; the rest follows from what the class declares.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator

from agent import checks, messages
from agent.check import CheckOptions, Traffic
from agent.checks import Check
from agent.clock import ClockQuality, Instant
from agent.config.reading import completed
from agent.describe.config import option_table
from agent.describe.words import MADE_BY
from agent.model import Failure, Record, outcome_of
from agent.options import duration, is_address, options_of
from agent.wording import FAILURES

MOMENT = Instant(1795356202.123, 86_400_123, str(ClockQuality.SYNCED), "9c1e7a")
"""The moment of every sample: that of the contract's record."""
NODE, EPOCH, SEQ = "main-hospital-01", "k3f9q2", 184_223
SAMPLE_ADDRESS = "198.51.100.10"
FAMILY = re.compile(r"(dns|tls|local)_…")
"""How a manual names all failures of one kind at once."""


def check_pages() -> str:
    """Write the page of all check types."""
    return "\n".join(_pages()) + "\n"


def _pages() -> Iterator[str]:
    types = checks.load()
    yield f"# The check types\n\n{MADE_BY} How a check is written: [the config file](config.md); what its records"
    yield "mean, field by field: [the messages](messages.md). What a whole config sends in a day: `siteprobe manifest`."
    yield f"\n{', '.join(f'[{name}](#{name})' for name in sorted(types))}"
    for name in sorted(types):
        yield from _page(types[name])


def _page(of: type[Check]) -> Iterator[str]:
    first, _, rest = (inspect.getdoc(of) or "").partition("\n\n")
    yield f"\n## {of.type}\n\n**{' '.join(first.split())}**\n"
    if rest:
        yield f"{rest}\n"
    yield f"{_pace(of)} {sent_words(example(of).sends())}\n"
    own = tuple(o for o in options_of(of) if o.key not in {c.key for c in options_of(CheckOptions)})
    if own:
        yield from option_table(own)
        yield ""
    yield from _failures(of)
    if of.sample:
        yield f"A record:\n\n```json\n{sample_text(of)}\n```"


def _pace(of: type[Check]) -> str:
    least = f", {duration(of.least_interval_s)} at the shortest" if of.least_interval_s >= 1 else ""
    pace = f"every {duration(of.default_interval_s)}{least}, timeout {duration(of.default_timeout_s)}"
    return f"Layer `{of.default_layer}`, {pace}."


def example(of: type[Check]) -> Check:
    """Make a check of the type from the examples of the options it requires."""
    needed = {o.field: o.kind.read(o.example) for o in options_of(of) if o.required and o.field != "name"}
    found = completed(of(name=f"my-{of.type}", **needed))
    assert isinstance(found, of)
    return found


def sent_words(sent: tuple[Traffic, ...]) -> str:
    """Say what one run sends, in one sentence."""
    if not sent:
        return "One run sends nothing."
    return f"One run sends at most {' and '.join(map(_traffic_words, sent))}."


def _traffic_words(traffic: Traffic) -> str:
    noun = {"tcp": "TCP connection", "udp": "UDP datagram", "icmp": "ICMP packet", "arp": "ARP question"}
    word = noun.get(traffic.protocol, f"{traffic.protocol} packet")
    plural = "" if traffic.requests == 1 else "s"
    port = f" to port {traffic.port}" if traffic.port else ""
    budget = " (on a budget of its own)" if traffic.own_budget else ""
    return f"{traffic.requests:g} {word}{plural}{port}{budget}"


def _failures(of: type[Check]) -> Iterator[str]:
    found = failures(inspect.getdoc(of) or "")
    if found:
        yield "| failure | outcome | meaning |\n| --- | --- | --- |"
        yield from (f"| `{word}` | {outcome_of(word, of.type)} | {FAILURES[word]} |" for word in found)
        yield ""


def failures(text: str) -> list[Failure]:
    """List the failures that a manual names between backticks, in the order of the contract."""
    words = {word.strip(",;") for quoted in re.findall(r"`([^`]+)`", text) for word in quoted.split()}
    families = tuple(f"{match[1]}_" for word in words if (match := FAMILY.fullmatch(word)))
    return [failure for failure in Failure if failure in words or (families and failure.startswith(families))]


def sample_text(of: type[Check]) -> str:
    """Write a record of the type as it is published, from the sample of the class."""
    made = example(of)
    head = {"check": made.name, "layer": made.layer, "target": made.asked}
    address = {"address": (made.asked if is_address(made.asked) else SAMPLE_ADDRESS) if made.sends() else ""}
    record = Record(of.type, MOMENT, {**head, **address, "outcome": "pass", "duration_s": 0.412, **of.sample})
    return json.dumps(json.loads(messages.encode(record, NODE, EPOCH, SEQ)), ensure_ascii=False)

"""docs/messages.md: every topic and every message, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent import wording
from agent.describe.schemas import record_facts
from agent.describe.words import MADE_BY, fact_table
from agent.messages import EVENT_KINDS
from agent.model import OWN_FAULT, OWN_NETWORK, Fact, Failure

CARDS: tuple[tuple[str, Mapping[str, Fact]], ...] = (
    ("status", wording.STATUS),
    ("about", wording.ABOUT),
    ("heartbeat", wording.HEARTBEAT),
    ("verdict", wording.VERDICT),
    ("state", wording.STATE),
)


def messages() -> str:
    """Write the page."""
    parts = (_topics(), _cards(), _records(), _failures(), _events(), _commands())
    return "\n".join(line for part in parts for line in part) + "\n"


def _topics() -> Iterator[str]:
    yield f"# The messages\n\n{MADE_BY} How to read them without loss or duplicates: [delivery](delivery.md)."
    yield "For programs: [asyncapi.yaml](asyncapi.yaml) and the JSON Schemas in [schema/](schema/)."
    yield "\nUTF-8 JSON, QoS 1. Units are in the names: `_s` seconds, `_bytes`, `_bits_per_s`, `_ratio` 0 to 1."
    yield "Readers ignore fields that they do not know. `status` outranks all: where it is not `online`, or no"
    yield 'heartbeat came for 180 s, show "no contact since …; last known …".\n\n## Topics\n'
    yield "| topic | retained | from | content |\n| --- | --- | --- | --- |"
    for topic in wording.TOPICS.values():
        writer = "agent" if topic.from_agent else "centre"
        yield f"| `{topic.address}` | {'yes' if topic.retained else 'no'} | {writer} | {topic.sentence} |"


def _cards() -> Iterator[str]:
    for name, facts in CARDS:
        yield f"\n## Retained message `{name}`\n\n{wording.TOPICS[name].sentence}\n"
        yield from fact_table(facts)
        for field, fact in facts.items():
            if fact.of:
                yield f"\n`{field}`{' (each)' if fact.kind is list else ''}:\n"
                yield from fact_table(fact.of)


def _records() -> Iterator[str]:
    yield "\n## Records\n\nOne flat object of scalars each, on `live` alone and on `late` in arrays. What is not"
    yield "known is left out. Every record begins with:\n"
    yield from fact_table(wording.HEAD)
    yield "\nSent late, it also has `late`: true. Records of a check go on with:\n"
    yield from fact_table(wording.CHECK)
    yield "\nand, where they tell of a run of it, with:\n"
    yield from fact_table(wording.OUTCOME, always=True)
    shared = {*wording.CHECK, *wording.OUTCOME}
    for name, (sentence, facts) in record_facts().items():
        own = {key: fact for key, fact in facts.items() if name in wording.OWN_RECORDS or key not in shared}
        yield f"\n### Record `{name}`\n\n{sentence}\n"
        yield from fact_table(own, always=name in wording.OWN_RECORDS)


def _failures() -> Iterator[str]:
    yield "\n## Failures\n\nA closed list. `fail` is the target's fault, `unknown` never is.\n"
    yield "| failure | outcome | meaning |\n| --- | --- | --- |"
    for failure, sentence in wording.FAILURES.items():
        yield f"| `{failure}` | {_outcome(failure)} | {sentence} |"


def _outcome(failure: Failure) -> str:
    if failure in OWN_NETWORK:
        return "fail of a `link` check, else unknown"
    return "unknown" if failure in OWN_FAULT else "fail"


def _events() -> Iterator[str]:
    yield "\n## Event kinds\n\nA closed list.\n\n| kind | meaning |\n| --- | --- |"
    for kind, sentence in EVENT_KINDS.items():
        yield f"| `{kind}` | {sentence} |"


def _commands() -> Iterator[str]:
    yield "\n## Commands\n\nThe centre publishes to `command/{name}`, not retained; the agent answers on `response`.\n"
    yield from fact_table(wording.COMMAND)
    for name, (sentence, arguments) in wording.ARGUMENTS.items():
        yield f"\n### Command `{name}`\n\n{sentence}\n"
        if arguments:
            yield "Its `args`:\n"
            yield from fact_table(arguments)
        if name in wording.RESULTS:
            yield "\nIts `result`:\n"
            yield from fact_table(wording.RESULTS[name])
    yield "\n## Responses\n"
    yield from fact_table(wording.RESPONSE)
    yield "\n| code | meaning |\n| --- | --- |"
    for code, sentence in wording.RESPONSE_CODES.items():
        yield f"| `{code}` | {sentence} |"
    yield "\n## Pace of the fleet\n\nRetained on `siteprobe/v1/{org}/fleet/pace`; an empty message takes it back.\n"
    yield from fact_table(wording.PACE, always=True)

"""docs/checks.md: each type with its manual, what it sends, its options, its failures and a sample."""

from __future__ import annotations

import inspect
import json
import re

import jsonschema
import pytest

from agent import checks
from agent.check import Traffic
from agent.checks import Check
from agent.describe import files
from agent.describe.checks import check_pages, example, failures, sample_text, sent_words
from agent.describe.schemas import all_schemas
from agent.messages import compact
from agent.model import Failure
from agent.options import options_of

TYPES = checks.load()
EACH = pytest.mark.parametrize("of", list(TYPES.values()), ids=list(TYPES))


def page_of(of: type[Check]) -> str:
    return re.split(r"^## ", check_pages().partition(f"\n## {of.type}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_page_is_one_of_the_generated_files() -> None:
    assert [text for path, text in files().items() if path.name == "checks.md"] == [check_pages()]


@EACH
def test_a_page_holds_the_manual_and_every_option(of: type[Check]) -> None:
    page = page_of(of)
    paragraphs = (inspect.getdoc(of) or "").split("\n\n")
    assert " ".join(paragraphs[0].split()) in page
    assert all(paragraph in page for paragraph in paragraphs[1:])
    own = {o.key for o in options_of(of)} - {o.key for o in options_of(Check)}
    assert all(f"| `{key}` |" in page for key in own)


@EACH
def test_a_page_says_what_one_run_sends(of: type[Check]) -> None:
    assert sent_words(example(of).sends()) in page_of(of)


@pytest.mark.parametrize("of", [of for of in TYPES.values() if of.sample], ids=lambda of: of.type)
def test_a_sample_record_is_one_by_its_schema(of: type[Check]) -> None:
    text = sample_text(of)
    assert f"```json\n{text}\n```" in page_of(of)
    record = json.loads(text)
    assert set(of.sample) <= set(record)
    jsonschema.validate(record, all_schemas()[f"record-{of.type}"])
    assert len(compact(record)) < 2000


def test_what_is_sent_is_said_in_words() -> None:
    echo, port = Traffic("a", "icmp", None, 3), Traffic("a", "tcp", 443, 1)
    assert sent_words(()) == "One run sends nothing."
    assert sent_words((echo, port)) == "One run sends at most 3 ICMP packets and 1 TCP connection to port 443."


def test_failures_are_found_singly_in_rows_and_as_a_family() -> None:
    assert failures("`refused`: no. `reset timeout`. `tcp`, stalled") == [
        Failure.TIMEOUT,
        Failure.REFUSED,
        Failure.RESET,
    ]
    assert set(failures("`tls_…` (the handshake)")) == {word for word in Failure if word.startswith("tls_")}

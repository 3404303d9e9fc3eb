"""Sentences that name a command of ours name one that there is."""

from __future__ import annotations

import re
from pathlib import Path

import click

from agent.cli import siteprobe

AGENT = Path(__file__).resolve().parents[2] / "agent"


def test_no_sentence_sends_people_to_a_command_that_is_not_there() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in AGENT.rglob("*.py"))
    named = set(re.findall(r"`siteprobe ([a-z]+)", text))
    assert named
    assert named <= set(siteprobe.list_commands(click.Context(siteprobe)))

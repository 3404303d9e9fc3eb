"""The demo's table: while it runs it says where to look further, and no more in the frame that stays."""

from __future__ import annotations

import json
import queue
import time
from pathlib import Path

import pytest

from agent.cli.demo.table import Board

OFFERED = ("mosquitto_sub -p 18830", "siteprobe status -c", "/nowhere/store")


def received() -> queue.Queue[tuple[str, bool, bytes]]:
    """Give two messages as they come from the broker."""
    base, found = "siteprobe/v1/demo/this-machine/demo-probe", queue.Queue[tuple[str, bool, bytes]]()
    found.put((f"{base}/verdict", True, json.dumps({"verdict": "healthy", "summary": "All is well."}).encode()))
    found.put((f"{base}/state/gateway", True, json.dumps({"state": "up", "type": "icmp"}).encode()))
    return found


def interrupted() -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("ended_by", ["time", "Ctrl-C"])
def test_the_frame_that_stays_offers_nothing_that_is_gone(
    ended_by: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    board = Board(Path("/nowhere"), 18830)
    if ended_by == "time":
        board.show(received(), time.monotonic() + 2, lambda: None)
    else:
        with pytest.raises(KeyboardInterrupt):
            board.show(received(), float("inf"), interrupted)
    before, _, last = capsys.readouterr().out.rpartition("healthy")
    assert "gateway" in last and "2 messages received" in last
    for words in OFFERED:
        assert words in before, "it was offered while the demo ran"
        assert words not in last


def test_without_a_terminal_only_the_last_frame_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    Board(Path("/nowhere"), 18830).show(received(), time.monotonic() + 2, lambda: None)
    shown = capsys.readouterr().out
    assert shown.count("healthy") == 1 and "2 messages received" in shown
    assert not [words for words in OFFERED if words in shown]

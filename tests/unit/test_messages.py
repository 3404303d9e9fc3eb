"""Records as JSON: flat, bounded, valid, with units as they are."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agent
from agent import messages
from agent.clock import Instant
from agent.model import Record, event

TAKEN = Instant(1_795_000_000.1239, 86_400_123, "synced", "9c1e7a")


def encoded(**fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(messages.encode(Record("icmp", TAKEN, fields), "node-1", "k3f9q2", 184223))
    return found


def test_the_head_comes_first_and_the_time_is_utc_with_milliseconds() -> None:
    found = encoded(check="gateway", rtt_mean_s=0.00038)
    assert list(found) == [
        "v", "node", "ep", "seq", "ts", "clock", "boot", "mono_ms", "type", "check", "rtt_mean_s",
    ]  # fmt: skip
    assert found["ts"] == "2026-11-18T11:06:40.123Z"
    assert (found["v"], found["seq"], found["mono_ms"]) == (1, 184223, 86_400_123)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (["a", 1], "a,1"),
        (("x",), "x"),
        (0.1234567891234, 0.123456789),
        (True, True),
        (float("nan"), None),
        (float("inf"), None),
        ("two\nlines\x00", "two lines "),
        ("\ud800", " "),
        ("é ✖", "é ✖"),
    ],
)
def test_values_are_flat_scalars(value: Any, shown: Any) -> None:
    assert encoded(x=value).get("x") == shown


def test_what_is_not_known_is_left_out() -> None:
    assert "status" not in encoded(status=None)


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=3000), max_size=30))
def test_any_record_fits_and_is_utf_8(fields: dict[str, str]) -> None:
    text = messages.encode(Record("event", TAKEN, fields), "node-1", "e", 1)
    assert len(text.encode()) <= messages.RECORD_LIMIT_BYTES
    assert json.loads(text)["seq"] == 1


@pytest.mark.parametrize("letter", ["a", "é", "✖", "𝄞", '"', "\\"])
def test_an_overlong_record_is_cut_in_its_texts(letter: str) -> None:
    text = messages.encode(Record("event", TAKEN, {f"f{n}": letter * 900 for n in range(30)}), "node-1", "e", 1)
    assert messages.RECORD_LIMIT_BYTES // 3 < len(text.encode()) <= messages.RECORD_LIMIT_BYTES
    assert set(json.loads(text)["f29"]) == {letter}


def test_a_late_record_says_so_and_nothing_else_changes() -> None:
    text = messages.encode(Record("icmp", TAKEN, {"check": "a"}), "n", "e", 1)
    assert json.loads(messages.late(text)) == json.loads(text) | {"late": True}


def test_a_record_of_no_check_goes_to_site() -> None:
    assert Record("loss", TAKEN).check == "site"
    assert messages.live_suffix("loss", Record("loss", TAKEN).check) == "live/loss/site"
    assert messages.base_topic("o", "s", "n") == "siteprobe/v1/o/s/n"


def kinds_in(path: Path) -> set[str]:
    """Find the kinds that a file names: `event("kind", …)` and `{"kind": "…"}`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "event":
            values: list[ast.expr] = node.args[:1]
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            values = [v for k, v in pairs if isinstance(k, ast.Constant) and k.value == "kind"]
        else:
            continue
        found |= {v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)}
    return found


def test_every_event_kind_in_the_code_is_in_the_closed_list() -> None:
    used = set().union(*map(kinds_in, Path(agent.__file__).parent.rglob("*.py")))
    assert used <= set(messages.EVENT_KINDS), used - set(messages.EVENT_KINDS)
    assert {"agent_started", "device_rebooted"} <= used
    assert event("agent_started", "x", TAKEN).fields["kind"] == "agent_started"

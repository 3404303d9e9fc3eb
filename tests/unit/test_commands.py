"""Commands at the desk: every refusal, every deed, floods, junk of any kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.commands import Code
from agent.commands.desk import OBEYED_A_MINUTE, REFUSED_A_MINUTE
from agent.commands.request import PAYLOAD_LIMIT_BYTES
from agent.commands.seen import IDS_KEPT
from tests.rigs.desk import PACE, START, Front

MAINTENANCE = {"seconds": 600, "kind": "maintenance", "reason": "router swap"}


@pytest.fixture
def front(tmp_path: Path) -> Front:
    return Front(tmp_path)


@pytest.mark.parametrize(
    ("code", "name", "changes"),
    [
        ("ok", "report", {}),
        ("ok", "report", {"args": {"unknown": 1}}),
        ("unknown", "reboot", {}),
        ("unknown", "", {}),
        ("unknown", "Report", {}),
        ("retained", "report", {"retained": True}),
        ("retained", "reboot", {"retained": True}),
        ("expired", "report", {"in_s": 0}),
        ("expired", "report", {"in_s": -3600}),
        ("expired", "report", {"in_s": 60.1}),
        ("ok", "report", {"in_s": 60}),
        ("ok", "report", {"exp": "2026-11-18T12:07:10+01:00"}),
        ("invalid", "report", {"exp": None}),
        ("invalid", "report", {"exp": 1_795_000_010}),
        ("invalid", "report", {"exp": "2026-11-18T11:07:10"}),
        ("invalid", "report", {"exp": "tomorrow"}),
        ("invalid", "report", {"exp": "2026-11-18"}),
        ("ok", "report", {"exp": "2026-11-18t11:07:10.123456789z"}),
        ("invalid", "report", {"exp": "2026-11-18T11Z"}),
        ("invalid", "report", {"exp": "2026-11-18T11:07Z"}),
        ("invalid", "report", {"exp": "2026-11-18T110710Z"}),
        ("invalid", "report", {"exp": "2026-W47-3T11:07:10Z"}),
        ("invalid", "report", {"exp": "2026-11-18T12:07:10+01:00:00"}),
        ("invalid", "report", {"exp": "0001-01-01T00:00:00+23:59"}),
        ("invalid", "report", {"id": None}),
        ("invalid", "report", {"id": ""}),
        ("invalid", "report", {"id": 7}),
        ("invalid", "report", {"id": "x" * 129}),
        ("invalid", "report", {"id": "a\nb"}),
        ("invalid", "report", {"args": []}),
        ("invalid", "report", {"args": "x"}),
        ("invalid", "suppress", {}),
        ("invalid", "suppress", {"args": {**MAINTENANCE, "seconds": 14_400.5}}),
        ("invalid", "suppress", {"args": {**MAINTENANCE, "seconds": -1}}),
        ("invalid", "suppress", {"args": {**MAINTENANCE, "seconds": True}}),
        ("invalid", "suppress", {"args": {**MAINTENANCE, "seconds": "600"}}),
        ("invalid", "suppress", {"args": {**MAINTENANCE, "kind": "holiday"}}),
        ("invalid", "suppress", {"args": {**MAINTENANCE, "kind": {}}}),
        ("invalid", "suppress", {"args": {**MAINTENANCE, "reason": 5}}),
        ("ok", "suppress", {"args": {**MAINTENANCE, "seconds": 14_400}}),
        ("invalid", "replay", {}),
        ("invalid", "replay", {"args": {"ranges": [[1, 2]]}}),
        ("invalid", "replay", {"args": {"ep": "ep1"}}),
        ("invalid", "replay", {"args": {"ep": "ep1", "ranges": [[2, 1]]}}),
        ("invalid", "replay", {"args": {"ep": "ep1", "ranges": [[0, 1]]}}),
        ("invalid", "replay", {"args": {"ep": "ep1", "ranges": [[1, 2, 3]]}}),
        ("invalid", "replay", {"args": {"ep": "ep1", "ranges": [[1, True]]}}),
        ("invalid", "replay", {"args": {"ep": "ep1", "ranges": [[1.0, 2.0]]}}),
        ("invalid", "replay", {"args": {"ep": "ep1", "ranges": [[1, 2**64]]}}),
        ("invalid", "replay", {"args": {"ep": "ep1", "ranges": [[1, 1]] * 1001}}),
        ("ok", "check", {"args": {"check": "gateway"}}),
        ("invalid", "check", {}),
        ("invalid", "check", {"args": {"check": ["gateway"]}}),
        ("invalid", "check", {"args": {"check": "\ud800"}}),
        ("busy", "check", {"args": {"check": "runs"}}),
        ("not_allowed", "check", {"args": {"check": "not-now"}}),
        ("ok", "traceroute", {"args": {"check": "gateway"}}),
        ("invalid", "traceroute", {"args": {"target": "10.0.0.1"}}),
        ("busy", "traceroute", {"args": {"check": "runs"}}),
        ("not_allowed", "traceroute", {"args": {"check": "not-now"}}),
    ],
)
def test_each_command_has_its_code_and_its_event(front: Front, code: str, name: str, changes: dict[str, Any]) -> None:
    if "in_s" in changes:
        changes = {"exp": front.time(changes["in_s"])}
    answer = front.ask(name, **changes)
    assert (answer["to"], answer["code"], answer["ok"]) == ("response", code, code == "ok")
    fields = next(r.fields for r in front.notes.records if r.fields["kind"] == "command")
    assert (fields["name"], fields.get("id"), fields["code"]) == (name, answer["id"], code)
    assert code == "ok" or answer["result"]["reason"] == fields["detail"]


@pytest.mark.parametrize(
    ("payload", "known_id"),
    [
        (b"", None),
        (b"not json", None),
        (b"\xff\xfe", None),
        (b"[" * 20_000, None),
        (b'{"a":' * 6000, None),
        (b"[]", None),
        (b"null", None),
        (b'{"id": NaN}', None),
        (b'{"id": "\\ud800"}', None),
        (b'{"id": ' + b"9" * 5000 + b"}", None),
        (b'{"id": "big", "args": "' + b"x" * PAYLOAD_LIMIT_BYTES + b'"}', None),
        (b'{"id": "known"}', "known"),
    ],
)
def test_junk_is_invalid_and_its_id_comes_back_where_it_can(front: Front, payload: bytes, known_id: str | None) -> None:
    answer = front.send("report", payload)
    assert answer is not None
    assert (answer["code"], answer["id"], answer["ok"]) == ("invalid", known_id, False)


def test_a_monstrous_number_is_named(front: Front) -> None:
    answer = front.send("report", b'{"id": "a", "args": {"n": ' + b"9" * 5000 + b"}}")
    assert answer and answer["result"]["reason"] == "the payload has a number of 5000 digits, at most 20 are read"


def test_a_disabled_command_is_refused_and_without_any_nothing_is_subscribed_to(tmp_path: Path) -> None:
    front = Front(tmp_path, enabled=("replay", "report"))
    assert front.ask("suppress", MAINTENANCE)["code"] == "disabled"
    assert front.suppressed == []
    assert front.desk.subscriptions == (), "nobody is obeyed before the service runs"


def test_an_id_is_obeyed_once_over_restarts_and_only_what_was_obeyed_counts(front: Front, tmp_path: Path) -> None:
    assert front.ask("report", id="a")["code"] == "ok"
    assert front.ask("report", id="a")["code"] == "duplicate"
    assert front.ask("suppress", MAINTENANCE, id="a")["code"] == "duplicate", "whatever the name"
    assert front.ask("reboot", id="b")["code"] == "unknown"
    assert front.ask("report", id="b")["code"] == "ok", "a refused id was not used up"
    assert Front(tmp_path, notes=front.notes).ask("report", id="a")["code"] == "duplicate"
    front.notes.values["command_ids"] = "{junk"
    assert Front(tmp_path, notes=front.notes).ask("report", id="a")["code"] == "ok"


def test_so_many_ids_are_kept_that_none_unexpired_is_forgotten(front: Front) -> None:
    for minute in range(6):
        for n in range(OBEYED_A_MINUTE):
            assert front.ask("report", id=f"{minute}-{n}")["code"] == "ok"
        front.later(60)
    assert len(json.loads(front.notes.values["command_ids"])) == IDS_KEPT
    assert IDS_KEPT >= 2 * OBEYED_A_MINUTE
    assert front.ask("report", id="5-0")["code"] == "duplicate"


@pytest.mark.parametrize(("in_s", "code"), [(30, "ok"), (-1, "expired"), (61, "expired")])
def test_an_unset_clock_judges_as_it_is_and_says_so(front: Front, in_s: float, code: str) -> None:
    front.now = replace(START, clock="unsynced")
    answer = front.ask("report", exp=front.time(in_s))
    assert answer["code"] == code
    assert code == "ok" or "clock is not set" in answer["result"]["reason"]


def test_replay_tells_what_is_queued_and_what_is_gone(front: Front) -> None:
    answer = front.ask("replay", {"ep": "ep1", "ranges": [[140, 170], [5, 12], [198, 999], [2000, 3000]]})
    assert answer["result"] == {"queued": 27, "gone": [[5, 10], [151, 159]]}
    assert front.replayed == [(11, 12), (140, 150), (160, 170), (198, 200)]
    assert front.ask("replay", {"ep": "old", "ranges": [[1, 3]]})["result"] == {"queued": 0, "gone": [[1, 3]]}
    front.notes.next_seq = 2_000_001
    assert front.ask("replay", {"ep": "ep1", "ranges": [[1, 2_000_000]]})["code"] == "invalid"
    assert len(front.replayed) == 4


def test_a_check_gives_its_record_as_it_was_published(front: Front) -> None:
    assert front.ask("check", {"check": "gateway"})["result"] == {"seq": 42}
    front.notes.ep = "ep2"
    assert front.ask("check", {"check": "gateway"})["code"] == "failed", "its number belongs to another epoch"


def test_a_flood_is_answered_in_part_kept_in_part_and_never_stops_a_real_command(front: Front) -> None:
    for _ in range(REFUSED_A_MINUTE + 500):
        front.send("report", b"junk")
    assert len(front.answers) == len(front.notes.records) == REFUSED_A_MINUTE
    assert front.ask("report")["code"] == "ok"
    front.later(30)
    assert "commands_dropped" not in front.kinds()
    front.later(30)
    dropped = [r.fields["detail"] for r in front.notes.records if r.fields["kind"] == "commands_dropped"]
    assert len(dropped) == 1
    assert "500 more" in str(dropped[0])
    assert front.send("report", b"junk"), "a minute later junk is answered again"


def test_more_than_so_many_commands_a_minute_are_busy(front: Front) -> None:
    codes = [front.ask("report", id=str(n))["code"] for n in range(OBEYED_A_MINUTE + 2)]
    assert codes == ["ok"] * OBEYED_A_MINUTE + ["busy"] * 2
    front.later(60)
    assert front.ask("report", id=str(OBEYED_A_MINUTE))["code"] == "ok", "what was busy may be sent again"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(SCALARS, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=8), x, max_size=4))
ARGS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("seconds", "kind", "reason", "ep", "ranges", "check", "hold", "late_rate"), JSON)
)
BODIES = st.fixed_dictionaries(
    {"id": st.text(max_size=8) | JSON, "exp": st.sampled_from(["2026-11-18T11:07:10Z", "", 5]) | JSON},
    optional={"args": ARGS | JSON, "hold": JSON, "late_rate": JSON, "spread_s": JSON},
)
PAYLOADS = st.binary(max_size=200) | (BODIES | JSON).map(lambda body: json.dumps(body).encode())
NAMES = st.sampled_from(["replay", "report", "suppress", "check", "traceroute"]) | st.text(max_size=12)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NAMES, PAYLOADS, st.booleans()), max_size=6))
def test_whatever_comes_there_is_an_answer_of_the_closed_list(
    tmp_path: Path, messages: list[tuple[str, bytes, bool]]
) -> None:
    front = Front(tmp_path)
    for name, payload, retained in messages:
        answer = front.send(name, payload, retained)
        assert answer is not None
        assert answer["code"] in tuple(Code)
        assert answer["ok"] is (answer["code"] == "ok")
        assert not (retained and answer["code"] != "retained")
        front.desk.receive(PACE, payload, retained)
        front.desk.receive(name, payload, retained)
    front.later(20_000)
    assert front.desk.suppression is None
    json.dumps([dict(r.fields) for r in front.notes.records], ensure_ascii=False).encode()

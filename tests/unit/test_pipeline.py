"""A changed config: what is new, changed or gone says so in the retained states."""

from __future__ import annotations

from typing import Any

from agent.checks.icmp import Icmp
from agent.checks.tcp import Tcp
from agent.model import Record
from agent.pipeline import Pipeline
from agent.replaying import Notebook
from agent.verdict import SiteFacts
from tests.rigs.stories import config_of, moment


def check(name: str, port: int = 443) -> Tcp:
    return Tcp(name=name, target="192.0.2.1", port=port, interval_s=30.0, timeout_s=5.0, layer="service")


def test_new_changed_and_removed_checks_are_told_at_once() -> None:
    posted: list[tuple[str, Any, int]] = []
    before = (check("keeps"), check("changes"), check("goes"), check("goes-unasked"))
    pipeline = Pipeline(config_of(before), Notebook(), lambda *card: posted.append(card), moment(-1))
    for one in before[:3]:
        pipeline.take(one, Record("tcp", moment(0), {"check": one.name, "outcome": "pass"}), ())
    pipeline.judge(SiteFacts(moment(1)))
    assert pipeline.states["changes"]["state"] == "up"
    posted.clear()

    after = config_of((check("keeps"), check("changes", 444), check("comes")))
    pipeline.replace_config(after, SiteFacts(moment(2)))
    told = {suffix: card and card["state"] for suffix, card, _ in posted if suffix.startswith("state/")}
    gone: dict[str, Any] = {"state/goes": None, "state/goes-unasked": None}
    assert told == {"state/changes": "unknown", "state/comes": "unknown"} | gone
    shown = {name: card["state"] for name, card in pipeline.all_states().items()}
    assert shown == {"keeps": "up", "changes": "unknown", "comes": "unknown"}
    assert pipeline.counts()["up"] == 1 and pipeline.counts()["unknown"] == 2


def hop(name: str) -> Icmp:
    return Icmp(name=name, target="192.0.2.9", interval_s=10.0, timeout_s=4.0, layer=name)


def test_an_unreachable_check_names_the_fault_of_now() -> None:
    posted: list[tuple[str, Any, int]] = []
    checks = hop("gateway"), hop("carrier"), check("epr")
    pipeline = Pipeline(config_of(checks), Notebook(), lambda *card: posted.append(card), moment(-1))
    named: list[tuple[str, str | None]] = []
    for silent in ((), ("carrier", "epr"), ("gateway", "carrier", "epr")):
        for second in range(8):
            at = moment(len(named) * 100 + second)
            for one in checks:
                said = {"outcome": "fail", "failure": "timeout"} if one.name in silent else {"outcome": "pass"}
                pipeline.take(one, Record(one.type, at, {"check": one.name, **said}), ())
            pipeline.judge(SiteFacts(at))
        told = [card for suffix, card, _ in posted if suffix == "state/epr"]
        named.append((told[-1]["state"], told[-1]["because"]))
        assert pipeline.all_states()["epr"] == told[-1]
    assert named == [("up", None), ("unreachable", "carrier"), ("unreachable", "gateway")]


def test_another_reason_of_a_state_that_stays_is_told_once_a_minute() -> None:
    posted: list[tuple[str, Any, int]] = []
    one = check("epr")
    pipeline = Pipeline(config_of((one,)), Notebook(), lambda *card: posted.append(card), moment(-1))
    for second in range(0, 200, 10):
        said = "timeout" if second < 60 else "refused"
        answer = {"check": "epr", "outcome": "fail", "failure": said, "detail": f"{second}"}
        pipeline.take(one, Record("tcp", moment(second), answer), ())
        pipeline.judge(SiteFacts(moment(second)))
    told = [card for suffix, card, _ in posted if suffix == "state/epr" and card["state"] == "down"]
    assert [card["reason"] for card in told] == ["timeout: 20", "refused: 80", "refused: 140"]
    assert len({(card["seq"], card["since"]) for card in told}) == 1, "the number of its transition"
    assert pipeline.all_states()["epr"] == told[-1]

"""The whole agent beside a real mosquitto, as an outside reader sees it: topics, numbers, restarts, reloads."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import need
from tests.rigs.fields import ABOUT, ALWAYS, HEARTBEAT, OF_A_CHECK, STATE, VERDICT, has
from tests.rigs.mosquitto import Mosquitto, retained
from tests.rigs.servers import closed_port, says
from tests.rigs.service import (
    Found,
    Ledger,
    Service,
    config,
    http,
    is_healthy,
    records_of,
    seconds_of,
    serving,
    siteprobe,
    tcp,
    written,
)
from tests.rigs.web import OK

BASE = "siteprobe/v1/org/site/node"
RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
FAST = 4
"""Checks asked ten times a second, so that a short outage leaves a long backlog."""
LATE_RATE = 40


# One story, judged by many tests: a broker killed under load, the agent killed too, everything back --------


@dataclass(frozen=True)
class Story:
    """What a reader has at its end, what mosquitto_sub printed, and the agent's own answers on the way."""

    ledger: Ledger
    subscriber: list[str]
    before: Found
    after: Found
    retained: dict[str, Any]
    back_at: float


@contextmanager
def subscriber(port: int, into: Path) -> Iterator[None]:
    """Run mosquitto_sub as the issue does."""
    with into.open("ab") as out:
        command = [need.tool("mosquitto_sub"), "-p", str(port), "-q", "1", "-t", "siteprobe/v1/#", "-v"]
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder, printed = tmp_path_factory.mktemp("story"), tmp_path_factory.mktemp("sub") / "out"
    with ExitStack() as stack:
        web, port = stack.enter_context(serving(says(OK), says(after_bytes=0)))
        broker = stack.enter_context(Mosquitto(folder))
        ledger = stack.enter_context(Ledger(broker.port))
        checks = [http("web", web), *(tcp(f"port-{n}", port, interval="100ms") for n in range(FAST))]
        values = config(folder, checks, broker.port, mqtt={"late_rate": LATE_RATE})
        agent = stack.enter_context(Service(folder, values))
        with subscriber(broker.port, printed):
            before = agent.wait_for(is_healthy)
            ledger.wait_for(lambda _: ledger.newest("state/web") and ledger.newest("verdict")["verdict"] == "healthy")
            time.sleep(1)
        ledger.forget_subscription()
        broker.kill()
        time.sleep(4)
        agent.kill()  # with a backlog that nobody has heard of
        agent.start()
        time.sleep(2)
        broker.start()
        # Only one reader is there when the agent comes back: what it misses must come again (PUBACK 0x10).
        ledger.wait_subscribed()
        back_at = time.time()
        with subscriber(broker.port, printed):
            ledger.wait_complete(agent, 40)
            after = agent.wait_for(is_healthy)
            time.sleep(0.5)
            assert agent.stop() == 0
            ledger.wait_for(lambda _: ledger.newest("status")["state"] == "stopped")
        yield Story(ledger, printed.read_text().splitlines(), before, after, retained(broker.port), back_at)


def test_every_topic_arrives_at_mosquitto_sub(story: Story) -> None:
    suffixes = {line.split(" ", 1)[0].removeprefix(f"{BASE}/") for line in story.subscriber if line.startswith(BASE)}
    states = {f"state/{name}" for name in ("web", *(f"port-{n}" for n in range(FAST)))}
    live = {"live/http/web", "live/tcp/port-0", "live/event/site", "live/verdict/site", "live/transition/web"}
    assert {"status", "about", "heartbeat", "verdict", "late/tcp", *states, *live} <= suffixes
    known = r"status|about|heartbeat|verdict|state/[a-z0-9-]+|live/[a-z_]+/[a-z0-9-]+|late/[a-z_]+"
    assert {suffix for suffix in suffixes if not re.fullmatch(known, suffix)} == set()


def test_what_is_retained_and_what_is_not(story: Story) -> None:
    for message in story.ledger.messages:
        lane = message.topic.split("/")[5]
        assert message.retain is (lane not in ("live", "late")), message.topic
    suffixes = {topic.removeprefix(f"{BASE}/") for topic in story.retained}
    assert suffixes == {
        "status",
        "about",
        "heartbeat",
        "verdict",
        "state/web",
        *(f"state/port-{n}" for n in range(FAST)),
    }


def test_the_retained_messages_are_whole(story: Story) -> None:
    def kept(suffix: str) -> Any:
        return story.retained[f"{BASE}/{suffix}"].json

    assert kept("status").keys() == {"v", "node", "state", "ep", "conn", "ts"}
    assert has(HEARTBEAT, kept("heartbeat"))
    assert has(VERDICT, kept("verdict")) and has(STATE, kept("state/web"))
    assert all(isinstance(kept("verdict")[name], list) for name in ("cause", "impacted", "working", "blind", "also"))
    assert has(ABOUT, kept("about")) and kept("about")["checks_total"] == 1 + FAST
    assert kept("about")["checks"][0].keys() >= {"name", "type", "layer", "group", "target"}
    assert kept("heartbeat")["title"] == "Test site" and kept("heartbeat")["up"] == 1 + FAST
    assert (kept("verdict")["verdict"], kept("verdict")["incident"]) == ("healthy", None)


def test_every_record_is_flat_and_has_its_fields(story: Story) -> None:
    found = [(m.topic.split("/")[5:], record) for m in story.ledger.messages for record in records_of(m)]
    assert len(found) > 100
    for (lane, kind, *check), record in found:
        assert record.keys() >= ALWAYS and record["type"] == kind and record["v"] == 1
        assert all(value is None or isinstance(value, str | int | float) for value in record.values()), record
        if kind in ("http", "tcp"):
            assert record.keys() >= OF_A_CHECK and record["outcome"] == "pass"
        assert re.fullmatch(RFC3339, record["ts"])
        assert record["clock"] == "synced" and (record.get("late") is True) is (lane == "late")
        assert not check or check[0] == record.get("check", "site")
    of_type = {record["type"]: record for _, record in found}
    assert of_type["http"].keys() >= {"connect_s", "first_byte_s", "total_s", "status", "body_bytes"}
    assert "connect_s" in of_type["tcp"] and of_type["transition"].keys() >= {"check", "old", "new", "reason"}
    assert of_type["event"].keys() >= {"kind", "detail"}


def test_late_arrays_are_bounded_and_ascending_per_type(story: Story) -> None:
    arrays: dict[str, list[int]] = {}
    for message in story.ledger.under("late/"):
        assert 1 <= len(message.json) <= 100 and len(message.payload) <= 32 * 1024
        arrays.setdefault(message.topic, []).extend(record["seq"] for record in message.json)
    assert arrays and all(seqs == sorted(seqs) for seqs in arrays.values())
    assert {f"{BASE}/late/tcp", f"{BASE}/late/http"} <= arrays.keys()
    assert len(arrays[f"{BASE}/late/tcp"]) > 2 * LATE_RATE


def test_every_number_arrives_and_none_has_two_contents(story: Story) -> None:
    before, after = story.before["buffer"], story.after["buffer"]
    assert after["ep"] == before["ep"] and after["next_seq"] > before["next_seq"] + 200
    assert story.ledger.missing(after["ep"], after["next_seq"]) == []
    assert {ep for ep, _ in story.ledger.by_number()} == {after["ep"]} and after["lost_total"] == 0


def test_fresh_records_overtake_the_backlog(story: Story) -> None:
    came = [(record, at) for record, at in story.ledger.records() if at >= story.back_at]
    drained_at = max(at for record, at in came if record.get("late"))
    assert drained_at - story.back_at > 2, "the backlog drained too fast to prove anything"
    fresh = [(record, at) for record, at in came if story.back_at < seconds_of(record["ts"]) < drained_at]
    assert len(fresh) > 20 and not any(record.get("late") for record, _ in fresh)
    assert max(at - seconds_of(record["ts"]) for record, at in fresh) <= 3


def test_connections_are_counted_over_restarts(story: Story) -> None:
    said = [(m.json["state"], m.json["conn"]) for m in story.ledger.under("status")]
    assert [word for n, word in enumerate(said) if word not in said[:n]] == [
        ("online", 1),
        ("online", 2),
        ("stopped", 2),
    ]


# Ends and beginnings -----------------------------------------------------------------------------------------


def test_stopped_or_lost_and_the_numbers_go_on(tmp_path: Path) -> None:
    with serving(says(after_bytes=0)) as (port,), Mosquitto(tmp_path) as broker, Ledger(broker.port) as ledger:
        with Service(tmp_path / "a", config(tmp_path, [tcp("port", port)], broker.port)) as agent:
            agent.wait_for(is_healthy)
            first = ledger.wait_complete(agent)["buffer"]
            agent.kill()
            ledger.wait_for(lambda _: ledger.newest("status")["state"] == "lost")
            assert retained(broker.port, f"{BASE}/status")[f"{BASE}/status"].json["state"] == "lost"
            agent.start()
            agent.wait_for(is_healthy)
            assert ledger.wait_complete(agent)["buffer"]["ep"] == first["ep"]
            assert agent.stop() == 0
            assert not (tmp_path / "store" / "siteprobe.sock").exists()
        ledger.wait_for(lambda _: ledger.newest("status")["state"] == "stopped")
        last = max(seq for _, seq in ledger.by_number())
        assert ledger.missing(first["ep"], last + 1) == []
        kinds = [r["kind"] for _, r in sorted(ledger.by_number().items()) if r["type"] == "event"]
        assert kinds == ["agent_started", "agent_started", "agent_stopped"]
    states = [(m.json["state"], m.json["conn"], m.json["ep"]) for m in ledger.under("status")]
    assert states == [
        (word, conn, first["ep"]) for word, conn in (("online", 1), ("lost", 1), ("online", 2), ("stopped", 2))
    ]


def test_once_publishes_everything_and_exits_by_the_verdict(tmp_path: Path) -> None:
    with ExitStack() as stack:
        (port,), closed = stack.enter_context(serving(says(after_bytes=0))), stack.enter_context(closed_port())
        broker = stack.enter_context(Mosquitto(tmp_path))
        ledger = stack.enter_context(Ledger(broker.port))
        for run, (asked, code, word) in enumerate(((port, 0, "healthy"), (closed, 1, "remote_service_down")), 1):
            file = written(tmp_path, config(tmp_path, [tcp("port", asked)], broker.port))
            done = siteprobe("run", "--once", "-c", str(file))
            assert done.returncode == code and done.stdout.startswith(word) and not done.stderr, done
            _wait_said(ledger, "stopped", run)
            assert ledger.newest("verdict")["verdict"] == word
        ep, last = max(ledger.by_number())
        assert ledger.missing(ep, last + 1) == [] and not ledger.under("late/")


def _wait_said(ledger: Ledger, state: str, conn: int) -> None:
    """Wait until a state was said in the name of a connection."""
    ledger.wait_for(lambda _: (state, conn) in [(m.json["state"], m.json["conn"]) for m in ledger.under("status")])


def test_about_is_cut_to_its_limit(tmp_path: Path) -> None:
    names = [f"a-check-with-quite-a-long-name-{n:03d}" for n in range(300)]
    with Mosquitto(tmp_path) as broker, Ledger(broker.port) as ledger, closed_port() as port:
        values = config(tmp_path, [tcp(name, port, interval="1h") for name in names], broker.port)
        with Service(tmp_path / "a", values):
            ledger.wait_for(lambda _: ledger.newest("about"))
    about = ledger.under("about")[0]
    assert len(about.payload) <= 32 * 1024 and about.json["checks_total"] == 300
    assert 100 < len(about.json["checks"]) < 300
    assert [check["name"] for check in about.json["checks"]] == names[: len(about.json["checks"])]


# SIGHUP -----------------------------------------------------------------------------------------------------------


def test_reload_refused_used_or_restarted(tmp_path: Path) -> None:
    with serving(says(after_bytes=0)) as (port,), Mosquitto(tmp_path) as broker, Ledger(broker.port) as ledger:

        def wait_event(kind: str) -> Any:
            ledger.wait_for(lambda _: any(m.json["kind"] == kind for m in ledger.under("live/event")))
            return next(m.json for m in ledger.under("live/event") if m.json["kind"] == kind)

        values = config(tmp_path, [tcp("keeps", port), tcp("goes", port)], broker.port)
        with Service(tmp_path / "a", values) as agent:
            agent.wait_for(is_healthy)
            pid, digest = agent.pid, ledger.newest("about")["config_digest"]

            agent.reload("version: 1\nidentity: [\n")
            refused = wait_event("config_refused")
            place = re.match(r".*siteprobe\.yaml:\d+:\d+: ", refused["detail"])
            assert place and "not YAML" in agent.log
            agent.wait_logged(place[0])
            before = len(ledger.under("live/tcp/goes"))
            ledger.wait_for(lambda _: len(ledger.under("live/tcp/goes")) > before + 1)

            agent.reload(config(tmp_path, [tcp("keeps", port), tcp("comes", port)], broker.port))
            assert wait_event("config_reloaded")["detail"]
            ledger.wait_for(lambda _: ledger.newest("state/comes") and ledger.under("live/tcp/comes"))
            ledger.wait_for(lambda _: [m.payload for m in ledger.under("state/goes")][-1] == b"")
            about = ledger.newest("about")
            assert [check["name"] for check in about["checks"]] == ["keeps", "comes"] and about[
                "config_digest"
            ] != digest
            assert {t.removeprefix(f"{BASE}/state/") for t in retained(broker.port, f"{BASE}/state/#")} == {
                "keeps",
                "comes",
            }
            assert agent.wait_for(is_healthy)["states"].keys() == {"keeps", "comes"}

            with Mosquitto(tmp_path) as other, Ledger(other.port) as there:
                agent.reload(config(tmp_path, [tcp("keeps", port), tcp("comes", port)], other.port))
                there.wait_for(lambda _: there.newest("status") and there.under("live/tcp/keeps"), 15)
                assert there.newest("status")["state"] == "online" and there.newest("status")["conn"] == 2
                assert agent.pid == pid and Path(f"/proc/{pid}").exists()
                ledger.wait_for(lambda _: ledger.newest("status")["state"] == "stopped")
                kept = ledger.by_number() | there.by_number()
                newest = max(seq for _, seq in kept)
                assert [seq for seq in range(1, newest) if (refused["ep"], seq) not in kept] == []
                assert agent.stop() == 0

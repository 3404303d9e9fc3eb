"""Longer pauses for what is silent, and the guard against faults of our own making: stories in virtual time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from agent.backoff import Silence, pause_s, reopens, step
from agent.check import CheckOptions, Traffic
from agent.checks import Check, Context, Toolbox
from agent.checks.icmp import Icmp
from agent.checks.link import Link
from agent.checks.mqtt import Mqtt
from agent.checks.snmp import SnmpCheck
from agent.checks.tcp import Tcp
from agent.clock import Clock, Instant
from agent.guard import MOST_PLACES, OWN_PORT, Guard, Seen
from agent.messages import EVENT_KINDS
from agent.model import Facts, Failure, Record
from agent.policy import Policy
from agent.restraint import Restraint, left_alone, seen_of
from agent.rounds import Rounds
from agent.runner import Run, Runner
from agent.safety import Gate
from tests.rigs import virtual_time

FAIL, PASS, UNKNOWN = {"outcome": "fail", "failure": "timeout"}, {"outcome": "pass"}, {"outcome": "unknown"}
SERVICE = Tcp(name="s", target="192.0.2.1", port=443, interval_s=30)


def after(check: CheckOptions, told: Iterable[tuple[float, dict[str, str]]]) -> Silence:
    silence = Silence()
    for at, fields in told:
        silence = step(silence, check, fields, at)
    return silence


def failing(check: CheckOptions, seconds: float) -> Silence:
    return after(check, ((at, FAIL) for at in range(0, int(seconds) + 1, int(check.interval_s))))


def test_an_outage_shorter_than_15_minutes_is_asked_as_ever() -> None:
    assert pause_s(failing(SERVICE, 900), SERVICE, 0.5) == 0


def test_after_15_minutes_the_pause_doubles_up_to_15_minutes_and_a_pass_ends_it() -> None:
    silence, pauses, at = failing(SERVICE, 900), [], 900.0
    for _ in range(7):
        at += 30
        silence = step(silence, SERVICE, FAIL, at)
        pauses.append(pause_s(silence, SERVICE, 0.5))
    assert pauses == [60, 120, 240, 480, 900, 900, 900]
    assert pause_s(step(silence, SERVICE, UNKNOWN, at), SERVICE, 0.5) == 900, "an unknown says nothing"
    assert pause_s(step(silence, SERVICE, PASS, at), SERVICE, 0.5) == 0


def test_the_jitter_is_a_fifth_and_never_below_the_interval() -> None:
    silence = failing(SERVICE, 930)
    assert [pause_s(silence, SERVICE, chance) for chance in (0.0, 1.0)] == pytest.approx([48, 72])
    slow = Tcp(name="s", target="192.0.2.1", port=443, interval_s=800)
    assert pause_s(failing(slow, 4000), slow, 0.0) == 800
    hourly = Tcp(name="s", target="192.0.2.1", port=443, interval_s=3600)
    assert pause_s(failing(hourly, 40_000), hourly, 0.9) == 0, "asked more seldom than that already"


def test_an_snmp_device_is_left_alone_after_three_silent_polls_but_not_for_a_wrong_password() -> None:
    device = SnmpCheck(name="d", target="192.0.2.2", interval_s=30)
    assert pause_s(failing(device, 30), device, 0.5) == 0
    assert pause_s(failing(device, 60), device, 0.5) == 60
    refused = {"outcome": "fail", "failure": "auth"}
    assert pause_s(after(device, ((at, refused) for at in (0, 30, 60, 90))), device, 0.5) == 0


@pytest.mark.parametrize(
    "check",
    [
        Icmp(name="g", target="192.0.2.1", layer="gateway", interval_s=10),
        Icmp(name="a", target="192.0.2.1", layer="internet", interval_s=10),
        Icmp(name="a", target="192.0.2.1", layer="datacentre", group="dc", interval_s=10),
        Link(name="link", interval_s=30),
        Mqtt(name="delivery", interval_s=30),
    ],
    ids=lambda check: f"{check.type}-{check.layer_or_default}",
)
def test_the_way_itself_is_never_put_off(check: CheckOptions) -> None:
    assert pause_s(failing(check, 7200), check, 0.5) == 0


@pytest.mark.parametrize(
    ("check", "tells"),
    [
        (Icmp(name="ups-host", target="192.0.2.5", layer="device", interval_s=10), True),
        (Icmp(name="g", target="192.0.2.1", layer="gateway", interval_s=10), True),
        (Icmp(name="epr-host", target="192.0.2.7", layer="service", interval_s=10), False),
        (SnmpCheck(name="ups", target="192.0.2.5", community=None, user="probe", interval_s=10), False),
    ],
    ids=["a device's ping", "the way", "a service", "a device itself"],
)
def test_who_comes_back_has_what_was_put_off_asked_at_once(check: CheckOptions, tells: bool) -> None:
    fault = Silence(since=0.0, fails=3, silent=3)
    assert reopens(fault, check, {"outcome": "pass"}) is tells
    assert not reopens(replace(fault, fails=1), check, {"outcome": "pass"}), "one lost answer was no fault"
    assert not reopens(fault, check, {"outcome": "fail"})


def guilty(story: Iterable[Seen]) -> set[tuple[str, str]]:
    guard = Guard()
    found = [each for seen in sorted(story, key=lambda seen: seen.ended) for each in guard.take(seen)]
    assert set(found) == guard.quarantined and len(found) == len(set(found)), "each is told once"
    return set(found)


def runs(
    kind: str, every_s: float, passes: Callable[[float], bool], until_s: float, at: str = "T", phase: float = 0
) -> list[Seen]:
    """Give the runs of a check; each takes 0.1 s, or 2 s where it fails."""
    found = []
    now = phase
    while now < until_s:
        alive = passes(now)
        found.append(Seen(at, f"{kind}-{at}", kind, now, now + (0.1 if alive else 2.0), "pass" if alive else "fail"))
        now += every_s
    return found


def dead_between(*spans: tuple[float, float]) -> Callable[[float], bool]:
    return lambda now: not any(begin <= now < end for begin, end in spans)


KILLED = dead_between((600.5, 900), (1200.5, 1500))
"""A device that dies half a second after the `train` at 600 and at 1200, and needs 5 min to come back."""


def test_a_type_that_kills_its_target_twice_is_quarantined_there() -> None:
    story = runs("icmp", 10, KILLED, 2000, phase=3) + runs("train", 600, lambda now: now < 1, 2000)
    assert guilty(story) == {("T", "train")}


def test_a_quarantine_ends_after_a_day() -> None:
    guard = Guard()
    story = runs("icmp", 10, KILLED, 2000, phase=3) + runs("train", 600, lambda now: now < 1, 2000)
    for seen in sorted(story, key=lambda seen: seen.ended):
        guard.take(seen)
    assert guard.forbids("T", "train")
    for hours, forbidden in ((20, True), (25, False)):
        guard.take(Seen("T", "icmp-T", "icmp", hours * 3600.0, hours * 3600.1, "pass"))
        assert guard.forbids("T", "train") is forbidden


def test_once_is_no_proof() -> None:
    once = dead_between((600.5, 900))
    assert not guilty(runs("icmp", 10, once, 3000, phase=3) + runs("train", 600, once, 3000))


def test_what_the_target_survives_every_30_seconds_did_not_kill_it() -> None:
    story = runs("icmp", 10, KILLED, 2000, phase=3) + runs("tcp", 30, KILLED, 2000)
    assert not guilty(story)


def test_a_device_that_dies_of_the_first_question_after_each_recovery_is_left_alone() -> None:
    dead = dead_between((30.5, 100), (120.5, 200), (210.5, 300))
    story = runs("icmp", 10, dead, 400, phase=3) + runs("tcp", 30, lambda now: now < 30, 400)
    assert guilty(story) == {("T", "tcp")}


def test_deaths_long_after_the_question_are_not_its_fault() -> None:
    dead = dead_between((630, 900), (1230, 1500))
    assert not guilty(runs("icmp", 10, dead, 2000, phase=3) + runs("train", 600, dead, 2000))


def test_a_death_in_between_without_the_question_acquits() -> None:
    dead = dead_between((600.5, 700), (900, 1000), (1200.5, 1300))
    assert not guilty(runs("icmp", 10, dead, 2000, phase=3) + runs("train", 600, dead, 2000))


def test_what_goes_down_with_others_went_down_with_the_way() -> None:
    story = runs("icmp", 10, KILLED, 2000, phase=3) + runs("train", 600, KILLED, 2000)
    assert not guilty(story + runs("icmp", 30, KILLED, 2000, at="U", phase=7))


def test_a_type_is_no_witness_against_itself() -> None:
    assert not guilty(runs("tcp", 10, KILLED, 2000, phase=3))
    assert not guilty(runs("train", 600, lambda now: now in (0, 1200), 5000))


def test_our_own_port_is_guarded_too_and_takes_the_targets_with_it() -> None:
    link = runs("link", 5, KILLED, 2000, at=OWN_PORT, phase=2)
    story = link + runs("icmp", 10, KILLED, 2000, phase=3) + runs("dhcp", 600, lambda now: now < 1, 2000, at="D")
    assert guilty(story) == {(OWN_PORT, "dhcp")}
    guard = Guard()
    guard._until = {(OWN_PORT, "dhcp"): 1e9}
    assert guard.forbids("anywhere", "dhcp") and not guard.forbids("anywhere", "icmp")


def test_a_port_that_goes_down_by_itself_is_nobodys_fault() -> None:
    dead = dead_between((640, 700), (1330, 1500))
    link = runs("link", 5, dead, 2000, at=OWN_PORT, phase=2)
    assert not guilty(link + runs("icmp", 10, dead, 2000, phase=3) + runs("dhcp", 600, dead, 2000, at="D"))


@pytest.mark.parametrize(("up_s", "down_s"), [(1, 1), (2, 2), (5, 5), (8, 30), (9, 120)])
def test_a_port_that_flaps_for_minutes_is_nobodys_fault(up_s: int, down_s: int) -> None:
    story = [Seen(OWN_PORT, "link", "link", at, at, "pass") for at in range(0, 600, 10)]
    for at in range(600, 1800, up_s + down_s):
        back = at + down_s
        story.append(Seen(OWN_PORT, "link", "link", at, at, "fail"))
        story.append(Seen(OWN_PORT, "link", "link", back, back, "pass"))
        story += [Seen(f"T{kind}", kind, kind, back + 0.2, back + 0.3, "pass") for kind in ("arp", "icmp", "tcp")]
    story += [Seen(OWN_PORT, "link", "link", at, at, "pass") for at in range(1900, 2000, 10)]
    assert not guilty(story)


def test_a_thousand_targets_are_forgotten_before_they_fill_the_memory() -> None:
    guard = Guard()
    for number in range(20_000):
        guard.take(Seen(f"T{number}", "c", "icmp", number, number + 0.1, "pass"))
    assert len(guard._places) <= MOST_PLACES


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"outcome": "pass"}, "pass"),
        ({"outcome": "fail", "failure": "timeout"}, "fail"),
        ({"outcome": "fail", "failure": "refused"}, "fail"),
        ({"outcome": "fail", "failure": "http_status"}, "pass"),
        ({"outcome": "fail", "failure": "tls_expired"}, "pass"),
        ({"outcome": "fail", "failure": "prohibited"}, None),
        ({"outcome": "unknown", "failure": "overload"}, None),
    ],
)
def test_only_silence_and_a_closed_door_are_a_death(fields: dict[str, str], says: str | None) -> None:
    seen = seen_of(SERVICE, Record("tcp", Instant(0, 0, "synced", "b"), fields), "192.0.2.1", 1, 2)
    assert (seen and seen.outcome) == says


def test_our_own_port_is_down_only_without_a_link() -> None:
    link, at = Link(name="l"), Instant(0, 0, "synced", "b")
    for failure, says in (("local_link", "fail"), ("local_address", "pass"), ("local_route", "pass")):
        seen = seen_of(link, Record("link", at, {"outcome": "fail", "failure": failure}), "", 1, 2)
        assert seen and (seen.place, seen.outcome) == (OWN_PORT, says)


def test_a_whole_site_that_falls_silent_is_looked_at_quickly() -> None:
    guard = Guard()
    for second in (0, 10, 20):
        for number in range(3000):
            guard.take(Seen(f"T{number}", "c", "icmp", second, second + 0.1, "pass" if second < 20 else "fail"))
    assert len(guard._deaths) == 3000 and all(death.shared for death in guard._deaths.values())
    guard.take(Seen("T0", "c", "icmp", 99, 99.1, "pass"))
    assert not guard._deaths and not guard.quarantined


@dataclass(frozen=True, kw_only=True)
class Told(Check):
    """A check whose answer the story gives."""

    asked_at: ClassVar[list[tuple[str, float]]] = []
    alive: ClassVar[dict[str, bool]] = {}

    def sends(self) -> tuple[Traffic, ...]:
        return (Traffic("192.0.2.1", "tcp", 443, 1),)

    async def run(self, ctx: Context) -> Facts:
        now = asyncio.get_running_loop().time()
        self.asked_at.append((self.name, now))
        return Facts({}, "192.0.2.1", None if self.alive.get(self.name, True) else Failure.TIMEOUT)


class Witnessing(Told):
    """Another type at the same target."""

    type = "witness"


class Speaking(Told):
    """A device over SNMP."""

    type = "snmp"


class Killing(Told):
    """The type that the story blames."""

    type = "killer"


class Rig:
    def __init__(self, *checks: Any) -> None:
        Told.asked_at.clear()
        Told.alive.clear()
        gate = Gate(Policy())
        runner = Runner(gate, Toolbox(), None, Clock("trusted"))  # type: ignore[arg-type]  # nothing is resolved
        self.taken: list[tuple[str, Run]] = []
        self.rounds = Rounds(runner, "n", self._take, lambda late_s: None)
        self.rounds.plan(checks)

    def _take(self, check: Check, run: Run) -> tuple[str, int]:
        self.taken.append((check.name, run))
        return "e", len(self.taken)

    async def go(self, seconds: float) -> list[float]:
        """Go on for so long; gives when `s` was asked meanwhile."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        task = asyncio.create_task(self.rounds.run())
        await asyncio.sleep(seconds)
        task.cancel()
        return [at for name, at in Told.asked_at if name == "s" and at >= began]


def told(name: str, of: type[Told] = Witnessing, **words: Any) -> Told:
    return of(name=name, interval_s=words.pop("interval_s", 10.0), timeout_s=5.0, **words)


def test_rounds_put_a_dead_service_off_and_ask_it_again_when_the_way_is_back() -> None:
    async def story() -> None:
        rig = Rig(told("s"), told("gw", layer="gateway"))
        Told.alive |= {"s": False, "gw": False}
        assert len(await rig.go(900)) >= 88, "as ever within the first quarter of an hour"
        late = await rig.go(3600)
        assert 4 <= len(late) <= 12, late
        asked = Told.asked_at.copy()
        assert sum(name == "gw" for name, _ in asked) > 400, "the way itself is asked as ever"
        Told.alive["gw"] = True
        assert len(await rig.go(20)) >= 1, "at once, not a quarter of an hour later"
        Told.alive["s"] = True
        await rig.go(1100)
        assert len(await rig.go(100)) >= 9, "one pass, and the usual pace is back"

    virtual_time.run(story())


def events_of(rig: Rig) -> list[tuple[str, str]]:
    """Give kind and detail of the events, in order."""
    found = (record.fields for _, run in rig.taken for record in run.more if record.type == "event")
    return [(str(fields["kind"]), str(fields["detail"])) for fields in found]


@pytest.mark.parametrize(("of", "silent_s"), [(Speaking, 40), (Witnessing, 900)], ids=["SNMP device", "service"])
def test_that_a_target_is_left_alone_is_told_once_and_its_end_once(of: type[Told], silent_s: int) -> None:
    async def story() -> None:
        rig = Rig(told("s", of))
        await rig.go(60)
        Told.alive["s"] = False
        await rig.go(silent_s - 20)
        assert events_of(rig) == [], "not before it is asked less often"
        await rig.go(3 * 3600)
        pauses = [b - a for a, b in pairwise(at for _, at in Told.asked_at)]
        assert 720 <= max(pauses) <= 1085 and len([pause for pause in pauses if pause > 720]) >= 8
        assert [kind for kind, _ in events_of(rig)] == ["target_left_alone"], "not at each longer pause"
        rig.rounds.plan(rig.rounds.checks.values())  # the config is read again
        await rig.go(3600)
        assert len(events_of(rig)) == 1
        Told.alive["s"] = True
        await rig.go(3600)
        Told.alive["s"] = False
        await rig.go(3600)
        kinds = [kind for kind, _ in events_of(rig)]
        assert kinds == ["target_left_alone", "target_answers_again", "target_left_alone"]
        assert set(kinds) <= set(EVENT_KINDS)
        began, back, _ = (detail for _, detail in events_of(rig))
        assert re.fullmatch(
            r"s \(192\.0\.2\.1\) fails since [0-9-]+ [0-9:]+ UTC \(timeout\) and is left alone:"
            r" it is asked again in \d+ s, then ever less often, up to 15 min apart",
            began,
        )
        assert re.fullmatch(r"s \(192\.0\.2\.1\) passes again after 4\.\d h, and is asked as usual", back)

    virtual_time.run(story())


def test_the_way_that_is_down_for_hours_and_a_wrong_password_are_not_called_left_alone() -> None:
    async def story() -> None:
        rig = Rig(told("gw", layer="gateway"), told("hourly", interval_s=3600.0))
        Told.alive |= {"gw": False, "hourly": False}
        await rig.go(6 * 3600)
        assert events_of(rig) == [], "what is asked as usual is not left alone"

    virtual_time.run(story())


def test_a_target_is_left_alone_since_a_time_or_for_so_long_where_the_clock_is_not_set() -> None:
    at = Instant(1_795_000_060.0, 60_000, "synced", "b")
    words = left_alone("ups (10.20.0.5)", "timeout", at, 47.0, 58.4)
    assert words.startswith("ups (10.20.0.5) fails since 2026-11-18 11:06:53 UTC (timeout) and is left alone")
    assert "asked again in 58 s, then ever less often, up to 15 min apart" in words
    unset = left_alone("ups", "timeout", replace(at, clock="unsynced"), 47.0, 900.0)
    assert unset == "ups fails for 47 s (timeout) and is left alone: it is asked again in 15 min"


def test_a_check_that_asks_another_target_now_is_not_said_to_be_back() -> None:
    restraint, old, new = Restraint(), SERVICE, replace(SERVICE, target="192.0.2.7")
    at = Instant(1_795_000_000.0, 0, "synced", "b")

    def told_of(check: CheckOptions, second: float, fields: dict[str, str]) -> list[str]:
        record = Record("tcp", at, {"check": "s", **fields})
        return [str(e.fields["kind"]) for e in restraint.take(check, record, second, second).events]

    found = [told_of(old, second, FAIL) for second in range(0, 2000, 30)]
    assert found.count(["target_left_alone"]) == 1
    assert told_of(new, 2000, PASS) == []
    assert told_of(old, 2030, PASS) == ["target_answers_again"]


def test_a_check_that_is_no_longer_configured_is_forgotten() -> None:
    async def story() -> None:
        rig = Rig(told("s"), told("gone"))
        Told.alive |= {"s": False, "gone": False}
        await rig.go(1200)
        assert len(events_of(rig)) == 2
        rig.rounds.plan([])
        await rig.go(60)
        rig.rounds.plan([told("s"), told("gone")])  # active checks were suppressed: nothing is told twice
        await rig.go(1200)
        assert len(events_of(rig)) == 2
        rig.rounds.forget([told("s")])
        Told.alive |= {"s": True, "gone": True}
        await rig.go(1200)
        assert [detail.split()[0] for kind, detail in events_of(rig) if kind == "target_answers_again"] == ["s"]

    virtual_time.run(story())


def test_a_check_with_another_target_is_not_refused_for_what_went_down_at_the_old_one() -> None:
    restraint, new = Restraint(), replace(SERVICE, target="192.0.2.7")
    at = Instant(1_795_000_000.0, 0, "synced", "b")

    def took(check: CheckOptions, second: float, fields: dict[str, str]) -> None:
        record = Record(check.type, at, {"check": check.name, "address": "192.0.2.1", **fields})
        restraint.take(check, record, second, second + 0.1)

    for second in (0, 600, 1200):
        took(told("w"), second, PASS)
        took(SERVICE, second + 1, PASS)
        took(told("w"), second + 2, FAIL)
        took(told("w"), second + 100, PASS)
    assert "192.0.2.1" in restraint.refusal(SERVICE)
    assert restraint.refusal(new) == ""


def test_rounds_refuse_what_is_quarantined_and_say_so_once() -> None:
    async def story() -> None:
        rig = Rig(told("w", interval_s=5.0), told("s", Killing, interval_s=600.0))
        loop = asyncio.get_running_loop()
        for _ in range(3):
            asked = len([name for name, _ in Told.asked_at if name == "s"])
            until = loop.time() + 700
            while len([name for name, _ in Told.asked_at if name == "s"]) == asked and loop.time() < until:
                await rig.go(1)
            Told.alive["w"] = False  # whatever `s` asked, the target is gone a moment later
            await rig.go(100)
            Told.alive["w"] = True
            await rig.go(100)
        events = [record for _, run in rig.taken for record in run.more]
        assert [(e.type, e.fields["kind"]) for e in events] == [("event", "probe_safety_quarantine")]
        assert "killer" in str(events[0].fields["detail"]) and "192.0.2.1" in str(events[0].fields["detail"])
        refused = [run.record.fields for name, run in rig.taken if name == "s"][-1]
        assert (refused["outcome"], refused["failure"]) == ("unknown", "local_policy")
        assert len([name for name, _ in Told.asked_at if name == "s"]) == 2, "the third time it is not asked"

    virtual_time.run(story())

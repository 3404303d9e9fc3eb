"""The passive listener's rules over packet headers: counts, signs, hashes, and tables that do not grow."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from agent.checks.listen import Listen
from agent.config.rules import check_problems
from agent.config.secret import SecretSource
from agent.messages import INDICATORS
from agent.model import Failed, Failure
from agent.packets import indicators
from agent.packets.indicators import Around, Watch, frozen
from agent.packets.wire import BROADCAST, TO_US
from agent.policy import Policy
from agent.wording import OWN_RECORDS
from tests.rigs.headers import arp, mac_of, syn4, syn6

AROUND = Around(
    own=frozen({"10.1.0.10", "fd00::10"}),
    gateways=frozen({"10.1.0.1", "fe80::1%eth0"}),
    known=frozen({"10.1.0.40"}),
    key=b"k" * 32,
)
GATEWAY = "10.1.0.1"


def watch(**changes: Any) -> Watch:
    return Watch(replace(AROUND, **changes))


def signs(seen: Watch, now: float = 100.0) -> list[str]:
    return [sign["indicator"] for sign in seen.report(now)["indicators"]]


def ask(seen: Watch, count: int, *, source: int = 7, sender: str = "10.1.0.77", over_s: float = 30.0) -> None:
    for number in range(count):
        seen.take(
            arp(mac_of(source), sender, f"10.1.{2 + number // 250}.{number % 250}"),
            BROADCAST,
            10.0 + number * over_s / count,
        )


def test_thirty_addresses_in_a_minute_that_are_not_there_are_a_sign() -> None:
    seen = watch()
    ask(seen, 29)
    assert signs(seen) == []
    ask(seen, 30)
    (sign,) = seen.report(100.0)["indicators"]
    assert (sign["indicator"], sign["count"]) == ("possible_worm_scan", 30)
    assert sign["source"] == AROUND.hashed(mac_of(7)) and len(sign["source"]) == 16
    assert sign["detail"].startswith("indicator: ") and "infect" not in sign["detail"]
    assert not any(clear in str(sign) for clear in ("10.1.0.77", mac_of(7).hex(":"), "10.1.2."))


def test_asking_slowly_or_for_one_address_only_is_no_sign() -> None:
    seen = watch()
    ask(seen, 60, over_s=180.0)
    for number in range(500):
        seen.take(arp(mac_of(8), "10.1.0.78", "10.1.0.1"), BROADCAST, 10.0 + number / 10)
    assert signs(seen) == []


def test_asking_for_machines_that_are_there_is_no_sign() -> None:
    seen = watch()
    for number in range(40):
        seen.take(arp(mac_of(100 + number), f"10.1.2.{number}", GATEWAY), BROADCAST, 5.0)
    ask(seen, 40)
    assert signs(seen) == []


@pytest.mark.parametrize("sender", [GATEWAY, "10.1.0.40", "10.1.0.10"])
def test_the_gateway_listed_machines_and_we_ourselves_may_ask_for_many(sender: str) -> None:
    seen = watch()
    ask(seen, 100, sender=sender)
    assert signs(seen) == []


def test_the_same_sign_is_told_once_in_ten_minutes() -> None:
    seen = watch()
    ask(seen, 40)
    assert signs(seen) == ["possible_worm_scan"]
    ask(seen, 40)
    ask(seen, 40, source=9)
    assert signs(seen) == ["possible_worm_scan"], "only the other machine is new"


def test_a_second_mac_of_the_gateway_is_a_sign_and_ours_alone_is_not() -> None:
    seen = watch()
    for now in (1.0, 2.0):
        seen.take(arp(mac_of(1), GATEWAY, "10.1.0.10", reply=True), TO_US, now)
    seen.take(arp(mac_of(2), "10.1.0.99", GATEWAY), BROADCAST, 3.0)
    assert signs(seen) == []
    seen.take(arp(mac_of(3), GATEWAY, GATEWAY, reply=True), BROADCAST, 4.0)
    (sign,) = seen.report(5.0)["indicators"]
    assert (sign["indicator"], sign["count"], sign["source"]) == ("second_gateway_mac", 2, AROUND.hashed(mac_of(3)))


@pytest.mark.parametrize("frame", [syn4("10.1.0.66", "10.1.0.10", 445), syn6("fd00::66", "fd00::10", 3389)])
def test_a_connection_attempt_to_us_is_counted_and_told(frame: bytes) -> None:
    seen = watch()
    for _ in range(3):
        seen.take(frame, TO_US, 1.0)
    found = seen.report(2.0)
    assert found["counts"]["connection_attempts"] == 3
    (sign,) = found["indicators"]
    assert (sign["indicator"], sign["count"], sign["port"]) == ("unsolicited_connection", 3, sign["port"])
    assert sign["port"] in (445, 3389) and "10.1.0.66" not in str(sign) and "::66" not in str(sign)


def test_an_attempt_of_a_listed_machine_or_to_somebody_else_is_none() -> None:
    seen = watch()
    seen.take(syn4("10.1.0.40", "10.1.0.10", 445), TO_US, 1.0)
    seen.take(syn4("10.1.0.66", "10.1.0.11", 445), TO_US, 1.0)
    seen.take(syn4("10.1.0.66", "10.1.0.10", 445)[:30], TO_US, 1.0)
    found = seen.report(2.0)
    assert (found["counts"]["connection_attempts"], found["indicators"]) == (0, [])
    assert found["counts"]["malformed"] == 1


def second(seen: Watch, now: float, arps: int, others: int, dropped: int = 0) -> None:
    for _ in range(arps):
        seen.take(arp(mac_of(1), "10.1.0.50", "10.1.0.51"), BROADCAST, now)
    for _ in range(others):
        seen.take(b"\xff" * 6 + mac_of(2) + b"\x08\x00" + bytes(40), BROADCAST, now)
    seen.second(now, dropped)


def test_a_storm_is_five_seconds_in_a_row() -> None:
    seen = watch()
    for now in (1.0, 2.0, 3.0, 4.0):
        second(seen, now, 201, 0)
    second(seen, 5.0, 10, 0)
    for now in (6.0, 7.0, 8.0, 9.0):
        second(seen, now, 201, 0)
    assert signs(seen) == []
    second(seen, 10.0, 250, 0)
    found = seen.report(11.0)
    assert [(s["indicator"], s["count"]) for s in found["indicators"]] == [("arp_storm", 250)]
    assert found["counts"]["arp_most_per_second"] == 250


def test_a_rate_is_estimated_from_the_share_that_was_seen() -> None:
    seen = watch()
    for now in range(1, 6):
        second(seen, float(now), 10, 90, dropped=1900)
    found = seen.report(6.0)
    counts = found["counts"]
    assert (counts["arp_most_per_second"], counts["broadcast_most_per_second"], counts["dropped"]) == (200, 2000, 9500)
    assert [sign["indicator"] for sign in found["indicators"]] == ["broadcast_storm"]


def test_a_starved_second_neither_begins_nor_ends_a_storm() -> None:
    seen = watch()
    for now in (1.0, 2.0, 3.0, 4.0):
        second(seen, now, 201, 0)
    second(seen, 5.0, 0, 0, dropped=300)
    second(seen, 8.0, 300, 0)
    assert signs(seen) == [], "300 in three seconds are 100 a second"
    for now in (9.0, 10.0, 11.0, 12.0):
        second(seen, now, 201, 0)
    second(seen, 13.0, 0, 0, dropped=300)
    second(seen, 14.0, 201, 0)
    assert signs(seen) == ["arp_storm"]


def test_a_report_begins_anew() -> None:
    seen = watch()
    second(seen, 1.0, 3, 4)
    seen.take(arp(mac_of(1), GATEWAY, "10.1.0.10", reply=True), TO_US, 1.0)
    counts = seen.report(2.0)["counts"]
    assert (counts["arp_requests"], counts["arp_replies"], counts["broadcasts"]) == (3, 1, 7)
    assert set(seen.report(3.0)["counts"].values()) == {0}


def test_a_flood_of_made_up_machines_leaves_no_table_that_grows() -> None:
    seen = watch(gateways=frozen({GATEWAY}))
    for number in range(6_000):
        sender = f"10.{number % 200}.{number // 200}.9"
        seen.take(arp(mac_of(number), sender, f"10.2.{number % 250}.{number % 251}"), BROADCAST, number / 1000)
        seen.take(arp(mac_of(number), GATEWAY, "10.1.0.10", reply=True), BROADCAST, number / 1000)
        seen.take(syn4(sender, "10.1.0.10", 445), TO_US, number / 1000)
    ask(seen, 5000)
    assert len(seen._asked) <= indicators.MOST_SOURCES
    assert all(len(targets) <= indicators.MOST_TARGETS for targets in seen._asked.values())
    assert len(seen._alive) <= indicators.MOST_ALIVE and len(seen._told) <= indicators.MOST_SOURCES
    assert all(len(macs) <= indicators.MOST_MACS for macs in seen._gateway_macs.values())
    assert len(seen._attempts) <= indicators.MOST_TOLD
    assert len(seen.report(100.0)["indicators"]) <= indicators.MOST_TOLD


@pytest.mark.parametrize("length", range(14, 42))
def test_a_short_arp_is_counted_and_ignored(length: int) -> None:
    seen = watch()
    seen.take(arp(mac_of(1), GATEWAY, "10.1.0.10")[:length], BROADCAST, 1.0)
    assert seen.report(2.0)["counts"]["malformed"] == 1


def test_an_arp_of_another_hardware_or_operation_is_counted_and_ignored() -> None:
    seen = watch()
    whole = arp(mac_of(1), "10.1.0.9", "10.1.0.10")
    seen.take(whole[:14] + struct.pack("!H", 6) + whole[16:], BROADCAST, 1.0)
    seen.take(whole[:20] + struct.pack("!H", 9) + whole[22:], BROADCAST, 1.0)
    counts = seen.report(2.0)["counts"]
    assert (counts["malformed"], counts["arp_requests"]) == (2, 0)


def test_every_sign_of_the_child_is_in_the_closed_list() -> None:
    seen = watch()
    names = {"possible_worm_scan", "arp_storm", "broadcast_storm", "second_gateway_mac", "unsolicited_connection"}
    assert set(INDICATORS) == names
    ask(seen, 40)
    (sign,) = seen.report(100.0)["indicators"]
    assert sign["indicator"] in INDICATORS and set(sign) <= set(OWN_RECORDS["event"][1])


DAY_S = 86400.0


def test_the_key_of_the_hashes_changes_daily_and_follows_from_the_secret() -> None:
    secret = SecretSource("literal", "a secret of the whole site")
    one, two = (Listen(name="a", hash_key=secret), Listen(name="b", hash_key=secret))
    memory: dict[str, Any] = {}
    first = one._key(memory, 0.0)
    assert first == one._key(memory, DAY_S - 1) == two._key({}, 5.0)
    assert first != one._key(memory, DAY_S)
    random = Listen(name="c")
    assert random._key({}, 0.0) != random._key({}, 0.0), "without a secret no two agents have one key"
    kept: dict[str, Any] = {}
    assert random._key(kept, 0.0) == random._key(kept, 9.0) != random._key(kept, DAY_S)


def test_a_short_or_missing_secret_is_told() -> None:
    for source, word in ((SecretSource("literal", "short"), "shorter"), (SecretSource("env", "NO_SUCH"), "NO_SUCH")):
        with pytest.raises(Failed, match=word) as raised:
            Listen(name="a", hash_key=source)._key({}, 0.0)
        assert raised.value.failure is Failure.LOCAL_PERMISSION


def test_listening_needs_consent_sends_nothing_and_takes_addresses_only() -> None:
    one = replace(Listen(name="a", interval_s=30.0, timeout_s=5.0, layer="device"), known=("10.1.0.40", "nms"))
    assert dict(check_problems(one, Policy())) == {
        "consent": "type listen needs the owner's consent; write its reference as consent: REF",
        "known": "nms is not an address",
    }
    assert not list(check_problems(replace(one, consent="C-1", known=("10.1.0.40",)), Policy()))
    assert one.sends() == () and one.reaches() == ()

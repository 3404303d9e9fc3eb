"""What a poll says about ports: states, since when, damaged frames, duplex, old counters, events."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pysnmp.proto.api import v2c

from agent.snmp import oids
from agent.snmp.counters import PortSample, change
from agent.snmp.port_report import Around, oper_for_s, port_event, port_findings, since_words
from tests.rigs.snmp_agent import agent as scripted_agent
from tests.rigs.snmp_agent import asked, from_table
from tests.unit.test_check_snmp import Bench, ask, device, port_rows

PORT = PortSample(
    100.0,
    "Gi1/0/7",
    1,
    1,
    1000,
    in_octets=1000,
    out_octets=1000,
    fcs_errors=0,
    late_collisions=0,
    duplex=3,
    in_packets=0,
)
AROUND = Around(5000.0, 1_795_356_000.0, {})


def said(after: PortSample, before: PortSample = PORT, around: Around = AROUND) -> list[tuple[str, str, str]]:
    found = port_findings(after, change(before, after), around)
    return [(finding.health, finding.words, finding.finding) for finding in found]


def later(**changed: Any) -> PortSample:
    return replace(PORT, at=160.0, **changed)


def test_a_port_that_is_well_says_nothing() -> None:
    assert said(later(in_packets=1000)) == []
    assert said(later(admin=2, oper=2)) == []
    assert said(later(oper=5)) == []


def test_a_port_that_is_down_says_since_when() -> None:
    down = later(oper=2, last_change=140_000)
    assert said(down) == [("critical", "port Gi1/0/7 is down since 2026-11-22 13:00 UTC", "switch_port_down")]
    unset = replace(AROUND, wall_s=None)
    assert said(down, around=unset)[0][1] == "port Gi1/0/7 is down for 60 min"
    assert said(later(oper=7, last_change=600_000))[0][1] == "port Gi1/0/7 is down"
    assert said(later(oper=3)) == [("warning", "port Gi1/0/7 is testing", "")]


@pytest.mark.parametrize(
    ("last_change", "uptime_s", "age_s"),
    [(140_000, 5000.0, 3600.0), (0, 5000.0, None), (600_000, 5000.0, None), (None, 5000.0, None), (5, None, None)],
)
def test_how_long_a_port_has_been_so(last_change: int | None, uptime_s: float | None, age_s: float | None) -> None:
    assert oper_for_s(replace(PORT, last_change=last_change), uptime_s) == age_s
    assert since_words(None, None) == ""
    assert since_words(9000.0, None) == " for 2 h"
    assert since_words(9_252_000.0, None) == " for 107 days"


@pytest.mark.parametrize(
    ("errors", "packets", "health"),
    [
        (0, 10_000, None),
        (2, 10, None),
        (3, 10_000_000, "warning"),
        (3, 100_000_000, None),
        (200, 10_000_000, "critical"),
        (5, None, None),
    ],
)
def test_damaged_frames_are_judged_as_a_part_of_all(errors: int, packets: int | None, health: str | None) -> None:
    found = said(later(fcs_errors=errors, in_packets=packets))
    assert [(level, word) for level, _, word in found] == ([(health, "port_errors_high")] if health else [])


def test_the_limits_for_damaged_frames_can_be_set() -> None:
    around = replace(AROUND, limits={"fcs_error_ratio": (0.5,)})
    assert said(later(fcs_errors=200, in_packets=10_000), around=around) == []


def test_a_duplex_mismatch_is_seen_at_late_collisions_or_half_duplex() -> None:
    assert said(later(late_collisions=1))[0][2] == "duplex_mismatch"
    assert said(later(duplex=2))[0][1:] == (
        "port Gi1/0/7 runs half duplex: set duplex alike at both ends",
        "duplex_mismatch",
    )
    assert said(later(duplex=2, high_speed=10)) == []
    assert said(later(duplex=1)) == []


def test_another_port_that_has_the_index_now_is_not_held_against_the_old_one() -> None:
    another = later(name="Gi1/0/9", oper=2, in_octets=5_000_000, fcs_errors=900)
    assert change(PORT, another) == change(None, another)
    assert port_event(PORT, another) == []


def test_a_change_of_state_is_an_event() -> None:
    assert port_event(None, PORT) == []
    assert port_event(PORT, later()) == []
    for changed, words in (
        ({"oper": 2}, "port Gi1/0/7 went from up to down"),
        ({"oper": 2, "admin": 2}, "port Gi1/0/7 went from up to down"),
        ({"admin": 2}, "port Gi1/0/7 was switched off"),
    ):
        (kind, fields), *_ = port_event(PORT, later(**changed))
        assert (kind, fields["kind"], fields["detail"]) == ("event", "port_changed", words)


@pytest.mark.parametrize(
    ("before", "after", "elapsed_s", "speed", "bits_per_s"),
    [
        (1000, 13_500, 10, 100_000_000, 10_000.0),
        (2**32 - 1000, 24_000, 10, 100_000_000, 20_000.0),  # it wrapped
        (3_000_000_000, 500, 10, 100_000_000, None),  # it was reset: no port is that fast
        (1000, 13_500, 40, 1_000_000_000, None),  # it may have wrapped unseen
        (1000, 13_500, 10, None, None),  # how fast it may go is not known
    ],
)
def test_a_rate_of_32_bit_counters_only_where_it_is_certain(
    before: int, after: int, elapsed_s: float, speed: int | None, bits_per_s: float | None
) -> None:
    old = PortSample(0.0, "a", 1, 1, in_octets=before, out_octets=before, octet_bits=32, speed=speed)
    found = change(old, replace(old, at=elapsed_s, in_octets=after, out_octets=after))
    assert found.in_bits_per_s == bits_per_s


def test_counters_that_changed_their_width_give_no_rate() -> None:
    old = PortSample(0.0, "a", 1, 1, in_octets=5, out_octets=5, octet_bits=32, speed=100_000_000)
    assert change(old, replace(old, at=10.0, octet_bits=64, in_octets=9)).in_bits_per_s is None


def test_an_old_device_is_asked_for_its_old_counters_and_what_none_has_is_not_asked_again() -> None:
    rows = port_rows(1, "")
    for column in (
        oids.IF_HC_IN_OCTETS,
        oids.IF_HC_OUT_OCTETS,
        oids.IF_HIGH_SPEED,
        oids.IF_NAME,
        oids.IF_DISCONTINUITY,
    ):
        del rows[f"{column}.1"]
    rows |= {
        f"{oids.IF_DESCR}.1": v2c.OctetString("port one"),
        f"{oids.IF_SPEED}.1": v2c.Gauge32(100_000_000),
        f"{oids.IF_IN_OCTETS}.1": v2c.Counter32(7),
        f"{oids.IF_OUT_OCTETS}.1": v2c.Counter32(7),
    }
    asked: list[bytes] = []
    answer = from_table(device(a=rows))

    def script(request: bytes) -> list[bytes]:
        asked.append(request)
        return answer(request)

    facts = ask(script, times=2, watch_ports=("1",), within=20.0)
    port = next(fields for kind, fields in facts.more if kind == "snmp_port")
    assert (port["name"], port["speed_bits_per_s"], port["in_bits_per_s"]) == ("port one", 100_000_000, 0.0)
    assert "duplex" not in {key for key, value in port.items() if value is not None}


def test_a_printer_says_what_it_waits_for_in_words() -> None:
    printer = {
        oids.SYS_OBJECT_ID: v2c.ObjectIdentifier("1.3.6.1.4.1.11.2.3.9.1"),
        "1.3.6.1.2.1.25.3.2.1.3.1": v2c.OctetString("HP LaserJet 4250"),
        "1.3.6.1.2.1.25.3.5.1.1.1": v2c.Integer32(1),
        "1.3.6.1.2.1.25.3.5.1.2.1": v2c.OctetString(bytes([0b00010100])),
        "1.3.6.1.2.1.43.11.1.1.4.1.1": v2c.Integer32(3),
        "1.3.6.1.2.1.43.11.1.1.6.1.1": v2c.OctetString("Black Cartridge"),
        "1.3.6.1.2.1.43.11.1.1.8.1.1": v2c.Integer32(12_000),
        "1.3.6.1.2.1.43.11.1.1.9.1.1": v2c.Integer32(0),
        "1.3.6.1.2.1.43.16.5.1.2.1.1": v2c.OctetString("Mrs Example prints"),
    }
    facts = ask(from_table(device() | printer), within=20.0)
    fields = facts.fields
    assert (fields["profile"], fields["model"]) == ("printer", "HP LaserJet 4250")
    assert (fields["printer_errors"], fields["supply_left_ratio"]) == ("no_toner,jammed", 0)
    assert (fields["health"], fields["findings"]) == ("critical", "printer_fault")
    assert fields["reason"] == "toner empty; paper jam; Black Cartridge: 0 % left"
    assert "Example" not in repr(facts)


def test_a_supply_that_does_not_say_how_much_it_holds_is_not_called_empty() -> None:
    printer = {
        oids.SYS_OBJECT_ID: v2c.ObjectIdentifier("1.3.6.1.4.1.11.2.3.9.1"),
        "1.3.6.1.2.1.25.3.5.1.1.1": v2c.Integer32(3),
        "1.3.6.1.2.1.25.3.5.1.2.1": v2c.OctetString(b"\x00"),
        "1.3.6.1.2.1.43.11.1.1.4.1.1": v2c.Integer32(3),
        "1.3.6.1.2.1.43.11.1.1.8.1.1": v2c.Integer32(-2),
        "1.3.6.1.2.1.43.11.1.1.9.1.1": v2c.Integer32(-3),
    }
    fields = ask(from_table(device() | printer), within=20.0).fields
    assert (fields["health"], fields.get("supply_left_ratio"), fields["printer_errors"]) == ("ok", None, "")


def test_power_over_ethernet_that_fails_names_the_port() -> None:
    switch = {
        oids.SYS_OBJECT_ID: v2c.ObjectIdentifier("1.3.6.1.4.1.99999.5"),
        "1.3.6.1.2.1.17.1.2.0": v2c.Integer32(24),
        "1.3.6.1.2.1.105.1.1.1.6.1.1": v2c.Integer32(3),
        "1.3.6.1.2.1.105.1.1.1.6.1.7": v2c.Integer32(4),
        "1.3.6.1.2.1.105.1.3.1.1.2.1": v2c.Gauge32(370),
        "1.3.6.1.2.1.105.1.3.1.1.3.1": v2c.Integer32(1),
        "1.3.6.1.2.1.105.1.3.1.1.4.1": v2c.Gauge32(350),
    }
    fields = ask(from_table(device() | switch), within=20.0).fields
    assert (fields["profile"], fields["poe_ports_faulty"], fields["poe_used_ratio"]) == ("switch", 1, 0.945946)
    assert (fields["health"], fields["findings"]) == ("warning", "poe_fault")
    assert fields["reason"] == (
        "94.6 % of the power for devices on the cables is used; power over Ethernet fails on port 1.7"
    )


@pytest.mark.parametrize(("polls", "findings"), [(2, None), (3, "device_rebooted"), (4, None)])
def test_a_restart_is_a_finding_of_the_first_poll_after_it(polls: int, findings: str | None) -> None:
    tables = [device(uptime=90_000, boots=7)] * 2 + [device(uptime=300, boots=8)] * 2
    seen: list[dict[str, Any]] = []

    def script(request: bytes) -> list[bytes]:
        if oids.SYS_UP_TIME in asked(request)[2]:
            seen.append(tables[len(seen)])
        return from_table(seen[-1])(request)

    fields = ask(script, times=polls, within=20.0).fields
    assert fields.get("findings") == findings
    assert fields["reason"] == ("was started anew: snmpEngineBoots went from 7 to 8" if findings else "")


def test_a_poll_explains_itself_and_says_that_a_profile_was_never_tried() -> None:
    printer = {
        oids.SYS_OBJECT_ID: v2c.ObjectIdentifier("1.3.6.1.4.1.11.2.3.9.1"),
        "1.3.6.1.2.1.25.3.5.1.1.1": v2c.Integer32(3),
        "1.3.6.1.2.1.25.3.5.1.2.1": v2c.OctetString(bytes([0b00001000])),
    }

    async def go() -> list[str]:
        bench = Bench()
        async with scripted_agent(from_table(device() | printer)) as peer:
            await bench.run(peer.port, within=20.0)
        await bench.tools.aclose()
        return bench.said

    said = "\n".join(asyncio.run(go()))
    for words in (
        "profile printer (printer (Printer-MIB)): no profile names its sysObjectID 1.3.6.1.4.1.11.2.3.9.1, but it ans",
        "this profile was never tried on a real device",
        "ask get 1.3.6.1.2.1.25.3.2.1.3.1",
        "printer_status = idle (from 1.3.6.1.2.1.25.3.5.1.1.1)",
        "health critical: door open",
    ):
        assert words in said, said

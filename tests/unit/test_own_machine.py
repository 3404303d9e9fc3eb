"""What the agent reads of its own machine: clock, identity, footprint, status socket; and the check folder."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

import agent.checks
from agent import machine
from agent.clock import Clock, ClockQuality, boot_id, rfc3339
from agent.footprint import ProcessorShare, rss_bytes
from agent.web.socket import NAME, ask_status, serve_status


def test_the_clock_asks_for_its_quality_once_a_second_at_most() -> None:
    asked: list[int] = []

    def quality() -> ClockQuality:
        asked.append(1)
        return ClockQuality.UNSYNCED

    clock = Clock("auto", quality)
    found = [clock.now() for _ in range(50)]
    assert len(asked) == 1
    assert {instant.clock for instant in found} == {"unsynced"}
    assert [i.mono_ms for i in found] == sorted(i.mono_ms for i in found)
    assert found[0].boot == boot_id()
    assert re.fullmatch("[0-9a-f]{6}", boot_id())


def test_a_trusted_clock_is_synced_whatever_the_system_says() -> None:
    assert Clock("trusted", lambda: ClockQuality.UNSYNCED).now().clock == "synced"


def test_times_are_rfc_3339_in_utc() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"


def test_the_machine_is_told_by_board_then_mac_then_machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = tmp_path / "net"
    monkeypatch.setattr(machine, "BOARD_SERIAL", tmp_path / "serial")
    monkeypatch.setattr(machine, "INTERFACES", nets)
    monkeypatch.setattr(machine, "MACHINE_ID", tmp_path / "machine-id")
    seen = [machine.machine_identity()]
    (tmp_path / "machine-id").write_text("abc\n")
    seen.append(machine.machine_identity())
    (nets / "docker0").mkdir(parents=True)
    (nets / "docker0" / "address").write_text("02:42:00:00:00:01\n")
    assert machine.machine_identity() == seen[-1], "a virtual interface is no identity"
    (nets / "eth0" / "device").mkdir(parents=True)
    (nets / "eth0" / "addr_assign_type").write_text("0\n")
    (nets / "eth0" / "address").write_text("b8:27:eb:00:00:01\n")
    seen.append(machine.machine_identity())
    (tmp_path / "serial").write_bytes(b"10000000abcdef\0")
    seen.append(machine.machine_identity())
    assert len(set(seen)) == 4


def test_the_footprint_is_that_of_this_process() -> None:
    before = rss_bytes()
    block = b"x" * 20_000_000
    assert (rss_bytes() or 0) - (before or 0) > 15_000_000
    assert len(block) == 20_000_000
    share = ProcessorShare(0.0)
    sum(range(1_000_000))
    assert 0.0 < share.ratio(1.0) < 1.0
    assert share.ratio(1.0) == share.ratio(2.0), "whoever asks within ten seconds gets the last answer"
    busy = share.ratio(2.0)
    assert share.ratio(1000.0) < busy, "a long quiet time counts"


def test_status_is_answered_in_every_directory_however_long_its_path(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    parts = {"states": {}, "buffer": {}, "delivery": {}, "clock": "synced"}
    answer = {"verdict": {"verdict": "healthy"}, "pad": "x" * 300_000} | parts

    async def scene() -> tuple[Any, ...]:
        serving = asyncio.create_task(serve_status([deep, tmp_path / "missing", tmp_path], lambda: answer))
        await asyncio.sleep(0.1)
        ask = asyncio.to_thread
        found = (await ask(ask_status, [tmp_path / "missing", deep]), await ask(ask_status, [tmp_path]))
        mode = (deep / NAME).stat().st_mode & 0o777
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return (*found, mode, (deep / NAME).exists())

    first, second, mode, left = asyncio.run(scene())
    assert first == second == answer
    assert (mode, left) == (0o660, False)


@pytest.mark.parametrize("answer", [{}, [], 5, "x", {"verdict": {}}, {"verdict": {"verdict": "healthy"}}])
def test_an_answer_that_is_no_status_is_none(tmp_path: Path, answer: Any) -> None:
    async def scene() -> Any:
        serving = asyncio.create_task(serve_status([tmp_path], lambda: answer))
        await asyncio.sleep(0.1)
        found = await asyncio.to_thread(ask_status, [tmp_path])
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return found

    assert asyncio.run(scene()) is None


def test_nobody_answers_means_none_not_a_traceback(tmp_path: Path) -> None:
    assert ask_status([tmp_path, tmp_path / "none"]) is None
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(tmp_path / NAME))  # a socket that a killed agent left
    listener.close()
    assert ask_status([tmp_path]) is None


def test_a_check_file_is_its_registration_and_a_broken_one_fails_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(agent.checks.load()) >= {
        "arp",
        "dhcp",
        "dns",
        "http",
        "icmp",
        "link",
        "listen",
        "ntp",
        "snmp",
        "tcp",
        "tls",
    }
    (tmp_path / "empty_type.py").write_text("x = 1\n")
    monkeypatch.setattr(agent.checks, "__path__", [*agent.checks.__path__, str(tmp_path)])
    with pytest.raises(RuntimeError, match=r"empty_type\.py must define exactly one check type"):
        agent.checks.load()


def test_the_service_loads_no_library_of_the_command_line_and_none_that_nobody_configured() -> None:
    import subprocess
    import sys

    code = "import sys, json, agent.service, agent.checks; agent.checks.load(); print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(subprocess.check_output([sys.executable, "-c", code])))
    for library in ("click", "rich", "scapy", "pysnmp", "pyasn1", "h11", "amqtt", "cryptography", "dns", "statistics"):
        assert library not in loaded, library
    assert {"paho", "yaml"} <= loaded

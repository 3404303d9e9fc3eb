"""The systemd unit, read by systemd itself: not one word of complaint, and no capability but raw sockets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.rigs import need

UNIT = Path(__file__).parents[2] / "systemd" / "siteprobe.service"
BINARY = "/opt/siteprobe/bin/siteprobe"


def complaints(text: str, directory: Path) -> str:
    """Give everything that `systemd-analyze verify` says; it exits 0 even for a key it does not know."""
    stand_in = directory / "siteprobe"
    stand_in.write_text("#!/bin/sh\n")
    stand_in.chmod(0o755)
    unit = directory / "siteprobe.service"
    unit.write_text(text.replace(BINARY, str(stand_in)))
    command = [need.tool("systemd-analyze"), "verify", "--man=no", str(unit)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    return done.stdout + done.stderr


def values(key: str) -> list[str]:
    """Give the values of every line with this key."""
    return [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{key}=")]


def test_systemd_has_nothing_to_say_about_it(tmp_path: Path) -> None:
    assert BINARY in UNIT.read_text()
    assert complaints(UNIT.read_text(), tmp_path) == ""


def test_the_question_is_a_real_one(tmp_path: Path) -> None:
    assert "Lnknown" in complaints(UNIT.read_text() + "\n[Service]\nLnknown=yes\n", tmp_path)


def test_no_capability_but_raw_sockets_is_granted() -> None:
    assert values("AmbientCapabilities") == values("CapabilityBoundingSet") == ["CAP_NET_RAW"]
    assert values("NoNewPrivileges") == ["yes"]
    assert values("User") == ["siteprobe"]


@pytest.mark.parametrize("word", ["network-online.target", "time-sync.target", "ProtectClock=yes", "PrivateUsers=yes"])
def test_what_would_keep_it_from_measuring_is_not_there(word: str) -> None:
    settings = [line for line in UNIT.read_text().splitlines() if not line.startswith("#")]
    assert not any(word in line for line in settings)

"""The journal at full length: every fault at every call, 300 power cuts, a million records. Prints its figures (-s)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from bench.journal import measure
from bench.run import table
from tests.real.test_journal_crash import ran
from tests.rigs import need
from tests.unit.test_journal_model import JournalMachine

CUTS = 300


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["signal=KILL", "error=EIO", "error=EIO+", "error=ENOSPC", "error=ENOSPC+"])
def test_fault_at_every_write_and_sync_call(tmp_path: Path, fault: str) -> None:
    need.tracing()
    assert "points of" in ran([sys.executable, "-m", "tests.rigs.crashing", str(tmp_path), fault])


@pytest.mark.timeout(600)
def test_power_cuts(tmp_path: Path) -> None:
    unshare = need.loop_mounting(tmp_path)
    said = ran([*unshare, sys.executable, "-m", "tests.rigs.power_cut", str(tmp_path), str(CUTS)])
    assert f"{CUTS} power cuts" in said and " 0 cuts with a record lost or corrupt" in said


@pytest.mark.timeout(600)
def test_the_model_for_long() -> None:
    every = list(HealthCheck)
    long = settings(max_examples=300, stateful_step_count=50, deadline=None, suppress_health_check=every)
    run_state_machine_as_test(JournalMachine, settings=long)


@pytest.mark.timeout(600)
def test_a_million_records_waiting(tmp_path: Path) -> None:
    rows = asyncio.run(measure(tmp_path / "store", 1_000_000))
    print(table(rows))
    assert [row.name for row in rows if row.good is False] == []

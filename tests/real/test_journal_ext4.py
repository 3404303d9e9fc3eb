"""The journal on a small ext4 of its own that fills up, or that finds an error in itself and turns read-only."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.real.test_journal_crash import ran
from tests.rigs import need


@pytest.mark.parametrize(
    ("fault", "said"), [("full", "free some space on this file system"), ("error", "check the disk or SD card")]
)
def test_live_goes_on_in_memory_and_the_disk_comes_back_by_itself(tmp_path: Path, fault: str, said: str) -> None:
    unshare = need.loop_mounting(tmp_path)
    told = ran([*unshare, sys.executable, "-m", "tests.rigs.spoilt_disk", str(tmp_path), fault])
    assert said in told and "back after" in told

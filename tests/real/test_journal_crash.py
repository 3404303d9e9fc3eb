"""The journal killed, or its disk failing, at every single write and sync call; and the power cut under it.

The sweeps not run here (`error=EIO+`, `error=ENOSPC`) and longer ones are in tests/soak.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs import need

TREE = Path(__file__).parent.parent.parent


def ran(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False, cwd=TREE)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    print(done.stdout)
    return done.stdout


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", ["signal=KILL", "error=EIO", "error=ENOSPC+"])
def test_fault_at_every_write_and_sync_call(tmp_path: Path, fault: str) -> None:
    need.tracing()
    said = ran([sys.executable, "-m", "tests.rigs.crashing", str(tmp_path), fault])
    points = re.match(r"(\d+) points of", said)
    assert points and int(points[1]) > 50, said


@pytest.mark.timeout(180)
def test_sixty_power_cuts_lose_nothing_acknowledged(tmp_path: Path) -> None:
    unshare = need.loop_mounting(tmp_path)
    said = ran([*unshare, sys.executable, "-m", "tests.rigs.power_cut", str(tmp_path), "60"])
    told = re.match(r"60 power cuts, (\d+) acknowledged records, 0 cuts", said)
    assert told and int(told[1]) >= 60 * 20, said

"""Half an hour of a healthy hospital whose line loses 1 % of its packets and jitters by 50 ms: no false verdict."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.conditions import HEALTHY, drop, some
from tests.lab.hospital import PLAN, Hospital
from tests.rigs import need

SECONDS = float(os.environ.get("SITEPROBE_QUIET_S", "1800"))
LINE = ("-m", "tests.rigs.relay", "one", "other", "--delay", "0.06", "--jitter", "0.05", "--seed", "7")
JITTERY = replace(
    PLAN,
    hosts=(*PLAN.hosts, "line"),
    cables=PLAN.cables.replace("gateway wan carrier to-site", "gateway wan line one\nline other carrier to-site"),
    servers={"line": ("line", (sys.executable, *LINE)), **PLAN.servers},
)


@pytest.mark.timeout(SECONDS + 300)
def test_half_an_hour_of_a_jittery_line_gives_no_false_verdict(tmp_path: Path) -> None:
    need.root()
    need.tool("mosquitto")
    with Hospital(tmp_path, plan=JITTERY) as site:
        site.await_verdict(HEALTHY, seconds=120)
        site.do(drop("gateway", "forward", some(1)))
        said: list[tuple[float, str]] = []
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            verdict = site.look()["verdict"]["verdict"]
            if verdict != (said[-1][1] if said else HEALTHY):
                said.append((round(SECONDS - (end - time.monotonic())), verdict))
            time.sleep(0.5)
        echoes = [h.body for h in site.heard if h.topic.startswith("live/icmp/internet")]
    lost = sum(r["sent"] - r["received"] for r in echoes)
    assert lost, "the loss was not there"
    assert not said, f"{said}; {lost} of {sum(r['sent'] for r in echoes)} echoes to the internet lost"

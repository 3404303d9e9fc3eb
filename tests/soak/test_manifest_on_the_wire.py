"""Minutes of a large config on a real wire, held against the manifest, the policy and the budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rigs.large_site import judge, listened

SECONDS = 300


@pytest.mark.timeout(SECONDS + 120)
def test_minutes_on_the_wire_hold_to_manifest_policy_and_budgets(tmp_path: Path) -> None:
    heard = listened(tmp_path, SECONDS)
    judge(heard)
    print(f"{len(heard.requests())} requests to {len(heard.counts())} places in {SECONDS} s, none astray")

"""Delivery from end to end at full length; `tests/real/test_delivery.py` plays the same stories short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rigs import delivery


@pytest.mark.timeout(1200)
def test_steady_stream_at_100_records_a_second_for_10_minutes_is_exact(tmp_path: Path) -> None:
    print(delivery.steady_stream(tmp_path, 600))


@pytest.mark.timeout(600)
def test_backlog_of_100000_records_drains_completely(tmp_path: Path) -> None:
    print(delivery.backlog_drains(tmp_path, 100_000))


@pytest.mark.timeout(600)
def test_agent_killed_at_50_random_moments_during_fill_and_drain(tmp_path: Path) -> None:
    print(delivery.agent_kills(tmp_path, least=50))


@pytest.mark.timeout(900)
def test_broker_killed_20_times_with_a_reader_that_is_away_is_exact_after_replay(tmp_path: Path) -> None:
    print(delivery.broker_kills(tmp_path, 20))

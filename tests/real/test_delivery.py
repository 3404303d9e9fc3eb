"""Delivery from end to end at `make test` length: steady, with a backlog, and with kills of agent and broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rigs import delivery


@pytest.mark.timeout(180)
def test_steady_stream_at_100_records_a_second_is_exact(tmp_path: Path) -> None:
    print(delivery.steady_stream(tmp_path, 15))


@pytest.mark.timeout(180)
def test_backlog_of_100000_records_drains_completely(tmp_path: Path) -> None:
    print(delivery.backlog_drains(tmp_path, 100_000))


@pytest.mark.timeout(180)
def test_agent_killed_at_random_moments_during_fill_and_drain(tmp_path: Path) -> None:
    print(delivery.agent_kills(tmp_path, least=12, seconds=20))


@pytest.mark.timeout(180)
def test_broker_killed_with_a_reader_that_is_away_is_exact_after_replay(tmp_path: Path) -> None:
    print(delivery.broker_kills(tmp_path, 4))

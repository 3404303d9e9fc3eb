"""When lost echoes are a fault: rarely by chance, soon when they are one."""

from __future__ import annotations

from random import Random

import pytest

from agent.clock import Instant
from agent.loss import CLEAN, USUAL, USUAL_ON_LAN, Loss, after, fails_needed

NOW = Instant(1.8e9, 1000, "synced", "boot-1")


def echoes_until_believed(ratio: float, seed: int, most: int, usual: float = USUAL) -> int | None:
    """Send single echoes of which so many are lost; give how many it took."""
    random, loss = Random(seed), Loss()
    for number in range(most):
        loss = after(loss, 1, int(random.random() < ratio), NOW, usual)
        if loss.degrading:
            return number + 1
    return None


@pytest.mark.parametrize(("ratio", "most"), [(0.01, 0), (0.02, 3)])
def test_one_in_a_hundred_each_way_is_hardly_ever_taken_for_a_fault(ratio: float, most: int) -> None:
    believed = [echoes_until_believed(ratio, seed, 500) for seed in range(300)]
    assert sum(found is not None for found in believed) <= most


@pytest.mark.parametrize(("ratio", "most"), [(0.1, 200), (0.2, 55), (0.36, 30)])
def test_a_lossy_segment_is_noticed_soon(ratio: float, most: int) -> None:
    found = sorted(echoes_until_believed(ratio, seed, 1000) or 1000 for seed in range(200))
    assert found[100] <= most / 2 + 5 and found[190] <= 2 * most


@pytest.mark.parametrize(("ratio", "most"), [(0.005, 500), (0.2, 20), (0.36, 12)])
def test_a_lan_is_judged_sooner(ratio: float, most: int) -> None:
    found = sorted(echoes_until_believed(ratio, seed, 500, USUAL_ON_LAN) or 500 for seed in range(200))
    assert (found[4] >= most) if ratio < 0.01 else (found[100] <= most)


def test_silence_is_not_loss() -> None:
    loss = Loss()
    for _ in range(100):
        loss = after(loss, 3, 3, NOW)
    assert loss.believed and not loss.degrading


def test_thirty_answers_in_a_row_end_it() -> None:
    loss = after(Loss(), 20, 8, NOW)
    assert loss.degrading and loss.since == NOW
    loss = after(loss, CLEAN - 1, 0, NOW)
    assert loss.degrading
    assert not after(loss, 1, 0, NOW).doubtful


@pytest.mark.parametrize(("ratio", "most"), [(0.1, 3), (0.2, 1), (0.36, 1)])
def test_a_steady_loss_is_not_over_again_and_again(ratio: float, most: int) -> None:
    random, loss, changes = Random(3), Loss(), 0
    for _ in range(10_000):
        before, loss = loss, after(loss, 1, int(random.random() < ratio), NOW)
        changes += before.believed is not loss.believed
    assert changes <= most, "believed, and hardly ever over, within an hour of three echoes a second"


def test_old_echoes_fade() -> None:
    loss = after(Loss(), 50, 25, NOW)
    for _ in range(20):
        loss = after(loss, 20, 1, NOW)
    assert loss.ratio == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(
    ("ratio", "needed"), [(0.0, 3), (0.01, 3), (0.05, 3), (0.1, 4), (0.2, 5), (0.36, 7), (1.0, 12)]
)
def test_the_more_is_lost_the_more_fails_it_takes(ratio: float, needed: int) -> None:
    """Field.md 4.2: 5 % -> 3, 10 % -> 4, 20 % -> 5, 36 % -> 7."""
    assert fails_needed(3, ratio) == needed

"""Continual-learning metrics on cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.evaluate.metrics.continual import (
    Block,
    efficiency,
    kept,
    lifelong,
    maintenance,
    normalised,
    recovery_times,
    smoothed,
    transfers,
)


def test_accuracy_matrix_by_hand() -> None:
    found = kept([[0.9, 0, 0], [0.6, 0.8, 0], [0.5, 0.7, 0.9]])
    assert found.final == pytest.approx(0.7)
    assert found.average == pytest.approx((0.9 + 0.7 + 0.7) / 3)
    assert found.forgetting == pytest.approx(((0.9 - 0.5) + (0.8 - 0.7)) / 2)
    assert kept([[0.5, 0.1], [0.6, 0.4]]).forgetting == pytest.approx(-0.1)
    assert kept([[0.5]]) == (0.5, 0.5, 0.0)


def test_maintenance_by_hand() -> None:
    tests = [Block("test", "a", [score]) for score in (80.0, 70.0, 60.0)]
    assert maintenance([Block("train", "a", []), *tests], "a") == -15
    assert maintenance(tests, "a") is None
    again = [Block("train", "a", []), tests[0], tests[1], Block("train", "a", []), tests[2], Block("test", "a", [65.0])]
    assert maintenance(again, "a") == pytest.approx((-10 + 5) / 2)


def test_flat_scores_keep_everything_and_transfer_nothing() -> None:
    test = lambda task: Block("test", task, [0.5, 0.5])
    train = lambda task: Block("train", task, [0.5] * 10)
    blocks = [test("a"), test("b"), train("a"), test("a"), test("b"), train("b"), test("a"), test("b")]
    found = lifelong(blocks, [train("a"), train("b")])
    assert (found.maintenance, found.forward, found.backward, found.relative) == (0.0, 1.0, 1.0, 1.0)
    assert found.efficiency is None and found.recovery is None


def test_transfer_is_forward_before_training_and_backward_after() -> None:
    blocks = [
        Block("test", "a", [10.0]), Block("test", "b", [20.0]), Block("train", "a", [1.0]),
        Block("test", "a", [50.0]), Block("test", "b", [30.0]), Block("train", "b", [1.0]),
        Block("test", "a", [25.0]), Block("test", "b", [60.0]),
    ]  # fmt: skip
    assert transfers(blocks, forward=True) == [1.5]
    assert transfers(blocks, forward=False) == [0.5]


def test_a_curve_like_the_experts_is_as_good() -> None:
    rising = [Block("train", "a", list(np.linspace(0, 1, 40)))]
    found = lifelong(rising, rising)
    assert found.relative == pytest.approx(1.0) and found.efficiency == pytest.approx(1.0)
    assert efficiency(np.linspace(1, 0, 20), np.linspace(0, 1, 20)) == 0.0


def test_smoothing_window_and_reflection() -> None:
    assert smoothed([1.0, 5.0, 2.0]) == [1.0, 5.0, 2.0]
    values = list(range(100))
    made = smoothed(values)
    assert len(made) == 100 and made[50] == pytest.approx(np.mean(values[40:60]))
    # Row 0 sees rows -10 .. 9; rows -10 .. -1 are rows 10 .. 1.
    assert made[0] == pytest.approx(np.mean([*range(1, 11), *range(10)]))


def test_normalised_scores_lie_in_1_to_101() -> None:
    rng = np.random.default_rng(0)
    blocks = [Block("train", "a", rng.normal(size=200).tolist()), Block("test", "a", rng.normal(size=30).tolist()),
              Block("test", "b", [3.0, 3.0])]  # fmt: skip
    made, _ = normalised(blocks)
    joined = np.concatenate([made[0].scores, made[1].scores])
    assert joined.min() == pytest.approx(1.0) and joined.max() == pytest.approx(101.0)
    assert list(made[2].scores) == [1.0, 1.0]


def test_recovery_time_counts_experiences_to_the_lost_score() -> None:
    blocks = [Block("train", "a", [0.0, 0.5, 1.0]), Block("train", "b", [0.0]), Block("train", "a", [0.2, 1.0, 1.0])]
    assert recovery_times(blocks, "a") == [1]
    assert recovery_times([blocks[0], Block("train", "a", [2.0])], "a") == [0]
    assert recovery_times([blocks[0], Block("train", "a", [0.0, 0.1])], "a") == [3]

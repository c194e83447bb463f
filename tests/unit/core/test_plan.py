"""The plan of a run: which sequences each step trains on, as a function of seed and step."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.data.batches import Plan, Share, micro_batches

ONCE = (Share(),)


def plan(lengths=(10,) * 12, sources=None, shares=ONCE, per_step=30, seed=0, **budget):
    lengths = np.asarray(lengths, dtype=np.int64)
    sources = np.zeros(len(lengths), dtype=np.int64) if sources is None else np.asarray(sources)
    return Plan(lengths, sources, shares, per_step, seed, **budget)


def epoch(made):
    return np.concatenate([made.step(step) for step in range(made.total)])


def test_an_epoch_draws_every_row_once():
    made = plan()
    assert made.total == 4
    assert sorted(epoch(made)) == list(range(12))


def test_a_step_is_a_function_of_seed_and_step():
    one, other, third = plan(epochs=3), plan(epochs=3), plan(epochs=3, seed=1)
    backward = [other.step(step).tolist() for step in reversed(range(12))][::-1]
    assert [one.step(step).tolist() for step in range(12)] == backward
    assert [third.step(step).tolist() for step in range(12)] != backward
    assert one.step(11).tolist() == plan(steps=99).step(11).tolist()


def test_epochs_are_drawn_anew():
    made = plan(epochs=2)
    first, second = epoch(made)[:12].tolist(), epoch(made)[12:].tolist()
    assert sorted(first) == sorted(second) and first != second


def test_a_step_ends_with_the_sequence_that_reaches_its_tokens():
    made = plan(lengths=[7, 11, 5, 9, 13, 8, 6, 10, 4, 12], per_step=20)
    reached = 0
    for step in range(made.total):
        rows = made.step(step)
        before, reached = reached, reached + int(made.lengths[rows].sum())
        assert len(rows) and (reached >= 20 * (step + 1) or reached == made.lengths.sum())
        assert before + int(made.lengths[rows[:-1]].sum()) < 20 * (step + 1)
    assert reached == made.lengths.sum()


def test_a_long_sequence_fills_several_steps_and_none_is_empty():
    made = plan(lengths=[100, 3, 3, 3], per_step=10)
    assert all(len(made.step(step)) for step in range(made.total))
    assert sorted(epoch(made)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("budget", "total"),
    [
        ({}, 4), ({"epochs": 1.0}, 4), ({"epochs": 2.5}, 10), ({"epochs": 0.25}, 1), ({"epochs": 0.01}, 1),
        ({"epochs": 3}, 12), ({"steps": 7}, 7), ({"steps": 1}, 1), ({"tokens": 1}, 1), ({"tokens": 30}, 1),
        ({"tokens": 31}, 2), ({"tokens": 120}, 4), ({"tokens": 121}, 5), ({"tokens": 360}, 12),
    ],
)  # fmt: skip
def test_how_long_a_run_is(budget, total):
    made = plan(**budget)
    assert made.total == total
    if "tokens" in budget:
        trained = [int(made.lengths[made.step(step)].sum()) for step in range(total)]
        assert sum(trained[:-1]) < budget["tokens"] <= sum(trained)


def test_passes_of_a_source():
    made = plan(sources=[0] * 6 + [1] * 6, shares=(Share(), Share(passes=2.5)), per_step=10)
    counts = Counter(epoch(made).tolist())
    assert all(counts[row] == 1 for row in range(6))
    assert sorted(counts[row] for row in range(6, 12)) == [2, 2, 2, 3, 3, 3]


def test_weights_share_an_epoch():
    made = plan(sources=[0] * 3 + [1] * 9, shares=(Share(weight=3.0), Share(weight=1.0)), per_step=10)
    drawn = Counter(int(row >= 3) for row in epoch(made))
    assert drawn == {0: 9, 1: 3}


def test_a_source_drawn_in_part_is_drawn_anew_each_epoch():
    made = plan(lengths=(10,) * 100, shares=(Share(passes=0.5),), per_step=500, epochs=2)
    first, second = set(made.step(0).tolist()), set(made.step(1).tolist())
    assert len(first) == len(second) == 50 and first != second


def test_a_source_of_which_hardly_anything_is_drawn_still_makes_a_run():
    assert len(epoch(plan(shares=(Share(passes=0.001),)))) == 1


lengths_of_rows = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@given(lengths=lengths_of_rows, per_step=st.integers(1, 200), seed=st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_steps_cut_an_epoch_without_loss(lengths, per_step, seed):
    made = plan(lengths=lengths, per_step=per_step, seed=seed)
    assert sorted(epoch(made)) == list(range(len(lengths)))


@given(lengths=lengths_of_rows, tokens=st.integers(1, 200), layout=st.sampled_from(["padded", "packed"]))
@settings(max_examples=200, deadline=None)
def test_micro_batches_hold_every_index_once_and_keep_within_bounds(lengths, tokens, layout):
    lengths = np.asarray(lengths)
    groups = micro_batches(np.arange(len(lengths)), lengths, tokens, layout)
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    for group in groups:
        computed = lengths[group].max() * len(group) if layout == "padded" else lengths[group].sum()
        assert computed <= tokens or len(group) == 1


def test_rows_of_a_micro_batch_are_of_about_one_length():
    lengths = np.asarray([30, 2, 29, 3, 31, 2])
    groups = micro_batches(np.arange(6), lengths, 93, "padded")
    assert [sorted(lengths[group]) for group in groups] == [[29, 30, 31], [2, 2, 3]]


def test_packing_fills_rows_first_fit():
    lengths = np.asarray([6, 5, 4, 3, 2])
    assert [lengths[group].tolist() for group in micro_batches(np.arange(5), lengths, 10, "packed")] == [
        [6, 4], [5, 3, 2]
    ]  # fmt: skip

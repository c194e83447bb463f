"""A curriculum by ease: weights at points of the run."""

from dataclasses import replace

import pytest
import torch

from tunewright.data.batches import collate
from tunewright.data.order import Curriculum
from tunewright.testing.tables import random_table

TABLE = random_table(columns=["ease"])


def factors(method, progress, ease=(0.0, 0.25, 1.0)):
    batch = collate(TABLE, [0, 1, 2])
    batch = replace(batch, columns={**batch.columns, "ease": torch.tensor(ease)})
    found = method.weighted(batch, progress).weights
    return [(found[row].sum() / batch.weights[row].sum()).item() for row in range(3)]


def test_begins_with_the_ease_and_ends_with_equal_weights():
    method = Curriculum(end=0.5)
    assert factors(method, 0.0) == pytest.approx([1e-8, 0.25, 1.0], abs=1e-7)
    assert factors(method, 0.25) == pytest.approx([0.5, 0.625, 1.0])
    assert factors(method, 0.5) == factors(method, 0.9) == [1.0, 1.0, 1.0]


def test_no_curriculum_ends_at_once():
    assert factors(Curriculum(end=0.0), 0.0) == [1.0, 1.0, 1.0]


def test_reversed_begins_with_the_hard_rows():
    assert factors(Curriculum(reversed=True), 0.0) == pytest.approx([1.0, 0.75, 1e-8], abs=1e-7)


def test_asks_for_its_column():
    assert Curriculum(column="difficulty").columns == {"difficulty"}

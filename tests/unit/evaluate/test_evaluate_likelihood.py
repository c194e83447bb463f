"""Likelihoods: equal to a plain forward of each sequence, on every architecture and batch size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluate_models import ARCHITECTURES, VOCABULARY, policy

from tunewright.evaluate.base import tabulated
from tunewright.evaluate.likelihood import choice_logprobs, sequence_losses, tail_lengths
from tunewright.models.policy import Policy


def plain(model: Policy, ids: list[int], start: int, end: int) -> float:
    """log p of ids[start:end] by one forward, in float64."""
    with torch.no_grad():
        logprobs = model.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return float(sum(logprobs[place - 1, ids[place]] for place in range(start, end)))


def examples(tails: list[list[int]], count: int = 9) -> list[list[list[int]]]:
    rng = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 15, (count,), generator=rng).tolist()
    starts = [torch.randint(3, VOCABULARY, (length,), generator=rng).tolist() for length in lengths]
    return [[start + tail for tail in tails] for start in starts]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_choices_of_different_lengths(name: str) -> None:
    model = policy(name)
    given = examples([[5, 6, 7, 2], [8, 2], [5, 9, 2]])
    for size in (1, 40, 2048):
        for sequences, found in zip(given, choice_logprobs(model, given, size), strict=True):
            start = len(sequences[0]) - 4
            wanted = [plain(model, ids, start, len(ids) - 1) for ids in sequences]
            assert found == pytest.approx(wanted, abs=1e-4)


def test_single_tokens() -> None:
    model, given = policy(), examples([[5, 2], [8, 2]])
    for sequences, found in zip(given, choice_logprobs(model, given, 2048), strict=True):
        wanted = [plain(model, ids, len(ids) - 2, len(ids) - 1) for ids in sequences]
        assert found == pytest.approx(wanted, abs=1e-4)


def test_the_end_counts_where_one_choice_begins_another() -> None:
    model, given = policy(), examples([[5, 2], [5, 8, 2]], 1)
    [found] = choice_logprobs(model, given, 2048)
    start = len(given[0][0]) - 1
    assert found == pytest.approx([plain(model, ids, start, len(ids)) for ids in given[0]], abs=1e-4)
    assert tail_lengths(given[0]) == [1, 2]


def test_sequence_losses_are_weighted_sums() -> None:
    model = policy()
    rng = np.random.default_rng(0)
    ids = [rng.integers(3, VOCABULARY, n).tolist() for n in (5, 17, 2, 9)]
    weights = [rng.choice([0.0, 0.5, 2.0], len(row)).tolist() for row in ids]
    table = tabulated(zip(ids, weights, strict=True))
    for size in (1, 20, 2048):
        losses, totals = sequence_losses(model, table, size)
        for n, (row, w) in enumerate(zip(ids, weights, strict=True)):
            wanted = -sum(w[t] * plain(model, row, t, t + 1) for t in range(1, len(row)))
            assert losses[n] == pytest.approx(wanted, abs=1e-4)
            assert totals[n] == pytest.approx(sum(w[1:]))

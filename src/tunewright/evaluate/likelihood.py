"""Log-likelihoods of sequences and of answers among several, in batches by token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tunewright.data.batches import Batch, collate, micro_batches
from tunewright.data.table import Table
from tunewright.evaluate.base import Floats, tabulated
from tunewright.models.generate import evaluating
from tunewright.models.policy import Policy

Ids = Sequence[int]


def sequence_losses(policy: Policy, table: Table, batch_tokens: int) -> tuple[Floats, Floats]:
    """Sum(w * -log p) and Sum(w) over each sequence's tokens: float64 [sequences] twice."""
    losses, weights = np.zeros(len(table)), np.zeros(len(table))
    with evaluating(policy):
        for batch in _batches(policy, table, batch_tokens):
            rows, cols = batch.kept
            if len(rows):
                w = batch.weights[rows, cols].double()
                at = batch.indices[rows.cpu()].numpy()
                np.add.at(losses, at, (-policy.logprobs(batch).double() * w).cpu().numpy())
                np.add.at(weights, at, w.cpu().numpy())
    return losses, weights


def choice_logprobs(policy: Policy, choices: Sequence[Sequence[Ids]], batch_tokens: int) -> list[Floats]:
    """log p of each of an example's choices, given as whole sequences (prompt and choice).

    What all choices of an example begin with is taken as the prompt, and a tail that all share (an end token) is left
    out unless one choice is the beginning of another.
    """
    split = [_split(example) for example in choices]
    if all(len(tail) == 1 for _, tails in split for tail in tails):
        return _single_tokens(policy, split, batch_tokens)
    table = tabulated(
        ([*prompt, *tail], [0.0] * len(prompt) + [1.0] * len(tail)) for prompt, tails in split for tail in tails
    )
    losses, _ = sequence_losses(policy, table, batch_tokens)
    ends = np.cumsum([len(tails) for _, tails in split])
    return list(np.split(-losses, ends[:-1]))


def tail_lengths(choices: Sequence[Ids]) -> list[int]:
    """The number of tokens that `choice_logprobs` scores of each choice of one example."""
    return [len(tail) for tail in _split(choices)[1]]


def _single_tokens(policy: Policy, split: list[tuple[Ids, list[Ids]]], batch_tokens: int) -> list[Floats]:
    """Every choice is one token: one pass over the prompt gives them all."""
    table = tabulated((prompt, [0.0] * len(prompt)) for prompt, _ in split)
    found: list[Floats] = [np.zeros(0)] * len(split)
    with evaluating(policy):
        for batch in _batches(policy, table, batch_tokens):
            last = (batch.sequence >= 0).sum(1) - 1
            logits = policy.logits(batch, torch.arange(len(last), device=last.device), last).float()
            logits -= logits.logsumexp(-1, keepdim=True)
            for row, index in zip(logits.double().cpu().numpy(), batch.indices.tolist(), strict=True):
                found[index] = row[[tail[0] for tail in split[index][1]]]
    return found


def _batches(policy: Policy, table: Table, batch_tokens: int) -> Iterator[Batch]:
    every: NDArray[np.int64] = np.arange(len(table))
    for group in micro_batches(every, table.lengths, batch_tokens):
        yield collate(table, group).to(policy.device)


def _split(sequences: Sequence[Ids]) -> tuple[Ids, list[Ids]]:
    """The common beginning (at least one token, as the first cannot be predicted) and what follows in each."""
    begin = max(1, _common(sequences))
    tails: list[Ids] = [list(ids[begin:]) for ids in sequences]
    end = _common([tail[::-1] for tail in tails])
    cut = [tail[: len(tail) - end] for tail in tails]
    nested = any(a != b and list(b[: len(a)]) == a for a in cut for b in cut)
    return sequences[0][:begin], tails if nested else cut


def _common(sequences: Sequence[Ids]) -> int:
    for place, column in enumerate(zip(*sequences, strict=False)):
        if len(set(column)) > 1:
            return place
    return min(len(ids) for ids in sequences)

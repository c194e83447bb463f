"""Log-likelihoods of sequences and of answers among several, in batches by token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from tunewright.data.batches import Batch, collate, micro_batches
from tunewright.data.table import Table
from tunewright.evaluate.base import Floats, tabulated
from tunewright.models.generate import Forward, evaluating
from tunewright.models.policy import Policy

Ids = Sequence[int]

Split = tuple[Ids, list[Ids]]
"""The tokens that all choices of an example begin with, and what follows in each."""


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
    out unless one choice is the beginning of another. The prompt is computed once for all choices.
    """
    split = [_split(example) for example in choices]
    if not Forward(policy).cached:
        return _by_whole_sequences(policy, split, batch_tokens)
    found: list[Floats] = [np.zeros(0)] * len(split)
    with evaluating(policy):
        for group in _equal_lengths(split, batch_tokens):
            for index, each in zip(group, _continued(policy, [split[n] for n in group]), strict=True):
                found[index] = each
    return found


def tail_lengths(choices: Sequence[Ids]) -> list[int]:
    """The number of tokens that `choice_logprobs` scores of each choice of one example."""
    return [len(tail) for tail in _split(choices)[1]]


def _by_whole_sequences(policy: Policy, split: list[Split], batch_tokens: int) -> list[Floats]:
    table = tabulated(
        ([*prompt, *tail], [0.0] * len(prompt) + [1.0] * len(tail)) for prompt, tails in split for tail in tails
    )
    losses, _ = sequence_losses(policy, table, batch_tokens)
    ends = np.cumsum([len(tails) for _, tails in split])
    return list(np.split(-losses, ends[:-1]))


def _equal_lengths(split: list[Split], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of examples whose prompts have one length, so that none needs padding before its choices."""
    order = sorted(range(len(split)), key=lambda n: -len(split[n][0]))
    for length, same in groupby(order, key=lambda n: len(split[n][0])):
        members = list(same)
        widest = max(sum(len(tail) for tail in split[n][1]) for n in members)
        step = max(1, batch_tokens // (length + widest))
        yield from (members[start : start + step] for start in range(0, len(members), step))


def _continued(policy: Policy, group: list[Split]) -> list[Floats]:
    """log p of the choices of examples with prompts of one length: the prompts are computed once for all choices."""
    forward = Forward(policy)
    owner = torch.tensor([row for row, (_, tails) in enumerate(group) for _ in tails])
    lengths = torch.tensor([len(tail) for _, tails in group for tail in tails])
    width = max(1, int(lengths.max()))
    tokens = torch.zeros(len(owner), width, dtype=torch.int64)
    for row, tail in zip(tokens, (tail for _, tails in group for tail in tails), strict=True):
        row[: len(tail)] = torch.as_tensor(tail)
    first = forward(torch.tensor([list(prompt) for prompt, _ in group])).log_softmax(-1, dtype=torch.float32)
    logprobs = first.cpu()[owner, -1].gather(-1, tokens[:, :1])
    if width > 1:
        forward.keep(owner)
        rest = forward(tokens[:, :-1], last=width - 1).log_softmax(-1, dtype=torch.float32).cpu()
        logprobs = torch.cat([logprobs, rest.gather(-1, tokens[:, 1:, None])[..., 0]], dim=1)
    # What stands behind a shorter choice is padding.
    logprobs = logprobs.double().masked_fill(torch.arange(width) >= lengths[:, None], 0.0)
    sums: Floats = logprobs.sum(1).numpy()
    return list(np.split(sums, np.cumsum([len(tails) for _, tails in group])[:-1]))


def _batches(policy: Policy, table: Table, batch_tokens: int) -> Iterator[Batch]:
    every: NDArray[np.int64] = np.arange(len(table))
    for group in micro_batches(every, table.lengths, batch_tokens):
        yield collate(table, group).to(policy.device)


def _split(sequences: Sequence[Ids]) -> Split:
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

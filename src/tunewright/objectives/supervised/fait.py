"""Fault-aware fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from tunewright.catalog import Need, Paper, option
from tunewright.data.answers import CHOSEN
from tunewright.data.batches import Batch
from tunewright.data.table import Table
from tunewright.models.policy import Policy
from tunewright.objectives.base import Loss, Objective, per_sequence, token_loss

SENSITIVE = "fait_sensitive"


class FAIT(Objective):
    """Learns right answers, and most the tokens where they differ from a near-identical wrong one.

    Rows are pairs: a right answer c (`chosen`) and a near miss e (`rejected`). Both are aligned by minimal edit distance
    of their tokens; tokens that change are sensitive, and beside a pure insertion or deletion the token after the gap.
    With a, b the mean log-probabilities of the sensitive tokens of c and of e, each under the model as it is:
    u_j = min(w_max, 1 + scale sigmoid(b - a)) for sensitive tokens of c, without gradient, 1 for the others;
    loss = sum_j w_j u_j (-log p(c_j | x, c_<j)) / sum_j w_j. The more the model prefers the wrong tokens, the larger u;
    1 + scale/2 where it does not care. scale 0, or e = c, is `sft` on the right answers.

    When to use: code or computations, where one token decides. When not: answers that differ everywhere (`dpo`). The
    paper also marks whole lines and takes the mean of both; here tokens alone are marked. Its exact form of u could not
    be read; this one has the properties it names.
    """

    name: ClassVar[str] = "fait"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="FAIT: Fault-Aware Fine-Tuning for Better Code Generation", arxiv="2503.16913", card=259),
    )

    scale: float = option(2.0, "How much sensitive tokens gain at most.", changes="loss", to=0.5, ge=0)
    w_max: float = option(3.0, "Largest weight of a sensitive token.", changes="loss", to=1.2, ge=1)
    normalise: Literal["tokens", "weights"] = option(
        "tokens", "Divide by the tokens' own weights, or by those times u.", changes="loss", to="weights"
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"pairs"})

    def arrange(self, table: Table, seed: int) -> Table:
        """The same rows with the column of sensitive tokens."""
        marked = np.zeros(len(table.ids), dtype=np.float32)
        begins = np.asarray(table.starts[:-1]) + np.asarray(table.columns["prompt"], dtype=np.int64)
        for first in range(0, len(table), 2):
            sides = [slice(int(begins[row]), int(table.starts[row + 1])) for row in (first, first + 1)]
            for side, mask in zip(sides, differing(*(table.ids[side].tolist() for side in sides)), strict=True):
                marked[side] = mask
        return replace(table, token_columns={**table.token_columns, SENSITIVE: marked})

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        right = batch.columns[CHOSEN] == 1
        better, worse = batch.only(right), batch.only(~right)
        logp = policy.logprobs(better)
        with torch.no_grad():
            lead = _sensitive_mean(policy.logprobs(worse), worse) - _sensitive_mean(logp.detach(), better)
            gain = (1 + self.scale * torch.sigmoid(lead)).clamp(max=self.w_max)
            number = better.sequence[better.kept]
            factor = torch.where(better.token_columns[SENSITIVE][better.kept] > 0, gain[number], 1.0)
        if self.normalise == "weights":
            weights = better.weights.clone()
            weights[better.kept] *= factor
            made = token_loss(-logp, replace(better, weights=weights))
        else:
            made = token_loss(-factor * logp, better)
        spread = lambda found: found.new_zeros(len(right)).masked_scatter(right, found)
        total, weight = made.per_sequence
        return replace(made, per_sequence=(spread(total), spread(weight)))


def _sensitive_mean(logp: Tensor, batch: Batch) -> Tensor:
    """The mean of values [kept] over the sensitive tokens of each sequence; 0 where there is none."""
    inside = (batch.token_columns[SENSITIVE][batch.kept] > 0).to(logp.dtype)
    return per_sequence(logp * inside, batch) / per_sequence(inside, batch).clamp(min=1)


def differing(one: Sequence[int], other: Sequence[int]) -> tuple[list[bool], list[bool]]:
    """Which items of two sequences an alignment of minimal edit distance changes.

    What both begin and end with is the same; between, ties go to substitution, then deletion, then insertion, traced
    from the end. Where one side has nothing in a change, the item after the gap is marked there, or the last one.
    """
    begin = 0
    while begin < min(len(one), len(other)) and one[begin] == other[begin]:
        begin += 1
    end = 0
    while end < min(len(one), len(other)) - begin and one[-1 - end] == other[-1 - end]:
        end += 1
    inner, outer = one[begin : len(one) - end], other[begin : len(other) - end]
    cost = [list(range(len(outer) + 1))]
    for row, item in enumerate(inner, 1):
        cost.append([row])
        for col, against in enumerate(outer, 1):
            cost[row].append(
                min(cost[row - 1][col - 1] + (item != against), cost[row - 1][col] + 1, cost[row][col - 1] + 1)
            )
    masks = [False] * len(one), [False] * len(other)
    row, col = len(inner), len(outer)

    def mark(side: int, at: int) -> None:
        if masks[side]:
            masks[side][min(begin + at, len(masks[side]) - 1)] = True

    while row or col:
        changed = bool(row and col) and inner[row - 1] != outer[col - 1]
        if row and col and cost[row][col] == cost[row - 1][col - 1] + changed:
            row, col = row - 1, col - 1
            if changed:
                mark(0, row)
                mark(1, col)
        elif row and cost[row][col] == cost[row - 1][col] + 1:
            row -= 1
            mark(0, row)
            mark(1, col)
        else:
            col -= 1
            mark(0, row)
            mark(1, col)
    return masks

"""Fault-aware fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from tunewright.catalog import Need, Paper, option
from tunewright.data.answers import CHOSEN
from tunewright.data.batches import Batch
from tunewright.data.spelling import Spelled
from tunewright.data.table import Table
from tunewright.models.policy import Policy
from tunewright.objectives.base import Loss, Objective, per_sequence, token_loss

MASKS = {"line": "fait_lines", "token": "fait_tokens"}
"""The columns that say which tokens are sensitive, by granularity."""


class FAIT(Objective):
    """Learns right answers, and most the tokens where they differ from a near-identical wrong one.

    Rows are pairs: a right answer c (`chosen`) and a near miss e (`rejected`). By lines, what stands in replaced,
    deleted or inserted lines (an alignment of longest common blocks) is sensitive. By tokens, the lines of a replaced
    block are paired in order, each pair aligned by minimal edit distance of characters, and the tokens that hold a
    changed character are sensitive; lines without a partner are so as a whole. Where a change leaves one side empty, the
    token that contains or begins at the gap is marked there, or the last one.
    With a, b the mean log-probabilities of the sensitive tokens of c and of e, each under the model as it is:
    u_j = min(w_max, 1 + scale sigmoid(b - a)) for sensitive tokens of c, without gradient, 1 for the others; `both` is
    the mean of the u by lines and by tokens. loss = sum_j w_j u_j (-log p(c_j | x, c_<j)) / sum_j w_j. The more the
    model prefers the wrong tokens, the larger u; 1 + scale/2 where it does not care. scale 0, or e = c, is `sft` on the
    right answers.

    When to use: code or computations, where one token decides. When not: answers that differ everywhere (`dpo`). The
    paper's exact form of u could not be read; this one has the properties it names. Both answers are computed at every
    step, so it costs a forward pass more than `sft`.
    """

    name: ClassVar[str] = "fait"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="FAIT: Fault-Aware Fine-Tuning for Better Code Generation", arxiv="2503.16913", card=259),
    )

    granularity: Literal["token", "line", "both"] = option(
        "both", "What is marked around a difference: tokens, whole lines, or the mean of both.", changes="loss",
        to="line",
    )  # fmt: skip
    scale: float = option(2.0, "How much sensitive tokens gain at most.", changes="loss", to=0.5, ge=0)
    w_max: float = option(3.0, "Largest weight of a sensitive token.", changes="loss", to=1.2, ge=1)
    normalise: Literal["tokens", "weights"] = option(
        "tokens", "Divide by the tokens' own weights, or by those times u.", changes="loss", to="weights"
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"pairs"})

    @property
    def masks(self) -> list[str]:
        """The columns of sensitive tokens that count."""
        return list(MASKS.values()) if self.granularity == "both" else [MASKS[self.granularity]]

    def arrange(self, table: Table, seed: int) -> Table:
        """The same rows with the columns of sensitive tokens."""
        marked = {name: np.zeros(len(table.ids), dtype=np.float32) for name in MASKS.values()}
        begins = np.asarray(table.starts[:-1]) + np.asarray(table.columns["prompt"], dtype=np.int64)
        for first in range(0, len(table), 2):
            sides = [slice(int(begins[row]), int(table.starts[row + 1])) for row in (first, first + 1)]
            better, worse = (table.spelled(table.ids[side].tolist()) for side in sides)
            for name, changed in zip(MASKS.values(), differences(better.text, worse.text), strict=True):
                for side, spelled, spans in zip(sides, (better, worse), changed, strict=True):
                    marked[name][side] = touched(spelled, spans)
        return replace(table, token_columns={**table.token_columns, **marked})

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        right = batch.columns[CHOSEN] == 1
        better, worse = batch.only(right), batch.only(~right)
        logp = policy.logprobs(better)
        with torch.no_grad():
            wrong, number = policy.logprobs(worse), better.sequence[better.kept]
            factors = []
            for mask in self.masks:
                lead = _sensitive_mean(wrong, worse, mask) - _sensitive_mean(logp.detach(), better, mask)
                gain = (1 + self.scale * torch.sigmoid(lead)).clamp(max=self.w_max)
                factors.append(torch.where(better.token_columns[mask][better.kept] > 0, gain[number], 1.0))
            factor = torch.stack(factors).mean(0)
        if self.normalise == "weights":
            weights = better.weights.clone()
            weights[better.kept] *= factor
            made = token_loss(-logp, replace(better, weights=weights))
        else:
            made = token_loss(-factor * logp, better)
        spread = lambda found: found.new_zeros(len(right)).masked_scatter(right, found)
        total, weight = made.per_sequence
        return replace(made, per_sequence=(spread(total), spread(weight)))


def _sensitive_mean(logp: Tensor, batch: Batch, mask: str) -> Tensor:
    """The mean of values [kept] over the sensitive tokens of each sequence; 0 where there is none."""
    inside = (batch.token_columns[mask][batch.kept] > 0).to(logp.dtype)
    return per_sequence(logp * inside, batch) / per_sequence(inside, batch).clamp(min=1)


Span = tuple[int, int]
"""Characters [start, end) of a text; empty where the other text has something that this one lacks."""
Sides = tuple[list[Span], list[Span]]


def touched(spelled: Spelled, changed: Sequence[Span]) -> list[bool]:
    """Which tokens hold a changed character; at an empty change the one that contains or begins there, or the last."""
    marks = [False] * len(spelled.offsets)
    for start, end in changed:
        inside = [index for index, (a, b) in enumerate(spelled.offsets) if a < end and b > start and a < b]
        if not inside:
            inside = [index for index, (a, b) in enumerate(spelled.offsets) if a >= start or b > start][:1]
        for index in inside or range(len(marks))[-1:]:
            marks[index] = True
    return marks


def differences(one: str, other: str) -> tuple[Sides, Sides]:
    """Where two texts differ: by whole lines, and by characters inside of paired lines; each a list per text."""
    lines = [text.split("\n") for text in (one, other)]
    # A line's end belongs to it; the last line has none.
    starts = [
        np.cumsum([0, *(len(line) + 1 for line in each)]).clip(max=len(text)).tolist()
        for each, text in zip(lines, (one, other), strict=True)
    ]
    whole: Sides = [], []
    fine: Sides = [], []
    for kind, *ends in SequenceMatcher(None, lines[0], lines[1], autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        blocks = (ends[0], ends[1]), (ends[2], ends[3])
        paired = min(last - first for first, last in blocks)
        edits = [edited(lines[0][blocks[0][0] + k], lines[1][blocks[1][0] + k]) for k in range(paired)]
        for side, (first, last) in enumerate(blocks):
            at = starts[side]
            whole[side].append((at[first], at[last]))
            for k, changes in enumerate(edits):
                fine[side].extend((at[first + k] + start, at[first + k] + end) for start, end in changes[side])
            if first + paired < last or not paired:
                fine[side].append((at[first + paired], at[last]))
    return whole, fine


def edited(one: str, other: str) -> Sides:
    """The single-character edits of an alignment of minimal edit distance.

    Ties go to substitution, then deletion, then insertion, traced from the end.
    """
    row, col = len(one), len(other)
    # Equal ends are kept by every such trace.
    while row and col and one[row - 1] == other[col - 1]:
        row, col = row - 1, col - 1
    cost = [list(range(col + 1))]
    for i in range(1, row + 1):
        above, here = cost[-1], [i]
        for j in range(1, col + 1):
            here.append(min(above[j - 1] + (one[i - 1] != other[j - 1]), above[j] + 1, here[j - 1] + 1))
        cost.append(here)
    found: Sides = [], []
    while row or col:
        changed = bool(row and col) and one[row - 1] != other[col - 1]
        down, right = row, col
        if row and col and cost[row][col] == cost[row - 1][col - 1] + changed:
            row, col = row - 1, col - 1
            if not changed:
                continue
        elif row and cost[row][col] == cost[row - 1][col] + 1:
            row -= 1
        else:
            col -= 1
        found[0].append((row, down))
        found[1].append((col, right))
    return found

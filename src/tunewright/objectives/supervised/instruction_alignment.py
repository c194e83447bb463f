"""Answering a reworded instruction as its reference wording."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from tunewright.catalog import Need, Paper, option
from tunewright.data.answers import REFERENCE_PROMPT, REWORDED
from tunewright.data.batches import Batch
from tunewright.data.table import Table
from tunewright.errors import BadInput
from tunewright.models.policy import Policy, cross_entropy
from tunewright.objectives._divergences import Direction
from tunewright.objectives.base import Loss, Objective, token_loss
from tunewright.objectives.supervised._weighted import Anchored


class InstructionAlignment(Objective):
    """Learns answers to reworded instructions, and to give them as the model gives them to the reference wording.

    A row holds its prompt in some wording p and, in the column `reference_prompt`, the last turn of the same prompt in
    the reference wording r. With x what both ask about and y the answer:
    loss = sum_i w_i (-log p(y_i | p, x, y_<i) + lam KL_i) / sum_i w_i,
    KL_i = KL(P(. | r, x, y_<i) || p(. | p, x, y_<i)) (`forward`; `reverse` exchanges them) over the whole vocabulary at
    each answer token, both after the same y. P is the model before tuning (the adapter off, or `supplies.reference`),
    without gradient. lam 0 is `sft` on the rows as they are.

    Tokens of the answer must be the same after both wordings, which chat templates see to; rows where they are not (an
    answer cut off at another place, prompts that are trained on) are refused. Both readings of a row count towards
    `tokens_per_step`.

    When to use: the model does the task when asked in one way, and should in others; few trained parameters
    (`prefix_tuning`, as in the paper) keep it near what it was. When not: the model does not do the task under the
    reference wording either, which then holds it back: tune on that first (`model.adapter`).
    """

    name: ClassVar[str] = "instruction_alignment"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Evaluating the Zero-shot Robustness of Instruction-tuned Language Models",
            arxiv="2306.11270",
            card=22,
        ),
    )

    lam: float = option(0.8, "Weight of the divergence from the reference wording.", changes="loss", to=0.1, ge=0)
    direction: Direction = option(
        "forward", "`forward` KL(reference || reworded), or `reverse` KL(reworded || reference).", changes="loss",
        to="reverse",
    )  # fmt: skip

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"wordings", "reference"}) if self.lam else frozenset({"wordings"})

    def arrange(self, table: Table, seed: int) -> Table:
        """The same rows. Raises `BadInput` naming a row whose answer is not the same tokens after both wordings."""
        for first in range(0, len(table), 2):
            (ids, weights), (other_ids, other_weights) = (_trained(table, row) for row in (first, first + 1))
            if not np.array_equal(ids, other_ids) or not np.array_equal(weights, other_weights):
                file, _, line = table.where(first).rpartition(":")
                raise BadInput(
                    "the answer is not the same tokens after the prompt and after its reference wording",
                    file=file or None, line=int(line), field=REFERENCE_PROMPT,
                    found=f"{len(ids)} and {len(other_ids)} trained tokens",
                    expected="the same tokens",
                    hint="Train on completions alone, with room for whole rows ('data.max_length').",
                )  # fmt: skip
        return table

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        reworded = batch.columns[REWORDED] == 1
        own, twin = batch.only(reworded), batch.only(~reworded)
        if self.lam:
            function = Anchored(cross_entropy, self.lam, self.direction, "reference")
            values = policy(own, function, beside=("reference",), across=twin)
        else:
            values = policy(own, cross_entropy)
        made = token_loss(values, own)
        total, weight = made.per_sequence

        def spread(found: Tensor) -> Tensor:
            return found.new_zeros(len(reworded)).masked_scatter(reworded, found)

        return replace(made, per_sequence=(spread(total), spread(weight)))


def _trained(table: Table, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and weights of a sequence's trained tokens."""
    part = slice(int(table.starts[row]), int(table.starts[row + 1]))
    there = np.asarray(table.weights[part]) != 0
    return np.asarray(table.ids[part])[there], np.asarray(table.weights[part])[there]

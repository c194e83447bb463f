"""Masked thought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from torch import Tensor, where

from tunewright.catalog import Paper, option
from tunewright.data.batches import Batch
from tunewright.data.draws import uniform
from tunewright.models.policy import Policy, cross_entropy
from tunewright.objectives._divergences import Closed
from tunewright.objectives.base import Loss, Objective, token_loss

MASKED, REPLACED = "masked_thought", "masked_thought_token"


class MaskedThought(Objective):
    """Supervised tuning in which random tokens of the answer are replaced in what the model reads, not in what it learns.

    Every position of the answer is replaced with probability p = p_max min(1, step / (warmup total)), anew at each
    step: by a token drawn uniformly from the vocabulary with probability `replace_rate`, else by `mask_token`;
    loss = sum_i w_i (-log p(x_i | x'_<i)) / sum_i w_i with the targets x as they were. p_max 0 is `sft`.

    When to use: worked steps, little data, many epochs. When not: a model that cannot take the steps yet, and answers
    that copy (names, numbers) from the tokens before. The authors take random tokens and 0.4 for few rows, the mask
    token and 0.2 for large augmented sets.
    """

    name: ClassVar[str] = "masked_thought"
    form: ClassVar[frozenset[str]] = frozenset({"token_mean", "likelihood"})
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Masked Thought: Simply Masking Partial Reasoning Steps Can Improve Mathematical Reasoning Learning "
            "of Language Models",
            arxiv="2403.02178",
            card=20,
        ),
    )

    p_max: float = option(0.4, "Largest probability that a token is replaced.", changes="loss", to=0.9, ge=0, le=1)
    warmup: float = option(
        2 / 3, "Share of the run over which the probability rises from 0.", changes="loss", to=0.1, ge=0, le=1
    )
    replace_rate: float = option(
        1.0, "Share of replacements by a random token; the others are `mask_token`.", changes="loss", to=0.0, ge=0, le=1
    )
    mask_token: int = option(
        0,
        "Id of the mask token: padding's, or one added by `model: {add_tokens: ...}`.",
        changes="loss",
        to=5,
        given={"objective.replace_rate": 0.0},
        ge=0,
    )
    scope: Literal["answer", "prompt"] = option(
        "answer", "What is corrupted; `prompt` is the authors' control.", changes="loss", to="prompt"
    )

    def chance(self, step: int, total: int) -> float:
        """p at an optimizer step (0 is the first)."""
        return self.p_max * min(1.0, step / (self.warmup * total)) if self.warmup else self.p_max

    def transform(self, batch: Batch, seed: int, step: int, total: int) -> Batch:
        """Marks what is replaced, and draws by what: a number below 1 per token, or -1 for the mask token."""
        inside = batch.positions >= batch.columns["prompt"][batch.sequence.clamp(min=0)]
        inside = (inside if self.scope == "answer" else ~inside) & (batch.sequence >= 0)
        masked = inside & (uniform(batch, seed, step, 0) < self.chance(step, total))
        draw = where(uniform(batch, seed, step, 1) < self.replace_rate, uniform(batch, seed, step, 2), -1.0)
        return replace(batch, token_columns={**batch.token_columns, MASKED: masked, REPLACED: draw})

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        rows: int = policy.model.get_input_embeddings().weight.shape[0]
        read = replace(batch, ids=self.corrupted(batch, rows))
        return token_loss(policy(read, _original, {"original": batch.ids[batch.kept]}), batch)

    def corrupted(self, batch: Batch, vocabulary: int) -> Tensor:
        """The ids [rows, width] that a model of so many embedding rows reads instead."""
        draw = batch.token_columns[REPLACED]
        token = where(draw < 0, self.mask_token, (draw * vocabulary).long().clamp(max=vocabulary - 1))
        return where(batch.token_columns[MASKED], token, batch.ids)


class _Original(Closed):
    """Cross-entropy of the tokens as they were."""

    def gradient(self, logits: Tensor, targets: Tensor, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return cross_entropy.gradient(logits, columns["original"], columns)


_original = _Original()

"""Loss on held-out records."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from tunewright.errors import BadInput
from tunewright.evaluate.base import Rows, Scores, Subject, Task, tabulated
from tunewright.evaluate.likelihood import sequence_losses
from tunewright.models.generate import context_length


class Perplexity(Task):
    """Loss of the held-out records: mean over trained tokens of -log p(token | tokens before it).

    loss = Sum_t w_t * -log p(x_t | x_<t) / Sum_t w_t, in nats per token, with the loss weights that training uses;
    perplexity = exp(loss). Each record is one example, weighted by its tokens' weights. Own records beyond the
    model's context are cut on the right, and counted.
    """

    name: ClassVar[str] = "perplexity"

    def score(self, subject: Subject) -> Scores:
        """One value per record, in nats per token."""
        return text_loss(self, subject, self.rows(subject))


def text_loss(task: Task, subject: Subject, rows: Rows) -> Scores:
    """The loss of every record of `rows`, as scores of `task`. Raises `BadInput` when no token carries loss."""
    context = context_length(subject.policy.model) or 1 << 62
    table, cut = rows.table, 0
    if table is None:
        rendered = rows.rendered(rows.records)
        table = tabulated((one.ids[:context], one.weights[:context]) for one in rendered)
        cut = sum(len(one.ids) > context for one in rendered)
    losses, weights = sequence_losses(subject.policy, table, subject.batch_tokens)
    kept = np.flatnonzero(weights > 0)
    if not len(kept):
        raise BadInput(
            f"no row of the task '{task.name}' has a token that carries loss",
            field="evaluate",
            found=f"{len(rows)} rows",
        )
    records = [rows.records[i] for i in kept.tolist()]
    loss = float(losses.sum() / weights.sum())
    return Scores(
        name=task.name,
        metric="loss",
        role=task.role,
        unit="nats",
        higher_is_better=False,
        values=losses[kept] / weights[kept],
        weights=weights[kept],
        ids=[record.where for record in records],
        groups=[rows.source(record) for record in records],
        details={"perplexity": math.exp(min(loss, 700.0)), "tokens": float(weights.sum())},
        notes=(f"{cut} records were cut to the context of {context} tokens",) if cut else (),
    )

"""Whether a model knows which answer belongs to which prompt."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.evaluate.base import Scores, Subject, answered, prompt_text, tabulated
from tunewright.evaluate.likelihood import sequence_losses
from tunewright.evaluate.tasks._asked import Asked


class ResponseRanking(Asked):
    """Share of prompts under which their own answer is likelier than another prompt's.

    With n rows (x_i, y_i): the mean of [log p(y_i | x_i) > log p(y_j | x_i)], log p summed over the answer's tokens as
    training weighs them, where y_j is the answer of the next row after i + n/2, wrapping around, that is not y_i. The
    longer answer is the less likely one, so answers of one row are compared with those of all lengths. Chance is 50%.

    When to use: before tuning, to see whether the base model can tell a right answer although it does not give one.
    When not: rows that share few answers (`multiple_choice` weighs all of them).
    """

    name: ClassVar[str] = "response_ranking"
    short: ClassVar[bool] = False
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Instruction Following without Instruction Tuning", arxiv="2409.14254", card=3),
    )

    def omitted(self, subject: Subject) -> str | None:
        """The warning of rows without a prompt, or when all rows have one answer."""
        if len({record.answer for record in self.rows(subject).records}) < 2:
            return "the ranking of responses was not measured: there is no other answer to rank"
        return super().omitted(subject)

    def score(self, subject: Subject) -> Scores:
        """1 for a row whose own answer is the likelier one, else 0."""
        rows = self.rows(subject)
        records, answers = rows.records, [record.answer for record in rows.records]
        others = [answers[_another(answers, index)] for index in range(len(answers))]
        pairs = [
            answered(record, text)
            for record, other in zip(records, others, strict=True)
            for text in (record.answer, other)
        ]
        table = tabulated((made.ids, made.weights) for made in rows.rendered(pairs))
        losses, _ = sequence_losses(subject.policy, table, subject.batch_tokens)
        own, other = losses.reshape(-1, 2).T
        return Scores(
            name=self.name,
            metric="ranked_right",
            role=self.role,
            unit="share",
            higher_is_better=True,
            values=(own < other).astype(np.float64),
            weights=np.ones(len(rows)),
            ids=[record.where for record in records],
            prompts=[prompt_text(record) for record in records],
            details=_margins(other - own),
        )


def _another(answers: list[str], index: int) -> int:
    """The row whose answer is held against the one at `index`."""
    n = len(answers)
    places = ((index + n // 2 + k) % n for k in range(n))
    return next(place for place in places if answers[place] != answers[index])


def _margins(margins: Any) -> dict[str, float]:
    """By how much the own answer is likelier, in nats: the median, and the smallest and largest tenth."""
    low, middle, high = np.quantile(margins, [0.1, 0.5, 0.9])
    return {"margin": float(middle), "margin_low": float(low), "margin_high": float(high)}

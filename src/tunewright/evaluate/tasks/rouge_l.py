"""Generated answers compared with the reference by their longest common subsequence."""

from __future__ import annotations

from typing import ClassVar

from tunewright.catalog import Paper
from tunewright.evaluate.base import Subject
from tunewright.evaluate.metrics.rouge import rouge_l
from tunewright.evaluate.tasks._generated import Generated, Judge


class RougeL(Generated):
    """ROUGE-L of the greedy answers: the F-measure of the longest common subsequence of words.

    P = L / words of the answer, R = L / words of the reference, F = 2 P R / (P + R), averaged over rows. Words are
    compared in lower case, without stemming.
    """

    name: ClassVar[str] = "rouge_l"
    papers: ClassVar[tuple[Paper, ...]] = (Paper(title="ROUGE: A Package for Automatic Evaluation of Summaries"),)

    def judge(self, subject: Subject) -> Judge:
        """F, 0 to 1."""
        return lambda answer, record: rouge_l(answer.text, record.answer)

"""Whether stated probabilities can be believed."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.evaluate.base import Role, Rows, Scores, Subject, prompt_text
from tunewright.evaluate.choices import choices_of
from tunewright.evaluate.tasks._asked import Asked
from tunewright.evaluate.tasks._greedy import greedy


class Calibration(Asked):
    """Brier score and calibration error of the probability that the model gives its answer.

    Where rows choose among answers (labels, a column `choices`, or few answers that rows share), p is a softmax of
    log p(answer | prompt) over the choices and the score of a row is Sum over choices of (p - [right])^2, 0 to 2.
    Otherwise the model answers greedily, p = exp(log p(answer | prompt)), the answer is right when it is the
    reference, and the score is (p - [right])^2, 0 to 1. Lower is better. The expected calibration error, Sum over 15
    bins of equal width of |bin| / n * |accuracy - mean p|, and the reliability plot are made from the same values.

    When to use: wherever an answer's probability decides something (refusing, asking back, voting). When not: rows
    of plain text, which have no answer; they are left out with a warning. A long free answer is rarely likely as a
    whole, so its error says little.
    """

    name: ClassVar[str] = "calibration"
    role: ClassVar[Role] = "other"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="On Task Performance and Model Calibration with Supervised and Self-Ensembled In-Context Learning",
            arxiv="2312.13772",
            card=261,
        ),
    )

    def score(self, subject: Subject) -> Scores:
        """The Brier score of every row, with the probability of the chosen answer and whether it is right."""
        rows = self.rows(subject)
        found = choices_of(rows, self.all_rows(subject))
        if found is None:
            return self._of_free_answers(subject, rows)
        made = found.probabilities(subject, rows, rows.records)
        chosen = [int(p.argmax()) for p in made]
        return self._as_scores(
            rows,
            found.brier(made),
            np.array([p.max() for p in made]),
            np.array(chosen) == found.truths,
            [answers[place] for answers, place in zip(found.answers, chosen, strict=True)],
        )

    def _of_free_answers(self, subject: Subject, rows: Rows) -> Scores:
        answers = greedy(subject, rows, rows.records)
        confidences = np.exp([sum(answer.logprobs) for answer in answers])
        right = [answer.text.strip() == one.answer.strip() for answer, one in zip(answers, rows.records, strict=True)]
        correct = np.array(right, dtype=np.bool_)
        return self._as_scores(
            rows, (confidences - correct) ** 2, confidences, correct, [answer.text for answer in answers]
        )

    def _as_scores(
        self, rows: Rows, values: object, confidences: object, correct: object, answers: list[str]
    ) -> Scores:
        return Scores(
            name=self.name,
            metric="brier",
            role=self.role,
            unit="score",
            higher_is_better=False,
            values=np.asarray(values, dtype=np.float64),
            weights=np.ones(len(rows)),
            ids=[record.where for record in rows.records],
            prompts=[prompt_text(record) for record in rows.records],
            answers=answers,
            references=[record.answer for record in rows.records],
            confidences=np.asarray(confidences, dtype=np.float64),
            correct=np.asarray(correct, dtype=np.bool_),
            groups=[rows.source(record) for record in rows.records],
        )

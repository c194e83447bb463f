"""Scores of tasks in which the likeliest of several given answers is taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from tunewright.evaluate.base import Floats, Rows, Scores, Task, prompt_text
from tunewright.evaluate.metrics.calibration import brier


def by_likelihood(
    task: Task, rows: Rows, logprobs: Sequence[Floats], truths: Sequence[int], choices: Sequence[Sequence[str]]
) -> Scores:
    """Accuracy of the likeliest choice of every row, with its probability among the choices.

    `logprobs` and `choices` hold one entry per choice of each row, `truths` the index of the right one.
    """
    probabilities = [softmax(each) for each in logprobs]
    chosen = [int(each.argmax()) for each in probabilities]
    correct = np.array([c == t for c, t in zip(chosen, truths, strict=True)], dtype=np.bool_)
    width = max(len(each) for each in probabilities)
    padded = np.stack([np.pad(each, (0, width - len(each))) for each in probabilities])
    return Scores(
        name=task.name,
        metric="accuracy",
        role=task.role,
        unit="share",
        higher_is_better=True,
        values=correct.astype(np.float64),
        weights=np.ones(len(rows)),
        ids=[record.where for record in rows.records],
        prompts=[prompt_text(record) for record in rows.records],
        answers=[choices[n][c] for n, c in enumerate(chosen)],
        references=[choices[n][t] for n, t in enumerate(truths)],
        confidences=np.array([p[c] for p, c in zip(probabilities, chosen, strict=True)]),
        correct=correct,
        groups=[rows.source(record) for record in rows.records],
        details={"brier": brier(padded, truths)},
    )

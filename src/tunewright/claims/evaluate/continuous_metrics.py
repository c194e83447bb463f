"""Continuous metrics against accuracy (card 226)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.data.records import Record
from tunewright.evaluate.base import Subject, answered
from tunewright.evaluate.choices import Choices, choices_of
from tunewright.evaluate.statistics import seed_noise

Floats = NDArray[np.float64]

CHECKPOINTS, STEPS = 8, 2


class ContinuousMetrics(Claim):
    """The probability of the right answer is a steadier signal than accuracy.

    Sentiment of short reviews (positive, negative, mixed): LoRA on the embedded model, measured at eight checkpoints on
    150 held-out rows, by accuracy of the likeliest answer and by the mean probability of the right one among the three.
    Monotonicity is Kendall's tau-b between the order of the checkpoints and the score; the signal to noise ratio is
    mean / standard deviation over seeds at the last checkpoint, its logarithm judged by jackknife values. Shown beside:
    the noise of the same items as a choice of letters. The task is hardly learnt within the budget: accuracy stays near
    47%, while the probabilities of an over-confident base become more even.
    """

    name: ClassVar[str] = "continuous_metrics"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Quantifying Variance in Evaluation Benchmarks", arxiv="2406.10229", card=226),
    )
    sentence: ClassVar[str] = (
        "Over seeds and checkpoints of one tuning run, the probability of the right choice rises more monotonically and "
        "has a higher signal-to-noise ratio than accuracy."
    )
    arms: ClassVar = {"continuous": "probability of the right choice", "discrete": "accuracy"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("tau of probability minus tau of accuracy", "above", 0.02, "tau"),
        Criterion("log ratio of signal to noise, probability to accuracy", "above", 0.1, "log ratio"),
    )
    seeds: ClassVar[int] = 8
    budget: ClassVar[str] = "16 steps of 1,024 tokens per seed"

    def findings(self, bench: Bench) -> Findings:
        """Both quantities for every seed, and the noise of cloze and letter choice."""
        cloze, letters = zip(*(self._course(bench, seed) for seed in range(self.seeds)), strict=True)
        [discrete, continuous] = np.stack(cloze).transpose(1, 0, 2, 3)
        tau = lambda scores: [_tau(run) for run in scores]
        log_snr = lambda scores: math.log(seed_noise(scores).snr)
        ratios = _pseudo(lambda keep: log_snr(continuous[keep]) - log_snr(discrete[keep]), self.seeds)
        values = {
            self.criteria[0].quantity: [a - b for a, b in zip(tau(continuous), tau(discrete), strict=True)],
            self.criteria[1].quantity: ratios,
        }
        noise = {
            "accuracy": discrete, "probability": continuous,
            "accuracy by letters": np.stack(letters)[:, :1], "probability by letters": np.stack(letters)[:, 1:],
        }  # fmt: skip
        shown = {name: [seed_noise(s).mean, seed_noise(s).sigma] for name, s in noise.items()}
        return Findings(values, {"mean and sigma over seeds": shown})

    def _course(self, bench: Bench, seed: int) -> tuple[Floats, Floats]:
        """[accuracy | probability, checkpoints, items] of the words, [accuracy | probability, items] of letters."""
        made = recipe("sentiment", steps=CHECKPOINTS * STEPS, tokens=1024, seed=seed)
        trial = bench.trial("continuous", made)
        found = choices_of(trial.rows, trial.rows)
        assert found is not None
        seen = []
        for _ in range(CHECKPOINTS):
            trial.advance(STEPS)
            seen.append(_scores(trial.subject(), trial.rows.records, found))
        labels = list(found.answers[0])
        asked = [_by_letter(record, labels) for record in trial.rows.records]
        letters = Choices([["A", "B", "C"]] * len(asked), found.truths)
        return np.stack(seen, axis=1), _scores(trial.subject(), asked, letters)


def _scores(subject: Subject, records: Any, choices: Choices) -> Floats:
    made = choices.probabilities(subject, subject.rows, records)
    pairs = list(zip(made, choices.truths, strict=True))
    return np.array([[float(p.argmax() == t) for p, t in pairs], [float(p[t]) for p, t in pairs]])


def _by_letter(record: Record, labels: list[str]) -> Record:
    """The same question with its answers listed, to be answered by a letter."""
    *before, asked, _ = record.turns
    listed = "".join(f"\n{letter}) {label.strip()}" for letter, label in zip("ABC", labels, strict=True))
    turns = (*before, replace(asked, content=asked.content + listed), record.turns[-1])
    return answered(replace(record, turns=turns), "A")


def _tau(run: Floats) -> float:
    """Kendall's tau-b of one run [checkpoints, items]."""
    found = seed_noise(np.stack([run, run])).monotonicity
    return 0.0 if found is None else found


def _pseudo(statistic: Callable[[list[int]], float], n: int) -> list[float]:
    """Jackknife values of a statistic over seeds: n * all - (n - 1) * without the seed."""
    every = list(range(n))
    whole = statistic(every)
    return [n * whole - (n - 1) * statistic([i for i in every if i != left]) for left in every]

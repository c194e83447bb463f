"""Forecasting a learning curve (card 203)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tunewright.catalog import Paper
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.search.learning_curve import LearningCurve

LEVELS, STEP, LENGTH, TAGS = 40, 500, 10, 12


class CurveForecast(Claim):
    """The curve through the first part of the data foretells the result on all of it, and when to stop collecting.

    A tagger that counts which tag each word had, on generated sentences of ten words (Zipf's law over 4,000 or 800
    words, a tag per word, 5% of the tags replaced at random), learnt from 40 nested portions of 500 sentences and
    scored on 2,000 others.
    """

    name: ClassVar[str] = "curve_forecast"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Modeling of learning curves with applications to pos tagging", arxiv="2402.02515", card=203),
    )
    sentence: ClassVar[str] = (
        "The trend of the first 40% of the data predicts the accuracy on all of it within 0.5 points and with under half "
        "the error of the last observed value; with few words the stop rule fires before 75% of the data and forgoes "
        "under 0.5 points."
    )
    arms: ClassVar = {"trend": "fit through 16 of 40 portions", "last value": "accuracy at portion 16"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("absolute error of the trend", "below", 0.5, "points"),
        Criterion("error of the trend minus half that of the last value", "below", 0.0, "points"),
        Criterion("share of the data at which the rule stops, 800 words", "below", 0.75, "share"),
        Criterion("accuracy forgone by stopping, 800 words", "below", 0.5, "points"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "5 shuffles of 20,000 sentences for each of two vocabularies"

    def findings(self, bench: Bench) -> Findings:
        """The four quantities for every shuffle."""
        sizes = STEP * np.arange(1, LEVELS + 1)
        early = LEVELS * 2 // 5
        rows, fired = [], 0
        for seed in range(self.seeds):
            many, few = (_accuracies(words, seed) for words in (4000, 800))
            levels = LearningCurve().trace(sizes, many)
            fired += any(level.stop for level in levels)
            error = abs(float(levels[early - 3].trend.at(sizes[-1])) - many[-1])
            stops = [level.size for level in LearningCurve().trace(sizes, few) if level.stop]
            size = stops[0] if stops else float(sizes[-1])
            forgone = few[-1] - few[int(size) // STEP - 1]
            rows.append((error, error - abs(many[early - 1] - many[-1]) / 2, size / sizes[-1], forgone))
        bench.note("trend", 0, 2 * self.seeds * LEVELS * STEP)
        values = {c.quantity: [row[k] for row in rows] for k, c in enumerate(self.criteria)}
        return Findings(values, {"shuffles with 4,000 words in which the stop rule fired": fired})


def _accuracies(words: int, seed: int) -> NDArray[np.float64]:
    """Points of accuracy after each portion [levels]."""
    rng = np.random.default_rng([203, words, seed])
    tag = rng.integers(TAGS, size=words)
    chance = 1 / np.arange(1, words + 1)
    n = (LEVELS * STEP + 2000) * LENGTH
    word = rng.choice(words, n, p=chance / chance.sum())
    noisy = np.where(rng.random(n) < 0.05, rng.integers(TAGS, size=n), tag[word])
    train, held = slice(0, LEVELS * STEP * LENGTH), slice(LEVELS * STEP * LENGTH, n)
    counts, found = np.zeros((words, TAGS)), []
    for portion in np.split(np.arange(train.stop), LEVELS):
        np.add.at(counts, (word[portion], noisy[portion]), 1)
        usual = counts.sum(0).argmax()
        guess = np.where(counts.sum(1) > 0, counts.argmax(1), usual)
        found.append(100 * float((guess[word[held]] == noisy[held]).mean()))
    return np.array(found)

"""Stopping tuning trials whose learning curve promises less than the best one's did (arXiv 2402.02515, card 203)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tunewright.evaluate.base import Scores
from tunewright.search.learning_curve import LearningCurve, Level

SCALE = 100.0
"""Scores are fitted in hundredths, in which the paper has its defaults."""

CALM = 0.1
"""Hundredths by which the asymptote may move from one measurement to the next while it is at work (the paper's
verticality)."""

Bar = tuple[tuple[int, float], ...]
"""Steps, and what the best trial so far promised at each of them."""


class Growing:
    """The learning curve of a trial of `full` steps as it is measured, with steps as portions of data."""

    def __init__(self, full: int) -> None:
        self.full = full
        self._x: list[float] = []
        self._y: list[float] = []
        self._levels: list[Level] = []

    def promise(self, step: int, value: float, about: Scores) -> float | None:
        """What the trial will have at its end by the trend up to here, `value` being measured at `step`; None while it
        may not be trusted."""
        sign = SCALE if about.higher_is_better else -SCALE
        self._x.append(float(step))
        self._y.append(sign * value)
        if len(self._x) < 3:
            return None
        highest = 0.0 if not about.higher_is_better else SCALE if about.unit == "share" else np.inf
        curve = LearningCurve(verticality=CALM / (self._x[1] - self._x[0]), highest=highest)
        level = curve.next(self._levels, np.array(self._x), np.array(self._y))
        self._levels.append(level)
        return float(level.trend.at(self.full)) / sign if level.forecast else None


def hopeless(promise: float, step: int, bar: Bar, about: Scores) -> bool:
    """Whether the best trial promised more at the same step, by more than the paper's threshold (0.5 hundredths).

    Like is compared with like: a rate that falls at the end lifts every curve above its early trend.
    """
    known = dict(bar)
    if step not in known:
        return False
    ahead = (known[step] - promise) * (1 if about.higher_is_better else -1)
    return ahead > LearningCurve().threshold / SCALE


def bar_of(course: Sequence[Mapping[str, float]], about: Scores) -> Bar:
    """What a whole trial promised along its way."""
    growing = Growing(int(course[-1]["step"]))
    each = [(int(one["step"]), growing.promise(int(one["step"]), one["value"], about)) for one in course]
    return tuple((step, promise) for step, promise in each if promise is not None)

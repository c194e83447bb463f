"""How far stated probabilities are from what happens."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

Floats = NDArray[np.float64]
Mass = Literal["width", "mass"]

BINS = 15


def bin_of(confidences: ArrayLike, bins: int = BINS, equal: Mass = "width") -> NDArray[np.int64]:
    """The bin of each confidence [n]: b of [b / bins, (b + 1) / bins), 1 in the last, or of equal numbers of examples."""
    c = np.asarray(confidences, dtype=np.float64)
    if equal == "width":
        return np.searchsorted(np.arange(1, bins) / bins, c, side="right")
    rank = np.empty(len(c), dtype=np.int64)
    rank[np.argsort(c, kind="stable")] = np.arange(len(c))
    return rank * bins // max(1, len(c))


def expected_calibration_error(
    confidences: ArrayLike, correct: ArrayLike, bins: int = BINS, equal: Mass = "width"
) -> float:
    """Sum over bins of |bin| / n * |accuracy(bin) - mean confidence(bin)|; 0 is calibrated, 1 the worst."""
    columns = calibration_columns(confidences, correct, bins, equal)
    return float(calibration_from_sums(columns.sum(0, keepdims=True))[0])


def maximum_calibration_error(confidences: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """The largest |accuracy(bin) - mean confidence(bin)| of the bins of equal width that hold an example."""
    c, y = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    where = bin_of(c, bins)
    return max(abs(float((y - c)[where == each].mean())) for each in np.unique(where))


def calibration_columns(confidences: ArrayLike, correct: ArrayLike, bins: int = BINS, equal: Mass = "width") -> Floats:
    """Per example [n, bins + 1]: correct - confidence in the column of its bin, and a last column of ones.

    The error is a function of the columns' sums, which is what resampling needs.
    """
    c, y = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    columns = np.zeros((len(c), bins + 1))
    columns[np.arange(len(c)), bin_of(c, bins, equal)] = y - c
    columns[:, -1] = 1.0
    return columns


def calibration_from_sums(sums: Floats) -> Floats:
    """The expected calibration error [r] from sums [r, bins + 1] of `calibration_columns`."""
    error: Floats = np.abs(sums[:, :-1]).sum(1) / sums[:, -1]
    return error


def brier(probabilities: ArrayLike, truths: ArrayLike) -> float:
    """Mean over examples of sum over classes of (p - [class is true])^2, 0 to 2.

    `probabilities` [n, classes], `truths` [n] the index of the true class.
    """
    p = np.array(probabilities, dtype=np.float64)
    p[np.arange(len(p)), np.asarray(truths)] -= 1.0
    return float((p**2).sum(1).mean())


def surprisal(probabilities: ArrayLike, truths: ArrayLike) -> Floats:
    """-ln p of the true class per example [n]; `probabilities` [n, classes]. Probabilities below 1e-300 count as that."""
    p = np.asarray(probabilities, dtype=np.float64)
    found: Floats = -np.log(np.maximum(p[np.arange(len(p)), np.asarray(truths)], 1e-300))
    return found


def entropy(probabilities: ArrayLike) -> Floats:
    """-Sum over classes of p ln p per example [n]; `probabilities` [n, classes]."""
    found: Floats = entr(np.asarray(probabilities, dtype=np.float64)).sum(-1)
    return found

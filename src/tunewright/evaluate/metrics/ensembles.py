"""One prediction out of several, and what makes a single one better calibrated after the fact."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from tunewright.evaluate.metrics.calibration import surprisal

Floats = NDArray[np.float64]
Combination = Literal["mean_prob", "max_prob", "majority"]
COMBINATIONS: tuple[Combination, ...] = get_args(Combination)

TEMPERATURES = (1e-2, 1e2)
"""The range in which the temperature is sought."""


def combined(members: ArrayLike, how: Combination) -> Floats:
    """Probabilities [n, classes] of an ensemble, from those of its members [members, n, classes].

    `mean_prob` is the mean over members, `max_prob` the element-wise maximum, each divided by its sum. `majority`: every
    member votes for its likeliest class with the probability it gives it; the class with the largest sum wins, on a tie
    the one that the earliest member voted for; the probabilities are the mean over the members that voted for it.
    """
    p = np.asarray(members, dtype=np.float64)
    if how == "majority":
        votes = p.argmax(-1)
        mine = votes[:, None] == votes[None]
        support = (mine * p.max(-1)[None]).sum(1)
        winner = np.take_along_axis(votes, support.argmax(0)[None], 0)
        chosen: Floats = (votes == winner)[..., None] * p
        return _shares(chosen.sum(0))
    return _shares(p.mean(0) if how == "mean_prob" else p.max(0))


def at_temperature(probabilities: ArrayLike, temperature: float) -> Floats:
    """softmax(ln p / T) [n, classes]; a class of probability 0 stays at 0."""
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(probabilities, dtype=np.float64))
    found: Floats = softmax(logs / temperature, axis=-1)
    return found


def fitted_temperature(probabilities: ArrayLike, truths: ArrayLike) -> float:
    """The T between 0.01 and 100 at which the mean of -ln p(true class) is least.

    `probabilities` [n, classes], `truths` [n]. As a function of 1 / T the mean is convex, so that there is one minimum.
    """
    loss = lambda log: float(surprisal(at_temperature(probabilities, float(np.exp(log))), truths).mean())
    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def batch_calibrated(probabilities: ArrayLike) -> Floats:
    """softmax(ln p - mean over examples of ln p) [n, classes]: what all examples favour alike counts for nothing.

    The classes must be the same for all examples, and no probability 0.
    """
    logs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), 1e-300))
    found: Floats = softmax(logs - logs.mean(0), axis=-1)
    return found


def _shares(sums: Floats) -> Floats:
    found: Floats = sums / sums.sum(-1, keepdims=True)
    return found

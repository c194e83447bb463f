"""Single test items: how hard they are, how well they tell takers apart, and what a score without the weak ones gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp, softmax

from tunewright.evaluate.statistics.noise import discrimination

Values = NDArray[np.float64]

NODES = 41
"""Points of the Gauss-Hermite rule that integrates over abilities."""

SLOPE, INTERCEPT = (1.0, 1.0), (0.0, 3.0)
"""Mean and standard deviation of the normal priors, which keep items that all or none solve finite."""


@dataclass(frozen=True)
class Trimmed:
    """A test before and after its least discriminating items were dropped.

    `kept` [n] are the indices that stay, in order; `sigma` the standard deviation over seeds (n - 1) of the mean over
    all items and `sigma_kept` over those kept, which may be the larger: fewer items average less noise away.
    """

    kept: NDArray[np.int64]
    sigma: float
    sigma_kept: float


def trimmed(takers: Values, seeds: Values, drop: float = 0.2) -> Trimmed:
    """Drops the share `drop` (rounded down) of items that discriminate least, and measures sigma again.

    `takers` [models, items] decide what is dropped (point-biserial correlation with the sum of the other items; of
    equals the later goes), `seeds` [seeds, items] are runs that differ in the seed alone. Where both are the same
    scores, sigma is judged on what it was chosen by. Raises `ValueError` for other numbers of items, fewer than two
    seeds or takers, or a share outside [0, 1).
    """
    t, s = np.asarray(takers, dtype=np.float64), np.asarray(seeds, dtype=np.float64)
    if t.shape[1] != s.shape[1] or min(len(t), len(s)) < 2 or not 0 <= drop < 1:
        raise ValueError(f"cannot drop {drop} of the items of scores {t.shape} and {s.shape}")
    order = np.argsort(-discrimination(t), kind="stable")
    kept = np.sort(order[: t.shape[1] - int(drop * t.shape[1])])
    sigma = lambda scores: float(scores.mean(1).std(ddof=1))
    return Trimmed(kept, sigma(s), sigma(s[:, kept]))


@dataclass(frozen=True)
class ItemResponse:
    """A two-parameter logistic model of responses: p(taker i solves item j) = sigmoid(a_j theta_i + c_j).

    `slopes` a [items] (how sharply an item tells takers apart; below 0 the better takers fail it), `intercepts` c
    [items], `abilities` theta [takers] as posterior means on a scale on which takers are N(0, 1), `errors` [takers]
    their posterior standard deviations.
    """

    slopes: Values
    intercepts: Values
    abilities: Values
    errors: Values

    @property
    def difficulties(self) -> Values:
        """b = -c / a [items], the ability at which an item is solved half the time; infinite at slope 0."""
        with np.errstate(divide="ignore"):
            return -self.intercepts / self.slopes

    def probabilities(self) -> Values:
        """p(solved) of every taker and item [takers, items], at the takers' posterior means."""
        return cast(Values, expit(np.outer(self.abilities, self.slopes) + self.intercepts))


def item_response(solved: Values) -> ItemResponse:
    """Fits the two-parameter logistic model to responses [takers, items] of 0 and 1.

    Maximises Sum_i log E_theta[Prod_j p_ij^y_ij (1 - p_ij)^(1 - y_ij)] + log prior(a, c) over a and c: the abilities
    theta ~ N(0, 1) are integrated out by Gauss-Hermite quadrature, the priors are a ~ N(1, 1), c ~ N(0, 9). Raises
    `ValueError` for responses other than 0 and 1, fewer than two takers or items, or a fit that does not converge.
    """
    y = np.asarray(solved, dtype=np.float64)
    if y.ndim != 2 or min(y.shape) < 2 or not np.isin(y, (0.0, 1.0)).all():
        raise ValueError(f"not responses of 0 and 1 by two takers or more to two items or more: shape {y.shape}")
    points, weights = np.polynomial.hermite_e.hermegauss(NODES)
    log_weights = np.log(weights / weights.sum())
    found = minimize(
        _surprise,
        np.concatenate([np.full(y.shape[1], SLOPE[0]), np.zeros(y.shape[1])]),
        args=(y, points, log_weights),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 1000},
    )
    if not found.success:
        raise ValueError(f"the item response model does not converge: {found.message}")
    slopes, intercepts = np.split(found.x, 2)
    posterior = softmax(_joint(slopes, intercepts, y, points, log_weights), axis=1)
    abilities = posterior @ points
    errors = np.sqrt(np.maximum(posterior @ points**2 - abilities**2, 0.0))
    return ItemResponse(slopes, intercepts, abilities, errors)


def _joint(slopes: Values, intercepts: Values, y: Values, points: Values, log_weights: Values) -> Values:
    """log p(responses of i, theta = point q) [takers, points]."""
    z = np.outer(points, slopes) + intercepts
    return cast(Values, y @ log_expit(z).T + (1 - y) @ log_expit(-z).T + log_weights)


def _surprise(flat: Values, y: Values, points: Values, log_weights: Values) -> tuple[float, Values]:
    """The negative log of likelihood times priors, and its gradient: E over the posterior of the complete one's."""
    a, c = np.split(flat, 2)
    joint = _joint(a, c, y, points, log_weights)
    posterior = softmax(joint, axis=1)
    # Of those expected at a point: solved beyond what the model expects there [points, items].
    excess = posterior.T @ y - posterior.sum(0)[:, None] * expit(np.outer(points, a) + c)
    off_a, off_c = (a - SLOPE[0]) / SLOPE[1], (c - INTERCEPT[0]) / INTERCEPT[1]
    value = -float(logsumexp(joint, axis=1).sum()) + 0.5 * float((off_a**2).sum() + (off_c**2).sum())
    return value, np.concatenate([off_a / SLOPE[1] - points @ excess, off_c / INTERCEPT[1] - excess.sum(0)])

"""A weighted mean told by values of equal weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def evened(values: Sequence[float], weights: Sequence[float]) -> NDArray[np.float64]:
    """Values x [n] whose plain mean is the weighted mean m of `values` v: x_i = m + (v_i - m) w_i / mean(w).

    They are the influence of each example on m, so that paired differences and resampling of x speak about m even where
    the weights differ between two models (the F1 of all answers together: v = 2 TP / d, w = d = 2 TP + FP + FN). Values of equal
    weight stay as they are.
    """
    v, w = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if not len(w) or (w == w[0]).all():
        return v
    mean = float(np.average(v, weights=w))
    made: NDArray[np.float64] = mean + (v - mean) * w / w.mean()
    return made

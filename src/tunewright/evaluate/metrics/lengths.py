"""Lengths of answers in a few numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def length_summary(lengths: ArrayLike) -> dict[str, float]:
    """Mean, median, 95th percentile and the share of empty answers; `lengths` [n], n at least 1."""
    n = np.asarray(lengths, dtype=np.float64)
    return {
        "mean": float(n.mean()),
        "median": float(np.median(n)),
        "p95": float(np.quantile(n, 0.95)),
        "empty": float((n == 0).mean()),
    }

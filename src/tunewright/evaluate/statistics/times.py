"""One score from times to a target over several workloads (arXiv 2306.07179)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def time_score(times: Values, longest: float = 4.0) -> Values:
    """The score of each arm from its times to the target [arms, workloads]; `inf` where it was never reached.

    With r the time over the fastest arm's on that workload (infinite above `longest`), the share of workloads solved
    within a factor tau is rho(tau), and the score its mean over tau from 1 to `longest`:
    mean over workloads of max(0, longest - r) / (longest - 1). 1 is fastest everywhere, 0 never there; scores do not
    change when all times of a workload are multiplied.
    """
    t = np.asarray(times, dtype=np.float64)
    best = t.min(0)
    solved = np.isfinite(t)
    ratio = np.divide(t, best, out=np.full_like(t, np.inf), where=solved)
    kept = np.clip(longest - ratio, 0.0, None)
    return np.asarray(kept.mean(1) / (longest - 1))

"""One score from times to a target over several workloads (arXiv 2306.07179)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def time_score(times: Values, longest: float = 4.0, bases: Sequence[int] | None = None) -> Values:
    """The score of each arm from its times to the target [arms, workloads]; `inf` where it was never reached.

    With r the time over the fastest arm's on that workload (infinite above `longest`), the share of workloads solved
    within a factor tau is rho(tau), and the score its mean over tau from 1 to `longest`:
    mean over workloads of max(0, longest - r) / (longest - 1). 1 is fastest everywhere, 0 never there; scores do not
    change when all times of a workload are multiplied.

    `bases` gives for every workload the column it is a variant of, its own where it is none. An arm that does not
    solve a variant within `longest` times the fastest is held not to have solved its base; only bases are scored, and
    the fastest is looked for among those that are left. Raises `ValueError` for a variant of a variant.
    """
    t = np.asarray(times, dtype=np.float64)
    t = np.where(t <= longest * t.min(0), t, np.inf)
    if bases is not None:
        of = np.asarray(bases, dtype=np.int64)
        if of.shape != (t.shape[1],) or (of[of] != of).any():
            raise ValueError("every workload is a base of its own, or a variant of one that is")
        own = np.unique(of)
        solved = np.stack([np.isfinite(t[:, of == base]).all(1) for base in own], axis=1)
        t = np.where(solved, t[:, own], np.inf)
    ratio = np.divide(t, t.min(0), out=np.full_like(t, np.inf), where=np.isfinite(t))
    kept = np.clip(longest - ratio, 0.0, None)
    return np.asarray(kept.mean(1) / (longest - 1))

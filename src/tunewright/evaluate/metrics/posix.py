"""POSIX: how far the likelihood of a response moves when its prompt is said in another way."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def prompt_sensitivity(logprobs: ArrayLike, lengths: ArrayLike) -> float:
    """psi = Sum_i Sum_j |A[i,j] - A[j,j]| / L_j / (N (N - 1)), in nats per token; at least 0.

    `logprobs` A [N, N] holds log P(response to prompt j | prompt i), `lengths` L [N] the tokens of each response (at
    least 1). 0 for a single prompt, and where the prompt makes no difference.
    """
    a, tokens = np.asarray(logprobs, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    n = len(a)
    return float((np.abs(a - np.diag(a)) / tokens).sum() / (n * (n - 1))) if n > 1 else 0.0

"""Which tensors to train: the largest importance whose backward pass costs no more than a budget (arXiv 2309.13192)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def best_set(importance: Sequence[float], own: Sequence[int], through: Sequence[int], budget: int) -> list[int]:
    """The set S of tensors (0 is nearest the output) with the largest sum of `importance` and cost at most `budget`.

    Cost: the sum of `own` (weight gradient) over S and of `through` (passing the gradient on) over all tensors before
    the deepest of S. Exact, in O(n^2 budget): D[k, t] is the best importance of sets whose deepest tensor is k and
    whose cost is t. Empty where no set gains.
    """
    count = len(importance)
    reach = np.concatenate([[0], np.cumsum(np.asarray(through, dtype=np.int64))])[:count]
    best = np.full((count, budget + 1), -np.inf)
    before = np.full((count, budget + 1), -1, dtype=np.int64)
    for k in range(count):
        alone = int(own[k] + reach[k])
        if alone > budget or not np.isfinite(importance[k]):
            continue
        best[k, alone] = importance[k]
        for earlier in range(k):
            shift = int(own[k] + reach[k] - reach[earlier])
            if shift > budget:
                continue
            reached = best[earlier, : budget + 1 - shift] + importance[k]
            better = reached > best[k, shift:]
            best[k, shift:][better] = reached[better]
            before[k, shift:][better] = earlier
    if not count or best.max() <= 0:
        return []
    k, at = (int(place) for place in np.unravel_index(best.argmax(), best.shape))
    found = [k]
    while before[k, at] >= 0:
        k, at = int(before[k, at]), at - int(own[k] + reach[k] - reach[before[k, at]])
        found.append(k)
    return found[::-1]

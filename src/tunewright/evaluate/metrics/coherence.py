"""How alike in meaning the responses to one question are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def coherence(texts: Sequence[str], vectors: ArrayLike) -> float:
    """Mean over pairs i < j of cos(v_i, v_j), -1 to 1, of texts [n] with vectors [n, width].

    Equal texts have 1; a text without a word, whose vector is 0, has 0 with any other. 1 for a single text.
    """
    v = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(v, axis=1, keepdims=True)
    unit = np.divide(v, lengths, out=np.zeros_like(v), where=lengths > 0)
    alike = np.equal.outer(np.array(texts, dtype=object), np.array(texts, dtype=object))
    upper = np.triu_indices(len(v), 1)
    return float(np.where(alike, 1.0, unit @ unit.T)[upper].mean()) if len(v) > 1 else 1.0

"""What a finished run finds of each of its evaluation sources."""

from __future__ import annotations

import numpy as np

from tunewright.claims.base import Trial


def losses(trial: Trial) -> dict[str, float]:
    """The held-out loss of each evaluation source by its name, in nats per token."""
    scores = trial.scores()["perplexity"]
    groups = np.array(scores.groups)
    return {
        str(name): float(np.average(scores.values[groups == name], weights=scores.weights[groups == name]))
        for name in dict.fromkeys(scores.groups)
    }

"""A few items that stand for a whole test (arXiv 2402.14992; arXiv 2406.10229 on what they cost)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.evaluate.statistics.items import ItemResponse

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Anchors:
    """Items [n] that stand for a test, and the share of the test's items [n] that each stands for (they sum to 1)."""

    items: NDArray[np.int64]
    weights: Values

    def score(self, values: Values) -> Values:
        """The weighted mean of the anchors in scores [..., items of the whole test]."""
        scores: Values = np.asarray(values, dtype=np.float64)[..., self.items] @ self.weights
        return scores


def anchors(model: ItemResponse, count: int, seed: int = 0) -> Anchors:
    """The items nearest the centres of `count` clusters (k-means) of slope and intercept, each scaled to deviation 1.

    An anchor's weight is its cluster's share of the items. Fewer items average less noise away: a score over anchors
    may move more from seed to seed than that over all. Raises `ValueError` unless 1 <= count <= items.
    """
    from sklearn.cluster import KMeans

    places = np.column_stack([model.slopes, model.intercepts])
    if not 1 <= count <= len(places):
        raise ValueError(f"cannot take {count} anchors of {len(places)} items")
    scaled = (places - places.mean(0)) / np.maximum(places.std(0), 1e-12)
    count = min(count, len(np.unique(scaled, axis=0)))
    found = KMeans(count, n_init=10, random_state=seed).fit(scaled)
    distances = np.linalg.norm(scaled[:, None] - found.cluster_centers_[None], axis=-1)
    # An item of the cluster itself, so that no item is two anchors.
    distances[found.labels_[:, None] != np.arange(count)] = np.inf
    sizes = np.bincount(found.labels_, minlength=count)
    return Anchors(distances.argmin(0).astype(np.int64), sizes / len(places))

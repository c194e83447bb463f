"""Packing against padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.claims._nano import recipe
from tunewright.claims.base import Compared, Criterion

RECIPE = recipe("word_problems", steps=12, held=100, evaluate=["perplexity"])


class Packing(Compared):
    """Packing records into one sequence trains the same model as padding them.

    Word problems on the embedded model; records packed into one row do not see each other, and losses are normalised by
    the weight of the whole step, so the two differ by rounding alone.
    """

    name: ClassVar[str] = "packing"
    sentence: ClassVar[str] = "Packed and padded batches of the same records lead to the same held-out loss."
    arms: ClassVar = {"packed": "several records per row", "padded": "one record per row"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("held-out loss, packed minus padded", "within", 0.005, "nats per token"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "12 steps of 2,048 tokens per arm and seed"
    recipe: ClassVar[Mapping[str, Any]] = RECIPE
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "packed": {"data": {**RECIPE["data"], "packing": "on"}},
        "padded": {"data": {**RECIPE["data"], "packing": "off"}},
    }
    measured: ClassVar[Mapping[str, str]] = {"held-out loss, packed minus padded": "perplexity"}

"""What a worker keeps between trials: prepared data and base models, so that only the first trial reads them."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from tunewright.adapters.base import Adapter
from tunewright.assembly import load_base, read
from tunewright.data.prepare import Prepared
from tunewright.models.load import Loaded, resolve_precision
from tunewright.recipe import Recipe
from tunewright.train.processes import World

KEPT = 4
"""Data sets, and models, kept at once."""

KEPT_BYTES = 2 << 30
"""A model larger than this is loaded anew for each trial instead of standing in memory twice."""

Item = TypeVar("Item")


class Kept:
    """Prepared data and untouched base models by the parts of the recipe that decide them."""

    def __init__(self) -> None:
        self._data: OrderedDict[str, Prepared] = OrderedDict()
        self._models: OrderedDict[str, Loaded] = OrderedDict()
        self._large: set[str] = set()

    def data(self, recipe: Recipe) -> Prepared:
        """The recipe's prepared data."""
        keys = recipe.plain()
        wanted = [sorted(recipe.objective.needs), list(recipe.columns)]
        name = json.dumps([keys["model"], keys["data"], *wanted], sort_keys=True)
        return _recalled(self._data, name, lambda: read(recipe))

    def base(self, recipe: Recipe, world: World) -> Loaded:
        """A model of the recipe's base that belongs to the caller, who may change it.

        Random first weights depend on the trial's seed and are never kept.
        """
        kept = self.ready(recipe, world)
        return replace(kept, policy=copy.deepcopy(kept.policy)) if kept is not None else load_base(recipe, world)

    def ready(self, recipe: Recipe, world: World) -> Loaded | None:
        """The kept model, loaded if need be; None for one that is not kept."""
        if recipe.model.from_scratch:
            return None
        whole = cast(Adapter, recipe.adapter).trains_weights
        dtype = "fp32" if whole else resolve_precision(recipe.train.precision)
        name = json.dumps([recipe.plain()["model"], dtype, dict(recipe.supplies)], sort_keys=True)
        if name not in self._models and name not in self._large:
            fresh = load_base(recipe, world)
            if sum(p.numel() * p.element_size() for p in fresh.policy.parameters()) > KEPT_BYTES:
                self._large.add(name)
            else:
                self._models[name] = fresh
        return None if name in self._large else _recalled(self._models, name, lambda: load_base(recipe, world))


def _recalled(kept: OrderedDict[str, Any], name: str, make: Callable[[], Item]) -> Item:
    if name not in kept:
        kept[name] = make()
    kept.move_to_end(name)
    while len(kept) > KEPT:
        kept.popitem(last=False)
    return cast(Item, kept[name])

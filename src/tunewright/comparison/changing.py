"""Which hyperparameters may change while a model trains: those that shape neither parameters nor data nor state."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any, cast

from tunewright.catalog import Method, effect
from tunewright.comparison.jobs import trial_recipe
from tunewright.errors import BadInput
from tunewright.objectives.base import Objective
from tunewright.recipe import LISTS, Recipe
from tunewright.search.space import Choice, Range

KINDS = ("optimizer", "schedule", "objective")
"""Keys of a recipe whose methods may change their options in a run; so may those of its lists, and `train.clip`."""

OBSERVED = ("loss", "gradient", "log")
"""Options that declare to change no more than this; others change sizes, files or steps."""


def changing(recipe: Recipe) -> list[str]:
    """The keys of a recipe that may change in a run.

    They are options of optimizer, schedule, objective and regularizers that are declared to change the loss alone, and
    the largest norm of the gradient. Whole numbers of an optimizer are not among them: they set the form of its state.
    """
    named = [(kind, getattr(recipe, kind)) for kind in KINDS]
    named += [(f"{key}.{place}", one) for key in LISTS for place, one in enumerate(getattr(recipe, key))]
    return [f"{place}.{name}" for place, method in named for name in _options(method)] + ["train.clip"]


def check_changing(space: Mapping[str, Range | Choice], recipe: Recipe) -> None:
    """Raises `BadInput` for a key that cannot change in a run, or for a value with which other data would be needed."""
    known = changing(recipe)
    for key, axis in space.items():
        if key not in known:
            raise BadInput(
                "cannot change while a model trains, as the samplers pbt and pb2 want", field=f"tune.{key}",
                expected=" or ".join(known), hint="Take another sampler for it.",
            )  # fmt: skip
        for value in axis.values if isinstance(axis, Choice) else (axis.low, axis.high):
            if _read(Recipe.of(**trial_recipe(recipe, 0, {key: value}))) != _read(recipe):
                raise BadInput(
                    "the training rows depend on it, so that it cannot change while a model trains",
                    field=f"tune.{key}", found=value, hint="Take another sampler for it.",
                )  # fmt: skip


def _options(method: Method) -> Iterator[str]:
    for name, field in type(method).model_fields.items():
        declared = effect(field)
        whole = int in (field.annotation, *typing.get_args(field.annotation))
        if declared and declared.observable in OBSERVED and not (whole and method.kind == "optimizer"):
            yield name


def _read(recipe: Recipe) -> tuple[Any, ...]:
    """What the recipe's methods want of rows and batches."""
    packs = all(method.packs for method in recipe.methods.values())
    return sorted(cast(Objective, recipe.objective).needs), dict(recipe.columns), packs

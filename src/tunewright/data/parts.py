"""The sources of a recipe, each in its role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tunewright.document import Keys, Place
from tunewright.recipe import Recipe, SourceSpec

_SHARED = ("fields", "labels", "prompt", "function", "template", "format", "augment")
"""Reading options of the training data that a task's own rows follow, unless the task names options itself."""

# What changes the order or the mixing of rows, or only names them, does not change the prepared data.
_UNUSED = {"name", "weight", "epochs", "eval", "max_lost"}


@dataclass(frozen=True)
class Part:
    """A source in one role; `number` is what `Record.source` says of its rows, `name` what reports call it.

    A part that is `split` off receives the held-out rows of the training part with the same number, and reads no file
    of its own.
    """

    number: int
    source: SourceSpec
    role: Literal["train", "eval"]
    origin: Keys
    place: Place
    name: str
    split: bool = False

    def options(self) -> dict[str, Any]:
        """The options that decide what the rows become."""
        return self.source.model_dump(mode="json", exclude=_UNUSED)


def parts(recipe: Recipe) -> list[Part]:
    """Every source in each of its roles: training sources first, then evaluation.

    A source has its own evaluation rows where it names some; otherwise rows are split off, unless `data.eval` names
    evaluation rows for all.
    """
    data, origin = recipe.data, recipe.origin
    of_train, of_eval = _names(data.sources), _names(data.eval)
    train = [
        Part(i, source, "train", origin, _place(origin, "train", i), name)
        for i, (source, name) in enumerate(zip(data.sources, of_train, strict=True))
    ]
    evals = []
    for part in train:
        if part.source.eval is not None:
            own = part.source.model_copy(update={"path": part.source.eval, "limit": None})
            name = part.name if part.source.name else Path(own.path).name
            evals.append(Part(part.number, own, "eval", origin, (*part.place, "eval"), name))
        elif not data.eval:
            evals.append(replace(part, role="eval", split=True))
    for index, (source, name) in enumerate(zip(data.eval, of_eval, strict=True)):
        evals.append(Part(len(train) + index, source, "eval", origin, _place(origin, "eval", index), name))
    return train + evals


def tasks_parts(recipe: Recipe) -> list[Part]:
    """The rows that evaluation tasks name for themselves, each file with its reading options once."""
    found: dict[str, Part] = {}
    for index, task in enumerate(recipe.evaluate):
        given = {"path": "data", "format": "format", "fields": "fields", "labels": "labels"}
        options = {option: value for option, key in given.items() if (value := getattr(task, key, None))}
        if "path" in options:
            source = own_source(recipe, options, getattr(task, "like_training", False))
            place = ("evaluate", index)
            found.setdefault(repr(source), Part(0, source, "eval", recipe.origin, place, Path(source.path).name))
    return list(found.values())


def own_source(recipe: Recipe, options: Mapping[str, Any], follow: bool) -> SourceSpec:
    """How a task's own rows (at `options['path']`) are read; with `follow`, as the first training source is.

    Options of the task come before those of the training source.
    """
    first = recipe.data.sources[0]
    kept = _SHARED if follow and len(options) == 1 else ("prompt", "template")
    return SourceSpec(**{**{name: getattr(first, name) for name in kept}, **options})


def _names(sources: Sequence[SourceSpec]) -> list[str]:
    """A name for each source: its own or its file's, with a number where an earlier one has it."""
    plain = [source.name or Path(source.path).name for source in sources]
    return [f"{name} {plain[:n].count(name) + 1}" if name in plain[:n] else name for n, name in enumerate(plain)]


def _place(origin: Keys, role: str, index: int) -> Place:
    """Where the recipe names a source, whichever way it is written."""
    ways: list[Place] = [("data", role, index), ("data", role)]
    if role == "train":
        ways = [("data", "sources", index), ("data", "sources"), ("data", index), *ways]
    return next((way for way in ways if way in origin.lines), ("data", role))

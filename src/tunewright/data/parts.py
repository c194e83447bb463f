"""The sources of a recipe, each in its role."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunewright.document import Keys, Place
from tunewright.recipe import Recipe, SourceSpec

# What changes the order or the mixing of rows, or only names them, does not change the prepared data.
_UNUSED = {"name", "weight", "epochs", "eval", "max_lost"}


@dataclass(frozen=True)
class Part:
    """A source in one role; `number` is what `Record.source` says of its rows.

    A part that is `split` off receives the held-out rows of the training part with the same number, and reads no file
    of its own.
    """

    number: int
    source: SourceSpec
    role: Literal["train", "eval"]
    origin: Keys
    place: Place
    split: bool = False

    @property
    def name(self) -> str:
        """The source's name in reports."""
        return self.source.name or Path(self.source.path).name

    def options(self) -> dict[str, Any]:
        """The options that decide what the rows become."""
        return self.source.model_dump(mode="json", exclude=_UNUSED)


def parts(recipe: Recipe) -> list[Part]:
    """Every source in each of its roles: training sources first, then evaluation.

    A source has its own evaluation rows where it names some; otherwise rows are split off, unless `data.eval` names
    evaluation rows for all.
    """
    data, origin = recipe.data, recipe.origin
    train = [Part(i, source, "train", origin, _place(origin, "train", i)) for i, source in enumerate(data.sources)]
    evals = []
    for part in train:
        if part.source.eval is not None:
            own = part.source.model_copy(update={"path": part.source.eval, "limit": None})
            evals.append(Part(part.number, own, "eval", origin, (*part.place, "eval")))
        elif not data.eval:
            evals.append(Part(part.number, part.source, "eval", origin, part.place, split=True))
    for index, source in enumerate(data.eval):
        evals.append(Part(len(train) + index, source, "eval", origin, _place(origin, "eval", index)))
    return train + evals


def _place(origin: Keys, role: str, index: int) -> Place:
    """Where the recipe names a source, whichever way it is written."""
    ways: list[Place] = [("data", role, index), ("data", role)]
    if role == "train":
        ways = [("data", "sources", index), ("data", "sources"), ("data", index), *ways]
    return next((way for way in ways if way in origin.lines), ("data", role))

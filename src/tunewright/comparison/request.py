"""A comparison as the command line asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunewright.comparison.arms import Arm, Budget, Tuning, vary
from tunewright.errors import BadInput
from tunewright.recipe import Recipe


def arms(recipes: Sequence[str], varied: Sequence[str], changes: Sequence[str]) -> list[Arm]:
    """The arms named by `FILE` or `NAME=FILE` (a file's stem is its name), or by one file and what is varied in it."""
    files = [_named(text) for text in recipes]
    if varied:
        if len(files) != 1:
            raise BadInput("one recipe is varied at a time", field="--vary", found=f"{len(files)} recipes")
        return vary(Recipe.read(files[0][1], changes), varied)
    return [Arm(name, Recipe.read(file, changes)) for name, file in files]


def budget(tokens: float | None, seconds: float | None, flops: float | None) -> Budget | None:
    """The one budget that is given. Raises `BadInput` for several."""
    given = [Budget(u, a) for u, a in (("tokens", tokens), ("seconds", seconds), ("flops", flops)) if a is not None]  # type: ignore[arg-type]
    if len(given) > 1:
        named = " and ".join(f"--{one.unit}" for one in given)
        raise BadInput(f"{named} are each the budget of a trial", hint="Give one of them.")
    return given[0] if given else None


def tuning(
    keys: Sequence[str], on: Sequence[str], trials: int, sampler: str, seeds: int, halving: int | None
) -> Tuning:
    """What is tuned: `keys` of the form KEY=LOW..HIGH or KEY=A,B,C, by default the learning rate."""
    parameters = {}
    for text in keys:
        key, equals, values = text.partition("=")
        if not equals or not key:
            raise BadInput("not values to tune", field="--tune-key", found=text, expected="KEY=LOW..HIGH or KEY=A,B,C")
        parameters[key] = values
    return Tuning(parameters or None, trials, sampler, seeds, halving, on=tuple(on))  # type: ignore[arg-type]


def _named(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if equals and not Path(text).exists():
        return name, Path(file)
    return Path(text).stem, Path(text)

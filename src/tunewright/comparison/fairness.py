"""What must hold before recipes are compared: several arms and seeds, one judge, one length, a folder of one's own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.comparison.arms import Arm
from tunewright.comparison.crew import Crew
from tunewright.comparison.jobs import Job, digests, trial_recipe
from tunewright.errors import BadInput, nearest
from tunewright.evaluate.base import Task
from tunewright.evaluate.measure import names
from tunewright.recipe import Recipe

TRIALS, RESULT, PAGE = "trials", "comparison.json", "comparison.html"
OURS = {TRIALS, RESULT, PAGE}


@dataclass(frozen=True)
class Side:
    """An arm with its recipe resolved and what its files hold."""

    arm: Arm
    recipe: Recipe
    digests: Mapping[str, str]

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name


def sides_of(arms: Sequence[Arm], seeds: int) -> list[Side]:
    """The arms resolved. Raises `BadInput` where they, or so many seeds, cannot be compared fairly."""
    if len(arms) < 2:
        raise BadInput("a comparison needs two arms", found=f"{len(arms)}", hint="Add a recipe, or --vary KEY=A,B.")
    if seeds < 2:
        raise BadInput(
            "one seed cannot tell a recipe from its luck", field="--seeds", found=seeds, expected="at least 2",
            hint="5 is the default; from 3 on a difference is decided.",
        )  # fmt: skip
    called = [arm.name for arm in arms]
    for name in called:
        if called.count(name) > 1:
            raise BadInput(f"two arms are called '{name}'", hint="Give each a name of its own, as NAME=FILE.")
    sides = []
    for arm in arms:
        recipe = arm.resolved()
        for key in ("early_stop", "keep_best"):
            if getattr(recipe.train, key):
                hint = f"Remove it from '{arm.name}'."
                raise recipe.fault(("train", key), "chooses weights on the rows that judge", hint=hint)
        sides.append(Side(arm, recipe, digests(recipe)))
    first = sides[0]
    for side in sides[1:]:
        for key in ("evaluate", "data.eval", "data.split"):
            mine, other = (_value(one.recipe, key) for one in (first, side))
            if mine != other:
                raise side.recipe.fault(
                    tuple(key.split(".")), f"'{side.name}' is judged otherwise than '{first.name}'", found=other,
                    expected=repr(mine), hint="Give both the same.",
                )  # fmt: skip
    return sides


def _value(recipe: Recipe, key: str) -> Any:
    keys: Any = recipe.plain()
    if key.startswith("data.") and not recipe.data.eval:
        # Without rows of its own, what is judged is split off the training rows.
        return None if key == "data.eval" else [(s["path"], s["split"], s["eval"]) for s in keys["data"]["sources"]]
    for step in key.split("."):
        keys = keys.get(step) if isinstance(keys, Mapping) else None
    return keys


def judged_measure(sides: Sequence[Side], measure: str | None) -> str:
    """The name of the measure that decides: the one asked for, else the first target measure."""
    recipe = sides[0].recipe
    tasks = [task for task in recipe.evaluate if isinstance(task, Task)]
    known = names(tasks)
    if measure is None:
        targets = [name for name, task in zip(known, tasks, strict=True) if task.role == "target"]
        if not known:
            raise recipe.fault(("evaluate",), "nothing is measured", hint="Add a task, as 'evaluate: [perplexity]'.")
        return (targets or known)[0]
    if measure not in known:
        hint = nearest(measure, known)
        raise BadInput(
            "names no measure of these recipes",
            field="--measure",
            found=measure,
            expected=" or ".join(known),
            hint=hint,
        )
    return measure


def claim(folder: Path, overwrite: bool) -> None:
    """Raises `BadInput` where the folder holds what no comparison wrote; with `overwrite`, empties it."""
    found = {item.name for item in folder.iterdir()} if folder.is_dir() else set()
    if folder.exists() and not folder.is_dir():
        raise BadInput("the output exists and is not a folder", file=folder)
    if found - OURS:
        raise BadInput(
            "the folder holds what no comparison wrote", file=folder, found=sorted(found - OURS)[0],
            hint="Choose another --output.",
        )  # fmt: skip
    if overwrite:
        for name in found:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def equal_lengths(sides: Sequence[Side], crew: Crew) -> None:
    """Refuses recipes that would train on different numbers of tokens."""
    length = lambda side: (
        side.recipe.train.epochs, side.recipe.train.steps, side.recipe.train.tokens, side.recipe.train.tokens_per_step,
        side.recipe.data.model_dump(mode="json"), side.recipe.model.path,
    )  # fmt: skip
    if all(length(side) == length(sides[0]) for side in sides):
        return
    counted = crew.results([Job("count", trial_recipe(side.recipe, 0), side.digests) for side in sides])
    tokens = [result.cost["tokens"] or 0.0 for result in counted]
    slack = max(side.recipe.train.tokens_per_step for side in sides)
    if max(tokens) - min(tokens) > slack:
        told = ", ".join(f"'{side.name}' {count:,.0f}" for side, count in zip(sides, tokens, strict=True))
        raise BadInput(
            f"the arms have unequal budgets: {told} tokens", hint=f"Give all the same, as --tokens {min(tokens):.0f}."
        )

"""A chain of tuning runs: each starts from the model the one before it ended with, and all tasks are measured in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tunewright import output
from tunewright.errors import BadInput
from tunewright.evaluate.base import Scores, Task
from tunewright.evaluate.metrics.continual import Block, kept, lifelong
from tunewright.evaluate.rows import subject
from tunewright.export import export
from tunewright.pipeline import EVALUATION_TOKENS, Assembly, Run, assemble, read
from tunewright.pipeline import run as start
from tunewright.recipe import Recipe
from tunewright.report import chain as page
from tunewright.tuned import Tuned

RESULT, MODEL = "chain.json", "model"

MEANINGS = {
    "final": "mean score over the stages after the last one",
    "average": "mean over stages of the mean score on those learnt so far",
    "forgetting": "best score on a stage minus its last, mean over all but the last; below 0 it got better",
    "maintenance": "later scores minus the one right after training, on a scale of 100; below 0 is forgetting",
    "forward": "score on a stage not yet trained, after over before the training of another; above 1 it helped",
    "backward": "the same on a stage already trained",
}


@dataclass(frozen=True)
class Chain:
    """A finished chain: its folder, its stages' names and runs, and the content of `chain.json`."""

    folder: Path
    runs: tuple[Run, ...]
    found: dict[str, Any]


def run(recipes: Sequence[tuple[str, Recipe]], folder: Path, *, overwrite: bool = False, quiet: bool = False) -> Chain:
    """Runs recipes one after the other, each on the merged model of the last, and writes `chain.json` and `chain.html`.

    Every stage has a run folder of its own with its report. Stage j is measured by the first target task of its recipe
    on its own held-out rows, before the chain and after every stage: matrix [stages + 1, stages], losses as exp(-loss).
    Raises `BadInput` for fewer than two stages, equal names, different models, or a stage without a target task.
    """
    _check(recipes, folder, overwrite)
    names = [name for name, _ in recipes]
    tasks = [_task(name, recipe) for name, recipe in recipes]
    matrix: list[list[float]] = []
    runs: list[Run] = []
    for number, (name, recipe) in enumerate(recipes):
        if runs:
            model = recipe.model.model_copy(update={"path": str(runs[-1].folder / MODEL), "adapter": None})
            recipe = recipe.model_copy(update={"model": model})
        else:
            untuned = assemble(recipe)
            with untuned.attached.disabled():
                matrix.append(_scores(untuned, recipes, tasks))
        done = start(recipe, folder / f"{number + 1}-{name}", overwrite=overwrite, quiet=quiet)
        runs.append(done)
        matrix.append(_scores(done.assembly, recipes, tasks))
        if number + 1 < len(recipes):
            export(Tuned(done.folder, done.assembly), done.folder / MODEL)
    found = summary(names, [task.name for task in tasks], matrix)
    output.write(folder / RESULT, output.as_json(found))
    page.write(folder, found)
    return Chain(folder, tuple(runs), found)


def summary(names: Sequence[str], measures: Sequence[str], matrix: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The content of `chain.json`: stages, measures, matrix, and what was kept with its meaning."""
    blocks = [Block("test", name, [score]) for name, score in zip(names, matrix[0], strict=True)]
    for stage, scores in zip(names, matrix[1:], strict=True):
        blocks.append(Block("train", stage, []))
        blocks += [Block("test", name, [score]) for name, score in zip(names, scores, strict=True)]
    values = {**kept(matrix[1:])._asdict(), **lifelong(blocks)._asdict()}
    quantities = [(name, values[name], meaning) for name, meaning in MEANINGS.items()]
    told = "; ".join(
        f"{name} {matrix[own + 1][own]:.3f} after its training, {matrix[-1][own]:.3f} at the end"
        for own, name in enumerate(names)
    )
    return {
        "verdict": f"forgetting {values['forgetting']:+.3f}: {told}",
        "stages": list(names),
        "measures": list(measures),
        "matrix": [list(row) for row in matrix],
        "quantities": quantities,
    }


def _scores(assembly: Assembly, recipes: Sequence[tuple[str, Recipe]], tasks: Sequence[Task]) -> list[float]:
    """The score of the model as it is on every stage's own rows."""
    policy, tokenizer = assembly.policy, assembly.loaded.tokenizer
    on = lambda recipe: subject(policy, tokenizer, read(recipe), recipe, batch_tokens=EVALUATION_TOKENS)
    return [_upward(task.score(on(recipe))) for (_, recipe), task in zip(recipes, tasks, strict=True)]


def _upward(scores: Scores) -> float:
    """A score that is higher where better."""
    if scores.unit == "nats":
        return math.exp(-scores.score)
    return scores.score if scores.higher_is_better else -scores.score


def _task(name: str, recipe: Recipe) -> Task:
    found = next((task for task in recipe.evaluate if cast(Task, task).role == "target"), None)
    if found is None:
        raise BadInput(
            f"the stage '{name}' measures no task", file=recipe.origin.file, field="evaluate",
            hint="Add a task such as perplexity: the chain measures it after every stage.",
        )  # fmt: skip
    return cast(Task, found)


def _check(recipes: Sequence[tuple[str, Recipe]], folder: Path, overwrite: bool) -> None:
    names = [name for name, _ in recipes]
    if len(names) < 2:
        raise BadInput("a chain has two stages or more", found=names)
    if len(set(names)) < len(names):
        raise BadInput("two stages have the same name", found=names, hint="Name the files differently.")
    first = recipes[0][1].model
    for _, recipe in recipes[1:]:
        if recipe.model != first:
            raise BadInput(
                "the stages of a chain name one model: each goes on with what the one before made of it",
                file=recipe.origin.file, field="model", found=recipe.model.path, expected=first.path,
            )  # fmt: skip
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise BadInput("the output folder exists already", file=folder, hint="Add --overwrite, or another --output.")

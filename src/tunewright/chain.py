"""A chain of tuning runs: each starts from the model the one before it ended with, and all tasks are measured in between."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tunewright import output
from tunewright.assembly import EVALUATION_TOKENS, Assembly, assemble, read
from tunewright.data.files import hashed
from tunewright.data.parts import parts
from tunewright.errors import BadInput
from tunewright.evaluate.base import Scores, Task
from tunewright.evaluate.metrics.continual import Block, kept, lifelong
from tunewright.evaluate.rows import subject
from tunewright.evaluate.statistics import FEWEST, mean
from tunewright.export import export
from tunewright.pipeline import run as start
from tunewright.recipe import Recipe
from tunewright.report import chain as page
from tunewright.tuned import Tuned

RESULT, ROWS, MODEL = "chain.json", "matrix.json", "model"

MEANINGS = {
    "final": "mean score over the stages after the last one",
    "average": "mean over stages of the mean score on those learnt so far",
    "forgetting": "best score on a stage minus its last, mean over all but the last; below 0 it got better",
    "maintenance": "later scores minus the one right after training, on a scale of 100; below 0 is forgetting",
    "forward": "score on a stage not yet trained, after over before the training of another; above 1 it helped",
    "backward": "the same on a stage already trained",
}


Cell = tuple[float, float | None, float | None]
"""A score, higher where better, with its 95% interval over examples (None with too few of them)."""


@dataclass(frozen=True)
class Chain:
    """A finished chain: its folder, the run folder of every stage, and the content of `chain.json`."""

    folder: Path
    stages: tuple[Path, ...]
    found: dict[str, Any]


def run(
    recipes: Sequence[tuple[str, Recipe]],
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Chain:
    """Runs recipes one after the other, each on the merged model of the last, and writes `chain.json` and `chain.html`.

    Every stage has a run folder of its own with its report. Stage j is measured by the first target task of its recipe
    on its own held-out rows, before the chain and after every stage: matrix [stages + 1, stages], losses as exp(-loss),
    each cell with the 95% bootstrap interval over its examples.

    A stage is finished when its row of the matrix is in `matrix.json`, which is written after all else of the stage.
    `resume` keeps finished stages and their rows, lets the one that was interrupted go on from its newest checkpoint,
    and ends with the same numbers as a chain that was not interrupted. Raises `BadInput` for fewer than two stages,
    equal names, different models, a stage without a target task, or recipes or data that changed before a resume.
    """
    names = [name for name, _ in recipes]
    _check_recipes(recipes)
    tasks = [_task(name, recipe) for name, recipe in recipes]
    places = [folder / f"{number}-{name}" for number, name in enumerate(names, 1)]
    stages = _chained([recipe for _, recipe in recipes], places)
    _check_folder(folder, stages, places, resume, overwrite)
    fixed = _fixed(recipes)
    rows = _kept(recipes, fixed, folder, places) if resume else []
    if not rows:
        untuned = assemble(stages[0])
        with untuned.policy.start():
            rows = [_row(untuned, recipes, tasks)]
        # Only what can begin may discard what an earlier chain wrote; what is left of it would pass for this one's.
        for old in (folder / ROWS, folder / RESULT, folder / page.FILE, *places):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        output.write(folder / ROWS, output.as_json({"stages": fixed, "rows": rows}))
    for number in range(len(rows) - 1, len(recipes)):
        shutil.rmtree(places[number] / MODEL, ignore_errors=True)
        done = start(stages[number], places[number], resume=resume, quiet=quiet)
        rows.append(_row(done.assembly, recipes, tasks))
        if number + 1 < len(recipes):
            export(Tuned(done.folder, done.assembly), done.folder / MODEL)
        output.write(folder / ROWS, output.as_json({"stages": fixed, "rows": rows}))
    found = summary(names, [task.name for task in tasks], rows)
    output.write(folder / RESULT, output.as_json(found))
    page.write(folder, found)
    return Chain(folder, tuple(places), found)


def summary(names: Sequence[str], measures: Sequence[str], rows: Sequence[Sequence[Cell]]) -> dict[str, Any]:
    """The content of `chain.json`: stages, measures, matrix with intervals, and what was kept with its meaning."""
    matrix = [[score for score, _, _ in row] for row in rows]
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
        "matrix": matrix,
        "intervals": [[None if low is None else [low, high] for _, low, high in row] for row in rows],
        "quantities": quantities,
    }


def _chained(recipes: Sequence[Recipe], places: Sequence[Path]) -> list[Recipe]:
    """The recipes as they are run: each but the first on the exported model of the one before, which has the vocabulary
    that both name."""

    def after(before: Recipe, recipe: Recipe, place: Path) -> Recipe:
        changes = {"path": str((place / MODEL).absolute()), "adapter": None}
        if recipe.model.vocabulary == before.model.vocabulary:
            changes["vocabulary"] = None
        return recipe.model_copy(update={"model": recipe.model.model_copy(update=changes)})

    return [recipes[0], *(after(*three) for three in zip(recipes, recipes[1:], places, strict=False))]


def _row(assembly: Assembly, recipes: Sequence[tuple[str, Recipe]], tasks: Sequence[Task]) -> list[Cell]:
    """The scores of the model as it is on every stage's own rows."""
    policy, tokenizer = assembly.policy, assembly.loaded.tokenizer
    on = lambda recipe: subject(policy, tokenizer, read(recipe), recipe, batch_tokens=EVALUATION_TOKENS)
    return [_cell(task.score(on(recipe))) for (_, recipe), task in zip(recipes, tasks, strict=True)]


def _cell(scores: Scores) -> Cell:
    """The score turned so that higher is better; the ends of its interval go through the same monotone function."""
    turn: Callable[[float], float] = lambda value: value if scores.higher_is_better else -value
    if scores.unit == "nats":
        turn = lambda value: math.exp(-value)
    if len(scores.values) < FEWEST:
        return turn(scores.score), None, None
    found = mean(scores.values, scores.weights)
    low, high = sorted((turn(found.low), turn(found.high)))
    return turn(scores.score), low, high


def _fixed(recipes: Sequence[tuple[str, Recipe]]) -> list[dict[str, Any]]:
    """What fixes the stages, as plain values: name, recipe, and the hashes of the files of data."""
    made = ({"name": n, "recipe": r.plain(), "data": hashed(r, parts(r)).digests} for n, r in recipes)
    return [cast(dict[str, Any], json.loads(json.dumps(each))) for each in made]


def _kept(
    recipes: Sequence[tuple[str, Recipe]], fixed: Sequence[Mapping[str, Any]], folder: Path, places: Sequence[Path]
) -> list[list[Cell]]:
    """The rows of the matrix that the chain in `folder` has measured, none where it has not begun."""
    file, again = folder / ROWS, "Use --overwrite, or another --output."
    if not folder.exists() or not any(folder.iterdir()):
        return []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        before, rows = content["stages"], [[cast(Cell, tuple(cell)) for cell in row] for row in content["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput("the folder holds no chain to resume", file=file, hint=again) from None
    if [each["name"] for each in before] != [each["name"] for each in fixed]:
        raise BadInput(
            "the chain to resume has other stages", file=file, found=", ".join(each["name"] for each in fixed),
            expected=", ".join(each["name"] for each in before), hint=again,
        )  # fmt: skip
    for (name, recipe), old, new in zip(recipes, before, fixed, strict=True):
        output.same_recipe(old["recipe"], recipe, file)
        if old["data"] != new["data"]:
            changed = {path for path, digest in {*old["data"].items()} ^ {*new["data"].items()}}
            raise BadInput(
                f"the data of the stage '{name}' changed since the chain began", file=min(changed), hint=again
            )
    for number, place in enumerate(places[: len(rows) - 1], 1):
        last = number == len(rows) - 1 and number < len(recipes)
        for wanted in ("evidence.json", f"{MODEL}/config.json")[: 1 + last]:
            if not (place / wanted).is_file():
                raise BadInput("a finished stage is no longer whole", file=place / wanted, hint=again)
    return rows


def _task(name: str, recipe: Recipe) -> Task:
    found = next((task for task in recipe.evaluate if cast(Task, task).role == "target"), None)
    if found is None:
        raise BadInput(
            f"the stage '{name}' measures no task", file=recipe.origin.file, field="evaluate",
            hint="Add a task such as perplexity: the chain measures it after every stage.",
        )  # fmt: skip
    return cast(Task, found)


def _check_recipes(recipes: Sequence[tuple[str, Recipe]]) -> None:
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


def _check_folder(
    folder: Path, stages: Sequence[Recipe], places: Sequence[Path], resume: bool, overwrite: bool
) -> None:
    for recipe, place in zip(stages, places, strict=True):
        output.check(place, recipe, resume=resume, overwrite=overwrite)
    if folder.exists() and any(folder.iterdir()) and not overwrite and not resume:
        raise BadInput(
            "the output folder exists already", file=folder, hint="Add --resume, --overwrite, or another --output."
        )

"""Commands that train, or say what training would take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli._app import Changes, Json, Quiet, RecipePath, app, print_json

if TYPE_CHECKING:
    from tunewright.pipeline import Run


@app.command()
def run(
    recipes: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECIPE...", help="The recipe: a YAML or JSON file. Several are one chain.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; default runs/RECIPE.")
    ] = None,
    set_: Changes = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in the output folder.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard what an earlier run wrote there.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tune a model as a recipe says: data in, adapter, evidence and report out.

    Writes recipe.yaml, lock.json, metrics.jsonl, evidence.json, report.html, adapter/ and checkpoints/ into the output
    folder. Ctrl-C saves and stops; --resume continues to the same bits.

    Several recipes are a chain: each tunes what the one before ended with, every stage's rows are measured after every
    stage, and chain.json and chain.html tell what was kept and what was forgotten. --resume keeps finished stages.
    """
    from tunewright.pipeline import run as start
    from tunewright.recipe import Recipe

    if len(recipes) > 1:
        _chain(recipes, output, set_ or (), resume, overwrite, json_, quiet)
        return
    [recipe] = recipes
    done = start(
        Recipe.read(recipe, set_ or ()), output or Path("runs") / recipe.stem, resume=resume, overwrite=overwrite,
        quiet=quiet or json_,
    )  # fmt: skip
    _show(done, json_)


@app.command("resume")
def resume_(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of an interrupted run.", show_default=False)
    ],
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Prove that resuming is the same run, bit for bit; the folder is only read."),
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Go on with an interrupted run from its newest checkpoint, by the recipe that its folder holds.

    --verify takes two steps from the newest checkpoint that has two left, in one go, and again with a save and a load
    into a new loop between them. Losses, trained tensors, optimizer and position must be equal in every bit; the first
    that is not is named with its size, and the exit status is 1. A finished run can be verified too.

    A chain goes on with `tunewright run RECIPE... --resume`, and a pretraining with `tunewright pretrain --resume`.
    """
    from tunewright.pipeline import run as start
    from tunewright.verify import unfinished

    if verify:
        _verify(run_folder, json_, quiet)
        return
    _show(start(unfinished(run_folder), run_folder, resume=True, quiet=quiet or json_), json_)


@app.command()
def demo(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; default a fresh one under runs/.")
    ] = None,
    json_: Json = False,
) -> None:
    """Tune the embedded model on multi-step word problems, and show what changed. Nothing is downloaded."""
    from tunewright.pipeline import run as start
    from tunewright.recipe import Recipe

    folder = output or _fresh(Path("runs") / "demo")
    _show(start(Recipe.of(**DEMO), folder, quiet=json_), json_)


@app.command()
def plan(
    recipe: RecipePath,
    set_: Changes = None,
    price_per_hour: Annotated[
        float | None, typer.Option(help="What the machine costs an hour, in any currency: tells the price.", min=0)
    ] = None,
    json_: Json = False,
) -> None:
    """Predict memory, time, energy, price and operations of a run; says what to change if it does not fit.

    Loads the model and tries the largest batch, full evaluations and some seconds of steps; writes nothing. From five
    runs recorded on this kind of machine on, memory and time have the interval in which 8 of 10 runs end;
    `tunewright doctor` tells how far such predictions were off.
    """
    from tunewright.planning import predict
    from tunewright.recipe import Recipe

    found = predict(Recipe.read(recipe, set_ or ()), price_per_hour)
    if json_:
        print_json(found.plain())
    else:
        typer.echo(str(found))


@app.command()
def pretrain(
    recipe: RecipePath,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run; the model goes to its model/.")],
    set_: Changes = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard what an earlier run wrote there.")] = False,
) -> None:
    """Train a model whole, from random weights where the recipe says from_scratch, and write it as a checkpoint."""
    from tunewright.errors import BadInput
    from tunewright.export import save_whole
    from tunewright.pipeline import run as start
    from tunewright.recipe import Recipe
    from tunewright.report import console

    loaded = Recipe.read(recipe, set_ or ())
    if loaded.adapter.name != "full":
        raise BadInput(
            "pretraining trains every weight", file=recipe, field="adapter", found=loaded.adapter.name, expected="full"
        )
    done = start(loaded, output, resume=resume, overwrite=overwrite)
    if done.assembly.world.main:
        save_whole(done, output / "model")
        console.show(done.evidence, done.folder)


DEMO = {
    "model": "nano",
    "data": {
        "train": {"path": "nano:word_problems/train", "limit": 2400},
        "eval": {"path": "nano:word_problems/test", "limit": 200},
    },
    "adapter": {"method": "lora", "rank": 16, "alpha": 32},
    "optimizer": {"method": "adamw", "lr": 3e-3},
    "train": {"tokens_per_step": 4096, "epochs": 3},
    "evaluate": [{"task": "exact_match", "answer": "after '####'"}, "perplexity", "retention"],
}
"""The recipe of `tunewright demo`."""


def _show(done: Run, json_: bool) -> None:
    """Prints what a finished run proved."""
    from tunewright.report import console

    if not done.assembly.world.main:
        return
    if json_:
        print_json({"output": str(done.folder), **done.evidence.model_dump(mode="json")})
    else:
        console.show(done.evidence, done.folder)


def _verify(folder: Path, json_: bool, quiet: bool) -> None:
    from tunewright.errors import Fault
    from tunewright.train.processes import World
    from tunewright.verify import verify

    proof = verify(folder, quiet or json_)
    if World.join().main:
        if json_:
            print_json(proof.plain())
        else:
            typer.echo(proof)
            if proof.difference is None:
                typer.echo("equal")
    if proof.difference is not None:
        raise Fault(f"resuming {folder} is not the same run. {proof.difference}.")


def _chain(
    recipes: Sequence[Path],
    output: Path | None,
    changes: Sequence[str],
    resume: bool,
    overwrite: bool,
    json_: bool,
    quiet: bool,
) -> None:
    from tunewright.chain import run
    from tunewright.recipe import Recipe
    from tunewright.report import console

    stages = [(recipe.stem, Recipe.read(recipe, changes)) for recipe in recipes]
    folder = output or Path("runs") / "-".join(name for name, _ in stages)
    done = run(stages, folder, resume=resume, overwrite=overwrite, quiet=quiet or json_)
    if json_:
        print_json({"output": str(folder), **done.found})
    else:
        console.show_chain(done.found, folder)


def _fresh(base: Path) -> Path:
    number = next(n for n in range(1, 1_000_000) if not base.with_name(f"{base.name}-{n}").exists())
    return base.with_name(f"{base.name}-{number}")

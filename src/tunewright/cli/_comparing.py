"""Commands that compare recipes and judge claims."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli._app import Json, Quiet, Results, app, claims_app, print_json


@app.command()
def compare(
    recipes: Annotated[
        list[str], typer.Argument(help="Recipe files, or NAME=FILE; the first is the reference.", show_default=False)
    ],
    vary: Annotated[
        list[str] | None,
        typer.Option("--vary", help="With one recipe: KEY=A,B makes an arm of each value (repeatable: all pairs)."),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a key in every arm (repeatable).")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; default runs/compare-RECIPE. Calling again resumes.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each arm; 3 or more decide.")] = 5,
    tokens: Annotated[float | None, typer.Option(help="Budget of each training in tokens.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Budget of each training in seconds of steps.")] = None,
    flops: Annotated[float | None, typer.Option(help="Budget of each training in floating-point operations.")] = None,
    measure: Annotated[
        str | None, typer.Option(help="The measure that decides; default the first target measure.")
    ] = None,
    tune: Annotated[bool, typer.Option("--tune", help="First choose each arm's learning rate, on rows apart.")] = False,
    tune_key: Annotated[
        list[str] | None,
        typer.Option("--tune-key", help="Tune this instead: KEY=LOW..HIGH or KEY=A,B,C (repeatable)."),
    ] = None,
    tune_on: Annotated[
        list[str] | None,
        typer.Option("--tune-on", help="Tune on another scenario: KEY=VALUE, as data.train=FILE (repeatable)."),
    ] = None,
    conventional: Annotated[
        bool,
        typer.Option(help="With --tune-on: also train all settings as judged, to tell what the usual protocol claims."),
    ] = True,
    trials: Annotated[int, typer.Option(help="Settings tried per arm.")] = 8,
    tune_seeds: Annotated[int, typer.Option(help="Trainings of each setting; never with a judging seed.")] = 1,
    sampler: Annotated[
        str,
        typer.Option(
            help="How settings are proposed: tpe, gp, noisy_ei, kg, fidelity_kg (short and long runs by what"
            " they teach for what they cost), random, halton, grid, dehb (evolution over short and long runs),"
            " or a population of --trials members whose settings change as they train: pbt (the worst copy the best and"
            " change at random), pb2 (they change to where a Gaussian process expects the most gain)."
        ),
    ] = "tpe",
    intervals: Annotated[int, typer.Option(help="With pbt or pb2: parts of a training, each with its setting.")] = 4,
    halving: Annotated[
        int | None, typer.Option(help="Spend the same on more settings, keeping one of so many after a short run.")
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option(help="learning_curve: stop a trial whose curve promises less than the best one's did by then."),
    ] = None,
    together: Annotated[int, typer.Option(help="With noisy_ei or kg: settings proposed at once.")] = 1,
    tune_limit: Annotated[
        list[str] | None,
        typer.Option("--tune-limit", help="COST=MOST of a full run, as trained_parameters=1e5 (repeatable)."),
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="Also tell when each arm reaches this value of the measure.")
    ] = None,
    target_of: Annotated[
        list[str] | None,
        typer.Option(
            "--target-of", help="Instead: what this arm reaches at best, as a baseline (repeatable: the best)."
        ),
    ] = None,
    target_repeats: Annotated[int, typer.Option(help="Further trainings of each arm that sets the target.")] = 5,
    every: Annotated[
        int | None, typer.Option(help="Steps between looks at the target; default 20 looks a run.")
    ] = None,
    studies: Annotated[
        int | None, typer.Option(help="Also the time to the target with tuning in it, over so many studies.")
    ] = None,
    landscape: Annotated[
        list[str] | None,
        typer.Option("--landscape", help="Also vary this key alone: KEY=LOW..HIGH or KEY=A,B,C (repeatable)."),
    ] = None,
    points: Annotated[int, typer.Option(help="Values per key of a landscape.")] = 5,
    landscape_seeds: Annotated[int, typer.Option(help="Trainings of each value of a landscape.")] = 3,
    jobs: Annotated[
        int | None, typer.Option(help="Trainings at once; default as many as cores and memory allow.", min=1)
    ] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster that does the trainings.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard what an earlier comparison left.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare recipes fairly: equal budget, several seeds, paired statistics, one verdict.

    Two or more recipes, or one with --vary adapter.method=lora,dora. Writes comparison.json and comparison.html into
    the output folder. Interrupted, or called with more seeds, it goes on with what is missing.
    """
    from tunewright.comparison import compare, request
    from tunewright.report import console

    chosen = request.arms(recipes, vary or (), set_ or ())
    asked = bool(tune or tune_key or tune_on)
    done = compare(
        chosen,
        output or Path("runs") / f"compare-{Path(recipes[0].split('=')[-1]).stem}",
        seeds=seeds,
        budget=request.budget(tokens, seconds, flops),
        measure=measure,
        tune=request.tuning(
            tune_key or (),
            tune_on or (),
            trials,
            sampler,
            tune_seeds,
            halving,
            conventional,
            intervals,
            pruner,
            together,
            tune_limit or (),
        )
        if asked
        else None,
        target=request.target(target, every, studies, target_of or (), target_repeats),
        landscape=request.landscape(landscape or (), points, landscape_seeds),
        jobs=jobs,
        ray=ray,
        say=(lambda text: None) if quiet or json_ else (lambda text: print(text, file=sys.stderr, flush=True)),
        overwrite=overwrite,
    )
    if json_:
        print_json({"output": str(done.folder), **done.plain()})
    else:
        console.show_comparison(done.plain(), done.folder)


@claims_app.callback(invoke_without_command=True)
def claims(context: typer.Context, results: Results = None, json_: Json = False) -> None:
    """The papers' headline claims, re-run in miniature, with their verdicts: holds, does not hold, undecided."""
    if context.invoked_subcommand is not None:
        return
    from tunewright import board
    from tunewright.report import console

    found = board.listed(results or board.RESULTS)
    if json_:
        print_json(found)
    else:
        console.show_claims(found)


@claims_app.command("run")
def claims_run(
    names: Annotated[list[str] | None, typer.Argument(help="Claims by name.", show_default=False)] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="All claims about something: adapters, data, ...")] = None,
    every: Annotated[bool, typer.Option("--all", help="All claims.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", help="Claims run at once.", min=1)] = 1,
    results: Results = None,
    json_: Json = False,
) -> None:
    """Run claims and keep each verdict with its effect, interval, versions, seeds, machine class and time.

    A claim trains small models for at most ten minutes on two cores. The same command gives the same verdict.
    """
    from tunewright import board
    from tunewright.report import console

    folder, done = results or board.RESULTS, []
    for result in board.run_all(board.chosen(names or (), kind, every), jobs, folder):
        done.append(result.claim)
        if not json_:
            typer.echo(f"{result.claim}: {result.verdict} ({result.seconds:.0f} s)")
    found = board.listed(folder, done)
    if json_:
        print_json(found)
    else:
        console.show_claims(found)

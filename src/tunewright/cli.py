"""The command line: one thin function per verb."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
    help="Tunes a pretrained model on your data and proves, by measurement, what got better and what got worse.",
)  # fmt: skip
data_app = typer.Typer(no_args_is_help=True, help="Look at data before any model is loaded.")
app.add_typer(data_app, name="data")
claims_app = typer.Typer(help="The papers' headline claims, re-run in miniature: holds, does not hold, undecided.")
app.add_typer(claims_app, name="claims")

RecipePath = Annotated[Path, typer.Argument(help="The recipe: a YAML or JSON file.", show_default=False)]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a key: --set train.epochs=2 (repeatable).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Results = Annotated[Path | None, typer.Option("--results", help="Folder of the results; default the package's own.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result.")]


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
    from tunewright.report import console

    if len(recipes) > 1:
        _chain(recipes, output, set_ or (), resume, overwrite, json_, quiet)
        return
    [recipe] = recipes
    done = start(
        Recipe.read(recipe, set_ or ()), output or Path("runs") / recipe.stem, resume=resume, overwrite=overwrite,
        quiet=quiet or json_,
    )  # fmt: skip
    if done.assembly.world.main:
        if json_:
            _print_json({"output": str(done.folder), **done.evidence.model_dump(mode="json")})
        else:
            console.show(done.evidence, done.folder)


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
    from tunewright.report import console

    folder = output or _fresh(Path("runs") / "demo")
    done = start(Recipe.of(**DEMO), folder, quiet=json_)
    if json_:
        _print_json({"output": str(done.folder), **done.evidence.model_dump(mode="json")})
    else:
        console.show(done.evidence, done.folder)


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
            help="How settings are proposed: tpe, gp, random, halton, grid, dehb (evolution over short and long runs),"
            " or a population of --trials members whose settings change as they train: pbt (the worst copy the best and"
            " change at random), pb2 (they change to where a Gaussian process expects the most gain)."
        ),
    ] = "tpe",
    intervals: Annotated[int, typer.Option(help="With pbt or pb2: parts of a training, each with its setting.")] = 4,
    halving: Annotated[
        int | None, typer.Option(help="Spend the same on more settings, keeping one of so many after a short run.")
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="Also tell when each arm reaches this value of the measure.")
    ] = None,
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
            tune_key or (), tune_on or (), trials, sampler, tune_seeds, halving, conventional, intervals
        )
        if asked
        else None,
        target=request.target(target, every, studies),
        landscape=request.landscape(landscape or (), points, landscape_seeds),
        jobs=jobs,
        ray=ray,
        say=(lambda text: None) if quiet or json_ else (lambda text: print(text, file=sys.stderr, flush=True)),
        overwrite=overwrite,
    )
    if json_:
        _print_json({"output": str(done.folder), **done.plain()})
    else:
        console.show_comparison(done.plain(), done.folder)


@app.command()
def plan(recipe: RecipePath, set_: Changes = None, json_: Json = False) -> None:
    """Predict memory, time and operations of a run; says what to change if it does not fit.

    Loads the model and tries the largest batch and a few steps (at most some 20 seconds); writes nothing.
    """
    from tunewright.planning import predict
    from tunewright.recipe import Recipe

    found = predict(Recipe.read(recipe, set_ or ()))
    if json_:
        _print_json(found.plain())
    else:
        typer.echo(str(found))


@app.command()
def preview(
    recipe: RecipePath,
    set_: Changes = None,
    n: Annotated[int, typer.Option("-n", help="Records shown per source.", min=1)] = 3,
    plain: Annotated[bool, typer.Option("--plain", help="Text without colours: each token with its weight.")] = False,
) -> None:
    """Show the exact tokens of training examples and the loss weight of each, with what looks wrong."""
    from rich.console import Console

    from tunewright.data.preview import preview as shown
    from tunewright.models.load import describe, load_tokenizer
    from tunewright.models.writing import writers
    from tunewright.recipe import Recipe

    loaded = Recipe.read(recipe, set_ or ())
    context, vocabulary = describe(loaded.model)
    asked = writers(loaded)
    found = shown(loaded, load_tokenizer(loaded.model), n, plain, context, vocabulary=vocabulary, writers=asked)
    if plain:
        typer.echo(found)
    else:
        Console().print(found)


@data_app.command("check")
def data_check(recipe: RecipePath, set_: Changes = None, json_: Json = False) -> None:
    """Read every row of every source before any model is loaded: each fault with file, line, field and expectation.

    Exit status 2 when a row is faulty, or a run would refuse the data for another reason.
    """
    from tunewright.data.check import check
    from tunewright.models.load import describe, load_tokenizer
    from tunewright.recipe import Recipe

    loaded = Recipe.read(recipe, set_ or ())
    context, vocabulary = describe(loaded.model)
    report = check(loaded, load_tokenizer(loaded.model), context, vocabulary=vocabulary)
    if json_:
        _print_json(report.plain())
    else:
        typer.echo(str(report))
    raise typer.Exit(0 if report.ok else 2)


@app.command()
def evaluate(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a finished run.", show_default=False)
    ],
    set_: Changes = None,
    spread: Annotated[
        bool, typer.Option("--spread", help="Also measure with other batch sizes: how far answers move by that alone.")
    ] = False,
    json_: Json = False,
) -> None:
    """Measure a finished run again, base beside tuned; first replays the run's fixtures and stops on a difference.

    Other tasks: --set 'evaluate=[{task: exact_match, data: test.jsonl}]'.
    """
    from tunewright.evaluate.measure import verdict
    from tunewright.report import console
    from tunewright.tuned import load

    tuned = load(run_folder, set_ or ())
    measures = tuned.evaluate()
    spreads = tuned.spread() if spread else []
    if json_:
        found = {"verdict": verdict(measures), "measures": [one.model_dump(mode="json") for one in measures]}
        _print_json(found | ({"spread": [one.model_dump(mode="json") for one in spreads]} if spread else {}))
        return
    console.show_measures(verdict(measures), measures)
    for one in spreads:
        scores = ", ".join(f"{score:.4g} at {size}" for score, size in zip(one.scores, one.batches, strict=True))
        typer.echo(f"{one.name}: {scores} positions at once; {one.changed} of {one.n} answers differ")


@app.command()
def chat(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a finished run.", show_default=False)
    ],
    temperature: Annotated[float, typer.Option(help="0 for the most likely answer.", min=0)] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer in tokens.", min=1)] = 256,
) -> None:
    """Talk to base and tuned model side by side in the terminal; an empty line or Ctrl-D ends."""
    from rich.columns import Columns
    from rich.console import Console
    from rich.panel import Panel

    from tunewright.models.generate import Decoding, Sampler
    from tunewright.tuned import load

    tuned = load(run_folder)
    console = Console()
    stop = tuned.assembly.subject().stop
    decoding = Decoding(max_new_tokens=max_new_tokens, stop=stop, sampler=Sampler(temperature=temperature))
    while True:
        try:
            prompt = console.input("[bold]you>[/bold] ")
        except EOFError:
            break
        if not prompt.strip():
            break
        base, answer = tuned.answer(prompt, decoding)
        width = max(20, console.width // 2 - 1)
        console.print(Columns([Panel(base, title="base", width=width), Panel(answer, title="tuned", width=width)]))


@app.command()
def export(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a finished run.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the model.")],
    form: Annotated[
        str, typer.Option("--form", help="'merged' (a whole checkpoint) or 'adapter' (PEFT format).")
    ] = "merged",
    max_kl: Annotated[
        float, typer.Option(help="Largest KL between adapter and merged model, in nats per token.")
    ] = 0.01,
    json_: Json = False,
) -> None:
    """Write the tuned model for use elsewhere, with tokenizer, template, stop tokens and card; checked before it counts.

    Reports the logit difference, KL and top-1 agreement between adapter on base and merged weights, and refuses over
    the threshold.
    """
    from dataclasses import asdict

    from tunewright.errors import BadInput
    from tunewright.export import export as write
    from tunewright.tuned import load

    if form not in ("merged", "adapter"):
        raise BadInput("no such form", field="--form", found=form, expected="merged or adapter")
    check = write(load(run_folder), output, form, max_kl)  # type: ignore[arg-type]
    found = {"output": str(output), "form": form, "check": asdict(check) if check else None}
    if json_:
        _print_json(found)
    else:
        typer.echo(f"wrote {output} ({form})")
        if check:
            typer.echo(
                f"merged against base plus adapter on {check.tokens} held-out tokens: largest logit difference "
                f"{check.largest_difference:.2g}, mean {check.mean_difference:.2g}, KL {check.kl:.2g} nats per token, "
                f"top-1 agreement {check.top1_agreement:.2%}"
            )


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


@app.command()
def methods(
    query: Annotated[str | None, typer.Argument(help="A name, a kind, or a word of the description.")] = None,
    json_: Json = False,
) -> None:
    """List the methods with their papers, needs and standing; with a NAME, its fields, defaults and equations.

    A method is proven when its kind has a contract, it has a test of its own, and the claims of its papers are judged;
    what is missing is said. Claims are listed by `tunewright claims`.
    """
    import inspect

    from tunewright import catalog, listing
    from tunewright.errors import BadInput, nearest
    from tunewright.report import console
    from tunewright.standing import standing

    every = [method for kind in catalog.ROOMS if kind != "claim" for method in catalog.methods(kind)]
    exact = [method for method in every if query is not None and query == method.name]
    found = exact or [m for m in every if query is None or query.lower() in f"{m.kind} {m.name} {m.summary()}".lower()]
    if not found:
        raise BadInput(f"no method matches '{query}'", hint=nearest(query or "", [m.name for m in every]))
    told = [listing.described(method) | standing(method) for method in found]
    if json_:
        _print_json(told)
    elif exact:
        for method, each in zip(exact, told, strict=True):
            console.show_method(each, inspect.cleandoc(method.__doc__ or ""))
    else:
        console.show_methods(told)


@claims_app.callback(invoke_without_command=True)
def claims(context: typer.Context, results: Results = None, json_: Json = False) -> None:
    """The papers' headline claims, re-run in miniature, with their verdicts: holds, does not hold, undecided."""
    if context.invoked_subcommand is not None:
        return
    from tunewright import board
    from tunewright.report import console

    found = board.listed(results or board.RESULTS)
    if json_:
        _print_json(found)
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
        _print_json(found)
    else:
        console.show_claims(found)


@app.command()
def check_method(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A Python file that defines methods.")],
    json_: Json = False,
) -> None:
    """Hold the methods of a Python file to the contract of their kind, and say what they do not keep.

    Name the file under `use:` in a recipe to work with its methods. Tiny random models, a minute or so.
    """
    from dataclasses import asdict

    from tunewright.testing.checking import check_file

    findings = []
    for one in check_file(file):
        findings.append(one)
        if not json_:
            typer.echo(f"{'ok    ' if one.fault is None else 'FAILED'} {one.method}: {one.promise}")
            if one.fault is not None:
                typer.echo(f"       {one.fault}")
    broken = sum(one.fault is not None for one in findings)
    if json_:
        _print_json([asdict(one) for one in findings])
    else:
        typer.echo(f"{len(findings) - broken} of {len(findings)} promises are kept")
    if broken:
        raise SystemExit(1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, with which editors complete and check YAML."""
    from tunewright import listing

    _print_json(listing.schema())


@app.command()
def doctor(json_: Json = False) -> None:
    """Show the machine, the versions, and what a run here would use."""
    from tunewright import machine

    found = machine.report()
    if json_:
        _print_json(found)
        return
    for section, values in found.items():
        typer.echo(section)
        for name, value in values.items():
            typer.echo(f"  {name:<18} {value}")


@app.command()
def bench(
    size: Annotated[list[str] | None, typer.Option("--size", help="7m or 70m (repeatable); default both.")] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each kind; medians are told.", min=1)] = 3,
    peer: Annotated[bool, typer.Option("--peer/--no-peer", help="Also time TRL with PEFT, where installed.")] = True,
    aa: Annotated[
        bool, typer.Option("--aa", help="Instead, compare a recipe with itself 1,000 times and count false alarms.")
    ] = False,
    json_: Json = False,
) -> None:
    """Measure training speed and memory here: ours, a hand-written minimal loop, and TRL with PEFT, in one run."""
    if aa:
        from tunewright.comparison import calibration

        pool = calibration.calibrate(Path("runs") / "aa", say=lambda text: print(text, file=sys.stderr, flush=True))
        if json_:
            _print_json(calibration.plain(pool))
        else:
            typer.echo(calibration.told(pool))
        return
    from tunewright.bench import compare

    found = compare(size or ["7m", "70m"], repeats, peer)
    if json_:
        _print_json(found)
    else:
        typer.echo(found["table"])


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


def main() -> None:
    """Runs a command; a fault ends in one message on standard error and its exit status."""
    from tunewright.errors import Fault

    try:
        app()
    except Fault as fault:
        print(f"tunewright: {fault}", file=sys.stderr)
        raise SystemExit(fault.status) from None
    except KeyboardInterrupt:
        print("tunewright: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


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
        _print_json({"output": str(folder), **done.found})
    else:
        console.show_chain(done.found, folder)


def _fresh(base: Path) -> Path:
    number = next(n for n in range(1, 1_000_000) if not base.with_name(f"{base.name}-{n}").exists())
    return base.with_name(f"{base.name}-{number}")


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

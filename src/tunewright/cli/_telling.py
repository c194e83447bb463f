"""Commands that tell what there is and what the machine can do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli._app import Json, app, print_json


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
        print_json(told)
    elif exact:
        for method, each in zip(exact, told, strict=True):
            console.show_method(each, inspect.cleandoc(method.__doc__ or ""))
    else:
        console.show_methods(told)


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
        print_json([asdict(one) for one in findings])
    else:
        typer.echo(f"{len(findings) - broken} of {len(findings)} promises are kept")
    if broken:
        raise SystemExit(1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, with which editors complete and check YAML."""
    from tunewright import listing

    print_json(listing.schema())


@app.command()
def doctor(json_: Json = False) -> None:
    """Show the machine, the versions, and what a run here would use."""
    from tunewright import machine

    found = machine.report()
    if json_:
        print_json(found)
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
            print_json(calibration.plain(pool))
        else:
            typer.echo(calibration.told(pool))
        return
    from tunewright.bench import compare

    found = compare(size or ["7m", "70m"], repeats, peer)
    if json_:
        print_json(found)
    else:
        typer.echo(found["table"])

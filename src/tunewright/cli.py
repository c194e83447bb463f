"""The command line: one thin function per verb."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
    help="Tunes a pretrained model on your data and proves, by measurement, what got better and what got worse.",
)  # fmt: skip
data_app = typer.Typer(no_args_is_help=True, help="Look at data before any model is loaded.")
app.add_typer(data_app, name="data")

RecipePath = Annotated[Path, typer.Argument(help="The recipe: a YAML or JSON file.", show_default=False)]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a key: --set train.epochs=2 (repeatable).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result.")]


@app.command()
def run(
    recipe: RecipePath,
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
    """
    from tunewright.pipeline import run as start
    from tunewright.recipe import Recipe
    from tunewright.report import console

    done = start(
        Recipe.read(recipe, set_ or ()), output or Path("runs") / recipe.stem, resume=resume, overwrite=overwrite,
        quiet=quiet or json_,
    )  # fmt: skip
    if done.assembly.world.main:
        if json_:
            _print_json({"output": str(done.folder), **done.evidence.model_dump(mode="json")})
        else:
            console.show(done.evidence, done.folder)


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


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

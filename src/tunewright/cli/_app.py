"""What the verbs share: the application, options, and how results are printed."""

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
claims_app = typer.Typer(help="The papers' headline claims, re-run in miniature: holds, does not hold, undecided.")
app.add_typer(claims_app, name="claims")

RecipePath = Annotated[Path, typer.Argument(help="The recipe: a YAML or JSON file.", show_default=False)]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a key: --set train.epochs=2 (repeatable).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Results = Annotated[Path | None, typer.Option("--results", help="Folder of the results; default the package's own.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result.")]


def print_json(value: Any) -> None:
    """Prints a value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")

"""Commands that look at data before any model is loaded."""

from __future__ import annotations

from typing import Annotated

import typer

from tunewright.cli._app import Changes, Json, RecipePath, app, data_app, print_json


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
        print_json(report.plain())
    else:
        typer.echo(str(report))
    raise typer.Exit(0 if report.ok else 2)

"""Rows read, completed and prepared by a format, for the tests of formats."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tunewright import catalog
from tunewright.data.completing import Completion
from tunewright.data.prepare import prepare
from tunewright.data.reading import Reader
from tunewright.document import Keys
from tunewright.recipe import Recipe, SourceSpec

HERE = Keys(None, {})


def made(name, **options):
    return catalog.find("format", name)(**options)


def read_rows(name, rows, reading=None, **options):
    """The records of rows as the format reads them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = SourceSpec(path=str(path), format=made(name, **options), **(reading or {}))
        return list(Reader(source, HERE).records())


def completed(name, records, role="train", pool=(), writers=None, **options):
    """For each record those in its place."""
    source = SourceSpec(path="rows", format=made(name, **options))
    return Completion([source], writers or {}, {0: list(pool)}).of(source, 0, records, role, lambda record: "chat")


def prepared(folder, tokenizer, rows, *, writers=None, supplies=None, cache=None, **data):
    """The rows in a file, prepared by a recipe with these options under `data`."""
    path = Path(folder) / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = Recipe.of(
        model="unused", data={"train": str(path), "cache": cache is not None, **data}, supplies=supplies or {}
    )
    return prepare(recipe, tokenizer, cache_dir=cache, writers=writers or {})

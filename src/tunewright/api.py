"""The Python interface: `tune`, `load`, `evaluate`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright.evaluate.measure import Measure
from tunewright.pipeline import Run
from tunewright.pipeline import run as _run
from tunewright.recipe import Recipe
from tunewright.tuned import Tuned
from tunewright.tuned import load as _load


def tune(
    *,
    output: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    **recipe: Any,
) -> Run:
    """Tunes a model; the keywords are a recipe's keys, methods as names, options or objects.

    ```python
    run = tunewright.tune(model="nano", data="train.jsonl", adapter=tunewright.adapters.LoRA(rank=8))
    run.verdict
    ```

    `output` is the run's folder (default: a new temporary one, named in `run.folder`). Raises `BadInput`, `NotFinite`
    or `Interrupted` (all `tunewright.errors.Fault`).
    """
    folder = Path(output) if output is not None else Path(tempfile.mkdtemp(prefix="tunewright-"))
    return _run(Recipe.of(**recipe), folder, resume=resume, overwrite=overwrite, quiet=quiet)


def load(folder: str | Path) -> Tuned:
    """The tuned model of a finished run, beside its base; the run's fixtures are replayed first."""
    return _load(folder)


def evaluate(folder: str | Path, tasks: Sequence[Any] | None = None) -> list[Measure]:
    """Measures a finished run again: base and tuned model on its recipe's tasks, or on `tasks` (names or options)."""
    tuned = _load(folder)
    if tasks is None:
        return tuned.evaluate()
    plain = tuned.assembly.recipe.plain()
    named = Recipe.of(model=plain["model"], data=plain["data"], evaluate=list(tasks))
    return tuned.evaluate(list(named.evaluate))

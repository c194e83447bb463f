"""Generated answers judged by a function of the user's."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from tunewright.catalog import option
from tunewright.data.records import Record
from tunewright.document import find_path
from tunewright.errors import BadInput, nearest
from tunewright.evaluate.base import Scores, Subject, Unit
from tunewright.evaluate.tasks._generated import Generated, Judge
from tunewright.models.generate import Answer


class Custom(Generated):
    """Greedy answers scored by a Python function of yours, `FILE.py:NAME`.

    The function takes (answer text, record) and returns a finite number; the score is the mean over rows. The record
    has `prompt`, `answer` (the reference) and `columns` (the row's further values).
    """

    name: ClassVar[str] = "custom"
    unit: ClassVar[Unit] = "score"

    function: str = option(
        ...,
        "The scoring function, FILE.py:NAME.",
        changes="output",
        to="judge.py:vowels",
        given={"evaluate.function": "judge.py:length"},
        pattern=r"^.+\.py:[A-Za-z_]\w*$",
    )
    higher_is_better: bool = option(True, "Whether a higher value is better.", changes="output", to=False)

    @property
    def metric(self) -> str:
        """The function's name."""
        return self.function.rpartition(":")[2]

    def score(self, subject: Subject) -> Scores:
        """One value per row. Raises `BadInput` when the function cannot be loaded, fails, or returns no number."""
        return replace(super().score(subject), higher_is_better=self.higher_is_better)

    def judge(self, subject: Subject) -> Judge:
        """The user's function, held to its promise."""
        file, _, name = self.function.rpartition(":")
        path = find_path(file, subject.origin, ("evaluate", "function"))
        function = load(path, name)

        def value(answer: Answer, record: Record) -> float:
            try:
                found = function(answer.text, record)
            except Exception as error:
                raise BadInput(
                    f"{name} failed on {record.where}: {type(error).__name__}: {error}", file=path, field="function"
                ) from error
            if not isinstance(found, int | float) or not math.isfinite(found):
                raise BadInput(
                    f"{name} gave no number for {record.where}", file=path, field="function", found=found,
                    expected="a finite number",
                )  # fmt: skip
            return float(found)

        return value


def load(path: Path, name: str) -> Callable[[str, Record], Any]:
    """The function `name` of the Python file at `path`."""
    spec = importlib.util.spec_from_file_location(f"tunewright_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadInput("not a Python file", file=path, field="function", expected="FILE.py:NAME")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadInput(f"importing it failed: {type(error).__name__}: {error}", file=path, field="function") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, item in vars(module).items() if callable(item) and not key.startswith("_")]
        raise BadInput(
            f"has no function '{name}'", file=path, field="function", hint=nearest(name, known) or f"Found: {known}."
        )
    return function

"""Claims that go on from a small decoder which they train first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from pydantic import PrivateAttr

from tunewright.claims._rates import AtBestRate
from tunewright.claims._small import architecture, keep, recipe
from tunewright.claims.base import Bench, Findings

EARLIER = ("storytelling", "facts", "dialogues", "functions", "translation")
"""What the decoder reads first."""


def pretrained(bench: Bench, folder: str | Path, steps: int, width: int = 64, layers: int = 8, skills: Sequence[str] = EARLIER) -> str:  # fmt: skip
    """Trains a decoder from nothing on every token of the skills' rows, 512 a step at a rate of 3e-3; the path of it."""
    model = {"path": architecture(width, layers), "from_scratch": True}
    first = bench.trial("first", recipe(steps=steps, skills=skills, model=model))
    first.advance()
    return keep(first, folder)


def tuning(steps: int, skills: Sequence[str], held: int = 80, tokens: int = 512, **changes: Any) -> dict[str, Any]:
    """Tuning all parameters on the answers of the skills' rows; measured by the loss of `held` other rows of each."""
    made = recipe(steps=steps, skills=skills, tokens=tokens, **changes)
    rows = [{"path": f"nano:{skill}/test", "limit": held, "name": skill} for skill in skills]
    return {**made, "data": {**made["data"], "eval": rows, "train_on": "completion"}}


class OnPretrained(AtBestRate):
    """Arms that all go on from one decoder of `width` and `layers`, trained for `first` steps within the claim."""

    first: ClassVar[int] = 400
    width: ClassVar[int] = 64
    layers: ClassVar[int] = 8
    _model: str = PrivateAttr("")

    def made(self, arm: str, rate: float, seed: int, split: str) -> dict[str, Any]:
        """The recipe of one run."""
        return {**super().made(arm, rate, seed, split), "model": {"path": self._model}}

    def findings(self, bench: Bench) -> Findings:
        """Every criterion's difference per seed."""
        with TemporaryDirectory() as folder:
            self._model = pretrained(bench, folder, self.first, self.width, self.layers)
            return super().findings(bench)


def with_data(made: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The recipe with keys of its data replaced."""
    return {**made, "data": {**made["data"], **changes}}

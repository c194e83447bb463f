"""A few blocks drawn at random train, the rest rests; what is outside the blocks always trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunewright.catalog import option
from tunewright.errors import BadInput
from tunewright.models.layers import block_of
from tunewright.optimize.layers._resting import Resting
from tunewright.optimize.layers.base import Layers

if TYPE_CHECKING:
    from tunewright.train.loop import Loop

Floats = NDArray[np.float64]


class Drawn(Layers):
    """Draws `blocks` of a model's blocks every `every` steps; a family member says with which probabilities."""

    blocks: int = option(2, "Blocks that train at a time.", changes="loss", to=2, given={"layers.blocks": 1}, ge=1)
    every: int = option(20, "Steps between draws.", changes="loss", to=1, given={"layers.blocks": 1}, ge=1)
    keep_state: bool = option(
        False, "Keep the optimizer state of resting blocks, in the processor's memory, instead of dropping it.",
        changes="loss", to=True, given={"layers.blocks": 1, "layers.every": 1},
    )  # fmt: skip

    def probabilities(self, loop: Loop, blocks: list[str]) -> Floats:
        """The probability of each block to be drawn first, float64 [blocks], summing to 1."""
        raise NotImplementedError

    def hook(self) -> Draws:
        return Draws(self)


class Draws(Resting):
    """Draws by (seed, interval), so that every process and a resumed run draw the same.

    A block drawn twice in a row did not rest in between and keeps its optimizer state.
    """

    def __init__(self, method: Drawn) -> None:
        super().__init__(method.every, method.keep_state)
        self.method = method
        self.probabilities: Floats | None = None

    def chosen(self, loop: Loop, turn: int) -> set[str]:
        blocks = blocks_of(loop.attached.trained())
        names = [name for name in blocks if name]
        if len(names) < self.method.blocks:
            raise BadInput(
                f"the model has {len(names)} blocks that train",
                field="layers.blocks",
                found=self.method.blocks,
                expected=f"at most {len(names)}",
            )
        if self.probabilities is None:
            self.probabilities = self.method.probabilities(loop, names)
        rng = np.random.default_rng([loop.settings.seed, turn, 0xB10C])
        picked = [names[number] for number in drawn(self.probabilities, self.method.blocks, rng)]
        return {parameter for block in ["", *picked] for parameter in blocks.get(block, [])}

    def state(self) -> dict[str, Any]:
        return {**super().state(), "probabilities": None if self.probabilities is None else self.probabilities.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        found = state.get("probabilities")
        self.probabilities = None if found is None else np.asarray(found)


def blocks_of(trained: Mapping[str, object]) -> dict[str, list[str]]:
    """Names of trained parameters by block, in their order; those outside the blocks under the empty name."""
    found: dict[str, list[str]] = {}
    for name in trained:
        found.setdefault(block_of(name) or "", []).append(name)
    return found


def drawn(probabilities: Floats, count: int, rng: np.random.Generator) -> list[int]:
    """`count` different numbers drawn one after the other by `probabilities`; where fewer are positive, those and
    others uniformly."""
    positive = np.flatnonzero(probabilities)
    if len(positive) < count:
        rest = np.flatnonzero(probabilities == 0)
        return [*positive.tolist(), *rng.choice(rest, count - len(positive), replace=False).tolist()]
    picked: list[int] = rng.choice(len(probabilities), count, replace=False, p=probabilities).tolist()
    return picked

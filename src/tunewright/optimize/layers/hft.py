"""HFT: half of the matrices train."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from tunewright.catalog import Paper, option
from tunewright.optimize.layers._drawn import blocks_of
from tunewright.optimize.layers._resting import Resting
from tunewright.optimize.layers.base import Layers

if TYPE_CHECKING:
    from tunewright.train.loop import Loop


class HFT(Layers):
    """Trains a random half of the weight matrices for the whole run; the other half keeps its values bit for bit.

    min L(theta) subject to (1 - M) * (theta - theta_before) = 0, with M a mask over modules (a matrix with its bias).
    By category, every block trains half of its attention matrices, of its feed-forward matrices and of its norms;
    where that is no whole number, a random half of the blocks trains one more (of L blocks floor(L / 2)). `level`
    block draws whole blocks, model draws among all modules of all blocks. With grouped key and value heads matrices
    differ in size, so the share of parameters wanders by some percent. Optimizer state exists for the half alone.

    When to use: a sequence of runs on the same weights that should forget less; give each its own `stage`. When not:
    one run on much data, where all parameters learn more.
    """

    name: ClassVar[str] = "hft"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="HFT: Half Fine-Tuning for Large Language Models", arxiv="2404.18466", card=18),
    )

    fraction: float = option(0.5, "Share of the modules that trains.", changes="loss", to=0.25, gt=0, le=1)
    level: Literal["category", "block", "model"] = option(
        "category", "Drawn within a kind of module of each block, by whole blocks, or among all modules.",
        changes="loss", to="model",
    )  # fmt: skip
    outside: bool = option(
        False, "Train what is outside the blocks too (embeddings, head, last norm).", changes="loss", to=True,
        given={"adapter.train_modules": ["embed_tokens"]},
    )  # fmt: skip
    stage: int = option(0, "Number of this run in a sequence; each draws its own half.", changes="loss", to=1, ge=0)

    def hook(self) -> _Half:
        return _Half(self)

    def selected(self, trained: Mapping[str, int], seed: int) -> set[str]:
        """Names of the parameters that train; `trained` is name -> number of dimensions, in the model's order."""
        rng = np.random.default_rng([seed, self.stage, 0x4F7])
        blocks = blocks_of(trained)
        beyond = blocks.pop("", [])
        outside = set(beyond) if self.outside else set()
        modules = {block: list(dict.fromkeys(_module(name) for name in names)) for block, names in blocks.items()}
        if self.level == "block":
            count = math.floor(self.fraction * len(blocks))
            picked = {module for block in _some(list(blocks), count, rng) for module in modules[block]}
        elif self.level == "model":
            every = [module for block in modules.values() for module in block]
            picked = set(_some(every, math.floor(self.fraction * len(every)), rng))
        else:
            picked = self._by_category(modules, trained, rng)
        return outside | {name for names in blocks.values() for name in names if _module(name) in picked}

    def _by_category(
        self, modules: Mapping[str, list[str]], trained: Mapping[str, int], rng: np.random.Generator
    ) -> set[str]:
        matrices = {_module(name) for name, dimensions in trained.items() if dimensions > 1}
        kind = lambda m: ("attention" if "attn" in m or "attention" in m else "mlp") if m in matrices else "norm"
        picked: set[str] = set()
        for category in ("attention", "mlp", "norm"):
            own = {block: [m for m in found if kind(m) == category] for block, found in modules.items()}
            # One more in so many blocks that the share comes out over the whole model.
            parts = {block: self.fraction * len(found) for block, found in own.items()}
            more = _some(list(own), math.floor(sum(part - math.floor(part) for part in parts.values())), rng)
            for block, found in own.items():
                picked |= set(_some(found, min(len(found), math.floor(parts[block]) + (block in more)), rng))
        return picked


class _Half(Resting):
    """Draws once; a resumed run goes on with what it drew."""

    def __init__(self, method: HFT) -> None:
        super().__init__()
        self.method = method

    def chosen(self, loop: Loop, turn: int) -> set[str]:
        dimensions = {name: p.ndim for name, p in loop.attached.trained().items()}
        return self.method.selected(dimensions, loop.settings.seed)


def _module(parameter: str) -> str:
    """The module a parameter belongs to."""
    return parameter.rpartition(".")[0]


def _some(items: list[str], count: int, rng: np.random.Generator) -> list[str]:
    return [items[int(number)] for number in rng.permutation(len(items))[:count]]

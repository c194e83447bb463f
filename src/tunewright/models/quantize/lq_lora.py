"""LQ-LoRA: a quantized matrix and a low-rank pair chosen together."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.models.layers import ALL_LINEAR, targets
from tunewright.models.quantize._approximation import Pair, factors
from tunewright.models.quantize._layer import QuantizedLinear, Stored
from tunewright.models.quantize._normal_float import Rounded, StoredNormalFloat
from tunewright.models.quantize.base import Quantizer

Matrix = NDArray[np.float64]

CHOICES = [(bits, block) for bits in (2, 3, 4, 8) for block in (16, 32, 64)]
"""Bits and block that a matrix may have under a budget."""

TRIED = 5
"""Most turns by which a choice is judged."""

NOTHING_LEFT = 1e-6
"""A residual below this share of the matrix is rounding: it offers nothing to start from."""


class LQLoRA(Quantizer):
    """Quantizes what a low-rank pair leaves over, by turns, and offers the pair to the adapter as its first update.

    Q = 0; repeat: L1 L2 = best rank-r approximation of W - Q; Q = quantize(W - L1 L2); until the error
    ||W - L1 L2 - Q|| rises. Plain quantize(W) is kept where it is no worse. The offered pair is the
    best rank-r approximation of W - Q for the Q that was kept, whose error is at most that of the last turn. The
    adapter's rank must be `rank`; with the adapter off the model computes with Q alone.

    Levels: NormalFloat of `bits` bits times an absmax per `block` weights; the absmax values less the matrix's smallest
    as 8-bit numbers times one bfloat16 constant per 256 of them: bits + 8/block + 16/(256 block) bits per weight.

    With `budget`, an integer program chooses bits (2, 3, 4, 8) and block (16, 32, 64) for every matrix: the least sum
    of squared errors ||W - L1 L2 - Q||^2 (after at most 5 turns) whose total size is at most `budget` bits per weight.
    `bits` and `block` then mean nothing, and every load takes about 60 more decompositions per matrix. The paper also
    chooses how scales are stored, which is fixed here.

    Not here: the paper's weighting by Fisher information, which needs gradients before anything is quantized.

    When to use: 2 to 4 bits under a low-rank adapter. When not: under adapters that begin elsewhere (pissa), or 8 bits,
    where there is little to correct.
    """

    name: ClassVar[str] = "lq_lora"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="LQ-LoRA: Low-rank Plus Quantized Matrix Decomposition for Efficient Language Model Finetuning",
            arxiv="2311.12023",
            card=90,
        ),
    )

    rank: int = option(16, "Rank of the pair, and of the adapter.", changes="error", to=2, given={"quantizer.rank": 4}, ge=1)  # fmt: skip
    bits: int = option(4, "Bits per weight.", changes="loss", to=2, given={"quantizer.rank": 4}, ge=2, le=8)
    block: int = option(64, "Weights that share an absmax.", changes="loss", to=16, given={"quantizer.rank": 4}, ge=2)
    iterations: int = option(100, "Most turns of approximating and quantizing; 0 quantizes the weight itself.", changes="loss", to=0, given={"quantizer.rank": 4, "quantizer.bits": 2}, ge=0)  # fmt: skip

    budget: float | None = option(None, "Mean bits per weight within which every matrix gets bits and block of its own.", changes="loss", to=3.0, given={"quantizer.rank": 4}, ge=2)  # fmt: skip

    @property
    def traits(self) -> frozenset[str]:
        return frozenset()

    def store(self, weight: Tensor) -> StoredNormalFloat:
        return StoredNormalFloat(self.decomposed(weight).kept, weight.shape)

    def offer(self, weight: Tensor, stored: Stored) -> tuple[Tensor, Tensor] | None:
        return offered(weight.float() - stored.restored(), self.rank, weight)

    def replaced(self, layer: nn.Module) -> QuantizedLinear:
        found: list[Decomposition] = []

        def store(weight: Tensor) -> StoredNormalFloat:
            found.append(self.decomposed(weight))
            return StoredNormalFloat(found[0].kept, weight.shape)

        made = QuantizedLinear.of(layer, store)
        made.offer = found[0].pair
        return made

    def apply(self, model: Any) -> None:
        if self.budget is None:
            super().apply(model)
            return
        layers = targets(model, ALL_LINEAR)
        weights = [QuantizedLinear.original(layer) for layer in layers.values()]
        costs = np.array([self._costs(weight) for weight in weights])
        sizes = np.array([[weight.numel() * one.bits_per_weight for one in self._tried] for weight in weights])
        chosen = allocated(costs, sizes, self.budget * sum(weight.numel() for weight in weights))
        for (name, layer), index in zip(layers.items(), chosen, strict=True):
            bits, block = CHOICES[index]
            parent, _, leaf = name.rpartition(".")
            own = self.model_copy(update={"bits": bits, "block": block})
            setattr(model.get_submodule(parent), leaf, own.replaced(layer))

    @property
    def _tried(self) -> list[LQLoRA]:
        turns = min(self.iterations, TRIED)
        return [self.model_copy(update={"bits": bits, "block": block, "iterations": turns}) for bits, block in CHOICES]

    def _costs(self, weight: Tensor) -> list[float]:
        """The squared error that every choice leaves of a matrix; all of them begin with the same pair."""
        first = factors(weight, self.rank)
        return [one.left(weight, first) for one in self._tried]

    @property
    def bits_per_weight(self) -> float:
        """What a weight takes with its share of the scales."""
        return self.bits + 8 / self.block + 16 / (256 * self.block)

    def left(self, weight: Tensor, first: Pair | None = None) -> float:
        """The squared error of a matrix that its quantized part and the pair leave together."""
        found = self.decomposed(weight, first)
        rest = weight.float() - found.kept.restored(weight.shape)
        if found.pair is not None:
            rest.addmm_(*found.pair, alpha=-1)
        return float(rest.square().sum())

    def decomposed(self, weight: Tensor, first: Pair | None = None) -> Decomposition:
        """The matrix in two parts; `first` is its own best pair, where that is known."""
        weight = weight.float()
        plain = Rounded.of(weight, self.bits, self.block)
        errors = [float((weight - plain.restored(weight.shape)).norm())]
        turns: list[float] = []
        kept = plain
        pair = first or factors(weight, self.rank)
        for _ in range(self.iterations):
            left = weight.addmm(*pair, alpha=-1)
            rounded = Rounded.of(left, self.bits, self.block)
            quantized = rounded.restored(weight.shape)
            error = float(left.sub_(quantized).norm())
            if turns and error >= turns[-1]:
                break
            turns.append(error)
            kept, pair = rounded, factors(weight - quantized, self.rank)
        if turns and turns[-1] < errors[0]:
            return Decomposition(kept, pair, errors + [error for error in turns if error < errors[0]])
        return Decomposition(plain, offered(weight - plain.restored(weight.shape), self.rank, weight), errors)


class Decomposition(NamedTuple):
    """The quantized part that was kept, the pair B [out, r] and A [r, in] for what it leaves over (None: nothing), and
    the error of every turn that was no worse than the one before it; the first is that of quantizing W itself."""

    kept: Rounded
    pair: Pair | None
    errors: list[float]


def allocated(costs: Matrix, sizes: Matrix, budget: float) -> list[int]:
    """The choice per row whose costs [matrices, choices] sum to the least with sizes that sum to at most `budget`.

    Raises `BadInput` when the smallest choices are over the budget.
    """
    smallest = float(sizes.min(1).sum())
    if smallest > budget:
        raise BadInput(
            "no choice of bits is so small",
            field="model.quantize.budget",
            found=f"{budget:g} bits in all",
            expected=f"at least {smallest:g}",
        )
    rows, choices = costs.shape
    one_each = np.kron(np.eye(rows), np.ones(choices))
    scale = float(costs.max()) or 1.0
    found = milp(
        costs.ravel() / scale,
        integrality=np.ones(costs.size),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(sizes.reshape(1, -1) / budget, 0, 1)],
        options={"mip_rel_gap": 0.0},
    )
    picked: list[int] = found.x.reshape(rows, choices).argmax(1).tolist()
    return picked


def offered(left: Tensor, rank: int, weight: Tensor) -> Pair | None:
    """The pair for what is left over of a matrix, or None where that is rounding alone."""
    return None if left.norm() <= NOTHING_LEFT * weight.norm() else factors(left, rank)

"""LQ-LoRA: a quantized matrix and a low-rank pair chosen together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from tunewright.catalog import Need, Paper, option
from tunewright.errors import BadInput
from tunewright.models.layers import ALL_LINEAR, targets
from tunewright.models.quantize._approximation import Pair
from tunewright.models.quantize._fisher import Importance, fishers
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

EVEN = Importance()
"""Every weight matters the same."""


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

    With `fisher`, errors are weighed by F, the sum over `sequences` single sequences of `supplies: {calibration: ...}`
    of the squared gradient of the unquantized model's mean loss: the pair is that of diag(d_r) (W - Q) diag(d_c), whose
    factors are divided by d_r and d_c again, d_r and d_c the roots of F's means over rows and columns (clamped at 1e-8
    of the mean of all), and every error, also the budget's, is ||sqrt(F) * (W - L1 L2 - Q)||. Q itself is rounded
    without weights. It takes one pass over these sequences at every load, and one float32 per weight meanwhile. Rows
    are read as those of the first training source, the first `sequences` of them, and a tenth is left out as held out.
    The paper weighs by default; here it is off until rows are named.

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

    fisher: bool = option(False, "Weigh errors by what they do to the loss on calibration rows.", changes="loss", to=True, given={"quantizer.rank": 4, "quantizer.bits": 2})  # fmt: skip
    sequences: int = option(10_000, "Most calibration rows that are used.", changes="loss", to=1, given={"quantizer.rank": 4, "quantizer.bits": 2, "quantizer.fisher": True}, ge=1)  # fmt: skip

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"calibration"}) if self.fisher else frozenset()

    @property
    def rows(self) -> int:
        return self.sequences

    @property
    def traits(self) -> frozenset[str]:
        return frozenset()

    def store(self, weight: Tensor) -> StoredNormalFloat:
        return StoredNormalFloat(self.decomposed(weight).kept, weight.shape)

    def offer(self, weight: Tensor, stored: Stored) -> Pair | None:
        return offered(weight.float() - stored.restored(), self.rank, weight, EVEN)

    def apply(self, model: Any, supplies: Mapping[str, Any] | None = None) -> None:
        layers = targets(model, ALL_LINEAR)
        known = fishers(model, (supplies or {})["calibration"], self.sequences) if self.fisher else {}
        methods = self._within_budget(layers, known)
        for name, layer in layers.items():
            parent, _, leaf = name.rpartition(".")
            setattr(
                model.get_submodule(parent), leaf, methods[name]._decomposing(layer, Importance(known.pop(name, None)))
            )

    def replaced(self, layer: nn.Module) -> QuantizedLinear:
        return self._decomposing(layer, EVEN)

    def _decomposing(self, layer: nn.Module, importance: Importance) -> QuantizedLinear:
        found: list[Decomposition] = []

        def store(weight: Tensor) -> StoredNormalFloat:
            found.append(self.decomposed(weight, importance=importance))
            return StoredNormalFloat(found[0].kept, weight.shape)

        made = QuantizedLinear.of(layer, store)
        made.offer = found[0].pair
        return made

    def _within_budget(self, layers: Mapping[str, nn.Module], known: Mapping[str, Tensor]) -> dict[str, LQLoRA]:
        """Layer -> this method with the bits and block of its own that the budget leaves it."""
        if self.budget is None:
            return dict.fromkeys(layers, self)
        weights = {name: QuantizedLinear.original(layer) for name, layer in layers.items()}
        costs = np.array([self._costs(weight, Importance(known.get(name))) for name, weight in weights.items()])
        sizes = np.array([[weight.numel() * one.bits_per_weight for one in self._tried] for weight in weights.values()])
        chosen = allocated(costs, sizes, self.budget * sum(weight.numel() for weight in weights.values()))
        own = [dict(zip(("bits", "block"), CHOICES[index], strict=True)) for index in chosen]
        return {name: self.model_copy(update=each) for name, each in zip(layers, own, strict=True)}

    @property
    def _tried(self) -> list[LQLoRA]:
        turns = min(self.iterations, TRIED)
        return [self.model_copy(update={"bits": bits, "block": block, "iterations": turns}) for bits, block in CHOICES]

    def _costs(self, weight: Tensor, importance: Importance) -> list[float]:
        """The squared error that every choice leaves of a matrix; all of them begin with the same pair."""
        first = importance.pair(weight, self.rank)
        return [one.left(weight, first, importance) for one in self._tried]

    @property
    def bits_per_weight(self) -> float:
        """What a weight takes with its share of the scales."""
        return self.bits + 8 / self.block + 16 / (256 * self.block)

    def left(self, weight: Tensor, first: Pair | None = None, importance: Importance = EVEN) -> float:
        """The squared error of a matrix that its quantized part and the pair leave together."""
        found = self.decomposed(weight, first, importance)
        rest = weight.float() - found.kept.restored(weight.shape)
        if found.pair is not None:
            rest.addmm_(*found.pair, alpha=-1)
        return importance.norm(rest) ** 2

    def decomposed(self, weight: Tensor, first: Pair | None = None, importance: Importance = EVEN) -> Decomposition:
        """The matrix in two parts; `first` is its own best pair, where that is known."""
        weight = weight.float()
        plain = Rounded.of(weight, self.bits, self.block)
        errors = [importance.norm(weight - plain.restored(weight.shape))]
        turns: list[float] = []
        kept = plain
        pair = first or importance.pair(weight, self.rank)
        for _ in range(self.iterations):
            left = weight.addmm(*pair, alpha=-1)
            rounded = Rounded.of(left, self.bits, self.block)
            quantized = rounded.restored(weight.shape)
            error = importance.norm(left.sub_(quantized))
            if turns and error >= turns[-1]:
                break
            turns.append(error)
            kept, pair = rounded, importance.pair(weight - quantized, self.rank)
        if turns and turns[-1] < errors[0]:
            return Decomposition(kept, pair, errors + [error for error in turns if error < errors[0]])
        rest = weight - plain.restored(weight.shape)
        return Decomposition(plain, offered(rest, self.rank, weight, importance), errors)


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


def offered(left: Tensor, rank: int, weight: Tensor, importance: Importance) -> Pair | None:
    """The pair for what is left over of a matrix, or None where that is rounding alone."""
    return None if left.norm() <= NOTHING_LEFT * weight.norm() else importance.pair(left, rank)

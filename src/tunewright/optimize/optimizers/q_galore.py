"""Q-GaLore: GaLore on 8-bit weights with a 4-bit basis, renewed less and less often."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import StateDict

from tunewright.catalog import Paper, option
from tunewright.models.quantize._blockwise import Blocks, dequantize, dynamic_map, quantize
from tunewright.models.quantize._packed import pack, unpack
from tunewright.optimize.optimizers._projected import Projected, ProjectedAdam, State

QUEUE = 5
"""Similarities whose mean decides."""

MOMENTS = 256
"""Numbers of a moment that share a scale."""

SIGNED = {"mean": True, "square": False}
"""Moment -> whether it has a sign."""


class QGaLore(Projected):
    """GaLore whose basis is stored in 4 bits, and taken anew ever more rarely where it has stopped turning.

    The basis is stored as 4-bit codes with a scale and a zero point per 256 numbers (the range widened to hold 0). At
    every new basis the absolute cosine between the old and new leading vector joins a queue of 5; where the queue is
    full and its mean at least `similar`, the matrix's gap doubles. Moments of `eight_bit_from` numbers and more, projected
    or not, are stored in 8 bits: the nearest of 256 values of a dynamic map (signed for the mean, unsigned for the mean
    square) times the largest of 256 neighbours; no mean square that is above 0 becomes 0, which a mean would be divided
    by. State of [m, n], m >= n: 2 r m bytes of moments (and 1/64 more for scales) and r n / 2 bytes of basis.

    Projected matrices take values of `weight_bits` bits: after every step each group of 256 is rounded anew, between
    its smallest and largest number, w = (code - zero) * step; code = floor(w / step) or the one above, the latter with
    the probability that makes the mean w (`stochastic_round`), drawn from (`seed`, step, matrix). The numbers are those
    of the method, its memory is not: a matrix is kept as these values in its own precision, not as codes, and its
    gradient stays until the step. The first forward pass sees the weights as they were loaded.

    When to use: as `galore`, on large matrices, where singular value decompositions take long. When not: a short run,
    in which no queue fills.
    """

    name: ClassVar[str] = "q_galore"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Q-GaLore: Quantized GaLore with INT4 Projection and Layer-Adaptive Low-Rank Gradients",
            arxiv="2407.08296",
            card=81,
        ),
    )

    rank: int = option(256, "Rank of the subspace; at most the smaller side of a matrix.", changes="bytes", to=2, ge=1)
    similar: float = option(
        0.4, "Mean cosine of successive leading vectors from which the gap doubles.", changes="loss", to=1.0,
        given={"optimizer.gap": 1, "optimizer.rank": 2}, ge=0, le=1,
    )  # fmt: skip
    eight_bit_from: int = option(
        4096, "Fewest numbers of a tensor whose moments are stored in 8 bits instead of float32.", changes="bytes", to=1,
        ge=1,
    )  # fmt: skip
    proj_bits: int | None = option(4, "Bits per number of the basis; null stores it as it is.", changes="loss", to=2, ge=2, le=8)  # fmt: skip
    proj_group: int = option(256, "Numbers of the basis that share a scale.", changes="loss", to=8, ge=2)
    weight_bits: int | None = option(8, "Bits of a projected matrix's numbers; null leaves them as they are.", changes="loss", to=4, ge=2, le=8)  # fmt: skip
    weight_group: int = option(256, "Numbers of a matrix that share a scale.", changes="loss", to=8, ge=2)
    stochastic_round: bool = option(True, "Round weights up or down at random instead of to nearest.", changes="loss", to=False)  # fmt: skip
    seed: int = option(0, "Seed of the rounding.", changes="loss", to=1)

    def walking(self, groups: list[dict[str, Any]], projected: Collection[nn.Parameter]) -> ProjectedAdam:
        return _Quantized(groups, projected, self)


class _Quantized(ProjectedAdam):
    method: QGaLore

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        super().step(closure)
        if self.method.weight_bits is None:
            return
        every = [p for group in self.param_groups for p in group["params"]]
        for number, p in enumerate(every):
            if id(p) in self.projected and p.grad is not None:
                p.copy_(self._rounded(p, number, self.state[p]["step"], self.method.weight_bits))

    def _rounded(self, p: Tensor, number: int, step: int, bits: int) -> Tensor:
        """The matrix as its codes of a step are restored."""
        method, generator = self.method, None
        if method.stochastic_round:
            drawn = np.random.SeedSequence([method.seed, number, step]).generate_state(1, np.uint64)
            generator = torch.Generator(p.device).manual_seed(int(drawn[0] >> np.uint64(1)))
        codes, steps, zeros = quantized(p.float(), bits, method.weight_group, generator)
        return restored(codes, steps, zeros, method.weight_group).view(p.shape)

    def due(self, state: State) -> bool:
        return state["step"] == 1 or state["step"] - state["renewed"] >= state["gap"]

    def keep(self, basis: Tensor, state: State) -> None:
        method = self.method
        state["renewed"] = state["step"]
        if "gap" not in state:
            state["gap"], state["cosines"] = method.gap, []
        else:
            # Singular vectors have no sign.
            cosine = float(F.cosine_similarity(self.basis(state)[0], basis[0], dim=0).abs())
            state["cosines"] = [*state["cosines"], cosine][-QUEUE:]
            if len(state["cosines"]) == QUEUE and sum(state["cosines"]) / QUEUE >= method.similar:
                state["gap"] *= 2
        if method.proj_bits is None:
            super().keep(basis, state)
            return
        codes, state["steps"], state["zeros"] = quantized(basis, method.proj_bits, method.proj_group)
        state["codes"], state["shape"] = pack(codes, method.proj_bits), list(basis.shape)

    def basis(self, state: State) -> Tensor:
        bits = self.method.proj_bits
        if bits is None:
            return super().basis(state)
        rows, width = state["shape"]
        codes = unpack(state["codes"], bits, rows * width)
        return restored(codes, state["steps"], state["zeros"], self.method.proj_group).view(rows, width)

    def moments(self, gradient: Tensor, state: State) -> tuple[Tensor, Tensor]:
        if "mean_codes" not in state:
            return super().moments(gradient, state)
        stored = lambda name: Blocks(state[f"{name}_codes"], state[f"{name}_scales"], gradient.shape, MOMENTS)
        return tuple(dequantize(stored(name), dynamic_map(signed)) for name, signed in SIGNED.items())  # type: ignore[return-value]

    def keep_moments(self, mean: Tensor, square: Tensor, state: State) -> None:
        if mean.numel() < self.method.eight_bit_from:
            return
        state.pop("mean", None), state.pop("square", None)
        for (name, signed), values in zip(SIGNED.items(), (mean, square), strict=True):
            blocks = quantize(values, dynamic_map(signed), MOMENTS)
            codes = blocks.codes if signed else torch.maximum(blocks.codes, (values.flatten() > 0).to(torch.uint8))
            state[f"{name}_codes"], state[f"{name}_scales"] = codes, blocks.scales

    def load_state_dict(self, state_dict: StateDict) -> None:
        super().load_state_dict(state_dict)
        # torch brings every tensor of the state into the dtype of its parameter.
        for state in self.state.values():
            state |= {name: value.to(torch.uint8) for name, value in state.items() if name.endswith("codes")}


def quantized(
    values: Tensor, bits: int, group: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes uint8 [n], and per group of the flattened tensor the step and zero point of asymmetric rounding.

    To nearest, or with a `generator` up or down such that the mean of many draws is the value itself. The zero point is
    a whole number, so the end of a group may lie up to half a step outside of the codes, which then end there.
    """
    top = 2**bits - 1
    flat = values.flatten()
    # The last group is padded with zeros, which every group's range holds anyway.
    rows = F.pad(flat, (0, -len(flat) % group)).view(-1, group)
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    steps = (high - low).clamp(min=1e-5) / top
    zeros = (-(low / steps).round()).clamp(0, top)
    exact = rows / steps[:, None]
    if generator is None:
        whole = exact.round()
    else:
        drawn = torch.rand(exact.shape, generator=generator, dtype=exact.dtype, device=exact.device)
        whole = exact.floor()
        whole += drawn < exact - whole
    codes = (whole + zeros[:, None]).clamp(0, top)
    return codes.flatten()[: len(flat)].to(torch.uint8), steps, zeros


def restored(codes: Tensor, steps: Tensor, zeros: Tensor, group: int) -> Tensor:
    """(code - zero) * step, in the dtype of the steps [n]."""
    spread = lambda each: each.repeat_interleave(group)[: len(codes)]
    return (codes.to(steps.dtype) - spread(zeros)) * spread(steps)

"""Weight noise guided by gradients, for low-rank layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D

from tunewright.catalog import Paper, option
from tunewright.hooks import Hook
from tunewright.regularize._layers import LowRankPair, pairs, squared_rows
from tunewright.regularize.base import Regularizer

if TYPE_CHECKING:
    from tunewright.train.loop import Loop, Step


class LoraGGPO(Regularizer):
    """Adds noise to the weights of low-rank layers while they train, of a size that follows weight and gradient.

    y = (W + scale B A + E) x, row j of E drawn from N(0, e_j^2), e_j = (sigma w_j + beta g_j^2) / sqrt(out);
    w_j = sqrt(||W_j||^2 + ||(scale B A)_j||^2), g_j = ||row j of scale (B dA + dB A)||, dA and dB the clipped gradients
    of the step before. E has no gradient. It is a function of (seed, step, layer): the same for all micro-batches of a
    step, where the paper draws anew at each forward pass, so that their size does not matter. Evaluation, and a
    reference with the adapter off, know no noise.

    When to use: high ranks and noisy rows, where test loss rises with rank. When not: training time is short: each
    layer draws a matrix of its weight's size and multiplies by it at every pass. The later version of the paper, which
    moves along the optimizer's momentum instead, is not this method.
    """

    name: ClassVar[str] = "lora_ggpo"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="LoRA-GGPO: Mitigating Double Descent in LoRA Fine-Tuning via Gradient-Guided Perturbation "
            "Optimization",
            arxiv="2502.14538",
            card=135,
        ),
    )

    sigma: float = option(0.03, "Share of the weight's norm in the noise.", changes="loss", to=0.5, ge=0)
    beta: float = option(0.01, "Share of the squared gradient's norm in the noise.", changes="loss", to=100.0, ge=0)
    start: Literal["after_first_gradient", "first_step"] = option(
        "after_first_gradient",
        "Whether the first step, which knows no gradient yet, has the noise of the weight alone.",
        changes="loss",
        to="first_step",
    )

    @property
    def wants(self) -> Mapping[str, frozenset[str]]:
        return {"adapter": frozenset({"low_rank"})}

    def hook(self) -> Noise:
        return Noise(self)


class Noise(Hook):
    """The noise of one run: `sizes` holds e [out] of every layer by name, once known."""

    def __init__(self, method: LoraGGPO) -> None:
        self.method = method
        self.sizes: dict[str, Tensor] = {}
        self.seed: tuple[int, int] | None = None
        self._layers: dict[str, LowRankPair] = {}
        self._bases: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def on_step(self, loop: Loop) -> None:
        if not self._layers:
            self._layers = pairs(loop.policy)
            self._bases = {name: squared_base(layer) for name, layer in self._layers.items()}
            for index, name in enumerate(self._layers):
                module: Any = self._layers[name]
                self._handles.append(module.register_forward_hook(self._disturbed(index, name)))
        if self.method.start == "first_step" and not self.sizes:
            self.sizes = {name: self._size(name, None) for name in self._layers}
        self.seed = loop.settings.seed, loop.state.step

    def before_step(self, loop: Loop) -> None:
        for name, layer in self._layers.items():
            if layer.down.grad is not None and layer.up.grad is not None:
                left = torch.cat([layer.up.detach(), layer.up.grad], 1)
                right = torch.cat([layer.down.grad, layer.down.detach()])
                self.sizes[name] = self._size(name, layer.scale**2 * squared_rows(left, right))

    def after_step(self, loop: Loop, step: Step) -> None:
        self.seed = None

    def on_end(self, loop: Loop) -> None:
        for handle in self._handles:
            handle.remove()
        self._layers, self._handles = {}, []

    def state(self) -> dict[str, Any]:
        return {name: size.tolist() for name, size in self.sizes.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.sizes = {name: torch.tensor(size) for name, size in state.items()}

    def matrix(self, index: int, name: str, width: int) -> Tensor:
        """E float32 [out, in] of layer number `index` at this step."""
        assert self.seed is not None
        size = self.sizes[name] = self.sizes[name].to(self._bases[name])
        generator = torch.Generator(size.device)
        generator.manual_seed(int(np.random.SeedSequence([*self.seed, index]).generate_state(1)[0]))
        drawn = torch.randn(len(size), width, generator=generator, device=size.device)
        return size[:, None] * drawn

    @torch.no_grad()
    def _size(self, name: str, squared_gradient: Tensor | None) -> Tensor:
        layer = self._layers[name]
        weight = (self._bases[name] + layer.scale**2 * squared_rows(layer.up, layer.down)).sqrt()
        guided = 0.0 if squared_gradient is None else self.method.beta * squared_gradient
        return (self.method.sigma * weight + guided) / len(weight) ** 0.5

    def _disturbed(self, index: int, name: str) -> Callable[..., Tensor | None]:
        def add(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if self.seed is None or name not in self.sizes or not layer.training or not layer.enabled:
                return None
            (x,) = inputs
            return output + x.to(output.dtype) @ self.matrix(index, name, x.shape[-1]).to(output.dtype).T

        return add


def squared_base(layer: LowRankPair) -> Tensor:
    """||W_j||^2 float32 [out] of the base weight."""
    weight = layer.weight.detach().float()
    return (weight.T if isinstance(layer.base, Conv1D) else weight).square().sum(1)

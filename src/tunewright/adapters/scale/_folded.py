"""Updates folded into a model's own tensors: taken back bit for bit, and written as a checkpoint of its class."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunewright.adapters.base import Attached
from tunewright.errors import BadInput
from tunewright.models.quantize._layer import QuantizedLinear

SWITCHES = ("attention_bias", "mlp_bias")
"""Entries of configurations that give linear layers a bias where an architecture leaves the choice."""


class AttachedFolded(Attached):
    """An adapter whose merge replaces parameters of the model: `folded` holds them while it is merged."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.folded: Folded | None = None

    @contextmanager
    def disabled(self) -> Iterator[None]:
        merged = self.folded is not None
        self.unmerge()
        try:
            with super().disabled():
                yield
        finally:
            if merged:
                self.merge()

    def unmerge(self) -> None:
        if self.folded is not None:
            self.folded.undo()
            self.folded = None


class Folded:
    """Parameters of a model that were replaced, with what stood there before.

    Raises `BadInput` when linear layers of the model are quantized: they have no weight to write into.
    """

    def __init__(self, model: Any) -> None:
        quantized = next((name for name, m in model.named_modules() if isinstance(m, QuantizedLinear)), None)
        if quantized is not None:
            raise BadInput(
                f"the weights of '{quantized}' are quantized: adding the update would need rounding them again",
                hint="Merge it into the model without 'model.quantize'.",
            )
        self.model = model
        self._before: list[tuple[nn.Module, str, nn.Parameter | None]] = []
        self._settings: dict[str, Any] = {}

    @torch.no_grad()
    def set(self, module: nn.Module, name: str, value: Tensor) -> None:
        """Replaces a parameter (creates one where the module has None) by a value, in the dtype of the module's weight."""
        old: nn.Parameter | None = getattr(module, name)
        weight: Tensor = module.weight  # type: ignore[assignment]
        self._before.append((module, name, old))
        setattr(module, name, nn.Parameter(value.to(weight.dtype).contiguous(), requires_grad=False))

    def configure(self, name: str, value: Any) -> None:
        """Changes an entry of the model's configuration."""
        self._settings.setdefault(name, getattr(self.model.config, name))
        setattr(self.model.config, name, value)

    def undo(self) -> None:
        """Puts every parameter and entry back."""
        for module, name, old in reversed(self._before):
            setattr(module, name, old)
        for name, value in self._settings.items():
            setattr(self.model.config, name, value)
        self._before, self._settings = [], {}

    def checkpoint(self, weights: dict[str, Tensor], hint: str) -> dict[str, Tensor]:
        """The weights as a checkpoint of the model's class, whose configuration is set to have their biases.

        Where the class has a bias in more layers than the update needs, those are zero. Raises `BadInput` with `hint`
        when it has no place for one of them.
        """
        known = self._skeleton()
        for switch in SWITCHES:
            if set(weights) - set(known) and getattr(self.model.config, switch, None) is False:
                self.configure(switch, True)
                known = self._skeleton()
        homeless = sorted(set(weights) - set(known))
        if homeless:
            raise BadInput(
                f"a {type(self.model).__name__} has no place for the update's '{homeless[0]}'"
                + (f" and {len(homeless) - 1} more" if len(homeless) > 1 else ""),
                hint=hint,
            )
        lacking = {name: shape for name, shape in known.items() if name not in weights}
        like = next(iter(weights.values()))
        return weights | {n: torch.zeros(s, dtype=like.dtype, device=like.device) for n, s in lacking.items()}

    def _skeleton(self) -> dict[str, torch.Size]:
        """Names and shapes of the tensors of the model's class under its present configuration."""
        with torch.device("meta"):
            empty = type(self.model)(copy.deepcopy(self.model.config))
        return {name: value.shape for name, value in empty.state_dict().items()}


def matrix(layer: nn.Module) -> Tensor:
    """The weight of a linear layer float32 [out, in], whichever way it is kept."""
    return QuantizedLinear.original(layer)


def as_kept(layer: nn.Module, value: Tensor) -> Tensor:
    """A matrix [out, in] the way the layer keeps its own."""
    return value.T if isinstance(layer, Conv1D) else value


def bias_of(module: Any) -> Tensor:
    """The bias of a linear layer, convolution or norm float32, zeros where it has none."""
    if module.bias is not None:
        own: Tensor = module.bias.float()
        return own
    width = module.weight.shape[1] if isinstance(module, Conv1D) else module.weight.shape[0]
    return torch.zeros(width, device=module.weight.device)

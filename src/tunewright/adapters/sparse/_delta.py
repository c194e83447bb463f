"""What the sparse adapters share: a frozen linear layer, a trained difference from some of its numbers, and merging."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunewright.adapters.base import Attached
from tunewright.errors import BadInput
from tunewright.models.quantize._layer import QuantizedLinear


class DeltaLayer(nn.Module):
    """A frozen linear layer with `delta` float32, the trained difference from the part of its weight that is chosen.

    `enabled` False computes the base alone.
    """

    def __init__(self, base: nn.Module, shape: tuple[int, int]) -> None:
        super().__init__()
        self.base = base
        self.delta = nn.Parameter(torch.zeros(shape, device=self.weight.device))
        self.enabled = True
        self._own: Tensor | None = None
        self.train(base.training)

    @property
    def weight(self) -> Tensor:
        """The base layer's weight; code that looks at a linear layer's dtype or device finds it here."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        return weight

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias, if any."""
        return self.base.bias  # type: ignore[return-value]

    @property
    def transposed(self) -> bool:
        """Whether the base keeps its weight as [in, out]."""
        return isinstance(self.base, Conv1D)

    @property
    def plain(self) -> bool:
        """Whether the base alone is to be computed: switched off, or merged."""
        return not self.enabled or self._own is not None

    @abstractmethod
    def part(self) -> Tensor:
        """The chosen numbers of the base weight, copied, in the shape of `delta`."""

    @abstractmethod
    def write(self, part: Tensor) -> None:
        """Writes the chosen numbers of the base weight."""

    def merge(self) -> None:
        """Adds the difference to the base weight (summed in float32, rounded once); the old numbers are kept."""
        if self._own is None:
            self._own = self.part()
            self.write((self._own.float() + self.delta.detach()).to(self._own.dtype))

    def unmerge(self) -> None:
        """Puts the numbers before `merge` back, bit for bit."""
        if self._own is not None:
            self.write(self._own)
            self._own = None


class AttachedDelta(Attached):
    """Layers with a trained difference in place of a model's linear layers, by name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.merged = False

    @property
    @abstractmethod
    def over(self) -> dict[str, DeltaLayer]:
        """The layers by the name they have in the model."""

    def put(self, name: str, layer: nn.Module) -> None:
        """Sets a module of the model."""
        parent, _, leaf = name.rpartition(".")
        setattr(self.model.get_submodule(parent), leaf, layer)

    def trained(self) -> dict[str, nn.Parameter]:
        return {f"{name}.delta": layer.delta for name, layer in self.over.items()}

    def detach(self) -> None:
        self.unmerge()
        for name, layer in self.over.items():
            self.put(name, layer.base)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        merged = self.merged
        self.unmerge()
        for layer in self.over.values():
            layer.enabled = False
        try:
            with super().disabled():
                yield
        finally:
            for layer in self.over.values():
                layer.enabled = True
            if merged:
                self.merge()

    def merge(self) -> None:
        quantized = next((n for n, layer in self.over.items() if isinstance(layer.base, QuantizedLinear)), None)
        if quantized is not None:
            raise BadInput(
                f"the weights of '{quantized}' are quantized: adding the update would need rounding them again",
                hint="Tune it without 'model.quantize', or use the run's folder: 'tunewright chat', 'evaluate'.",
            )
        for layer in self.over.values():
            layer.merge()
        self.merged = True

    def unmerge(self) -> None:
        for layer in self.over.values():
            layer.unmerge()
        self.merged = False

    def plain_weights(self) -> dict[str, Tensor]:
        found = {}
        for key, value in self.model.state_dict().items():
            owner = next((name for name in self.over if key.startswith(f"{name}.")), None)
            if owner is None:
                found[key] = value
            elif key != f"{owner}.delta":
                found[owner + key.removeprefix(f"{owner}.base")] = value
        return found

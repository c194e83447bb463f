"""The Quantizer protocol: frozen weights in fewer bits, under any adapter."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from tunewright.catalog import Method
from tunewright.models.layers import ALL_LINEAR, targets
from tunewright.models.quantize._layer import QuantizedLinear, Stored


class Quantizer(Method):
    """A specification of how a weight matrix is stored; `apply` puts it in place of a model's linear layers."""

    kind: ClassVar[str] = "quantizer"

    @property
    def traits(self) -> frozenset[str]:
        """`plain` where the stored weights are all: the quantizer offers no first update."""
        return frozenset({"plain"})

    @property
    def wants(self) -> Mapping[str, frozenset[str]]:
        return {"adapter": frozenset({"frozen"})}

    @property
    def rows(self) -> int:
        """How many rows of calibration data are read, where it needs some."""
        return 0

    @abstractmethod
    def store(self, weight: Tensor) -> Stored:
        """The matrix [out, in] in this method's form."""

    def offer(self, weight: Tensor, stored: Stored) -> tuple[Tensor, Tensor] | None:
        """B [out, r] and A [r, in] whose product an adapter may start from, or None."""
        return None

    def apply(self, model: Any, supplies: Mapping[str, Any] | None = None) -> None:
        """Replaces every linear layer of the model's body; embeddings, head and norms stay as they are.

        `supplies` answers the quantizer's `needs`: `calibration` is a `Table` of sequences.
        """
        for name, layer in targets(model, ALL_LINEAR).items():
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, self.replaced(layer))

    def replaced(self, layer: nn.Module) -> QuantizedLinear:
        """The layer with its weight stored, and with the offer it makes to adapters."""
        made = QuantizedLinear.of(layer, self.store)
        made.offer = self.offer(made.original(layer), made.stored)
        return made

"""Full tuning: every parameter trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import nn

from tunewright.adapters._whole import WholeParameters, parameters_of
from tunewright.adapters.base import Adapter, Attached
from tunewright.catalog import option


class Full(Adapter):
    """Trains every parameter of the model, or those of the named modules, in float32.

    Parameters that do not train stay in the dtype the model was loaded in. The original values are kept beside the
    trained ones (in that dtype), as the reference policy and for `detach`.
    """

    name: ClassVar[str] = "full"

    train_modules: tuple[str, ...] = option(
        (),
        "Modules that train, by name, path ending or glob; all when empty.",
        changes="parameters",
        to=["mlp"],
    )

    @property
    def traits(self) -> frozenset[str]:
        return frozenset({"whole", "anchored"})

    @property
    def trains_weights(self) -> bool:
        return True

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedFull:
        model.requires_grad_(False)
        names = parameters_of(model, self.train_modules) if self.train_modules else None
        return AttachedFull(model, names or [name for name, _ in model.named_parameters()])


class AttachedFull(Attached):
    """The model's own parameters, training."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__(model)
        self.whole = WholeParameters(model, names)

    def trained(self) -> dict[str, nn.Parameter]:
        return dict(self.whole.parameters)

    def detach(self) -> None:
        self.whole.restore()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        with super().disabled(), self.whole.swapped_out():
            yield

    def merge(self) -> None:
        """The weights are the model's own: nothing is to be folded."""

    def unmerge(self) -> None:
        """Nothing was folded."""

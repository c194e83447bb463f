"""The Adapter protocol: which parameters exist and are trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tunewright.catalog import Method
from tunewright.errors import BadInput
from tunewright.hooks import Hook
from tunewright.models.shards import like


class Adapter(Method):
    """A specification of what is trained; `attach` puts it on a model."""

    kind: ClassVar[str] = "adapter"

    @property
    def traits(self) -> frozenset[str]:
        """`frozen` where the model's own weights stay as they are, `whole` where all of them may train, `low_rank`
        where the update of each layer is a product of two small matrices, `anchored` where it begins at the model's own
        weights and is known as a change of them."""
        return frozenset() if self.trains_weights else frozenset({"frozen"})

    @property
    def trains_weights(self) -> bool:
        """Whether weights of the model itself train, so that it must be loaded in their full precision."""
        return False

    @property
    def neutral(self) -> bool:
        """Whether attaching alone leaves the model's output as it is."""
        return True

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> Attached:
        """Changes `model` in place so that exactly the declared parameters require gradients.

        `supplies` answers the adapter's `needs`. Raises `BadInput` when no layer matches, or too few.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class LoraPair:
    """One layer's update W + scale * B @ A: `down` A [rank, in], `up` B [out, rank], and alpha as PEFT counts it."""

    down: Tensor
    up: Tensor
    alpha: float


@dataclass(frozen=True)
class LoraExport:
    """An adapter as low-rank pairs by layer name, and whole tensors of modules that were trained entirely."""

    pairs: Mapping[str, LoraPair]
    whole: Mapping[str, Tensor]
    rank_stabilized: bool
    transposed: bool
    dropout: float


@dataclass(frozen=True)
class PromptExport:
    """What stands before a sequence, as PEFT's `form` has it: a matrix [m, any] and what its configuration says."""

    form: str
    vectors: Tensor
    config: Mapping[str, Any]


class Attached(ABC):
    """An adapter on a model: holds the tensors; made by `Adapter.attach`."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.enabled = model, True

    @abstractmethod
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that train, by a name that is stable across processes and loads."""

    @abstractmethod
    def detach(self) -> None:
        """Gives the model back as it was before `attach`, bit for bit."""

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """A context in which the model computes as before `attach` (the reference policy): `enabled` is False."""
        self.enabled = False
        try:
            yield
        finally:
            self.enabled = True

    def merge(self) -> None:
        """Folds the update into the model's own weights; `unmerge` takes it out again bit for bit."""
        raise BadInput(f"{type(self).__name__} cannot be merged into the weights")

    def unmerge(self) -> None:
        """Restores the weights as they were before `merge`, bit for bit."""
        raise BadInput(f"{type(self).__name__} cannot be merged into the weights")

    def plain_weights(self) -> dict[str, Tensor]:
        """The weights under the names the model had before `attach`: after `merge`, a checkpoint without adapter."""
        return dict(self.model.state_dict())

    def state(self) -> dict[str, Tensor]:
        """The trained tensors, detached; with `load_state` on a fresh attach they give equal outputs."""
        return {name: parameter.detach() for name, parameter in self.trained().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copies a `state` into the trained parameters.

        Raises `BadInput` when names or shapes differ.
        """
        trained = self.trained()
        differing = sorted(set(trained) ^ set(state))
        if differing:
            raise BadInput(
                "the saved adapter does not fit this model and adapter",
                found=f"{len(state)} tensors, '{differing[0]}' on one side only",
                expected=f"{len(trained)} tensors",
            )
        for name, parameter in trained.items():
            if parameter.shape != state[name].shape:
                raise BadInput(
                    "the saved adapter does not fit this model and adapter",
                    field=name,
                    found=tuple(state[name].shape),
                    expected=str(tuple(parameter.shape)),
                )
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(like(parameter, state[name]))

    def as_lora(self) -> LoraExport | None:
        """The update as low-rank pairs where it is exactly that, else None."""
        return None

    def as_prompt(self, state: Mapping[str, Tensor]) -> PromptExport | None:
        """A `state` as a prompt or prefix where it is exactly that, else None."""
        return None

    def start_from(self, trained: LoraExport) -> None:
        """Takes another adapter's pairs as the first values of this one's.

        Raises `BadInput` where this adapter is of another form, or of other layers or ranks.
        """
        raise BadInput(
            "this adapter cannot start from trained pairs",
            field="model.adapter_as",
            found="start",
            hint="Use 'adapter_as: base', which puts the new adapter on top of the old one.",
        )

    def hook(self) -> Hook | None:
        """What the adapter does at moments of the loop besides `penalty` and `after_step` (selections, masks of a batch)."""
        return None

    def penalty(self) -> Tensor | None:
        """A term the adapter adds to the loss of every micro-batch (already averaged), or None."""
        return None

    def after_step(self, optimizer: torch.optim.Optimizer, step: int) -> None:  # noqa: B027
        """The adapter's reaction to optimizer step `step`; may move or drop the optimizer state of its parameters."""

"""Modules trained entirely beside or instead of an adapter: float32 copies that train, originals kept aside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tunewright.errors import BadInput
from tunewright.models.layers import matches
from tunewright.models.shards import is_sharded, like


class WholeParameters:
    """Parameters of a model that train as they are, in float32.

    The originals (in the dtype of the loaded model) are kept, so that they can be put back bit for bit. A tensor
    shared by two modules (tied embeddings) is one parameter under its first name.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.model = model
        wanted = set(names)
        self.names = [name for name, _ in model.named_parameters() if name in wanted]
        self.originals = {name: p.data for name, p in self.parameters.items()}
        for parameter in self.parameters.values():
            # A new tensor even in float32: training must not write into the original.
            parameter.data = parameter.data.to(torch.float32, copy=True)
            parameter.requires_grad_(True)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters by name, as the model has them now (sharding puts new objects in their place)."""
        return {name: self.model.get_parameter(name) for name in self.names}

    @contextmanager
    def swapped_out(self) -> Iterator[None]:
        """A context in which the model has its original values."""
        trained = {name: _local(p).clone() if is_sharded(p) else p.data for name, p in self.parameters.items()}
        self._assign(self.originals)
        try:
            yield
        finally:
            self._assign(trained)

    def restore(self) -> None:
        """Puts the originals back for good."""
        self._assign(self.originals)
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)

    def keep(self) -> None:
        """Makes the trained values the model's own for good, in the dtype of the originals."""
        for name, parameter in self.parameters.items():
            parameter.data = parameter.data.to(self.originals[name].dtype)
            parameter.requires_grad_(False)

    @torch.no_grad()
    def _assign(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            if is_sharded(parameter):
                # A sharded parameter is gathered from storage of its own, so it is written in place.
                _local(parameter).copy_(_local(like(parameter, values[name])))
            else:
                parameter.data = values[name]


def _local(value: Tensor) -> Tensor:
    placed: Any = value
    return placed.to_local() if is_sharded(value) else value


def parameters_of(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Names of the parameters of the modules that `patterns` name (embeddings, head, norms, ...).

    Raises `BadInput` when a pattern matches no module with parameters.
    """
    chosen: list[str] = []
    modules = dict(model.named_modules(remove_duplicate=False))
    shared = {id(p): name for name, p in model.named_parameters()}
    for pattern in patterns:
        found = [
            shared[id(parameter)]
            for name, module in modules.items()
            if matches(name, pattern)
            for parameter in module.parameters()
        ]
        if not found:
            raise BadInput(
                f"no module with parameters matches '{pattern}'",
                field="train_modules",
                expected="names such as 'embed_tokens', 'lm_head' or '*norm*'",
            )
        chosen += found
    return list(dict.fromkeys(chosen))

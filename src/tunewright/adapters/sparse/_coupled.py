"""Layers whose channels or heads belong together: what one layer's rows make, another's columns read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunewright.errors import BadInput
from tunewright.models.layers import linear_layers, matches, shape_of
from tunewright.models.quantize._layer import QuantizedLinear

NAMES = {
    "gate": ("gate_proj",),
    "up": ("up_proj", "c_fc", "fc1", "dense_h_to_4h"),
    "down": ("down_proj", "mlp.c_proj", "fc2", "dense_4h_to_h"),
    "q": ("q_proj",),
    "k": ("k_proj",),
    "v": ("v_proj",),
    "o": ("o_proj", "out_proj", "attn.c_proj", "self_attn.dense", "attention.dense"),
}
"""Role of a layer -> how architectures name it."""

READERS = ("down", "o")
"""Roles whose units are columns; those of the others are rows."""

WHOLE = {"down": ("up", "down"), "o": ("q", "k", "v", "o")}
"""What must be there for the units of a structure to be put in another order, by the role that reads them."""


@dataclass(frozen=True)
class Coupled:
    """One feed-forward part or attention: `layers` by role, and the units (channels, heads, groups) each of them has.

    Where an order of units is meaningful for the whole structure, all its layers have the same number.
    """

    layers: dict[str, str]
    units: dict[str, int]
    widths: dict[str, int]


def coupled(model: nn.Module, roles: Collection[str], together: bool) -> list[Coupled]:
    """The structures of a model that have layers of `roles`; with `together` every layer of a structure is in it.

    Raises `BadInput` where a role is not found, or where a structure is not of separate layers.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name in linear_layers(model):
        role = next((role for role, names in NAMES.items() if any(matches(name, one) for one in names)), None)
        if role is not None:
            reader = "down" if role in ("gate", "up", "down") else "o"
            found.setdefault((name.rpartition(".")[0], reader), {})[role] = name
    for role in roles:
        if not any(role in layers for layers in found.values()):
            raise BadInput(
                f"the model has no layer of its own for '{role}'",
                field=f"adapter.ratio_{role}",
                expected=f"a layer called {' or '.join(NAMES[role])}",
                hint="Set this ratio to 0.",
            )
    wanted = [(parent, layers) for parent, layers in found.items() if set(roles) & set(layers)]
    return [_structure(model, reader, layers, together) for (_, reader), layers in wanted]


def _structure(model: nn.Module, reader: str, layers: dict[str, str], together: bool) -> Coupled:
    sizes = {role: shape_of(model.get_submodule(name))[1 if role in READERS else 0] for role, name in layers.items()}
    lacking = [role for role in WHOLE[reader] if role not in layers]
    if together and lacking:
        raise BadInput(
            f"'{next(iter(layers.values()))}' has no '{lacking[0]}' of its own beside it to be put in the same order",
            field="adapter.permute",
            found=True,
            hint="Set 'permute: false'.",
        )
    quantized = [name for name in layers.values() if isinstance(model.get_submodule(name), QuantizedLinear)]
    if together and quantized:
        raise BadInput(
            f"the weights of '{quantized[0]}' are quantized in blocks, which cannot be put in another order",
            field="adapter.permute",
            found=True,
            hint="Set 'permute: false'.",
        )
    heads, shared = _heads(model) if reader == "o" else (0, 0)
    counts = {
        role: size if reader == "down" else shared if together or role in ("k", "v") else heads
        for role, size in sizes.items()
    }
    return Coupled(layers, counts, {role: size // counts[role] for role, size in sizes.items()})


def _heads(model: Any) -> tuple[int, int]:
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    return heads, int(getattr(config, "num_key_value_heads", None) or heads)


@torch.no_grad()
def reordered(layer: Any, index: Tensor, columns: bool) -> None:
    """Puts the columns, or the rows with their biases, of a linear layer in another order, in place of its values."""
    weight = layer.weight
    along = 1 if columns != isinstance(layer, Conv1D) else 0
    weight.data = weight.data.index_select(along, index.to(weight.device))
    if not columns and layer.bias is not None:
        layer.bias.data = layer.bias.data.index_select(0, index.to(weight.device))

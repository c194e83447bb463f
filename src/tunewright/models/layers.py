"""The linear layers of a model, and which of them the patterns of a recipe name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from tunewright.errors import BadInput, nearest
from tunewright.models.quantize._layer import QuantizedLinear

ALL_LINEAR = "all-linear"


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers (`nn.Linear`, quantized ones, GPT-2's `Conv1D`) of a model's body by name; the output head is left out."""
    find_head: Any = getattr(model, "get_output_embeddings", None)
    head = find_head() if find_head else None
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D | QuantizedLinear) and module is not head
    }


def targets(model: nn.Module, patterns: str | Sequence[str]) -> dict[str, nn.Module]:
    """The layers `patterns` name, by full name.

    `all-linear` is every linear layer of the body; otherwise a pattern is a name (`q_proj`), a path ending
    (`self_attn.q_proj`), or a glob over the full name (`*.layers.3.*`).

    Raises `BadInput` when a pattern matches nothing, or reaches only some of the model's blocks without naming a
    number: both mean that the pattern was written for another architecture.
    """
    layers = linear_layers(model)
    if patterns == ALL_LINEAR:
        if not layers:
            raise BadInput("the model has no linear layers", field="target_modules")
        return layers
    chosen: dict[str, nn.Module] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = {name: layer for name, layer in layers.items() if matches(name, pattern)}
        if not found:
            last = sorted({name.rsplit(".", 1)[-1] for name in layers})
            raise BadInput(
                f"no layer matches '{pattern}'",
                field="target_modules",
                expected=f"'{ALL_LINEAR}' or names among {', '.join(last)}",
                hint=nearest(pattern, last),
            )
        _reaches_every_block(pattern, found, layers)
        chosen.update(found)
    if not chosen:
        raise BadInput("names no layer", field="target_modules", expected=f"'{ALL_LINEAR}' or names of layers")
    return {name: layer for name, layer in layers.items() if name in chosen}


def matches(name: str, pattern: str) -> bool:
    """Whether a module's full name is meant by a pattern (a name, a path ending, or a glob)."""
    return fnmatchcase(name, pattern) or name == pattern or name.endswith(f".{pattern}")


def _reaches_every_block(pattern: str, found: Iterable[str], layers: Iterable[str]) -> None:
    blocks, reached = ({block for name in names if (block := block_of(name))} for names in (layers, found))
    if reached and len(reached) < len(blocks) and not re.search(r"\d", pattern):
        raise BadInput(
            f"'{pattern}' matches layers in only {len(reached)} of the model's {len(blocks)} blocks",
            field="target_modules",
            hint=f"Name the blocks you mean, as '*.{min(reached).rsplit('.', 1)[-1]}.*', or use '{ALL_LINEAR}'.",
        )


def block_of(name: str) -> str | None:
    """The block that a module or parameter belongs to (`model.layers.3`), by the first number in its name, or None."""
    found = re.match(r".*?\.\d+(?=\.)", name)
    return found[0] if found else None


def shape_of(layer: nn.Module) -> tuple[int, int]:
    """(out, in) of a linear layer; `Conv1D` keeps its weight as [in, out]."""
    if isinstance(layer, QuantizedLinear):
        return layer.out_features, layer.in_features
    weight: Any = layer.weight
    first, second = weight.shape
    return (int(second), int(first)) if isinstance(layer, Conv1D) else (int(first), int(second))

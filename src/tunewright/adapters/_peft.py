"""Adapters in PEFT's file format: low-rank ones in both directions, prompts and prefixes as it reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunewright.adapters.base import LoraExport, PromptExport
from tunewright.adapters.low_rank._family import AttachedLowRank
from tunewright.adapters.low_rank.lora import LoRA
from tunewright.errors import BadInput

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
REFUSED = (
    "use_dora",
    "use_qalora",
    "lora_bias",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
)


def save_peft(folder: Path, export: LoraExport, base_model: str) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors` as PEFT reads them; `base_model` is its name."""
    names = list(export.pairs)
    first = export.pairs[names[0]]
    ranks = {name: pair.down.shape[0] for name, pair in export.pairs.items()}
    config = {
        "r": ranks[names[0]],
        "lora_alpha": first.alpha,
        "lora_dropout": export.dropout,
        "target_modules": names,
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != ranks[names[0]]},
        "alpha_pattern": {name: pair.alpha for name, pair in export.pairs.items() if pair.alpha != first.alpha},
        "modules_to_save": sorted({name.rsplit(".", 1)[0] for name in export.whole}) or None,
        "use_rslora": export.rank_stabilized,
        "fan_in_fan_out": export.transposed,
        "bias": "none",
    }
    _write(folder, "LORA", base_model, config, to_peft(export))


def save_prompt(folder: Path, export: PromptExport, base_model: str) -> None:
    """The same of a prompt or prefix."""
    config = {**export.config, "num_transformer_submodules": 1}
    _write(folder, export.form, base_model, config, {"prompt_embeddings": export.vectors})


def _write(folder: Path, form: str, base_model: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
    about = {"peft_type": form, "task_type": "CAUSAL_LM", "base_model_name_or_path": base_model, "inference_mode": True}
    (folder / CONFIG).write_text(json.dumps({**about, **config}, indent=2))


def to_peft(export: LoraExport) -> dict[str, Tensor]:
    """The tensors under PEFT's names."""
    return {
        **{f"{PREFIX}{name}.lora_A.weight": pair.down for name, pair in export.pairs.items()},
        **{f"{PREFIX}{name}.lora_B.weight": pair.up for name, pair in export.pairs.items()},
        **{f"{PREFIX}{name}": value for name, value in export.whole.items()},
    }


def from_peft(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under PEFT's names as the `state` of an attached low-rank adapter."""
    return {
        name.removeprefix(PREFIX).replace(".lora_A.weight", ".down").replace(".lora_B.weight", ".up"): value
        for name, value in tensors.items()
    }


def load_peft(folder: Path, model: nn.Module) -> AttachedLowRank:
    """Attaches the PEFT LoRA adapter in `folder` to `model`.

    Raises `BadInput` when it is not a LoRA adapter, uses an option that changes the layer's formula, or does not fit.
    """
    config = _read_config(folder)
    try:
        state = from_peft(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise BadInput(f"the adapter's weights cannot be read: {error}", file=folder / WEIGHTS) from None
    downs = {name.removesuffix(".down"): value.shape[0] for name, value in state.items() if name.endswith(".down")}
    alphas = {name: _by_pattern(config.get("alpha_pattern"), name, config["lora_alpha"]) for name in downs}
    stabilized = bool(config.get("use_rslora"))
    method = LoRA(
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=config.get("lora_dropout", 0.0),
        target_modules=tuple(downs),
        rank_stabilized=stabilized,
        ranks={name: rank for name, rank in downs.items() if rank != config["r"]},
        train_modules=tuple(config.get("modules_to_save") or ()),
    )
    attached = method.attach(model)
    for name, layer in attached.layers.items():
        layer.scale = alphas[name] / (downs[name] ** 0.5 if stabilized else downs[name])
    attached.load_state(state)
    return attached


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"not an adapter in PEFT format: {error}", file=folder / CONFIG) from None
    if config.get("peft_type") != "LORA":
        raise BadInput("not a LoRA adapter", file=folder / CONFIG, field="peft_type", found=config.get("peft_type"))
    used = [name for name in REFUSED if config.get(name)]
    if used or config.get("bias", "none") != "none":
        name = used[0] if used else "bias"
        raise BadInput("an option this loader does not know", file=folder / CONFIG, field=name, found=config[name])
    return config


def _by_pattern(patterns: Mapping[str, float] | None, name: str, default: float) -> float:
    return next((value for key, value in (patterns or {}).items() if name == key or name.endswith(f".{key}")), default)

"""Sharding a policy over processes, and whole tensors from shards and back."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from tunewright.models.policy import Policy


def shard(policy: Policy, replicated: Collection[nn.Parameter], device: torch.device, processes: int) -> None:
    """Shards the policy's parameters over all processes, block by block, except those in `replicated`.

    Gradients of sharded parameters are summed (not averaged) when they are scattered, like those of the others.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (processes,))
    ignored = set(replicated)
    for block in _blocks(policy.model):
        fully_shard(block, mesh=mesh, ignored_params=ignored)
    # The root too gives its weights back after each forward pass, so that what is read between passes is sharded.
    fully_shard(policy, mesh=mesh, ignored_params=ignored, reshard_after_forward=True)
    for method in ("run", "hidden", "logits"):
        register_fsdp_forward_method(policy, method)
    for module in policy.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def whole(value: Tensor) -> Tensor:
    """The tensor itself, gathered from its shards when it is sharded."""
    gathered: Any = value
    return gathered.full_tensor() if is_sharded(value) else value


def like(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor as `parameter` is, where it has the same shape: sharded the same way, or in the same order."""
    if value.shape != parameter.shape:
        return value
    if not is_sharded(parameter):
        # Fused optimizers walk through parameter and state as they lie in memory.
        same = value.stride() == parameter.stride()
        return value if same else torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    from torch.distributed.tensor import distribute_tensor

    placed: Any = parameter
    return distribute_tensor(value.to(placed.device), placed.device_mesh, placed.placements)


def is_sharded(value: Tensor) -> bool:
    """Whether a tensor is spread over processes."""
    return hasattr(value, "full_tensor")


def _blocks(model: nn.Module) -> list[nn.Module]:
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return [*max(lists, key=_length)] if lists else []


def _length(blocks: nn.ModuleList) -> int:
    return len(blocks)

"""The processes of a run and what they exchange: one summed buffer per optimizer step."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tunewright.models.shards import is_sharded


@dataclass(frozen=True)
class World:
    """This process among those of the run; `main` is the one that writes files and speaks."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    @staticmethod
    def join() -> World:
        """Joins the processes that `torchrun` or `accelerate launch` started; alone without them."""
        _keep_freed_memory()
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return World(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        from accelerate import PartialState

        state = PartialState(cpu=not torch.cuda.is_available())
        return World(state.process_index, state.num_processes, state.device)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Returns when every process is here."""
        if self.size > 1:
            dist.barrier()

    def sum_gradients(self, trained: Iterable[nn.Parameter], sums: Tensor) -> Tensor:
        """Adds up over all processes, in one exchange, the gradients of `trained` (in place) and the vector `sums`.

        A parameter without a gradient here counts as zero, and has none afterwards where no process has one: the set
        that trains may differ from step to step. Gradients of sharded parameters were already summed when they were
        scattered.
        """
        if self.size == 1:
            return sums
        whole = [p for p in trained if p.requires_grad and not is_sharded(p)]
        present = torch.tensor([float(p.grad is not None) for p in whole], device=sums.device)
        for p in whole:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in whole if p.grad is not None]
        flat = torch.cat([sums.to(torch.float32), present, *(g.flatten().to(torch.float32) for g in gradients)])
        dist.all_reduce(flat)
        total, present, *parts = flat.split([len(sums), len(present), *(g.numel() for g in gradients)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        for p, found in zip(whole, present.tolist(), strict=True):
            p.grad = p.grad if found else None
        return total


def _keep_freed_memory() -> None:
    """Lets the C library reuse large freed blocks instead of giving them back to the system.

    Every micro-batch frees its activations and takes as much again: given back each time, the pages come with a fault
    each, three times as many as otherwise. Where the library is not glibc, nothing is done.
    """
    trim_threshold, mmap_threshold = -1, -3
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(mmap_threshold, 1 << 30)
        set_option(trim_threshold, (1 << 31) - 1)

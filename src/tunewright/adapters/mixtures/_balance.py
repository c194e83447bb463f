"""The balance among experts: a term of the loss that no layout of a step changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tunewright.data.batches import Batch
from tunewright.hooks import Hook

if TYPE_CHECKING:
    from tunewright.adapters.mixtures._experts import Routing
    from tunewright.adapters.mixtures.mixlora import AttachedMixLoRA
    from tunewright.objectives.base import Loss
    from tunewright.train.loop import Loop, Step


class ExpertBalance(Hook):
    """Adds the balance among experts to the loss; knows the assignments of the step before."""

    def __init__(self, attached: AttachedMixLoRA) -> None:
        self.attached, self.mixtures = attached, list(attached.mixtures.values())
        self.device = self.mixtures[0].router.device
        self.counts = torch.zeros(len(self.mixtures), attached.method.num_experts, device=self.device)
        self.shares: Tensor | None = None
        self.batches: list[Batch] | None = None

    def on_end(self, loop: Loop) -> None:
        if self._hear in loop.policy.listeners:
            loop.policy.listeners.remove(self._hear)

    def on_batches(self, loop: Loop, batches: list[Batch]) -> list[Batch]:
        if self.shares is None:
            for batch in batches:
                self._listen(loop)
                with torch.no_grad():
                    loop.policy.hidden(batch)
                trained = torch.zeros(len(batch.indices), device=self.device)
                own = trained.index_add(0, batch.sequence.clamp(min=0).flatten(), batch.weights.abs().flatten())
                self._count(self._heard(batch, own))
            self._share(loop)
        return batches

    def on_batch(self, loop: Loop, batch: Batch) -> Batch:
        self._listen(loop)
        return batch

    def _listen(self, loop: Loop) -> None:
        if self._hear not in loop.policy.listeners:
            loop.policy.listeners.append(self._hear)
        self.batches = []
        for mixture in self.mixtures:
            mixture.seen = []

    def _hear(self, batch: Batch) -> None:
        if self.batches is not None and self.mixtures[0].enabled:
            self.batches.append(batch)

    def _heard(self, batch: Batch, weights: Tensor) -> list[list[tuple[Tensor, Routing]]]:
        """For each block, the passes over a batch since `_listen`: the weight of every token, and its routing."""
        every = [spread(each, batch, weights) for each in self.batches or ()]
        found = [list(zip(every, mixture.seen or (), strict=True)) for mixture in self.mixtures]
        self.batches = None
        for mixture in self.mixtures:
            mixture.seen = None
        return found

    def _count(self, heard: list[list[tuple[Tensor, Routing]]]) -> None:
        for counts, passes in zip(self.counts, heard, strict=True):
            for tokens, routing in passes:
                share = tokens[:, None].expand(routing.chosen.shape)
                counts.index_add_(0, routing.chosen.flatten(), share.flatten())

    def _share(self, loop: Loop) -> None:
        counts = loop.world.sum(self.counts)
        self.shares = counts / counts.sum(1, keepdim=True).clamp(min=1e-12)
        self.counts = torch.zeros_like(counts)

    def on_loss(self, loop: Loop, batch: Batch, loss: Loss) -> Loss:
        if self.batches is None or self.shares is None:
            return loss
        heard = self._heard(batch, loss.per_sequence[1].detach())
        self._count(heard)
        terms = [
            balance(shares, torch.stack([tokens @ routing.probabilities for tokens, routing in passes]).sum(0))
            / torch.stack([tokens.sum() for tokens, _ in passes]).sum().clamp(min=1e-12)
            for shares, passes in zip(self.shares, heard, strict=True)
        ]
        term = torch.stack(terms).sum() * loss.weight
        added = self.attached.method.balance * term
        return replace(loss, total=loss.total + added, parts={**loss.parts, "balance": term.detach()})

    def after_step(self, loop: Loop, step: Step) -> None:
        self._share(loop)

    def state(self) -> dict[str, Any]:
        return {} if self.shares is None else {"shares": self.shares.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.shares = torch.tensor(state["shares"], device=self.device) if state else None


def balance(shares: Tensor, probabilities: Tensor) -> Tensor:
    """E * sum_i f_i P_i over experts [E]: 1 where either is even."""
    return len(shares) * (shares * probabilities).sum()


def spread(computed: Batch, batch: Batch, weights: Tensor) -> Tensor:
    """The weight float32 [rows * width] of every token of a pass over (some of) a batch's sequences: that of its
    sequence, `weights` [sequences of the batch], divided among its tokens; 0 for padding."""
    same = computed.indices[:, None] == batch.indices
    if not len(computed.indices):
        return weights.new_zeros(computed.sequence.numel())
    own = weights[same.int().argmax(1)] * same.any(1)
    number, real = computed.sequence.flatten().clamp(min=0), computed.sequence.flatten() >= 0
    lengths = own.new_zeros(len(own)).index_add(0, number, real.to(own.dtype))
    return (own / lengths.clamp(min=1))[number] * real

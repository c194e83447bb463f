"""The choice of units by the norm of their activations or gradients, before the first step."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunewright.adapters.sparse._coupled import READERS
from tunewright.adapters.sparse._slices import SliceLayer
from tunewright.errors import BadInput
from tunewright.hooks import Hook
from tunewright.models.layers import shape_of
from tunewright.models.shards import is_sharded

if TYPE_CHECKING:
    from tunewright.adapters.sparse.s2ft import AttachedS2FT
    from tunewright.train.loop import Loop


class Measurement(Hook):
    """Measures the frozen model on the run's first batches and chooses the units that train."""

    def __init__(self, attached: AttachedS2FT) -> None:
        self.attached = attached
        self.chosen = False
        self.real = torch.zeros(0)
        self.found: dict[str, Tensor] = {}
        """Sums of squared activations [channels] by layer, or the gradient to its weight [out, in]."""

    def on_step(self, loop: Loop) -> None:
        if self.chosen:
            return
        attached, method = self.attached, self.attached.method
        if method.permute and any(is_sharded(layer.weight) for layer in attached.layers.values()):
            raise BadInput(
                f"under sharding the strategy '{method.strategy}' cannot put channels in another order",
                field="adapter.permute",
                found=True,
                hint="Set 'permute: false'.",
            )
        # The task's loss alone, of the model in its own order, and nothing recorded.
        hooks, loop.hooks = loop.hooks, []
        attached.order(False)
        watched = [layer.register_forward_hook(partial(self._seen, name)) for name, layer in attached.layers.items()]
        loop.policy.eval()
        try:
            self._measure(loop)
        finally:
            for handle in watched:
                handle.remove()
            loop.policy.train()
            loop.hooks = hooks
            loop.optimizer.zero_grad(set_to_none=True)
        for name, sums in self.found.items():
            self.found[name] = loop.world.sum(sums)
        roles = {name: role for group in attached.groups for role, name in group.layers.items()}
        norm = lambda name, units: _norms(self.found[name], roles[name] in READERS, units)
        attached.choose(method.picks(attached.groups, lambda _, members: [norm(*member) for member in members]))
        self.found.clear()
        self.chosen = True

    def _measure(self, loop: Loop) -> None:
        gradient = self.attached.method.strategy == "gradient"
        for name, layer in self.attached.layers.items():
            shape = shape_of(layer.base)
            size = shape if gradient else shape[:1] if layer.by_rows else shape[1:]
            self.found[name] = torch.zeros(size, device=layer.weight.device)
        for step in range(self.attached.method.measured_steps):
            started, tokens = time.perf_counter(), torch.zeros(1, device=loop.world.device)
            torch.manual_seed((loop.settings.seed << 32) + step)
            for batch in loop.prepared(step, loop.batches(step % loop.total)):
                self.real = batch.sequence >= 0
                with torch.set_grad_enabled(gradient):
                    loss = loop.losses(batch)
                if gradient:
                    loss.total.backward()
                tokens += batch.tokens
            loop.state.tokens += int(loop.world.sum(tokens))
            loop.state.seconds += time.perf_counter() - started

    def _seen(self, name: str, layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
        """What passes through a layer while it computes the tuned model, whose differences are still zero."""
        assert isinstance(layer, SliceLayer)
        if not layer.enabled:
            return None
        x = args[0].detach()
        if self.attached.method.strategy == "activation":
            values = out.detach() if layer.by_rows else x
            self.found[name] += values[self.real].float().square().sum(0)
            return None
        tapped: Tensor = _Tap.apply(out if out.requires_grad else out.requires_grad_(), x, self.found[name])
        return tapped

    def state(self) -> dict[str, Any]:
        return {"chosen": self.chosen}

    def load_state(self, state: dict[str, Any]) -> None:
        self.chosen = bool(state.get("chosen", False))


class _Tap(torch.autograd.Function):
    """A layer's output as it is; the backward pass adds the gradient to the layer's weight."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, x: Tensor, found: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.found = found
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, None, None]:
        [gradient], [x] = incoming, ctx.saved_tensors
        ctx.found.addmm_(gradient.flatten(0, -2).T.float(), x.flatten(0, -2).float())
        return gradient, None, None


def _norms(found: Tensor, by_columns: bool, units: int) -> Tensor:
    if found.ndim == 1:
        return found.reshape(units, -1).sum(1).sqrt().cpu()
    return (found.T if by_columns else found).reshape(units, -1).norm(dim=1).cpu()

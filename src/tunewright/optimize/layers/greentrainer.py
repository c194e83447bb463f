"""GreenTrainer: the tensors worth their backward pass train."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from tunewright.catalog import Paper, option
from tunewright.models.layers import linear_layers
from tunewright.optimize.layers._knapsack import best_set
from tunewright.optimize.layers._resting import Resting, put_to_work
from tunewright.optimize.layers.base import Layers

if TYPE_CHECKING:
    from tunewright.train.loop import Loop

READS_ALL = ("v_proj", "qkv", "query_key_value", "c_attn", "Wqkv")
"""Layers that the products of attention scores are charged to: those through which values flow."""


class GreenTrainer(Layers):
    """Trains the tensors with the largest expected fall of the loss whose forward and backward cost stays within a share.

    Importance I = -sum(g dw): dw is what a trial step changes a tensor by, g the gradient after it on the same rows.
    Cost of a set: 2 x in x out operations per token for the gradient of each chosen matrix, and as much again for
    passing the gradient on through every tensor nearer the output than the deepest chosen one. The budget of
    `share` x (forward + full backward), less the forward pass, is spent by dynamic programming over costs rounded to
    `resolution` units. Chosen anew every `every` steps (the paper: one or two epochs), at the cost of a trial step and
    a backward pass over everything; weights and optimizer are put back bit for bit, so this needs their memory twice.

    When to use: energy or time counts more than the last bit of loss. When not: memory is the limit (use `lisa`).
    """

    name: ClassVar[str] = "greentrainer"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Towards Green AI in Fine-tuning Large Language Models via Adaptive Backpropagation",
            arxiv="2309.13192",
            card=94,
        ),
    )

    share: float = option(0.5, "Operations of a step, as a share of those of full tuning.", changes="loss", to=0.9, gt=0, le=1)  # fmt: skip
    every: int = option(100, "Steps between choices.", changes="log", to=2, ge=1)
    resolution: int = option(1000, "Units that the cost of a full backward pass is counted in.", changes="log", to=3, ge=1)  # fmt: skip

    def hook(self) -> _Green:
        return _Green(self)


class Cost(NamedTuple):
    """Operations per token of one tensor: its own gradient, passing the gradient on, the forward product."""

    name: str
    own: float
    through: float
    forward: float


class _Green(Resting):
    """Chooses by importance; what was chosen is part of a checkpoint, since it depends on the weights then."""

    def __init__(self, method: GreenTrainer) -> None:
        super().__init__(method.every)
        self.method = method
        self.importance: dict[str, float] = {}

    def chosen(self, loop: Loop, turn: int) -> list[str]:
        costs, beyond = costs_of(loop)
        self.importance = importance(loop)
        values = [self.importance.get(cost.name, -np.inf) for cost in costs]
        return [costs[k].name for k in within(costs, values, beyond, self.method.share, self.method.resolution)]


def within(costs: list[Cost], importance: list[float], beyond: float, share: float, resolution: int) -> list[int]:
    """The tensors to train, those nearest the output first; `beyond` is charged to every choice."""
    backward = sum(cost.own + cost.through for cost in costs) + beyond
    forward = sum(cost.forward for cost in costs) / backward
    budget = share * (1 + forward) - forward
    units = lambda cost: int(cost * resolution / backward)
    left = int((budget if budget > 0 else 0.05) * resolution) - units(beyond)
    if left < 0:
        return []
    return best_set(importance, [units(c.own) for c in costs], [units(c.through) for c in costs], left)


def costs_of(loop: Loop) -> tuple[list[Cost], float]:
    """Costs of every tensor of the model, nearest the output first, and of what every backward pass goes through
    first: the head, where it has no tensor of its own."""
    model = loop.policy.model
    linear = linear_layers(model)
    head = model.get_output_embeddings()
    length = float(loop.table.lengths.mean())
    names = {id(p): name for name, p in model.named_parameters()}
    found: list[Cost] = []
    embedding = model.get_input_embeddings().weight
    tied = head is not None and head.weight is embedding
    for path, module in reversed(_in_order(loop)):
        for leaf, parameter in module.named_parameters(recurse=False):
            if tied and module is head and parameter is embedding:
                continue
            name = names[id(parameter)]
            size = float(parameter.numel())
            if parameter.ndim < 2:
                found.append(Cost(name, size, 0.0 if leaf == "bias" else size, size))
            elif parameter is embedding:
                found.append(
                    Cost(name, 2 * size if tied else float(parameter.shape[1]), 0.0, 2 * size if tied else 0.0)
                )
            else:
                scores = 4 * length * model.config.hidden_size if path in linear and path.endswith(READS_ALL) else 0.0
                found.append(Cost(name, 2 * size, 2 * size + 2 * scores, 2 * size + scores))
    return found, 2.0 * embedding.numel() if tied else 0.0


def importance(loop: Loop) -> dict[str, float]:
    """I of every trained tensor over the largest |I|, from a trial step that is undone."""
    put_to_work(loop, loop.attached.trained(), keep_state=True)
    start = loop.snapshot()
    loop.probe(1, 1.0)
    step = loop.state.step - 1
    loop.optimizer.zero_grad(set_to_none=True)
    for batch in loop.prepared(step, loop.batches(step)):
        loop.losses(batch).total.backward()
    loop.world.sum_gradients(loop.trained, torch.zeros(1, device=loop.world.device))
    found = {}
    for name, parameter in loop.attached.trained().items():
        moved = parameter.detach() - start["trained"][name]
        found[name] = 0.0 if parameter.grad is None else -float((parameter.grad * moved).sum())
    loop.restore(start)
    largest = max(abs(value) for value in found.values()) or 1.0
    return {name: value / largest for name, value in found.items()}


@torch.no_grad()
def _in_order(loop: Loop) -> list[tuple[str, nn.Module]]:
    """The modules with parameters of their own, in the order in which a forward pass comes to them."""
    order: dict[str, nn.Module] = {}

    def note(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            order.setdefault(path, module)

        return hook

    own = {
        path: m for path, m in loop.policy.model.named_modules() if next(m.parameters(recurse=False), None) is not None
    }
    handles = [module.register_forward_pre_hook(note(path)) for path, module in own.items()]
    try:
        batch = loop.batches(loop.state.step)[0]
        rows = torch.zeros(1, dtype=torch.int64, device=loop.world.device)
        loop.policy.logits(batch, rows, rows)
    finally:
        for handle in handles:
            handle.remove()
    return list(order.items())

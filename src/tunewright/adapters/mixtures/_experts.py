"""A feed-forward block as a mixture of experts: one frozen block, a low-rank update per expert, a router."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tunewright.adapters.low_rank._family import kaiming
from tunewright.adapters.low_rank._layer import _Added
from tunewright.models.layers import shape_of

if TYPE_CHECKING:
    from tunewright.adapters.mixtures.mixlora import MixLoRA


class Turn:
    """Which expert a block runs now, if any: on `rows` of its `whole` input, which are `part`."""

    def __init__(self) -> None:
        self.expert: int | None = None
        self.once: dict[nn.Module, Tensor] = {}
        """What layers at the block's entry make of the whole input."""
        self.whole = self.part = self.rows = torch.empty(0)

    def begin(self, expert: int, whole: Tensor, rows: Tensor) -> None:
        """The next expert of the same pass."""
        self.expert, self.whole, self.rows = expert, whole, rows
        self.part = whole.index_select(0, rows)

    def end(self) -> None:
        """The pass is over."""
        self.expert, self.once = None, {}
        self.whole = self.part = self.rows = torch.empty(0)


class ExpertLayer(nn.Module):
    """A frozen linear layer with an update of low rank per expert: `down` [rank, in] and `up` [out, rank] of each."""

    def __init__(self, base: nn.Module, method: MixLoRA, turn: Turn) -> None:
        super().__init__()
        out, width = shape_of(base)
        device: torch.device = base.weight.device  # type: ignore[assignment]
        self.base, self.turn = base, turn
        self.down = nn.ParameterList(kaiming(method.rank, width) for _ in range(method.num_experts)).to(device)
        self.up = nn.ParameterList(torch.zeros(out, method.rank) for _ in range(method.num_experts)).to(device)
        self.scale, self.dropout = method.alpha / method.rank, method.dropout
        self.train(base.training)

    @property
    def weight(self) -> Tensor:
        """The base layer's weight; code that looks at a linear layer's dtype or device finds it here."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        return weight

    def forward(self, x: Tensor) -> Tensor:
        turn = self.turn
        if turn.expert is None:
            plain: Tensor = self.base(x)
            return plain
        if x is turn.part:
            if self not in turn.once:
                turn.once[self] = self.base(turn.whole)
            base = turn.once[self].index_select(0, turn.rows)
        else:
            base = self.base(x)
        inner = nn.functional.dropout(x, self.dropout, self.training) if self.dropout else x
        added: Tensor = _Added.apply(base, inner, self.down[turn.expert], self.up[turn.expert], self.scale)
        return added


@dataclass(frozen=True)
class Routing:
    """What a block's router said of each token: `probabilities` float32 [tokens, E], `chosen` int64 and `weights`
    float32 [tokens, k]."""

    probabilities: Tensor
    chosen: Tensor
    weights: Tensor


class Mixture(nn.Module):
    """A feed-forward block whose experts differ by their updates."""

    def __init__(self, base: nn.Module, method: MixLoRA, turn: Turn, width: int, device: torch.device) -> None:
        super().__init__()
        self.base, self.method, self.turn = base, method, turn
        self.router = nn.Parameter((method.router_std * torch.randn(method.num_experts, width)).to(device))
        self.enabled = True
        self.seen: list[Routing] | None = None
        self.train(base.training)

    def route(self, x: Tensor) -> Routing:
        """Experts and their weights for tokens [n, d]."""
        method, read = self.method, x.float()
        if method.jitter and self.training:
            read = read * torch.empty_like(read).uniform_(1 - method.jitter, 1 + method.jitter)
        with torch.autocast(x.device.type, enabled=False):
            probabilities = (read @ self.router.T).softmax(-1)
        weights, chosen = probabilities.topk(method.top_k, -1)
        if method.renormalize:
            weights = weights / weights.sum(-1, keepdim=True)
        return Routing(probabilities, chosen, weights)

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            plain: Tensor = self.base(x)
            return plain
        flat, turn = x.flatten(0, -2), self.turn
        routing = self.route(flat)
        if self.seen is not None:
            self.seen.append(routing)
        out = torch.zeros(flat.shape, dtype=torch.float32, device=x.device)
        try:
            for expert in range(self.method.num_experts):
                rows, slots = (routing.chosen == expert).nonzero(as_tuple=True)
                if len(rows):
                    turn.begin(expert, flat, rows)
                    made = self.base(turn.part) * routing.weights[rows, slots, None]
                    out = out.index_add(0, rows, made.float())
        finally:
            turn.end()
        return out.to(x.dtype).view(x.shape)

"""DePT: a short soft prompt, and an update of the embeddings by position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from tunewright.adapters.base import Adapter
from tunewright.adapters.low_rank._family import kaiming
from tunewright.adapters.prompts._front import AttachedPrompt, Prompt, drawn, reader
from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.hooks import Hook

if TYPE_CHECKING:
    from tunewright.train.loop import Loop

BY_BUDGET = {"adapter.rank": None}


class DePT(Adapter):
    """Trains a short soft prompt and a low-rank update of the input embeddings, row by position.

    With m = prompt_length, s = max_length, d the width: prompt P [m, d] begins as embeddings of m tokens drawn from the
    vocabulary, A [s, r] is uniform in +-1/sqrt(r) and B [r, d] zero, so that it begins as plain prompt tuning. The
    frozen model reads [P; E'] with E'_i = E(x_i) + alpha / sqrt(r) * (A B)_i, i the position of the token in its
    sequence (not its identity); positions from s on have no row. Position ids run through prompt and sequence:
    P stands at 0..m-1, token i at m + i. Without `rank`, r = floor((l - m) d / (s + d)) with l = reference_length, so that
    m d + (s + d) r numbers train, at most those of a prompt of length l.

    The prompt stands before the sequence at the first call with an empty cache; later tokens find it there and take
    their own position's row, so that step by step computes what a whole pass does. Left padding is understood through
    `attention_mask`. Records are not packed, and the model's context is m positions shorter.

    P learns at the rate `lr_prompt`, A and B at the optimizer's (the paper: 0.3 and 5e-4, weight decay 1e-5, a linear
    schedule with 500 steps of warm-up, 30,000 steps and more). There is nothing to merge.

    When to use: many small tasks on one served model, some hundred kilobytes each. When not: few steps or long inputs;
    `lora` learns faster and costs no context.
    """

    name: ClassVar[str] = "dept"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="DePT: Decomposed Prompt Tuning for Parameter-Efficient Fine-tuning", arxiv="2309.05173", card=171),
    )

    prompt_length: int = option(40, "Vectors m of the prompt.", changes="parameters", to=20, ge=1)
    reference_length: int = option(
        100, "Length l of the prompt whose number of values is the budget.", changes="parameters", to=150, given=BY_BUDGET, ge=1
    )  # fmt: skip
    rank: int | None = option(
        None, "Rank r of the update; by the budget when not set.", changes="parameters", to=2, ge=1
    )
    max_length: int = option(256, "Positions s that have an update.", changes="parameters", to=64, ge=1)
    alpha: float = option(8.0, "Numerator of the update's scale alpha / sqrt(r).", changes="loss", to=64.0, gt=0)
    lr_prompt: float | None = option(
        0.3, "Learning rate of the prompt; the optimizer's when not set.", changes="loss", to=0.01, gt=0
    )

    @property
    def neutral(self) -> bool:
        return False

    @property
    def packs(self) -> bool:
        return False

    @property
    def positions(self) -> int:
        return self.prompt_length

    def rank_of(self, width: int) -> int:
        """The rank for embeddings of this width. Raises `BadInput` when the budget leaves none."""
        if self.rank is not None:
            return self.rank
        left = (self.reference_length - self.prompt_length) * width // (self.max_length + width)
        if left < 1:
            raise BadInput(
                "the budget leaves nothing for the update of the embeddings",
                field="adapter.reference_length",
                found=self.reference_length,
                expected=f"at least {self.prompt_length + -(-(self.max_length + width) // width)} here",
                hint="Or set 'rank'.",
            )
        return left

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedDePT:
        reader(model)
        prompt = drawn(model, self.prompt_length)
        width, device = prompt.shape[1], prompt.device
        rank = self.rank_of(width)
        model.requires_grad_(False)
        down, up = kaiming(self.max_length, rank), torch.zeros(rank, width)
        return AttachedDePT(model, self, PromptAndUpdate(prompt, down.to(device), up.to(device)))


class PromptAndUpdate(Prompt):
    """What trains, float32: `prompt` P [m, d], `down` A [s, r], `up` B [r, d]."""

    def __init__(self, prompt: Tensor, down: Tensor, up: Tensor) -> None:
        super().__init__(prompt)
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)


class AttachedDePT(AttachedPrompt):
    """Prompt and update as the model's child `dept`."""

    trains: PromptAndUpdate

    def __init__(self, model: Any, method: DePT, trains: PromptAndUpdate) -> None:
        super().__init__(model, method.name, trains)
        self.method = method

    def embedded(self, read: Tensor, positions: Tensor) -> Tensor:
        return (read + self.update(positions)).to(read.dtype)

    def update(self, positions: Tensor) -> Tensor:
        """What the embeddings at positions [...] gain: float32 [..., d]."""
        down, up = self.trains.down, self.trains.up
        rows = down[positions.clamp(max=len(down) - 1)] * (positions < len(down))[..., None]
        return self.method.alpha / len(up) ** 0.5 * (rows @ up)

    def hook(self) -> Hook | None:
        return _PromptRate(self) if self.method.lr_prompt is not None else None


class _PromptRate(Hook):
    """Gives the prompt a group of its own in the optimizer, with its own rate."""

    def __init__(self, attached: AttachedDePT) -> None:
        self.attached = attached

    def on_start(self, loop: Loop) -> None:
        prompt, rate = self.attached.trains.prompt, self.attached.method.lr_prompt
        for group in list(loop.optimizer.param_groups):
            others = [p for p in group["params"] if p is not prompt]
            if len(others) < len(group["params"]):
                group["params"] = others
                loop.optimizer.add_param_group({**group, "params": [prompt], "lr": rate, "peak_lr": rate})

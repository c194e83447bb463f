"""DePT: a short soft prompt, and an update of the embeddings by position."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from tunewright.adapters.base import Adapter, Attached
from tunewright.adapters.low_rank._family import kaiming
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
        table: Tensor = model.get_input_embeddings().weight  # type: ignore[operator]
        rank, width = self.rank_of(table.shape[1]), table.shape[1]
        model.requires_grad_(False)
        drawn = table[torch.randint(len(table), (self.prompt_length,)).to(table.device)]
        down = kaiming(self.max_length, rank)
        return AttachedDePT(
            model, self, Prompt(drawn, down.to(table.device), torch.zeros(rank, width).to(table.device))
        )


class Prompt(nn.Module):
    """What trains, float32: `prompt` P [m, d], `down` A [s, r], `up` B [r, d]."""

    def __init__(self, prompt: Tensor, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.prompt = nn.Parameter(prompt.to(torch.float32, copy=True))
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)


class AttachedDePT(Attached):
    """Prompt and update as the model's child `dept`, put in front of what its body reads."""

    def __init__(self, model: Any, method: DePT, trains: Prompt) -> None:
        super().__init__(model)
        self.method, self.trains = method, trains.train(model.training)
        self.embed, body = model.get_input_embeddings(), reader(model)
        self.taken = [name for name in inspect.signature(type(body).forward).parameters if name != "self"]
        self.kept: tuple[Any, Any] | None = None
        """Where the sequence stands in what the body puts out, where the prompt is in front."""
        model.add_module("dept", trains)
        model.positions_before = method.prompt_length
        self._handles = [
            body.register_forward_pre_hook(self._before, with_kwargs=True),
            body.register_forward_hook(self._after),
        ]

    def _before(self, body: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        self.kept = None
        if not self.enabled:
            return None
        given = {**dict(zip(self.taken, args, strict=False)), **given}
        ids, read = given.pop("input_ids", None), given.get("inputs_embeds")
        read = self.embed(ids) if read is None else read
        cache, mask = given.get("past_key_values"), given.get("attention_mask")
        length, seen = self.method.prompt_length, cache.get_seq_length() if cache is not None else 0
        at = self._positions(read, given.get("position_ids"), mask, max(0, seen - length))
        read = (read + self.update(at)).to(read.dtype)
        if not seen:
            read = torch.cat([self.trains.prompt.to(read.dtype).expand(len(read), -1, -1), read], 1)
            at = torch.cat([torch.arange(-length, 0, device=at.device).expand(len(read), -1), at], 1)
            self.kept = (slice(None), slice(length, None))
            if mask is not None:
                places = _behind(mask, at, length)
                read, at = read.gather(1, places[..., None].expand_as(read)), at.gather(1, places)
                rows, columns = (places >= length).nonzero(as_tuple=True)
                self.kept = (rows.view(len(read), -1), columns.view(len(read), -1))
        if mask is not None:
            longer = torch.cat([mask.new_ones(len(mask), length), mask], 1)
            given["attention_mask"] = longer.gather(1, _behind(mask, longer, length))
        if "position_ids" in self.taken:
            given["position_ids"] = at + length
        return (), {**given, "inputs_embeds": read}

    def _positions(self, read: Tensor, positions: Tensor | None, mask: Tensor | None, seen: int) -> Tensor:
        """The position [rows, width] of every token in its own sequence, the prompt not counted."""
        rows, width = read.shape[:2]
        if positions is None and mask is not None:
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -width:]
        elif positions is None:
            positions = torch.arange(seen, seen + width, device=read.device)
        return positions.expand(rows, width)

    def update(self, positions: Tensor) -> Tensor:
        """What the embeddings at positions [...] gain: float32 [..., d]."""
        down, up = self.trains.down, self.trains.up
        rows = down[positions.clamp(max=len(down) - 1)] * (positions < len(down))[..., None]
        return self.method.alpha / len(up) ** 0.5 * (rows @ up)

    def _after(self, body: nn.Module, args: object, out: Any) -> Any:
        """The outputs of the sequence alone."""
        if self.kept is not None:
            out.last_hidden_state = out.last_hidden_state[self.kept]
            if out.get("hidden_states") is not None:
                out.hidden_states = tuple(each[self.kept] for each in out.hidden_states)
        return out

    def trained(self) -> dict[str, nn.Parameter]:
        return dict(self.trains.named_parameters())

    def hook(self) -> Hook | None:
        return _PromptRate(self) if self.method.lr_prompt is not None else None

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        model: Any = self.model
        del model.dept, model.positions_before

    def merge(self) -> None:
        raise BadInput(
            "dept cannot be merged: a prompt is no part of any weight",
            hint="The tuned model works from the run's folder: 'tunewright chat', 'tunewright evaluate'.",
        )

    def plain_weights(self) -> dict[str, Tensor]:
        return {name: value for name, value in super().plain_weights().items() if not name.startswith("dept.")}


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


def reader(model: Any) -> nn.Module:
    """The module of a model that reads token ids or their embeddings: the one that holds the embedding.

    Raises `BadInput` where there is none, or where it takes no embeddings.
    """
    table = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    found = next((m for m in model.modules() if any(child is table for child in m.children())), None)
    if found is None or "inputs_embeds" not in inspect.signature(type(found).forward).parameters:
        raise BadInput("the model takes no embeddings as its input", field="adapter", found=type(model).__name__)
    return found


def _behind(mask: Tensor, beside: Tensor, length: int) -> Tensor:
    """Which entry [rows, width] of [prompt, sequence] stands where, so that padding on the left stays outermost: the
    distances that sliding windows count stay right. `beside` has the shape."""
    places = torch.arange(beside.shape[1], device=beside.device).expand(beside.shape)
    pads = (mask.cumsum(1) == 0).sum(1, keepdim=True)
    moved = torch.where(places < pads, places + length, places - pads)
    return torch.where(places < pads + length, moved, places)

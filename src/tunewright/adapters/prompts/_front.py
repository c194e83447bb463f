"""A trained prompt in front of the embeddings that a model reads."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from tunewright.adapters.base import Attached
from tunewright.errors import BadInput


class Prompt(nn.Module):
    """What trains, float32: `prompt` P [m, d], at first the given vectors."""

    def __init__(self, drawn: Tensor) -> None:
        super().__init__()
        self.prompt = nn.Parameter(drawn.to(torch.float32, copy=True))


class AttachedFront(Attached):
    """What trains in front of every sequence, `length` positions long: a child of the model, under the method's name.

    A subclass fills `_handles` with what puts it there.
    """

    def __init__(self, model: Any, name: str, trains: nn.Module, length: int) -> None:
        super().__init__(model)
        self.name, self.front, self.length = name, trains.train(model.training), length
        self.body = reader(model)
        self.taken = arguments(self.body)
        model.add_module(name, trains)
        model.positions_before = length
        self._handles: list[Any] = []

    def trained(self) -> dict[str, nn.Parameter]:
        return dict(self.front.named_parameters())

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        model: Any = self.model
        delattr(model, self.name)
        del model.positions_before

    def merge(self) -> None:
        raise BadInput(
            f"{self.name} cannot be merged: a prompt is no part of any weight",
            hint="The tuned model works from the run's folder: 'tunewright chat', 'tunewright evaluate'.",
        )

    def plain_weights(self) -> dict[str, Tensor]:
        own = f"{self.name}."
        return {name: value for name, value in super().plain_weights().items() if not name.startswith(own)}


class AttachedPrompt(AttachedFront):
    """The prompt of `trains` in front of what the model's body reads."""

    def __init__(self, model: Any, name: str, trains: Prompt) -> None:
        super().__init__(model, name, trains, len(trains.prompt))
        self.trains, self.embed = trains, model.get_input_embeddings()
        self.kept: tuple[Any, Any] | None = None
        """Where the sequence stands in what the body puts out, where the prompt is in front."""
        self._handles = [
            self.body.register_forward_pre_hook(self._before, with_kwargs=True),
            self.body.register_forward_hook(self._after),
        ]

    def embedded(self, read: Tensor, positions: Tensor) -> Tensor:
        """What stands in the place of the embeddings [rows, width, d] of tokens at positions [rows, width]."""
        return read

    def _before(self, body: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        self.kept = None
        if not self.enabled:
            return None
        given = {**dict(zip(self.taken, args, strict=False)), **given}
        ids, read = given.pop("input_ids", None), given.get("inputs_embeds")
        read = self.embed(ids) if read is None else read
        cache, mask = given.get("past_key_values"), given.get("attention_mask")
        length, seen = self.length, cache.get_seq_length() if cache is not None else 0
        at = positions_of(read, given.get("position_ids"), mask, max(0, seen - length))
        read = self.embedded(read, at)
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

    def _after(self, body: nn.Module, args: object, out: Any) -> Any:
        """The outputs of the sequence alone."""
        if self.kept is not None:
            out.last_hidden_state = out.last_hidden_state[self.kept]
            if out.get("hidden_states") is not None:
                out.hidden_states = tuple(each[self.kept] for each in out.hidden_states)
        return out


def drawn(model: Any, length: int) -> Tensor:
    """The embeddings [length, d] of tokens drawn from the vocabulary of a model."""
    table: Tensor = model.get_input_embeddings().weight
    return table[torch.randint(len(table), (length,)).to(table.device)]


def arguments(module: nn.Module) -> list[str]:
    """The names of what a module's forward takes, in order."""
    return [name for name in inspect.signature(type(module).forward).parameters if name != "self"]


def reader(model: Any) -> nn.Module:
    """The module of a model that reads token ids or their embeddings: the one that holds the embedding.

    Raises `BadInput` where there is none, or where it takes no embeddings.
    """
    table = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    found = next((m for m in model.modules() if any(child is table for child in m.children())), None)
    if found is None or "inputs_embeds" not in arguments(found):
        raise BadInput("the model takes no embeddings as its input", field="adapter", found=type(model).__name__)
    return found


def positions_of(read: Tensor, positions: Tensor | None, mask: Tensor | None, seen: int) -> Tensor:
    """The position [rows, width] of every token in its own sequence, what stands before it not counted; `seen` tokens are
    in the cache."""
    rows, width = read.shape[:2]
    if positions is None and mask is not None:
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -width:]
    elif positions is None:
        positions = torch.arange(seen, seen + width, device=read.device)
    return positions.expand(rows, width)


def _behind(mask: Tensor, beside: Tensor, length: int) -> Tensor:
    """Which entry [rows, width] of [prompt, sequence] stands where, so that padding on the left stays outermost: the
    distances that sliding windows count stay right. `beside` has the shape."""
    places = torch.arange(beside.shape[1], device=beside.device).expand(beside.shape)
    pads = (mask.cumsum(1) == 0).sum(1, keepdim=True)
    moved = torch.where(places < pads, places + length, places - pads)
    return torch.where(places < pads + length, moved, places)

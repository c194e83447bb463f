"""Which sequences each optimizer step trains on, and how they become tensors.

The plan is a function of (seed, step): any step can be computed without running those before it. What a step trains
on is decided before it is cut into micro-batches, so padding, packing, micro-batch size and the number of processes
change nothing but speed and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunewright.data.table import Table

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """How often the rows of one source are drawn: `passes` per epoch, or by `weight` relative to other sources."""

    passes: float = 1.0
    weight: float | None = None


@dataclass(frozen=True)
class Plan:
    """The sequences of every optimizer step.

    An epoch is a seeded permutation of the drawn rows, cut into steps of `tokens_per_step` tokens (padding not
    counted): a step ends with the sequence that reaches a multiple of it. The run is as long as the first of
    `epochs`, `steps` and `tokens` that is set says.
    """

    lengths: Indices
    sources: Indices
    shares: tuple[Share, ...]
    tokens_per_step: int
    seed: int
    epochs: float | None = None
    steps: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        # The cached epoch permutations belong to this object alone.
        object.__setattr__(self, "_epoch", lru_cache(maxsize=2)(self._draw))

    @property
    def total(self) -> int:
        """The number of optimizer steps of the run."""
        if self.steps is not None:
            return self.steps
        done = steps = 0
        for epoch in count():
            order, ends = self._epoch(epoch)  # type: ignore[attr-defined]
            passed = np.cumsum(self.lengths[order])[ends - 1]
            if self.tokens is not None and done + passed[-1] >= self.tokens:
                return steps + int(np.searchsorted(passed, self.tokens - done)) + 1
            if self.tokens is None and epoch + 1 >= (self.epochs or 1.0):
                share = (self.epochs or 1.0) - epoch
                return steps + max(1, int(np.ceil(len(ends) * share - 1e-9)))
            done, steps = done + int(passed[-1]), steps + len(ends)
        raise AssertionError("unreachable")

    def step(self, step: int) -> Indices:
        """The table indices of the sequences of optimizer step `step` (0 is the first)."""
        for epoch in count():
            order, ends = self._epoch(epoch)  # type: ignore[attr-defined]
            if step < len(ends):
                return np.asarray(order[ends[step - 1] if step else 0 : ends[step]])
            step -= len(ends)
        raise AssertionError("unreachable")

    def without(self, units: Indices) -> Plan:
        """A plan of as many steps that never draws `units`."""
        sources = self.sources.copy()
        sources[units] = -1
        return replace(self, sources=sources, epochs=None, tokens=None, steps=self.total)

    def _draw(self, epoch: int) -> tuple[Indices, Indices]:
        rng = np.random.default_rng([self.seed, epoch, 0xDA7A])
        drawn = np.concatenate([self._rows(source, epoch, rng) for source in range(len(self.shares))])
        order = drawn[rng.permutation(len(drawn))]
        reached = np.cumsum(self.lengths[order])
        boundaries = np.arange(1, int(np.ceil(reached[-1] / self.tokens_per_step)) + 1) * self.tokens_per_step
        ends = np.unique(np.minimum(np.searchsorted(reached, boundaries) + 1, len(order)))
        return order, ends

    def _rows(self, source: int, epoch: int, rng: np.random.Generator) -> Indices:
        own = np.flatnonzero(self.sources == source)
        if not len(own):
            return own
        share = self.shares[source]
        if share.weight is not None:
            total = sum(other.weight if other.weight is not None else 1.0 for other in self.shares)
            wanted = round(len(self.lengths) * share.weight / total)
        else:
            wanted = round(len(own) * share.passes)
        whole, rest = divmod(max(1, wanted), len(own))
        return np.concatenate([np.tile(own, whole), own[rng.permutation(len(own))[:rest]]])


def rounded(length: int, multiple: int) -> int:
    """The next multiple of `multiple` from `length` on."""
    return -(-length // multiple) * multiple


def micro_batches(
    indices: Indices,
    lengths: Indices,
    tokens: int,
    layout: Literal["padded", "packed"] = "padded",
    multiple: int = 1,
) -> list[Indices]:
    """Cuts a step's sequences into groups of at most `tokens` computed tokens (a longer sequence stands alone).

    Padded: sorted by length, so that rows of a group are of about one length. Packed: first-fit by falling length.
    """
    order = indices[np.argsort(-lengths[indices], kind="stable")]
    groups: list[list[int]] = []
    if layout == "padded":
        for index in order:
            if groups and rounded(int(lengths[groups[-1][0]]), multiple) * (len(groups[-1]) + 1) <= tokens:
                groups[-1].append(int(index))
            else:
                groups.append([int(index)])
    else:
        room: list[int] = []
        for index in order:
            need = int(lengths[index])
            fit = next((group for group, left in enumerate(room) if left >= need), None)
            if fit is None:
                groups.append([int(index)])
                room.append(tokens - need)
            else:
                groups[fit].append(int(index))
                room[fit] -= need
    return [np.asarray(group, dtype=np.int64) for group in groups]


@dataclass(frozen=True)
class Batch:
    """Sequences as tensors of shape [rows, width].

    `ids`, `positions` int64 and `weights` float32 [rows, width]; `sequence` int64 [rows, width] is the number (within
    the batch) of the sequence a token belongs to, -1 for padding, which stands on the right. `indices` int64
    [sequences] are the table indices. `columns` hold one value per sequence, `token_columns` one per position.
    `step_sums` are what the objective asked to know of the whole optimizer step.
    """

    ids: Tensor
    positions: Tensor
    weights: Tensor
    sequence: Tensor
    indices: Tensor
    columns: Mapping[str, Tensor]
    token_columns: Mapping[str, Tensor]
    packed: bool = False
    step_sums: Tensor | None = None

    @property
    def kept(self) -> tuple[Tensor, Tensor]:
        """Row and column [kept] of every token that is predicted: weight not zero, sequences in order."""
        rows, cols = torch.nonzero(self.weights, as_tuple=True)
        return rows, cols

    @property
    def tokens(self) -> int:
        """Tokens without padding."""
        return int((self.sequence >= 0).sum())

    def only(self, keep: Tensor) -> Batch:
        """The sequences where `keep` [sequences] is true, without the room of the others."""
        own = self.sequence.clamp(min=0)
        there = keep[own] & (self.sequence >= 0)
        sequence = torch.where(there, (torch.cumsum(keep, 0) - 1)[own], -1)
        # A blank batch, which processes compute to keep step with each other, keeps its width.
        columns = there[0] if there.any() else torch.ones_like(there[0])
        cut: Callable[[Tensor], Tensor] = (lambda t: t[:, columns]) if self.packed else (lambda t: t[keep])
        return replace(
            self, ids=cut(self.ids), positions=cut(self.positions), weights=cut(self.weights * there),
            sequence=cut(sequence),
            indices=self.indices[keep], columns={name: column[keep] for name, column in self.columns.items()},
            token_columns={name: cut(column) for name, column in self.token_columns.items()},
        )  # fmt: skip

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        move = lambda columns: {name: column.to(device) for name, column in columns.items()}
        return replace(
            self, ids=self.ids.to(device), positions=self.positions.to(device), weights=self.weights.to(device),
            sequence=self.sequence.to(device), indices=self.indices.to(device), columns=move(self.columns),
            token_columns=move(self.token_columns),
        )  # fmt: skip


def collate(
    table: Table, indices: Sequence[int] | Indices, packed: bool = False, pad: int = 0, multiple: int = 1
) -> Batch:
    """The sequences `indices` of a table as one batch: a row each, or all in one row when `packed`.

    Rows of their own are padded to a multiple of `multiple`.
    """
    spans = [(int(table.starts[i]), int(table.starts[i + 1])) for i in indices]
    lengths = [end - start for start, end in spans]
    shape = (1, sum(lengths)) if packed else (len(spans), rounded(max(lengths), multiple))
    flat = np.concatenate([np.arange(start, end) for start, end in spans])
    within = np.concatenate([np.arange(length) for length in lengths])
    number = np.repeat(np.arange(len(spans)), lengths)
    rows, cols = (np.zeros_like(flat), np.arange(len(flat))) if packed else (number, within)

    def spread(values: NDArray[np.generic], empty: float, dtype: torch.dtype) -> Tensor:
        full = torch.full(shape, empty, dtype=dtype)
        full[torch.from_numpy(rows), torch.from_numpy(cols)] = torch.from_numpy(np.asarray(values)).to(dtype)
        return full

    positions = torch.arange(shape[1]).expand(shape).contiguous()
    if packed:
        positions[0] = torch.from_numpy(within)
    floating = lambda column: torch.float32 if np.issubdtype(column.dtype, np.floating) else torch.int64
    at = np.asarray(indices, dtype=np.int64)
    return Batch(
        ids=spread(table.ids[flat], pad, torch.int64),
        positions=positions,
        weights=spread(table.weights[flat], 0.0, torch.float32),
        sequence=spread(number, -1, torch.int64),
        indices=torch.from_numpy(at),
        columns={n: torch.from_numpy(np.asarray(c[at])).to(floating(c)) for n, c in table.columns.items()},
        token_columns={n: spread(c[flat], 0, floating(c)) for n, c in table.token_columns.items()},
        packed=packed,
    )

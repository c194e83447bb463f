"""The training loop. It can be driven: `advance(n)`, `snapshot()`, `restore()`."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tunewright.adapters.base import Attached
from tunewright.data.batches import Batch, Indices, Plan, collate, micro_batches
from tunewright.data.table import Table
from tunewright.errors import Interrupted
from tunewright.hooks import Hook
from tunewright.models.generate import evaluating
from tunewright.models.policy import Policy
from tunewright.models.shards import whole
from tunewright.objectives.base import Loss, Objective, surveyed
from tunewright.optimize.schedules.base import Schedule
from tunewright.train.faults import explain
from tunewright.train.processes import World
from tunewright.train.sums import Sums


@dataclass
class State:
    """Where a run stands: what a checkpoint stores beside tensors."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Step:
    """What one optimizer step did. `loss` is the weighted mean over the step; `sources` the same per source."""

    step: int
    loss: float
    lr: float
    gradient_norm: float
    tokens: int
    seconds: float
    sources: dict[int, float] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """How steps are computed. None of these but `seed` (dropout) and `clip` changes what is learned."""

    seed: int = 0
    clip: float | None = 1.0
    micro_batch_tokens: int = 1024
    width_multiple: int = 1
    layout: Literal["padded", "packed"] = "padded"
    pad: int = 0


class Loop:
    """Trains the attached parameters of a policy on the steps of a plan."""

    def __init__(
        self,
        policy: Policy,
        attached: Attached,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        table: Table,
        plan: Plan,
        settings: Settings,
        world: World,
        hooks: Sequence[Hook] = (),
    ) -> None:
        self.policy, self.attached, self.objective = policy, attached, objective
        self.optimizer, self.factor = optimizer, schedule.factor
        self.table, self.plan, self.settings, self.world = table, plan, settings, world
        self.hooks = list(hooks)
        self.trained = list(attached.trained().values())
        self.sources = int(table.columns["source"].max()) + 1
        self.state = State()
        self.total = plan.total
        self.scale = torch.ones((), device=world.device)
        """What a sum of gradients over the micro-batches of the present step is multiplied by: one over the step's
        weight, and from `before_step` on the clipping's factor too."""
        self.stop_asked = False
        self.interrupted = False
        self.finished = False

    def run(self) -> None:
        """Trains from where the state stands to the end of the plan.

        Raises `NotFinite` on a loss or gradient that is not a number, `Interrupted` after a requested stop.
        """
        for hook in self.hooks:
            hook.on_start(self)
        self.advance(self.total - self.state.step)
        for hook in self.hooks:
            hook.on_end(self)
        if self.interrupted:
            raise Interrupted(f"stopped after step {self.state.step} of {self.total}; it was saved and can be resumed")

    def advance(self, steps: int) -> None:
        """Takes up to `steps` optimizer steps; fewer when the run ends or is told to stop."""
        self.policy.train()
        for _ in range(steps):
            if self.finished or self.interrupted or self.state.step >= self.total:
                return
            self._step()

    def batches(self, step: int) -> list[Batch]:
        """This process's micro-batches of an optimizer step."""
        return self.batches_of(self.plan.step(step))

    def batches_of(self, units: Indices) -> list[Batch]:
        """This process's micro-batches of units of the table.

        Processes take turns over the micro-batches; sharded ones all compute the same number, since their
        forward passes exchange weights, and repeat one without weight where the turns do not come out even.
        """
        settings = self.settings
        multiple, packed = settings.width_multiple, settings.layout == "packed"
        groups = self.groups(units)
        mine = [
            collate(self.table, group, packed, settings.pad, multiple)
            for group in groups[self.world.rank :: self.world.size]
        ]
        for _ in range(-(-len(groups) // self.world.size) - len(mine)):
            empty = collate(self.table, groups[-1], packed, settings.pad, multiple)
            blank = torch.full_like(empty.sequence, -1)
            mine.append(replace(empty, weights=torch.zeros_like(empty.weights), sequence=blank))
        return [batch.to(self.world.device) for batch in mine]

    def groups(self, units: Indices) -> list[Indices]:
        """Units of the table (sequences, or what must stay together) as micro-batches of table indices."""
        together = self.table.together
        longest = self.table.lengths.reshape(-1, together).max(1)
        settings = self.settings
        made = micro_batches(
            units, longest, settings.micro_batch_tokens // together, settings.layout, settings.width_multiple
        )
        return [(group[:, None] * together + np.arange(together)).ravel() for group in made]

    def prepared(self, step: int, batches: Sequence[Batch]) -> list[Batch]:
        """A step's micro-batches as the objective wants them: transformed, and knowing what it asks of the step."""
        made = [self.objective.transform(batch, self.settings.seed, step, self.total) for batch in batches]
        for hook in self.hooks:
            made = hook.on_batches(self, made)
        return surveyed(self.objective, self.policy, made, self.world.sum)

    def losses(self, batch: Batch) -> Loss:
        """The objective's loss of a micro-batch with the terms of adapter and hooks, if they have one."""
        loss = self._own_loss(batch)
        terms = [self.attached.penalty(), *(hook.penalty(self) for hook in self.hooks)]
        penalties = [term for term in terms if term is not None]
        return replace(loss, total=loss.total + sum(penalties) * loss.weight) if penalties else loss

    @torch.no_grad()
    def measured(self, batches: Sequence[Batch], groups: Tensor, count: int) -> Tensor:
        """(sums of losses, their weights) float32 [2, count] over micro-batches of all processes, in evaluation mode.

        `groups` int64 [rows of the table] says to which of the `count` sums a row adds.
        """
        found = torch.zeros(2, count, device=self.world.device)
        with evaluating(self.policy):
            for batch in batches:
                found.index_add_(1, groups[batch.indices], torch.stack(self._own_loss(batch).per_sequence))
        return self.world.sum(found)

    def _own_loss(self, batch: Batch) -> Loss:
        loss = self.objective.loss(self.policy, batch)
        for hook in self.hooks:
            loss = hook.on_loss(self, batch, loss)
        return loss

    def probe(self, steps: int, factor: float) -> list[float]:
        """Takes `steps` steps at a fixed factor on the learning rate, without hooks; the loss of each.

        For methods that look ahead: take a `snapshot` before and `restore` it afterwards.
        """
        hooks, usual, taken = self.hooks, self.factor, Steps()
        self.hooks, self.factor = [taken], lambda step, total: factor
        try:
            for _ in range(min(steps, self.total - self.state.step)):
                self._step()
        finally:
            self.hooks, self.factor = hooks, usual
        return [step.loss for step in taken.done]

    def _step(self) -> None:
        for hook in self.hooks:
            hook.on_step(self)
        started, step = time.perf_counter(), self.state.step
        rate = self._set_rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        batches = self.batches(step)
        if getattr(self.optimizer, "forward_only", False):
            sums, norm = self._by_values(step, batches)
        else:
            sums, norm = self._by_gradient(step, batches)
        self.attached.after_step(self.optimizer, step)
        took = time.perf_counter() - started
        self.state = State(step + 1, self.state.tokens + sums.tokens, self.state.seconds + took)
        done = Step(step + 1, sums.loss.item(), rate, norm, sums.tokens, took, sums.by_source(), sums.parts())
        for hook in self.hooks:
            hook.after_step(self, done)

    def _by_gradient(self, step: int, batches: Sequence[Batch]) -> tuple[Sums, float]:
        sums = self._sums(step, batches, self.trained)
        norm = self._average(sums.weight)
        if not torch.isfinite(norm + sums.loss):
            raise explain(self, step)
        for hook in self.hooks:
            hook.after_backward(self)
        self._clip(norm)
        for hook in self.hooks:
            hook.before_step(self)
        self.optimizer.step()
        return sums, norm.item()

    @torch.no_grad()
    def _by_values(self, step: int, batches: Sequence[Batch]) -> tuple[Sums, float]:
        """A step of an optimizer that asks for the loss at points of its choice; the first one's is reported."""
        seen: list[Sums] = []

        def loss() -> float:
            seen.append(self._sums(step, batches, ()))
            if not torch.isfinite(seen[-1].loss):
                raise explain(self, step)
            return seen[-1].loss.item()

        for hook in self.hooks:
            hook.before_step(self)
        self.optimizer.step(loss)
        return seen[0], 0.0

    def _sums(self, step: int, batches: Sequence[Batch], trained: Sequence[nn.Parameter]) -> Sums:
        """Computes the micro-batches, forward and (with `trained`) backward, and adds up over all processes."""
        # Random numbers are a function of (seed, step): resuming, rehearsing and evaluating change nothing.
        torch.manual_seed((self.settings.seed << 32) + step)
        sums = Sums(self.sources, self.world.device)
        for batch in self.prepared(step, batches):
            for hook in self.hooks:
                batch = hook.on_batch(self, batch)
            loss = self.losses(batch)
            if trained and loss.total.requires_grad:
                loss.total.backward()
            for hook in self.hooks:
                hook.after_batch(self, batch)
            sums.add(loss, batch)
        # A stop asked of one process must stop all of them after the same step.
        sums.values[3] = float(self.stop_asked)
        sums.values = self.world.sum_gradients(trained, sums.values)
        self.interrupted |= sums.stop_asked
        return sums

    def _average(self, weight: Tensor) -> Tensor:
        gradients = [p.grad for p in self.trained if p.grad is not None]
        self.scale = 1 / weight.clamp(min=1e-12)
        if gradients:
            torch._foreach_div_(gradients, weight.clamp(min=1e-12))
        norm = torch.nn.utils.get_total_norm(gradients)
        return whole(norm)

    def _clip(self, norm: Tensor) -> None:
        if self.settings.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.trained, self.settings.clip, norm)
            self.scale = self.scale * (self.settings.clip / (norm + 1e-6)).clamp(max=1.0)

    def _set_rate(self, step: int) -> float:
        factor = self.factor(step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def snapshot(self) -> dict[str, Any]:
        """Trained tensors, optimizer and position, copied in memory."""
        return {
            "trained": {name: value.clone() for name, value in self.attached.state().items()},
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "state": replace(self.state),
            "random": torch.get_rng_state(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Goes back to a snapshot, bit for bit."""
        self.attached.load_state(snapshot["trained"])
        self.optimizer.load_state_dict(copy.deepcopy(snapshot["optimizer"]))
        self.state = replace(snapshot["state"])
        torch.set_rng_state(snapshot["random"])
        self.optimizer.zero_grad(set_to_none=True)


@dataclass
class Steps(Hook):
    """Keeps the account of every step."""

    done: list[Step] = field(default_factory=list)

    def after_step(self, loop: Loop, step: Step) -> None:
        self.done.append(step)

"""Tasks count alike, however many tokens or rows each has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from tunewright.catalog import Paper, option
from tunewright.data.batches import Batch, Indices, Plan
from tunewright.data.order._balance import Scheme, Slope, Speed
from tunewright.data.order.base import Order
from tunewright.data.table import Table
from tunewright.errors import BadInput
from tunewright.hooks import Hook

if TYPE_CHECKING:
    from tunewright.objectives.base import Loss
    from tunewright.train.loop import Loop


class MFTMultitaskLoss(Order):
    """Balances tasks in the loss of every optimizer step, by tokens, by difficulty and by how fast each converges.

    With w_ijk the weight of token k of row j of task i in a step, T_ij = sum_k w_ijk, T_i = sum_j T_ij, N_i the rows of
    task i with T_ij > 0, l the per-token losses, and sums over the tasks that the step holds:
    `token` sum l w / sum w, `sample` the mean over rows of sum_k l w / T_ij,
    `task_token` sum_i a_i (sum_jk l w / T_i) / sum_i a_i, `task_sample` the same with the mean over the task's rows,
    `focal` sum_i a_i mean_j (1 - P_ij)^g (-Q_ij) / sum_i a_i with Q_ij = -sum_k l w / T_ij and P_ij = exp(Q_ij).
    All sums are those of the whole step over all micro-batches and processes. a = 1, or follows the losses on rows held
    out from training: `speed` (FAMO) gives more to tasks whose log loss falls less, `slope` (CoBa) to tasks whose loss
    falls less steeply than the others', while none diverges.

    The held-out rows are taken from the training rows, and read without gradient every `update_every` steps, so a
    measurement costs a third of a training step on as many tokens; the run keeps its number of steps. `speed` also
    reads the step's rows once more, for the losses at the present weights. A task is a value of a column, by default
    one per source.

    When to use: a few tasks of very different size, all of which matter. When not: one task, or tasks so small that
    their rows are learned by heart once they count as much as the large ones.
    """

    name: ClassVar[str] = "mft_multitask_loss"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="MFTCoder: Boosting Code LLMs with Multitask Fine-Tuning", arxiv="2311.02303", card=117
        ),
    )  # fmt: skip

    column: str = option("source", "The column whose values are the tasks.", changes="loss", to="file")
    mode: Literal["token", "sample", "task_token", "task_sample", "focal"] = option(
        "task_token", "What counts alike: tokens, rows, tasks by tokens, tasks by rows, or tasks by difficult rows.",
        changes="loss", to="task_sample",
    )  # fmt: skip
    focal_gamma: float = option(
        2.0, "Exponent g of `focal`; 0 is `task_sample`.", changes="loss", to=0.5, ge=0, given={"order.mode": "focal"}
    )
    scheme: Literal["equal", "speed", "slope"] = option(
        "equal", "How tasks weigh against each other: alike, by speed, or by slope of their held-out losses.",
        changes="loss", to="speed",
    )  # fmt: skip
    held_out: int = option(
        16, "Rows of each task kept from training and measured, at most half of them.", changes="loss", to=1, ge=1,
        given={"order.scheme": "speed"},
    )  # fmt: skip
    update_every: int = option(
        1, "Steps between measurements.", changes="loss", to=3, ge=1, given={"order.scheme": "speed"}
    )
    famo_lr: float = option(
        0.025, "Learning rate of the tasks' weights by speed.", changes="loss", to=1.0, gt=0,
        given={"order.scheme": "speed"},
    )  # fmt: skip
    famo_decay: float = option(
        0.001, "Decay of the tasks' weights by speed towards equal ones.", changes="loss", to=1.0, ge=0,
        given={"order.scheme": "speed", "order.famo_lr": 1.0},
    )  # fmt: skip
    coba_warmup: int = option(
        100, "Measurements before slopes count.", changes="loss", to=2, ge=1, given={"order.scheme": "slope"}
    )
    coba_history: int = option(
        200, "Measurements that a slope is fitted to, and slopes that are kept.", changes="loss", to=3, ge=2,
        given={"order.scheme": "slope", "order.coba_warmup": 2},
    )  # fmt: skip
    coba_tau: float = option(
        5.0, "Sharpness with which divergence is noticed.", changes="loss", to=0.5, gt=0,
        given={"order.scheme": "slope", "order.coba_warmup": 2},
    )  # fmt: skip

    @model_validator(mode="after")
    def _scheme_weighs_tasks(self) -> MFTMultitaskLoss:
        if self.scheme != "equal" and self.mode in ("token", "sample"):
            raise ValueError(f"scheme '{self.scheme}' weighs tasks, which mode '{self.mode}' does not know")
        return self

    @property
    def wants(self) -> Mapping[str, frozenset[str]]:
        if self.mode == "token":
            return {}
        form = {"token_mean", "likelihood"} if self.mode == "focal" else {"token_mean"}
        return {"objective": frozenset(form)}

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({self.column})

    def plan(self, usual: Plan, table: Table) -> Plan:
        """As many steps, on the rows that are not held out."""
        return usual if self.scheme == "equal" else usual.without(self.held(table, usual.seed))

    def held(self, table: Table, seed: int) -> Indices:
        """The rows that are kept from training."""
        _, tasks = self.tasks(table)
        rng = np.random.default_rng([seed, 0x4E1D])
        found = []
        for task in range(tasks.max() + 1):
            rows = np.flatnonzero(tasks == task)
            if len(rows) < 2:
                raise BadInput(
                    "a task of a single row cannot be both trained and measured", field="data.order.scheme",
                    found=self.scheme, hint="Use 'scheme: equal'.",
                )  # fmt: skip
            found.append(rng.permutation(rows)[: min(self.held_out, len(rows) // 2)])
        return np.concatenate(found)

    def tasks(self, table: Table) -> tuple[int, NDArray[np.int64]]:
        """How many tasks there are, and each row's: int64 [rows]."""
        values, number = np.unique(np.asarray(table.columns[self.column]), return_inverse=True)
        return len(values), number.astype(np.int64)

    def hook(self) -> Hook:
        return Balance(self)


class Balance(Hook):
    """Weighs the rows of every step by their tasks."""

    def __init__(self, method: MFTMultitaskLoss) -> None:
        self.method = method
        self.count = 0
        self.tasks = torch.zeros(0, dtype=torch.int64)
        self.held: Indices = np.zeros(0, dtype=np.int64)
        self.scheme: Scheme | None = None
        self.saved: dict[str, Any] = {}

    def on_step(self, loop: Loop) -> None:
        """Measures the held-out rows where that is due."""
        self._begin(loop)
        if self.scheme is not None and loop.state.step % self.method.update_every == 0:
            settings = loop.settings
            # As an objective transforms the first step: a fixed function, so that measurements compare.
            batches = [
                loop.objective.transform(batch, settings.seed, 0, loop.total) for batch in loop.batches_of(self.held)
            ]
            totals, weights = loop.measured(self._evened(loop, batches), self.tasks, self.count)
            self.scheme.take((totals / weights.clamp(min=1e-12)).cpu())

    def on_batches(self, loop: Loop, batches: list[Batch]) -> list[Batch]:
        if self.method.mode == "token":
            return batches
        self._begin(loop)
        evened = self._evened(loop, batches)
        if self.scheme is None:
            return evened
        learned = None
        if self.scheme.learns:
            totals, weights = loop.measured(evened, self.tasks, self.count)
            learned = (totals / weights.clamp(min=1e-12)).cpu()
        a = self.scheme.weights(learned).float().to(self.tasks.device)
        return [scaled(batch, a[self.tasks[batch.indices]]) for batch in evened]

    def on_loss(self, loop: Loop, batch: Batch, loss: Loss) -> Loss:
        return focal(loss, self.method.focal_gamma) if self.method.mode == "focal" else loss

    def state(self) -> dict[str, Any]:
        return self.scheme.state() if self.scheme else self.saved

    def load_state(self, state: dict[str, Any]) -> None:
        self.saved, self.count = state, 0

    def _begin(self, loop: Loop) -> None:
        """Looks at the loop's rows, once."""
        if self.count:
            return
        method = self.method
        self.count, tasks = method.tasks(loop.table)
        self.tasks = torch.from_numpy(tasks).to(loop.world.device)
        if method.scheme == "equal":
            return
        self.held = method.held(loop.table, loop.plan.seed)
        if method.scheme == "speed":
            self.scheme = Speed(self.count, method.famo_lr, method.famo_decay)
        else:
            self.scheme = Slope(self.count, method.coba_warmup, method.coba_history, method.coba_tau)
        if self.saved:
            self.scheme.load_state(self.saved)

    def _evened(self, loop: Loop, batches: list[Batch]) -> list[Batch]:
        """The batches with weights that sum to 1 for every row, or for every task, over all processes."""
        amounts = [amount(batch) for batch in batches]
        if self.method.mode == "sample":
            return [scaled(batch, reciprocal(own)) for batch, own in zip(batches, amounts, strict=True)]
        sums = torch.zeros(self.count, device=self.tasks.device)
        by_tokens = self.method.mode == "task_token"
        for batch, own in zip(batches, amounts, strict=True):
            sums.index_add_(0, self.tasks[batch.indices], own if by_tokens else (own > 0).float())
        each = reciprocal(loop.world.sum(sums))
        return [
            scaled(batch, each[self.tasks[batch.indices]] * (1.0 if by_tokens else reciprocal(own)))
            for batch, own in zip(batches, amounts, strict=True)
        ]


def amount(batch: Batch) -> Tensor:
    """The sum of absolute weights float32 [sequences] of each row of a batch."""
    rows, cols = batch.kept
    found = batch.weights.new_zeros(len(batch.indices))
    return found.index_add_(0, batch.sequence[rows, cols], batch.weights[rows, cols].abs())


def reciprocal(values: Tensor) -> Tensor:
    """1 / values, 0 where they are 0."""
    return torch.where(values > 0, 1 / values, 0.0)


def scaled(batch: Batch, factors: Tensor) -> Batch:
    """The batch with the weights of each row times its factor [sequences]; padding keeps its 0."""
    return replace(batch, weights=batch.weights * factors[batch.sequence.clamp(min=0)])


def focal(loss: Loss, gamma: float) -> Loss:
    """A loss whose rows count by (1 - P)^gamma, P = exp(-mean loss of the row); gradients reach both factors."""
    totals, weights = loss.per_sequence
    chance = torch.exp(-totals * reciprocal(weights))
    # Below the root of float32's precision the difference is noise, and its power's gradient may be infinite.
    own = (1 - chance).clamp(min=1e-4) ** gamma * totals
    return replace(loss, total=own.sum(), per_sequence=(own, weights))

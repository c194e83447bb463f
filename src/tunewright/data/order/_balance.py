"""How fast tasks converge on held-out rows, as weights between them: by speed and by slope."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Scheme(ABC):
    """Weights a [tasks] float64 that follow the tasks' losses on held-out rows."""

    learns = False
    """Whether `weights` wants to know the losses on the rows of the step."""

    @abstractmethod
    def take(self, losses: Tensor) -> None:
        """Takes the tasks' losses [tasks] on their held-out rows at the present model."""

    @abstractmethod
    def weights(self, learned: Tensor | None) -> Tensor:
        """a [tasks]; `learned` [tasks] are the losses on the rows of the step."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint must remember, as JSON can hold it."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""


class Speed(Scheme):
    """Equal decrease of log losses: a_i = z_i / L_i with z = softmax(w), whose mean over tasks has the gradient of
    sum_i z_i log L_i over sum_i z_i / L_i, all but the L in the logarithms held constant.

    After every measurement d_i = log L_i before - log L_i now, and w <- w - lr (z (d - sum_k z_k d_k) + decay w):
    the product with z is that with the transposed Jacobian of the softmax.
    """

    learns = True

    def __init__(self, tasks: int, lr: float, decay: float) -> None:
        self.lr, self.decay = lr, decay
        self.w = torch.zeros(tasks, dtype=torch.float64)
        self.before: Tensor | None = None

    @property
    def shares(self) -> Tensor:
        """z [tasks], summing to 1."""
        return self.w.softmax(0)

    def take(self, losses: Tensor) -> None:
        now = losses.double().clamp(min=1e-12).log()
        if self.before is not None:
            self.update(self.before - now)
        self.before = now

    def update(self, fallen: Tensor) -> None:
        """A step on w against the falls d [tasks] of the log losses."""
        z = self.shares
        self.w = self.w - self.lr * (z * (fallen - z @ fallen) + self.decay * self.w)

    def weights(self, learned: Tensor | None) -> Tensor:
        assert learned is not None
        return self.shares / learned.double().clamp(min=1e-12)

    def state(self) -> dict[str, Any]:
        return {"w": self.w.tolist(), "before": None if self.before is None else self.before.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.w = torch.tensor(state["w"], dtype=torch.float64)
        self.before = None if state["before"] is None else torch.tensor(state["before"], dtype=torch.float64)


class Slope(Scheme):
    """Equal convergence: tasks that fall slowly beside the others weigh more, unless the whole begins to diverge,
    where those that still fall weigh more.

    With the losses divided by their first values, s_i the least-squares slope of the last `history` values, and n
    slopes kept since the warm-up ended (at most `history`): r = softmax_i(M s_i / sum_k |s_k|),
    c = softmax_i(-n s_i / sum of |s_i| over its n slopes), S the slope of the largest of the losses,
    D = min(1, n softmax_t(-tau n S_t / sum |S|) at the newest t), a = softmax(M (D r + (1 - D) c)); where any
    a_i < 1 / (10 M), a <- 0.9 a + 1 / (10 M). During the first `warmup` measurements a = 1.
    """

    def __init__(self, tasks: int, warmup: int, history: int, tau: float) -> None:
        self.tasks, self.warmup, self.history, self.tau = tasks, warmup, history, tau
        self.taken = 0
        self.first: list[float] = []
        self.losses: list[list[float]] = []
        self.slopes: list[list[float]] = []
        """Per measurement the slopes of all tasks, and last that of the largest loss."""

    def take(self, losses: Tensor) -> None:
        found = losses.double().clamp(min=1e-12).tolist()
        self.first = self.first or found
        ratios = [now / first for now, first in zip(found, self.first, strict=True)]
        self.losses = [*self.losses, ratios][-self.history :]
        self.taken += 1
        if self.taken > self.warmup:
            kept = torch.tensor(self.losses, dtype=torch.float64)
            self.slopes = [*self.slopes, slopes(torch.cat([kept, kept.amax(1, keepdim=True)], 1))][-self.history :]

    def weights(self, learned: Tensor | None) -> Tensor:
        if not self.slopes:
            return torch.ones(self.tasks, dtype=torch.float64)
        return converging(self.slopes, self.tau)

    def state(self) -> dict[str, Any]:
        return {"taken": self.taken, "first": self.first, "losses": self.losses, "slopes": self.slopes}

    def load_state(self, state: dict[str, Any]) -> None:
        self.taken, self.first, self.losses, self.slopes = (
            state[name] for name in ("taken", "first", "losses", "slopes")
        )


def slopes(values: Tensor) -> list[float]:
    """Least-squares slopes [columns] of values float64 [times, columns] over equally spaced times."""
    times = torch.arange(len(values), dtype=torch.float64)
    times = times - times.mean()
    found: list[float] = (times @ values / (times @ times).clamp(min=1e-12)).tolist()
    return found


def converging(kept: Sequence[Sequence[float]], tau: float) -> Tensor:
    """The weights a [tasks] from slopes [n][tasks + 1], the last column that of the largest loss, the newest last."""
    every = torch.tensor(kept, dtype=torch.float64)
    own, whole = every[:, :-1], every[:, -1]
    n, tasks = own.shape
    size = lambda t, dim: t.abs().sum(dim).clamp(min=1e-12)
    relative = (tasks * own[-1] / size(own[-1], 0)).softmax(0)
    absolute = (-n * own[-1] / size(own, 0)).softmax(0)
    trust = min(1.0, float(n * (-tau * n * whole / size(whole, 0)).softmax(0)[-1]))
    found = (tasks * (trust * relative + (1 - trust) * absolute)).softmax(0)
    least = 1 / (10 * tasks)
    return 0.9 * found + least if bool((found < least).any()) else found

"""AutoLRS: the learning rate searched while training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tunewright.catalog import Paper, option
from tunewright.errors import NotFinite
from tunewright.hooks import Hook
from tunewright.optimize.schedules._loss_curve import forecast
from tunewright.optimize.schedules.base import Schedule

if TYPE_CHECKING:
    from tunewright.data.batches import Indices
    from tunewright.train.loop import Loop

GRID = 256
"""Log rates between which the search chooses."""


class AutoLRS(Schedule):
    """Tries some rates for a few steps at the start of every stage, and trains the stage with the most promising one.

    A stage is `stage` steps, twice as many each time up to `longest_stage`. At its start, `rates` rates in
    [lowest, 1] x lr train `probe` x stage steps each from the same weights, optimizer state and rows. Every loss curve
    is extrapolated to the stage's end as a exp(b t) + c with b < 0, and the next rate to try minimises
    mu - kappa sigma of a Gaussian process (Matern 5/2) over the log rates; the first is random. The stage trains at
    the rate with the lowest forecast. At the defaults the search costs as many steps as the training.

    The curves are training losses at first. From the second stage of `validated` steps or more on they are losses of
    `held_out` training rows, measured at `val_points` points of each probe; those rows are kept from training from the
    start if the run is long enough to come there. There a rate whose curve reaches the loss before the first step is
    judged by its last loss, without a fit.

    The smoothing spline biases forecasts by up to some 15% where the loss really falls within the probe.

    When to use: no good rate is known and the run is long. When not: a short run, or one whose rate was tuned: the
    search doubles the cost. Alone, without a loop, `factor` is 1 after the rise.
    """

    name: ClassVar[str] = "autolrs"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="AutoLRS: Automatic Learning-Rate Schedule by Bayesian Optimization on the Fly",
            arxiv="2105.10762",
            card=195,
        ),
    )

    lowest: float = option(
        1e-4, "Smallest factor tried; the largest is 1.", changes="loss", to=0.5,
        given={"schedule.stage": 4, "schedule.rates": 2}, gt=0, lt=1,
    )  # fmt: skip
    stage: int = option(1000, "Steps of the first stage.", changes="loss", to=4, given={"schedule.rates": 2}, ge=1)
    longest_stage: int = option(
        8000, "Stages double up to this many steps.", changes="loss", to=4,
        given={"schedule.stage": 4, "schedule.rates": 2}, ge=1,
    )  # fmt: skip
    probe: float = option(
        0.1, "Share of a stage's steps for which a rate is tried.", changes="log", to=0.75,
        given={"schedule.stage": 8, "schedule.rates": 3}, gt=0, le=1,
    )  # fmt: skip
    rates: int = option(10, "Rates tried for a stage.", changes="loss", to=1, given={"schedule.stage": 4}, ge=1)
    kappa: float = option(
        1000.0, "Weight of uncertainty in choosing the next rate.", changes="loss", to=0.0,
        given={"schedule.stage": 8, "schedule.probe": 0.5, "schedule.rates": 4}, ge=0,
    )  # fmt: skip
    smooth: Literal["spline", "none"] = option(
        "spline", "What losses are fitted: values of a smoothing spline, or as they are.", changes="log", to="none",
        given={"schedule.stage": 16, "schedule.probe": 0.75, "schedule.rates": 2},
    )  # fmt: skip
    drop: float = option(
        0.03, "Share of outliers looked for in each of 10 rounds of cleaning.", changes="log", to=0.3,
        given={"schedule.stage": 16, "schedule.probe": 0.75, "schedule.rates": 2}, ge=0, lt=0.5,
    )  # fmt: skip

    validated: int = option(
        8000, "Held-out losses are used from the second stage with at least so many steps on.", changes="loss", to=4,
        given={"schedule.stage": 4, "schedule.longest_stage": 4, "schedule.rates": 2}, ge=1,
    )  # fmt: skip
    held_out: int = option(
        128, "Rows kept from training to be measured, at most half of them.", changes="loss", to=1, ge=1,
        given={"schedule.stage": 4, "schedule.longest_stage": 4, "schedule.validated": 4, "schedule.rates": 2},
    )  # fmt: skip
    val_points: int = option(
        16, "Measurements in a probe that is judged by held-out losses.", changes="log", to=2, ge=1,
        given={"schedule.stage": 8, "schedule.longest_stage": 8, "schedule.validated": 8, "schedule.probe": 1.0,
               "schedule.rates": 3},
    )  # fmt: skip

    def after(self, step: int, total: int) -> float:
        return 1.0

    def hook(self) -> Search:
        return Search(self)

    def rise(self, total: int) -> int:
        """The steps before the first stage."""
        return round(self.warmup * total) if self.warmup < 1 else round(self.warmup)

    def following(self, steps: int) -> int:
        """The steps of the stage after one of `steps`."""
        return min(2 * steps, max(self.longest_stage, self.stage))

    def validates(self, total: int) -> bool:
        """Whether a run of `total` steps comes to a stage that is judged by held-out losses."""
        steps, start = self.stage, self.rise(total) + self.stage
        while start < total:
            if steps >= self.validated:
                return True
            steps = self.following(steps)
            start += steps
        return False

    def proposed(self, tried: list[float], forecasts: list[float], seed: list[int]) -> float:
        """The next rate to try, never one again: random at first, then by the lower confidence bound."""
        grid = np.linspace(math.log(self.lowest), 0.0, GRID)
        if not tried:
            return float(np.exp(np.random.default_rng(seed).choice(grid)))
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import Matern

        x, y = np.log(tried)[:, None], np.asarray(forecasts)
        # A rate that diverged must not flatten the differences between the others.
        y = np.minimum(y, np.min(y) + 10 * max(1e-3, abs(float(np.min(y)))))
        process = GaussianProcessRegressor(
            Matern(length_scale=1.0, nu=2.5), alpha=1e-6, optimizer=None, normalize_y=True
        )
        mean, spread = process.fit(x, y).predict(grid[:, None], return_std=True)
        bound = mean - self.kappa * spread
        bound[np.isclose(grid[:, None], x.T).any(1)] = np.inf
        return float(np.exp(grid[int(np.argmin(bound))]))


class Search(Hook):
    """Searches at the start of every stage; `stages` tells what was found, and replays as the schedule."""

    def __init__(self, method: AutoLRS) -> None:
        self.method = method
        self.stages: list[dict[str, Any]] = []
        self.first: float | None = None
        self.held: Indices = np.zeros(0, dtype=np.int64)

    def on_start(self, loop: Loop) -> None:
        """Takes over the rate, and keeps rows from training where they will be measured."""
        loop.factor = self.factor
        if self.method.validates(loop.total) and not len(self.held):
            rng, units = np.random.default_rng([loop.settings.seed, 0xA10]), np.flatnonzero(loop.plan.sources >= 0)
            self.held = rng.permutation(units)[: min(self.method.held_out, len(units) // 2)]
            loop.plan = loop.plan.without(self.held)

    def factor(self, step: int, total: int) -> float:
        """The rise of the schedule, then the rate of the stage that `step` belongs to."""
        started = [stage for stage in self.stages if stage["start"] <= step]
        return float(started[-1]["factor"]) if started else self.method.factor(step, total)

    def on_step(self, loop: Loop) -> None:
        step, method = loop.state.step, self.method
        if len(self.held) and self.first is None:
            self.first = self._held_loss(loop)
        last = self.stages[-1] if self.stages else None
        if step < (last["start"] + last["steps"] if last else method.rise(loop.total)):
            return
        steps = method.following(last["steps"]) if last else method.stage
        validated = last is not None and last["steps"] >= method.validated
        start = loop.snapshot()
        tried, forecasts, curves = list[float](), list[float](), list[list[float]]()
        for _ in range(method.rates):
            rate = method.proposed(tried, forecasts, [loop.settings.seed, step])
            tried.append(rate)
            if validated:
                curves.append(self._measured(loop, steps, rate))
                forecasts.append(self._validated(curves[-1], steps))
            else:
                forecasts.append(self._trained(loop, steps, rate))
            loop.restore(start)
        chosen = tried[int(np.argmin(forecasts))]
        self.stages.append(
            {"start": step, "steps": steps, "factor": chosen, "tried": tried, "forecasts": forecasts, "held_out": curves}
        )  # fmt: skip

    def _trained(self, loop: Loop, steps: int, rate: float) -> float:
        """The forecast for a stage of `steps` at a rate, from the training losses of a probe."""
        try:
            losses = loop.probe(self._length(steps), rate)
        except NotFinite:
            losses = [math.nan]
        return forecast(losses, steps, self.method.smooth, self.method.drop)

    def _measured(self, loop: Loop, steps: int, rate: float) -> list[float]:
        """The losses of the held-out rows in a probe at a rate."""
        length, every = self._length(steps), self._every(steps)
        losses = list[float]()
        try:
            while len(losses) < length // every and loop.probe(every, rate):
                losses.append(self._held_loss(loop))
        except NotFinite:
            losses.append(math.nan)
        return losses

    def _validated(self, losses: list[float], steps: int) -> float:
        """The forecast for a stage of `steps` from losses measured in a probe, in units of the steps between them."""
        assert self.first is not None
        if np.isfinite(losses).all() and max(losses) >= self.first:
            return losses[-1]
        return forecast(losses, steps / self._every(steps) - 1, self.method.smooth, None)

    def _length(self, steps: int) -> int:
        return max(1, round(self.method.probe * steps))

    def _every(self, steps: int) -> int:
        return max(1, self._length(steps) // self.method.val_points)

    def _held_loss(self, loop: Loop) -> float:
        import torch

        # As an objective transforms the first step: a fixed function, so that measurements compare.
        batches = [
            loop.objective.transform(batch, loop.settings.seed, 0, loop.total) for batch in loop.batches_of(self.held)
        ]
        alike = torch.zeros(len(loop.table), dtype=torch.int64, device=loop.world.device)
        total, weight = loop.measured(batches, alike, 1)
        return float(total / weight.clamp(min=1e-12))

    def state(self) -> dict[str, Any]:
        return {"stages": self.stages, "first": self.first}

    def load_state(self, state: dict[str, Any]) -> None:
        self.stages, self.first = list(state.get("stages", [])), state.get("first")

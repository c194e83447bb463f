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

    Only training losses are used, at every stage; the paper changes to validation losses once stages have 8000 steps.
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

    def after(self, step: int, total: int) -> float:
        return 1.0

    def hook(self) -> Search:
        return Search(self)

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

    def on_start(self, loop: Loop) -> None:
        loop.factor = self.factor

    def factor(self, step: int, total: int) -> float:
        """The rise of the schedule, then the rate of the stage that `step` belongs to."""
        started = [stage for stage in self.stages if stage["start"] <= step]
        return float(started[-1]["factor"]) if started else self.method.factor(step, total)

    def on_step(self, loop: Loop) -> None:
        step, method = loop.state.step, self.method
        rise = round(method.warmup * loop.total) if method.warmup < 1 else round(method.warmup)
        last = self.stages[-1] if self.stages else None
        if step < (last["start"] + last["steps"] if last else rise):
            return
        steps = min(2 * last["steps"], max(method.longest_stage, method.stage)) if last else method.stage
        start = loop.snapshot()
        tried, forecasts = list[float](), list[float]()
        for _ in range(method.rates):
            rate = method.proposed(tried, forecasts, [loop.settings.seed, step])
            losses = _probed(loop, max(1, round(method.probe * steps)), rate)
            loop.restore(start)
            tried.append(rate)
            forecasts.append(forecast(losses, steps, method.smooth, method.drop))
        chosen = tried[int(np.argmin(forecasts))]
        self.stages.append(
            {"start": step, "steps": steps, "factor": chosen, "tried": tried, "forecasts": forecasts}
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        return {"stages": self.stages}

    def load_state(self, state: dict[str, Any]) -> None:
        self.stages = list(state.get("stages", []))


def _probed(loop: Loop, steps: int, factor: float) -> list[float]:
    try:
        return loop.probe(steps, factor)
    except NotFinite:
        return [math.nan]

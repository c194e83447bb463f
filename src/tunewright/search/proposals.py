"""Which hyperparameters to try next: at random, evenly, by Parzen estimators or a Gaussian process; optuna keeps count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from tunewright.errors import BadInput
from tunewright.search.space import Choice, Space, at, place_of

if TYPE_CHECKING:
    import optuna

    from tunewright.search.acquisition import Process

Sampler = Literal["tpe", "gp", "noisy_ei", "kg", "random", "halton", "grid"]

OWN = ("noisy_ei", "kg")
"""Samplers of this package's own Gaussian process."""

ONE_BY_ONE = ("gp", *OWN)
"""Samplers whose proposals each depend on the value of the last."""

BATCH = 4
"""Proposals made at once, whatever the number of processes, so that a search proposes the same wherever it runs."""


class Proposals:
    """Proposes `trials` settings of a space in batches and learns from their values; the same seed, the same proposals.

    `tpe` is random for a third of the trials (at least two), then prefers what did well. `gp` proposes 2 (d + 1)
    settings at random, then the one with the largest expected improvement under a Gaussian process with noise (arXiv
    1807.02811), one at a time, since each depends on the value of the last: for few, dear trials of at most some 20
    numbers. `noisy_ei` and `kg` begin with as many points of a Halton sequence and take the largest expected rise of the
    posterior mean's maximum, over the settings tried (noisy expected improvement) or over all (knowledge gradient, which
    also tries what only teaches); a failed trial counts as the worst value seen. They propose `together` settings at
    once: each after the first as if those before it had come out as good as the best seen (the constant liar). Under
    `limits`, the most that costs may be, `noisy_ei` multiplies the improvement, over settings within them, by the
    probability of keeping them. `halton` takes the points of a scrambled Halton sequence, which fill the space evenly
    however many they are; `grid` evenly spaced ones, as many per key as keep the product within `trials`. A value of
    None says that the trial failed. `share` is the part of the full length at which the settings are to be run.
    """

    def __init__(
        self,
        space: Space,
        trials: int,
        sampler: Sampler = "tpe",
        seed: int = 0,
        higher: bool = True,
        share: float = 1.0,
        together: int = 1,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        import optuna

        if sampler not in get_args(Sampler):
            raise BadInput("no such sampler", field="sampler", found=sampler, expected=" or ".join(get_args(Sampler)))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.left, self.higher, self.share = dict(space), trials, higher, share
        self._open: list[optuna.trial.Trial] = []
        self._points: list[dict[str, Any]] = []
        if sampler == "grid":
            self._points = self._grid(trials)
        elif sampler == "halton":
            self._points = self._halton(trials, seed)
        elif sampler in OWN:
            self._points = self._halton(min(trials, 2 * (len(self.space) + 1)), seed)
        self._batch = together if sampler in OWN else 1 if sampler in ONE_BY_ONE else BATCH
        self._sampler, self._seed, self._limits = sampler, seed, dict(limits or {})
        self._asked: list[dict[str, Any]] = []
        self._tried: list[tuple[dict[str, Any], float, Mapping[str, float]]] = []
        made: optuna.samplers.BaseSampler
        if sampler == "tpe":
            made = optuna.samplers.TPESampler(n_startup_trials=max(2, trials // 3), seed=seed, constant_liar=True)
        elif sampler == "gp":
            made = optuna.samplers.GPSampler(n_startup_trials=2 * (len(self.space) + 1), seed=seed)
        else:
            made = optuna.samplers.RandomSampler(seed=seed)
        self._study = optuna.create_study(direction="maximize" if higher else "minimize", sampler=made)
        for point in self._points:
            self._study.enqueue_trial(point)
        self.left = min(trials, len(self._points)) if sampler in ("grid", "halton") else trials

    def ask(self) -> list[dict[str, Any]]:
        """The next settings, up to `BATCH`; none when all trials are proposed. Each batch is told before the next."""
        count = min(self._batch, self.left)
        if self._sampler in OWN and len(self._tried) < len(self._points):
            count = min(count, len(self._points) - len(self._tried))
        elif self._sampler in OWN and count:
            for setting in self._next(count):
                self._study.enqueue_trial(self._numbered(setting))
        self.left -= count
        self._open = [self._study.ask() for _ in range(count)]
        self._asked = [self._drawn(trial) for trial in self._open]
        return self._asked

    def tell(self, values: Sequence[float | None], costs: Sequence[Mapping[str, float]] = ()) -> None:
        """The values of the settings last asked for, in their order, and what each cost where there are limits."""
        import optuna

        spent = costs or [{}] * len(values)
        for trial, setting, value, cost in zip(self._open, self._asked, values, spent, strict=True):
            known = math.nan if value is None or not math.isfinite(value) else value if self.higher else -value
            self._tried.append((setting, known, cost))
            if value is None or not math.isfinite(value):
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(trial, value)

    def means(self) -> list[float] | None:
        """The posterior mean of every setting told, in their order, in units of its own; None without a process."""
        if self._sampler not in OWN:
            return None
        process = self._process()
        return process.posterior(process.points)[0].tolist()

    def _process(self) -> Process:
        import numpy as np

        from tunewright.search.acquisition import fitted

        gained = np.array([value for _, value, _ in self._tried])
        gained = np.where(np.isnan(gained), np.nanmin(gained) if np.isfinite(gained).any() else 0.0, gained)
        points = np.array([place_of(self.space, setting) for setting, *_ in self._tried])
        return fitted(points, gained, self._seed + len(self._tried))

    def _next(self, count: int) -> list[dict[str, Any]]:
        """The settings with the largest acquisition, each of them as if those before it were known."""
        import numpy as np

        from tunewright.search.acquisition import limited, proposed

        process, seed = self._process(), self._seed + len(self._tried)
        allowed, limits = np.ones(len(self._tried), dtype=bool), []
        for name, most in self._limits.items():
            costs = np.array([cost.get(name, np.nan) for *_, cost in self._tried])
            known = np.isfinite(costs)
            allowed &= known & (costs <= most)
            if known.any():
                limits.append(limited(process.points[known], costs[known], most, seed))
        best = float(process.values[allowed].max()) if allowed.any() else 0.0
        found = []
        for number in range(count):
            place = proposed(process, self._sampler, seed + number, limits, allowed)
            found.append(at(self.space, place.tolist()))
            process = process.told(np.array(place_of(self.space, found[-1])), best)
            allowed = np.append(allowed, True)
        return found

    def _drawn(self, trial: optuna.trial.Trial) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for key, axis in self.space.items():
            if isinstance(axis, Choice):
                number = trial.suggest_categorical(key, list(range(len(axis.values))))
                drawn[key] = axis.values[int(number)]
            elif axis.whole:
                drawn[key] = trial.suggest_int(key, int(axis.low), int(axis.high), log=axis.logarithmic)
            else:
                drawn[key] = trial.suggest_float(key, axis.low, axis.high, log=axis.logarithmic)
        return drawn

    def _halton(self, trials: int, seed: int) -> list[dict[str, Any]]:
        from scipy.stats import qmc

        places = qmc.Halton(len(self.space), seed=seed).random(trials)
        return [self._numbered(at(self.space, place)) for place in places.tolist()]

    def _numbered(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """A setting as the study has it: words by their number."""
        axes = self.space.items()
        return {key: a.values.index(setting[key]) if isinstance(a, Choice) else setting[key] for key, a in axes}

    def _grid(self, trials: int) -> list[dict[str, Any]]:
        from itertools import product

        fixed = math.prod(len(axis.values) for axis in self.space.values() if isinstance(axis, Choice))
        ranges = sum(not isinstance(axis, Choice) for axis in self.space.values())
        points = int((trials / fixed) ** (1 / ranges) + 1e-9) if ranges else 1
        if fixed > trials or points < 1:
            raise BadInput(
                "the grid has more points than there are trials", field="trials", found=trials,
                expected=f"at least {fixed}", hint="Raise trials, or search at random.",
            )  # fmt: skip
        axes = [list(range(len(a.values))) if isinstance(a, Choice) else a.grid(points) for a in self.space.values()]
        return [dict(zip(self.space, values, strict=True)) for values in product(*axes)]

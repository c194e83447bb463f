"""A piece of work of a comparison as plain data: what a worker is sent, and what it leaves behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import tunewright
from tunewright.comparison.pruning import Bar
from tunewright.data.files import hashed
from tunewright.data.parts import parts
from tunewright.evaluate.base import Scores
from tunewright.output import sha256
from tunewright.recipe import Recipe

Kind = Literal["judge", "tune", "base", "pace", "count"]

SILENT = {
    "trackers": [], "rehearsal": False, "checkpoint_every": None, "keep_checkpoints": 2, "evaluate_every": None,
    "evaluate_limit": 64, "threads": None,
}  # fmt: skip
"""Options of `train` that change no result, as every trial has them."""

CHECKPOINT = ".checkpoint"
"""What the folder's name ends with in which a trial that is to go on leaves its state."""


@dataclass(frozen=True)
class Job:
    """One piece of work.

    `judge` trains and measures on the judging rows, `tune` on `rows` training rows left out of training (None: on the
    recipe's own evaluation rows), `base` measures the untuned model, `pace` times steps, `count` counts tokens. `limit`
    is the budget as (unit, amount); `steps` fixes the length where a pace did; `share` shortens a run. `measure` is the
    only measure of a tuning trial, and the one followed every `every` steps (0: not followed). `phases` are values that
    replace the recipe's, one set per interval of equally many steps; the trial ends before the first None. Without
    phases the recipe's values hold throughout. A trial with a `bar`, (step, promise) of the best one so far, is stopped
    where its own learning curve promises too little.
    """

    kind: Kind
    recipe: Mapping[str, Any]
    digests: Mapping[str, str]
    limit: tuple[str, float] | None = None
    steps: int | None = None
    share: float = 1.0
    rows: int | None = None
    measure: str | None = None
    every: int | None = 0
    phases: tuple[Mapping[str, Any] | None, ...] = ()
    bar: Bar = ()

    @property
    def key(self) -> str:
        """A hash of everything that decides the result."""
        plain = {name: value for name, value in self.plain().items() if name not in ("phases", "bar") or value}
        text = json.dumps(plain, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def trained(self) -> tuple[Mapping[str, Any], ...]:
        """The values of the intervals that are trained; of a trial without phases, one interval without any."""
        return tuple(one for one in self.phases if one is not None) if self.phases else ({},)

    @property
    def parent(self) -> Job | None:
        """The job that ends one interval earlier, which this one goes on from; None for the first interval."""
        done = len(self.trained) - 1
        return replace(self, phases=(*self.trained[:done], *[None] * (len(self.phases) - done))) if done else None

    def checkpoint(self, folder: Path) -> Path:
        """Where the trial leaves its state for the next interval."""
        return folder / f"{self.key}{CHECKPOINT}"

    def plain(self) -> dict[str, Any]:
        """The job as JSON can hold it."""
        return asdict(self)

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Job:
        """The job that `plain` wrote."""
        limit = plain["limit"]
        told = {
            "limit": None if limit is None else (str(limit[0]), float(limit[1])),
            "phases": tuple(plain["phases"]),
            "bar": tuple((int(step), float(promise)) for step, promise in plain["bar"]),
        }
        return Job(**{**plain, **told})


@dataclass(frozen=True)
class Result:
    """What a job found: scores by example, the judged measure along the way, and what it took.

    `course` holds {"step", "tokens", "seconds", "value"}. `cut` says that the clock ended the run before its schedule
    did. `failed` is the reason where the loss was not finite. Of a trial stopped for its learning curve, `stopped` has
    the `share` of its steps that it took and the `forecast` of its value at the end.
    """

    key: str
    scores: tuple[Scores, ...] = ()
    course: tuple[Mapping[str, float], ...] = ()
    cost: Mapping[str, float | None] = None  # type: ignore[assignment]
    cut: bool = False
    failed: str | None = None
    stopped: Mapping[str, float] | None = None

    def plain(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        return {
            "key": self.key,
            "scores": [_plain(one) for one in self.scores],
            "course": [dict(one) for one in self.course],
            "cost": dict(self.cost or {}),
            "cut": self.cut,
            "failed": self.failed,
            "stopped": None if self.stopped is None else dict(self.stopped),
        }

    @staticmethod
    def read(path: Path) -> Result | None:
        """The result in a file, or None where there is no whole one."""
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        scores = tuple(_scores(one) for one in plain["scores"])
        last = (plain["cost"], plain["cut"], plain["failed"], plain.get("stopped"))
        return Result(plain["key"], scores, tuple(plain["course"]), *last)


def trial_recipe(recipe: Recipe, seed: int, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The resolved recipe of a trial: with its seed, tuned values, and none of what only a single run writes."""
    keys = recipe.plain()
    keys["train"] = {**keys["train"], **SILENT, "seed": seed}
    return with_values(keys, values or {})


def with_values(keys: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a recipe's keys with the values of dotted keys, where a number names an item of a list."""
    plain: dict[str, Any] = json.loads(json.dumps(keys))
    for key, value in values.items():
        *path, last = key.split(".")
        node: Any = plain
        for step in path:
            node = node[int(step)] if isinstance(node, list) else node[step]
        node[last] = value
    return plain


def digests(recipe: Recipe) -> dict[str, str]:
    """What a result rests on beside the recipe: SHA-256 of every file it reads rows or code from, size and time of the
    model's own files, and our version. Raises `BadInput` for a file that cannot be read."""
    found = {**hashed(recipe, parts(recipe)).digests, "tunewright": tunewright.__version__}
    for folder in (recipe.model.path, recipe.model.adapter):
        for weights in Path(folder).glob("*.safetensors") if folder is not None else ():
            found[str(weights)] = f"{weights.stat().st_size} bytes, {weights.stat().st_mtime_ns}"
    named = [
        value for task in recipe.evaluate for value in (getattr(task, "data", None), getattr(task, "function", None))
    ]
    for name in [*named, *recipe.use]:
        file = Path(str(name).rpartition(":")[0] if ".py:" in str(name) else str(name))
        if name is not None and file.is_file():
            found[str(file)] = sha256(file)
    return dict(sorted(found.items()))


def _plain(scores: Scores) -> dict[str, Any]:
    return {
        "name": scores.name,
        "metric": scores.metric,
        "role": scores.role,
        "unit": scores.unit,
        "higher_is_better": scores.higher_is_better,
        "values": scores.values.tolist(),
        "weights": scores.weights.tolist(),
        "ids": list(scores.ids),
    }


def _scores(plain: Mapping[str, Any]) -> Scores:
    arrays: dict[str, NDArray[np.float64]] = {
        name: np.asarray(plain[name], dtype=np.float64) for name in ("values", "weights")
    }
    return Scores(**{**plain, **arrays})


def score_of(result: Result, measure: str) -> Scores | None:
    """The scores of a measure, or None."""
    return next((one for one in result.scores if one.name == measure), None)


def same_rows(results: Sequence[Result], measure: str) -> bool:
    """Whether all results judged the same examples."""
    ids = [found.ids for result in results if (found := score_of(result, measure)) is not None]
    return len(ids) == len(results) and all(one == ids[0] for one in ids)

"""What is compared: the arms, the budget each may spend, and how their hyperparameters may be tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

from tunewright.comparison.changing import check_changing
from tunewright.document import Document
from tunewright.errors import BadInput, nearest
from tunewright.recipe import Recipe
from tunewright.search.proposals import OWN, Sampler
from tunewright.search.space import Choice, Range, axis, split

Unit = Literal["tokens", "seconds", "flops"]

Tuner = Literal[Sampler, "fidelity_kg", "dehb", "pbt", "pb2"]

Pruner = Literal["learning_curve"]

LIMITED = ("trained_parameters", "flops", "seconds", "wall_seconds", "peak_memory_bytes", "joules")
"""Costs of a trial that tuning may limit."""

POPULATION = ("pbt", "pb2")
"""Samplers that train a population and find a schedule instead of a setting."""


@dataclass(frozen=True)
class Arm:
    """A named recipe: its keys as in a file, a `Recipe`, or the path of a file."""

    name: str
    recipe: Mapping[str, Any] | Recipe | Path | str

    def resolved(self, changes: Sequence[str] = ()) -> Recipe:
        """The recipe after `changes` of the form `key.key=value`. Raises `BadInput` for what is no recipe."""
        if isinstance(self.recipe, str | Path):
            return Recipe.read(self.recipe, changes)
        if not isinstance(self.recipe, Recipe):
            return Recipe.of(**Document(dict(self.recipe)).changed(changes).keys)
        if not changes:
            return self.recipe
        keys = self.recipe.plain()
        # A resolved recipe names its rows under `sources`; `train` in their place would stand beside them.
        if any(change.startswith("data.train") for change in changes):
            del keys["data"]["sources"]
        return Recipe.of(**Document(keys).changed(changes).keys)


@dataclass(frozen=True)
class Budget:
    """What every trial may spend on training steps, at most; evaluation is not counted.

    `tokens` (padding not counted) and `flops` fix the number of steps beforehand, so that the schedule ends with the
    budget. For `seconds` each arm's pace is measured first, alone on the machine, and fixes the number of steps; a
    trial that is slower than its arm's pace stops at the step that would pass the budget, and is reported as cut.
    """

    unit: Unit
    amount: float

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise BadInput("no such budget", field="budget", found=self.unit, expected=", ".join(get_args(Unit)))
        if not self.amount > 0 or self.amount == float("inf"):
            raise BadInput("not a budget", field=self.unit, found=self.amount, expected="a number above 0")
        # 900 and 900.0 are one budget, and must give a trial one name.
        object.__setattr__(self, "amount", float(self.amount))


@dataclass(frozen=True)
class Tuning:
    """How each arm's hyperparameters are chosen before it is judged: by equally many trials, never on judging rows.

    `parameters` maps a recipe's key to (low, high) or a list of values; by default the learning rate from a tenth of
    the arm's own to ten times it. `trials` counts settings tried in full, each with `seeds` seeds of their own. With
    `halving` (a factor), successive halving spends the cost of `trials` full runs on more settings, most of them
    cut short; with `pruner: learning_curve` (arXiv 2402.02515) trials are measured twenty times on their way, and one is
    stopped where its forecast of the end falls short, by more than half a point (0.005 of other measures), of what the
    best trial's curve of the same seed promised at that step; sampler `dehb` evolves settings over such brackets (factor 3 by default). Samplers `pbt` and `pb2` train a
    population of `trials` members in `intervals` equal parts and find a schedule, a setting per interval, which judging
    runs follow too. The tuning rows are `rows` training rows of each arm (at most a fifth of them), which no tuning trial trains on; or,
    where `on` changes keys of the recipe (as `data.train=a.jsonl`), the evaluation rows of the recipe so changed: the
    setting is tuned on one scenario and judged on another (arXiv 2403.09066). Then, unless `conventional` is off, every
    setting tried in full is also trained with all judging seeds, to tell what tuning on the judging rows would have
    claimed. `noisy_ei` and `kg` propose `together` settings at once. `limits` maps costs of a full run (`LIMITED`) to the
    most they may be: no setting beyond them is chosen, and `noisy_ei` keeps away from them.
    """

    parameters: Mapping[str, Any] | None = None
    trials: int = 8
    sampler: Tuner = "tpe"
    seeds: int = 1
    halving: int | None = None
    rows: int = 200
    on: tuple[str, ...] = ()
    seed: int = 0
    conventional: bool = True
    intervals: int = 4
    pruner: Pruner | None = None
    together: int = 1
    limits: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        fewest = (("trials", 3 if self.sampler == "dehb" else 2), ("seeds", 1), ("rows", 1), ("intervals", 2),
                  ("together", 1))  # fmt: skip
        for name, least in fewest:
            if getattr(self, name) < least:
                raise BadInput("too few", field=f"tune.{name}", found=getattr(self, name), expected=f"at least {least}")
        if self.sampler not in get_args(Tuner):
            expected = " or ".join(get_args(Tuner))
            raise BadInput("no such sampler", field="tune.sampler", found=self.sampler, expected=expected)
        if self.halving is not None and self.halving < 2:
            raise BadInput("too small a factor", field="tune.halving", found=self.halving, expected="at least 2")
        if self.halving and self.sampler == "grid":
            raise BadInput("halving cuts a grid short", field="tune.halving", hint="Take sampler 'random' or 'tpe'.")
        if self.halving and self.sampler in POPULATION:
            hint = "Leave it out, or take sampler 'dehb'."
            raise BadInput("halving ends trainings, which a population goes on with", field="tune.halving", hint=hint)
        if self.together > 1 and self.sampler not in OWN:
            raise BadInput("only " + " and ".join(OWN) + " propose as many as they are told", field="tune.together")
        for name in self.limits or {}:
            if name not in LIMITED:
                expected, near = " or ".join(LIMITED), nearest(name, LIMITED)
                raise BadInput("no such cost", field="tune.limits", found=name, expected=expected, hint=near)
        if self.limits and self.sampler in POPULATION:
            raise BadInput("a population keeps to no limits", field="tune.limits", hint="Take another sampler.")
        if self.halving and self.sampler == "fidelity_kg":
            raise BadInput("fidelity_kg chooses lengths itself", field="tune.halving", hint="Leave it out.")
        if self.pruner is not None and self.pruner not in get_args(Pruner):
            raise BadInput(
                "no such pruner", field="tune.pruner", found=self.pruner, expected=" or ".join(get_args(Pruner))
            )
        if self.pruner and (self.halving or self.sampler in ("dehb", "fidelity_kg", *POPULATION)):
            hint = "Take one of the two."
            raise BadInput(
                "halving, dehb, fidelity_kg and populations end trials themselves", field="tune.pruner", hint=hint
            )

    def space(self, recipe: Recipe) -> dict[str, Range | Choice]:
        """The values to choose from, for one arm. Raises `BadInput` for a key the recipe does not have, or which cannot
        change in a run where the sampler wants that."""
        if self.parameters is not None:
            space = space_of(self.parameters, recipe, "tune")
            if self.sampler in POPULATION:
                check_changing(space, recipe)
            return space
        rate = getattr(recipe.optimizer, "lr", None)
        if rate is None:
            hint = "Name what is to be tuned, as --tune-key optimizer.beta1=0.8..0.99."
            raise recipe.fault(("optimizer",), "has no learning rate to tune", hint=hint)
        return {"optimizer.lr": Range(rate / 10, rate * 10)}


@dataclass(frozen=True)
class Landscape:
    """What each hyperparameter does alone: its values in turn, everything else as the arm is judged.

    `parameters` maps a recipe's key to (low, high), of which `points` evenly spaced values are taken, or to a list of
    values, of which all are. Each is trained with `seeds` seeds of their own and measured on the tuning rows, never on
    those that judge: whoever looks at a landscape will choose by it.
    """

    parameters: Mapping[str, Any]
    points: int = 5
    seeds: int = 3

    def __post_init__(self) -> None:
        for name in ("points", "seeds"):
            if getattr(self, name) < 2:
                found = getattr(self, name)
                raise BadInput("too few", field=f"landscape.{name}", found=found, expected="at least 2")

    def space(self, recipe: Recipe) -> dict[str, Range | Choice]:
        """The values of one arm. Raises `BadInput` for a key the recipe does not have."""
        return space_of(self.parameters, recipe, "landscape")


def space_of(parameters: Mapping[str, Any], recipe: Recipe, field: str) -> dict[str, Range | Choice]:
    """The values each key may take. Raises `BadInput` for a key the recipe does not have or the comparison fixes."""
    space = {key: axis(value, f"{field}.{key}") for key, value in parameters.items()}
    keys = recipe.plain()
    for key in space:
        if key in ("train.seed", "train.steps", "train.tokens", "train.epochs") or key.startswith(
            ("data.", "evaluate")
        ):
            hint = "Vary what the budget, the seeds and the data leave free."
            raise BadInput("is fixed by the comparison", field=f"{field}.{key}", hint=hint)
        _known(keys, key, recipe)
    return space


def _known(keys: Mapping[str, Any], key: str, recipe: Recipe) -> None:
    """Refuses a key the resolved recipe, which holds every field, does not have."""
    node: Any = keys
    for step in key.split("."):
        if isinstance(node, list) and step.isdigit() and int(step) < len(node):
            node = node[int(step)]
            continue
        if not isinstance(node, Mapping) or step not in node:
            known = list(node) if isinstance(node, Mapping) else []
            hint = nearest(step, map(str, known)) or (f"Known: {', '.join(map(str, known))}." if known else None)
            raise recipe.fault(tuple(key.split(".")), "unknown parameter", found=key, hint=hint)
        node = node[step]


@dataclass(frozen=True)
class Target:
    """A value of the judged measure that ends the wait: time to result is the first evaluation that reaches it.

    Trials measure every `every` steps (default twenty times a run), outside the budget's clock. Without a `value`, the
    arms named in `of` set it, as baselines that every other must reach (arXiv 2306.07179): each is trained, as it is
    judged, with `repeats` seeds of its own, and the target is the median over them of the best value on the way, of the
    arm where that is best. With `studies`, also the time to result that includes tuning: each study trains the settings
    of a Halton sequence in the tuning's space, as many as it has trials; its time is that of the setting that was there
    first.
    """

    value: float | None = None
    every: int | None = None
    studies: int | None = None
    of: tuple[str, ...] = ()
    repeats: int = 5

    def __post_init__(self) -> None:
        if self.studies is not None and self.studies < 1:
            raise BadInput("too few", field="target.studies", found=self.studies, expected="at least 1")
        if self.repeats < 1:
            raise BadInput("too few", field="target.repeats", found=self.repeats, expected="at least 1")
        if (self.value is None) == (not self.of):
            raise BadInput("a target is a value, or set by arms", field="target", expected="one of the two")


def vary(
    recipe: Path | str | Mapping[str, Any] | Recipe, changes: Sequence[str], before: Sequence[str] = ()
) -> list[Arm]:
    """One arm per combination of the values in `changes`, each of the form `KEY=A,B,C`, after the changes `before`.

    An arm's name is its values, with the last part of their keys where several keys vary. Where a method varies, arms
    share the options that the recipe writes out; the others are each method's own defaults. Raises `BadInput` for a key
    or value the recipe cannot take.
    """
    axes = []
    for change in changes:
        key, equals, text = change.partition("=")
        values = split(text) if equals else []
        if not key or len(values) < 2 or not all(values):
            raise BadInput("not values to vary", field="--vary", found=change, expected="KEY=A,B")
        axes.append([(key.strip(), value) for value in values])
    arms = []
    for combination in product(*axes):
        name = ", ".join(v if len(axes) == 1 else f"{k.split('.')[-1]}={v}" for k, v in combination)
        arms.append(Arm(name, Arm(name, recipe).resolved([*before, *(f"{key}={value}" for key, value in combination)])))
    return arms

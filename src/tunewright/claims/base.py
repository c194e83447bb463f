"""What a claim is, what it may use, and the one rule that judges every claim."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from tunewright.catalog import Method
from tunewright.evaluate import statistics
from tunewright.evaluate.base import Scores, Subject

Verdict = Literal["holds", "does not hold", "undecided"]
"""Three answers: the interval lies beyond the smallest effect of interest in the claimed direction, it excludes that
effect, or neither."""

FEW = 30
"""Up to this many values the interval is Student's; with more it is a bootstrap over them."""


class Criterion(NamedTuple):
    """A quantity and what is claimed of its mean: `above` or `below` the bound, or `within` plus and minus the bound.

    The bound is the smallest effect of interest, fixed before any run. `unit` is that of the quantity.
    """

    quantity: str
    expected: Literal["above", "below", "within"]
    bound: float
    unit: str


class Judgement(BaseModel):
    """A criterion beside what was found: the mean of `n` values with its 95% interval, and the verdict."""

    model_config = ConfigDict(frozen=True)

    quantity: str
    expected: Literal["above", "below", "within"]
    bound: float
    unit: str
    effect: float
    low: float
    high: float
    n: int
    verdict: Verdict


def judge(criterion: Criterion, values: Sequence[float]) -> Judgement:
    """The verdict on one criterion from paired values, one per seed or per item.

    The interval is that of the mean: Student's t up to `FEW` values, else a percentile bootstrap. Raises `ValueError`
    for fewer than two values or one that is not finite.
    """
    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2 or not np.isfinite(found).all():
        raise ValueError(f"'{criterion.quantity}' needs two finite values or more, found {found.tolist()}")
    effect, low, high = (statistics.mean_over_seeds if len(found) <= FEW else statistics.mean)(found)
    return Judgement(
        **criterion._asdict(), effect=effect, low=low, high=high, n=len(found),
        verdict=decide(criterion.expected, criterion.bound, low, high),
    )  # fmt: skip


def decide(expected: str, bound: float, low: float, high: float) -> Verdict:
    """What an interval says of a claimed bound."""
    if expected == "within":
        inside, outside = -bound < low and high < bound, low > bound or high < -bound
    elif expected == "above":
        inside, outside = low > bound, high < bound
    else:
        inside, outside = high < bound, low > bound
    return "holds" if inside else "does not hold" if outside else "undecided"


def overall(judgements: Sequence[Judgement]) -> Verdict:
    """A claim holds when all its criteria do, and does not hold as soon as one of them does not."""
    verdicts = {one.verdict for one in judgements}
    if "does not hold" in verdicts:
        return "does not hold"
    return "undecided" if "undecided" in verdicts else "holds"


class Trial(Protocol):
    """A model with an adapter and data, ready to train and to be measured at any step.

    `steps` holds what every step taken did (`loss`, `lr`, `gradient_norm`, `tokens`, `seconds`), `losses` their losses.
    """

    loop: Any

    policy: Any
    tokenizer: Any
    attached: Any
    rows: Any
    steps: list[Any]

    @property
    def losses(self) -> list[float]: ...

    def advance(self, steps: int | None = None) -> None:
        """Trains `steps` further steps, or to the end."""

    def subject(self, limit: int | None = None) -> Subject:
        """The model as it is now, on the recipe's evaluation rows."""

    def scores(self) -> Mapping[str, Scores]:
        """What the recipe's tasks find of the model as it is now, by the name of the measure."""

    def base(self) -> AbstractContextManager[None]:
        """While open, the model is the one before tuning."""


class Bench(Protocol):
    """What a claim runs on: recipes made ready, and the account of what they cost."""

    def trial(self, arm: str, recipe: Mapping[str, Any]) -> Trial:
        """The recipe's model and data, untrained; what it trains is booked under the arm."""

    def compare(
        self, arms: Mapping[str, Mapping[str, Any]], recipe: Mapping[str, Any], seeds: int, measures: Sequence[str]
    ) -> Mapping[str, Mapping[str, Sequence[float]]]:
        """Measure -> arm -> its value in every seed, after tuning each arm once per seed on the same data."""

    def note(self, arm: str, steps: int, examples: int) -> None:
        """Books training that a claim does by itself, in steps and training examples."""


class Findings(NamedTuple):
    """What a claim measured: the values of each criterion by its quantity, and further numbers to show."""

    values: Mapping[str, Sequence[float]]
    shown: Mapping[str, Any] = {}


class Claim(Method):
    """A sentence of a paper, the arms that test it, and the rule that judges it, all fixed before the run.

    `arms` says in words what is compared, `budget` what it may spend. More seeds or more evaluation rows are the only
    changes allowed after a first run; a claim that stays undecided may be asked on another task with the same bounds,
    and then says what the first gave.
    """

    kind: ClassVar[str] = "claim"
    sentence: ClassVar[str]
    arms: ClassVar[Mapping[str, str]]
    criteria: ClassVar[tuple[Criterion, ...]]
    seeds: ClassVar[int]
    budget: ClassVar[str]

    @abstractmethod
    def findings(self, bench: Bench) -> Findings:
        """Runs the arms and returns the values that the criteria are judged by."""

    @classmethod
    def about(cls) -> str:
        """What the claim is about: the folder it stands in; `own` for a claim in a file of the user's."""
        *_, folder, _ = ["own", *cls.__module__.split(".")]
        return folder

    @classmethod
    def digest(cls) -> str:
        """A hash of the declaration: of the code of its file and of the files beside it that this one takes names from.

        Docstrings, comments and layout do not count.
        """
        own = vars(sys.modules[cls.__module__]).values()
        beside = {getattr(value, "__module__", None) or "" for value in own}
        names = {cls.__module__, *(name for name in beside if name.startswith("tunewright.claims."))} - {__name__}
        return hashlib.sha256("\n".join(_code(name) for name in sorted(names)).encode()).hexdigest()[:16]


def _code(module: str) -> str:
    """A module's source without docstrings, comments and layout, the same under every version of Python."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


class Compared(Claim):
    """A claim that compares two recipes: the same model, data and seeds, each arm with its own changes.

    The value of a criterion in a seed is `measure` of the first arm minus that of the second; `measured` names the
    measure of each criterion, by its quantity.
    """

    recipe: ClassVar[Mapping[str, Any]]
    changes: ClassVar[Mapping[str, Mapping[str, Any]]]
    measured: ClassVar[Mapping[str, str]]

    def findings(self, bench: Bench) -> Findings:
        """Every criterion's difference between the first two arms, per seed."""
        found = bench.compare(self.changes, self.recipe, self.seeds, list(dict.fromkeys(self.measured.values())))
        first, second = list(self.changes)[:2]
        values = {
            quantity: [a - b for a, b in zip(found[name][first], found[name][second], strict=True)]
            for quantity, name in self.measured.items()
        }
        means = {name: {arm: float(np.mean(v)) for arm, v in by_arm.items()} for name, by_arm in found.items()}
        return Findings(values, {"means": means})

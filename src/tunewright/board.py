"""The claims board: runs claims, keeps each verdict with the run it came from, and lists them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from tunewright import catalog, claims, machine, output
from tunewright.claims.base import Claim, Judgement, Verdict, judge, overall
from tunewright.errors import BadInput, nearest
from tunewright.evaluate.base import Scores, Subject
from tunewright.hooks import Hook
from tunewright.recipe import Recipe

if TYPE_CHECKING:
    from tunewright.train.loop import Loop, Step

RESULTS = Path(claims.__file__).parent / "results"
"""Where verdicts are kept: they ship with the package."""


class Spent(BaseModel):
    """What the training of an arm took, over all seeds."""

    steps: int = 0
    tokens: int = 0
    examples: int = 0


class Result(BaseModel):
    """A verdict with the run it came from."""

    model_config = ConfigDict(extra="forbid")

    claim: str
    digest: str
    verdict: Verdict
    criteria: list[Judgement]
    shown: dict[str, Any]
    spent: dict[str, Spent]
    seeds: int
    seconds: float
    date: str
    machine: str
    versions: dict[str, str]


class _Account(Hook):
    """Keeps what every step did."""

    def __init__(self, kept: list[Step]) -> None:
        self.kept = kept

    def after_step(self, loop: Loop, step: Step) -> None:
        self.kept.append(step)


class Ready:
    """A recipe's model and data, as a claim trains and measures them."""

    def __init__(self, recipe: Recipe, spent: Spent) -> None:
        from tunewright.assembly import assemble
        from tunewright.pipeline import build_loop

        self.assembly = assemble(recipe)
        self.loop = build_loop(self.assembly, Path(), record=False)
        self.policy, self.tokenizer = self.assembly.policy, self.assembly.loaded.tokenizer
        self.attached, self.rows = self.assembly.attached, self.assembly.subject().rows
        self.steps: list[Step] = []
        self.loop.hooks.append(_Account(self.steps))
        self._spent, self._started = spent, False

    @property
    def losses(self) -> list[float]:
        """The training loss of every step taken."""
        return [step.loss for step in self.steps]

    def advance(self, steps: int | None = None) -> None:
        """Trains `steps` further steps, or to the end."""
        if not self._started:
            self._started = True
            for hook in self.loop.hooks:
                hook.on_start(self.loop)
        before = (self.loop.state.step, self.loop.state.tokens)
        self.loop.advance(self.loop.total if steps is None else steps)
        self._spent.steps += self.loop.state.step - before[0]
        self._spent.tokens += self.loop.state.tokens - before[1]

    def subject(self, limit: int | None = None) -> Subject:
        """The model as it is now, on the recipe's evaluation rows."""
        return self.assembly.subject(limit)

    def scores(self) -> dict[str, Scores]:
        """What the recipe's tasks find of the model as it is now, by the name of the measure."""
        from tunewright.evaluate.measure import measure

        found = measure(self.subject(), self.assembly.recipe.evaluate, automatic=False)
        return {one.name: one for one in found}

    def base(self) -> AbstractContextManager[None]:
        """While open, the model is the one before tuning."""
        return self.assembly.attached.disabled()


class Workbench:
    """What a claim runs on."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = {}

    def trial(self, arm: str, recipe: Mapping[str, Any]) -> Ready:
        """The recipe's model and data, untrained; what it trains is booked under the arm."""
        return Ready(Recipe.of(**recipe), self._account(arm))

    def compare(
        self, arms: Mapping[str, Mapping[str, Any]], recipe: Mapping[str, Any], seeds: int, measures: Sequence[str]
    ) -> dict[str, dict[str, list[float]]]:
        """Measure -> arm -> its value in every seed: a comparison at the recipe's own length."""
        from tunewright.comparison import Arm, compare

        sides = [Arm(name, {**recipe, **changes}) for name, changes in arms.items()]
        with TemporaryDirectory() as folder:
            found = compare(sides, Path(folder) / "comparison", seeds=seeds, measure=measures[0], jobs=1)
        for arm in found.arms:
            account = self._account(arm.name)
            account.steps += int(arm.costs["steps"].sum())
            account.tokens += int(arm.costs["tokens"].sum())
        return {name: {arm.name: arm.scores[name].tolist() for arm in found.arms} for name in measures}

    def note(self, arm: str, steps: int, examples: int) -> None:
        """Books training that a claim does by itself."""
        account = self._account(arm)
        account.steps += steps
        account.examples += examples

    def _account(self, arm: str) -> Spent:
        return self.spent.setdefault(arm, Spent())


def run(name: str, folder: Path = RESULTS) -> Result:
    """Runs a claim, judges it and writes its result into `folder`. Raises `BadInput` when that cannot be written."""
    import torch

    claim = _class(name)()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # The order of sums, and with it the last digits, depends on the number of threads.
    bench, started = Workbench(), time.perf_counter()
    try:
        found = claim.findings(bench)
    finally:
        torch.set_num_threads(threads)
    judged = [judge(criterion, found.values[criterion.quantity]) for criterion in claim.criteria]
    result = Result(
        claim=name, digest=claim.digest(), verdict=overall(judged), criteria=judged, shown=dict(found.shown),
        spent=bench.spent, seeds=claim.seeds, seconds=round(time.perf_counter() - started, 1),
        date=datetime.now(UTC).isoformat(timespec="seconds"), machine=machine_class(), versions=machine.versions(),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    output.write(folder / f"{name}.json", output.as_json(result.model_dump(mode="json")))
    return result


def run_all(names: Sequence[str], jobs: int = 1, folder: Path = RESULTS) -> Iterable[Result]:
    """Runs claims, `jobs` at a time, each in a process of its own where there are several; yields them in order."""
    if jobs == 1:
        yield from (run(name, folder) for name in names)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(run, names, [folder] * len(names))


def result(name: str, folder: Path = RESULTS) -> Result | None:
    """The result of a claim as it stands now; None where it was never run, or declared otherwise when it was.

    Raises `BadInput` for a file that is no result.
    """
    file = folder / f"{name}.json"
    if not file.is_file():
        return None
    try:
        found = Result.model_validate_json(file.read_bytes())
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in fault["loc"])
        raise BadInput(f"not the result of a claim: {fault['msg']}", file=file, field=field or None) from None
    return found if found.digest == _class(name).digest() else None


def chosen(names: Sequence[str] = (), about: str | None = None, every: bool = False) -> list[str]:
    """The names of claims: those given, those about something, or all.

    Raises `BadInput` where nothing or too much is asked for, and for unknown names.
    """
    if sum([bool(names), about is not None, every]) != 1:
        raise BadInput("which claims?", expected="NAMES, --kind KIND or --all", hint="`tunewright claims` lists them.")
    if every:
        return catalog.names("claim")
    if names:
        return [_class(name).name for name in names]
    kinds = sorted({cls.about() for cls in _classes()})
    if about not in kinds:
        raise BadInput(
            "no claim is about that", field="--kind", found=about,
            hint=nearest(str(about), kinds) or f"Known: {', '.join(kinds)}.",
        )  # fmt: skip
    return [cls.name for cls in _classes() if cls.about() == about]


def listed(folder: Path = RESULTS, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Every claim (or those named) with its verdict, or null where none is judged.

    The effect is that of the criterion that decides: the first that does not hold, else the first that is undecided,
    else the first.
    """
    return [_row(cls, result(cls.name, folder)) for cls in _classes() if names is None or cls.name in names]


def _row(cls: type[Claim], found: Result | None) -> dict[str, Any]:
    paper = cls.papers[0].model_dump(include={"card", "title"}) if cls.papers else None
    row: dict[str, Any] = {"name": cls.name, "paper": paper, "kind": cls.about(), "sentence": cls.sentence}
    if found is None:
        none = dict.fromkeys(("verdict", "effect", "low", "high"))
        return {**row, **none, "unit": cls.criteria[0].unit, "seeds": cls.seeds, "seconds": None, "date": None}
    deciding = next((one for one in found.criteria if one.verdict == found.verdict), found.criteria[0])
    return {
        **row,
        "verdict": found.verdict,
        **deciding.model_dump(include={"effect", "low", "high", "unit"}),
        "seeds": found.seeds,
        "seconds": found.seconds,
        "date": found.date,
    }


def machine_class() -> str:
    """The kind of machine without its name: virtual cores and architecture."""
    import os
    import platform

    return f"{os.cpu_count()} virtual cores, {platform.machine()}"


def _class(name: str) -> type[Claim]:
    return cast("type[Claim]", catalog.find("claim", name))


def _classes() -> list[type[Claim]]:
    return [cast("type[Claim]", cls) for cls in catalog.methods("claim")]

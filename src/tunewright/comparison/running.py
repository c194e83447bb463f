"""Running a comparison: checks, base, pace, tuning, judging; each trial once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunewright import output
from tunewright.comparison.arms import Arm, Budget, Target, Tuning
from tunewright.comparison.crew import Crew
from tunewright.comparison.fairness import PAGE, RESULT, TRIALS, Side, claim, equal_lengths, judged_measure, sides_of
from tunewright.comparison.jobs import Job, Result, digests, same_rows, score_of, trial_recipe
from tunewright.comparison.outcome import FEWEST_SEEDS, ArmOutcome, Comparison, Times, Tuned
from tunewright.comparison.page import write
from tunewright.comparison.rows import check_apart
from tunewright.comparison.tuning import tune as search
from tunewright.comparison.tuning import tuning_seeds
from tunewright.comparison.verdict import plain
from tunewright.errors import BadInput, Fault
from tunewright.evaluate.base import Scores
from tunewright.evaluate.statistics import FEWEST
from tunewright.pipeline import read
from tunewright.recipe import Recipe

Say = Callable[[str], None]


def silent(text: str) -> None:
    """Says nothing."""


def compare(
    arms: Sequence[Arm],
    folder: str | Path,
    *,
    seeds: int = 5,
    budget: Budget | None = None,
    measure: str | None = None,
    tune: Tuning | None = None,
    target: Target | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    say: Say = silent,
    overwrite: bool = False,
) -> Comparison:
    """Compares recipes at an equal budget over `seeds` seeds (data order, initialisation); the first is the reference.

    Each arm is trained once per seed and measured on the same rows. `budget` replaces the length each recipe names;
    without it the recipes' own lengths must be equal in tokens. `measure` is judged (default: the first target
    measure). `tune` chooses hyperparameters per arm first, on other rows and other seeds. `target` also tells when
    each arm reaches a value. `jobs` trials run at once (default: as many as cores and memory allow).

    Everything is kept in `folder`; calling again, also after an interruption or with more seeds, does only what is
    not there. Raises `BadInput` for arms that cannot be compared fairly, saying what to change.
    """
    folder, sides = Path(folder), sides_of(arms, seeds)
    judged = judged_measure(sides, measure)
    claim(folder, overwrite)
    with Crew(folder / TRIALS, 1 if budget and budget.unit == "seconds" and jobs is None else jobs, ray, say) as crew:
        base = _base(sides, crew, say)
        higher = _described(base, judged, sides).higher_is_better
        if budget is None:
            equal_lengths(sides, crew)
        steps = _paces(sides, budget, crew, say)
        chosen = _tuned(sides, seeds, budget, steps, judged, higher, tune, crew, say) if tune else {}
        made = [
            [_job("judge", side, seed, budget, steps, judged, target, chosen) for side in sides]
            for seed in range(seeds)
        ]
        say(f"Judging {len(sides)} arms over {seeds} seeds ...")
        results = crew.results([job for row in made for job in row])
        by_arm = [results[index :: len(sides)] for index in range(len(sides))]
        found = _comparison(folder, sides, by_arm, base, judged, seeds, budget, chosen, target, crew.done)
    output.write(folder / RESULT, output.as_json(plain(found)))
    write(folder / PAGE, found)
    return found


def _base(sides: Sequence[Side], crew: Crew, say: Say) -> dict[str, Result]:
    """The untuned model's scores by arm; measured once where model, data and tasks are equal."""
    made = {}
    for side in sides:
        keys = trial_recipe(side.recipe, 0)
        plain = {key: keys[key] for key in ("model", "data", "evaluate", "use") if key in keys}
        precision = {"precision": keys["train"]["precision"]}
        made[side.name] = Job("base", trial_recipe(Recipe.of(**plain, train=precision), 0), side.digests)
    say("Measuring the base model ...")
    return dict(zip(made, crew.results(list(made.values())), strict=True))


def _described(base: Mapping[str, Result], judged: str, sides: Sequence[Side]) -> Scores:
    scores = score_of(base[sides[0].name], judged)
    if scores is None:
        raise BadInput("the measure cannot be taken on these rows", field="--measure", found=judged)
    return scores


def _paces(sides: Sequence[Side], budget: Budget | None, crew: Crew, say: Say) -> dict[str, int]:
    """For a budget in seconds, the steps each arm's own pace allows."""
    if budget is None or budget.unit != "seconds":
        return {}
    say("Measuring the pace of every arm ...")
    limit = (budget.unit, budget.amount)
    found = crew.results([Job("pace", trial_recipe(side.recipe, 0), side.digests, limit) for side in sides], alone=True)
    return {
        side.name: max(1, int(budget.amount / float(one.cost["seconds_per_step"] or budget.amount)))
        for side, one in zip(sides, found, strict=True)
    }


def _job(
    kind: Any, side: Side, seed: int, budget: Budget | None, steps: Mapping[str, int], judged: str,
    target: Target | None, chosen: Mapping[str, Tuned],
) -> Job:  # fmt: skip
    values = chosen[side.name].chosen if side.name in chosen else None
    limit = (budget.unit, budget.amount) if budget else None
    every = target.every if target else 0
    followed = judged if target else None
    return Job(
        kind,
        trial_recipe(side.recipe, seed, values),
        side.digests,
        limit,
        steps.get(side.name),
        measure=followed,
        every=every,
    )


def _tuned(
    sides: Sequence[Side], seeds: int, budget: Budget | None, steps: Mapping[str, int], judged: str, higher: bool,
    tuning: Tuning, crew: Crew, say: Say,
) -> dict[str, Tuned]:  # fmt: skip
    own = tuning_seeds(tuning, range(seeds))
    arms = {}
    for side in sides:
        recipe = side.arm.resolved(tuning.on) if tuning.on else side.recipe
        if tuning.on:
            check_apart(read(recipe).eval_records, read(side.recipe))
        space = tuning.space(recipe)
        limit = (budget.unit, budget.amount) if budget else None
        rows, files = (None, digests(recipe)) if tuning.on else (tuning.rows, side.digests)

        def ask(
            values: dict[str, Any], seed: int, share: float, *, recipe: Recipe = recipe, files: Any = files,
            rows: int | None = rows, limit: Any = limit, pace: int | None = steps.get(side.name),
        ) -> Job:  # fmt: skip
            return Job("tune", trial_recipe(recipe, seed, values), files, limit, pace, share, rows, judged)

        arms[side.name] = (space, ask)
    say(f"Tuning {', '.join(space)}: {tuning.trials} trials for each of {len(arms)} arms ...")
    return search(arms, tuning, own, judged, higher, crew)


def _comparison(
    folder: Path, sides: Sequence[Side], results: Sequence[Sequence[Result]], base: Mapping[str, Result], judged: str,
    seeds: int, budget: Budget | None, chosen: Mapping[str, Tuned], target: Target | None, done: int,
) -> Comparison:  # fmt: skip
    for side, own in zip(sides, results, strict=True):
        for seed, result in enumerate(own):
            if result.failed:
                raise Fault(f"'{side.name}' could not be trained with seed {seed}: {result.failed}")
    every = [one for own in results for one in own]
    about = {one.name: one for one in every[0].scores if all(score_of(result, one.name) for result in every)}
    for name in about:
        if not same_rows(every, name):
            raise BadInput(
                f"the arms were judged on different examples of '{name}'", hint="Name the same rows under data.eval."
            )
    higher = about[judged].higher_is_better
    made = [_outcome(side, own, list(about), chosen, target, higher) for side, own in zip(sides, results, strict=True)]
    scores = {
        name: {side.name: found.score for side in sides if (found := score_of(base[side.name], name))} for name in about
    }
    warnings = tuple(_warnings(made, about[judged], seeds, chosen))
    return Comparison(
        folder,
        tuple(made),
        judged,
        tuple(range(seeds)),
        budget,
        about,
        scores,
        target.value if target else None,
        warnings,
        done,
    )


def _outcome(
    side: Side,
    own: Sequence[Result],
    measures: Sequence[str],
    chosen: Mapping[str, Tuned],
    target: Target | None,
    higher: bool,
) -> ArmOutcome:
    scores = {name: [found for result in own if (found := score_of(result, name))] for name in measures}
    times = None
    if target is not None:
        rows = [_first(result, target.value, higher) for result in own]
        times = Times(*(np.asarray(column) for column in zip(*rows, strict=True)))
    return ArmOutcome(
        side.name,
        trial_recipe(side.recipe, 0, chosen[side.name].chosen if side.name in chosen else None),
        {name: np.asarray([one.score for one in each]) for name, each in scores.items()},
        {name: np.stack([one.values for one in each]) for name, each in scores.items()},
        {key: np.asarray([_number(result.cost[key]) for result in own]) for key in own[0].cost},
        sum(result.cut for result in own),
        chosen.get(side.name),
        times,
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _first(result: Result, value: float, higher: bool) -> tuple[float, float, float]:
    """Steps, tokens and seconds at the first evaluation that reaches the target."""
    for point in result.course:
        if point["value"] >= value if higher else point["value"] <= value:
            return point["step"], point["tokens"], point["seconds"]
    return (float("inf"),) * 3


def _warnings(arms: Sequence[ArmOutcome], judged: Scores, seeds: int, chosen: Mapping[str, Tuned]) -> list[str]:
    found = []
    if seeds < FEWEST_SEEDS:
        found.append(f"{seeds} seeds decide nothing: at least {FEWEST_SEEDS} are needed, 5 are usual")
    if len(judged.ids) < FEWEST:
        found.append(f"'{judged.name}' has only {len(judged.ids)} examples")
    found += [
        f"{arm.cut} trials of '{arm.name}' were cut by the clock before their schedule ended" for arm in arms if arm.cut
    ]
    for name, tuned in chosen.items():
        found += [
            f"the best {key} of '{name}' ({tuned.chosen[key]:.3g}) lies at the end of its range: widen it"
            for key in tuned.at_edge
        ]
    return found

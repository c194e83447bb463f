"""Running a comparison: checks, base, pace, tuning, judging; each trial once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tunewright import output
from tunewright.assembly import read
from tunewright.comparison import populations
from tunewright.comparison.arms import POPULATION, Arm, Budget, Landscape, Target, Tuning
from tunewright.comparison.beside import conventional, first, full_settings, landscapes, set_by, studies
from tunewright.comparison.crew import Crew
from tunewright.comparison.fairness import PAGE, RESULT, TRIALS, Side, claim, equal_lengths, judged_measure, sides_of
from tunewright.comparison.jobs import Job, Result, digests, same_rows, score_of, trial_recipe
from tunewright.comparison.outcome import FEWEST_SEEDS, ArmOutcome, Comparison, Times, Tuned
from tunewright.comparison.page import write
from tunewright.comparison.rows import check_held
from tunewright.comparison.tuning import Ask, Values, tuning_seeds
from tunewright.comparison.tuning import tune as search
from tunewright.comparison.verdict import plain
from tunewright.errors import BadInput, Fault, nearest
from tunewright.evaluate.base import Scores
from tunewright.evaluate.statistics import FEWEST
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
    landscape: Landscape | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    say: Say = silent,
    overwrite: bool = False,
) -> Comparison:
    """Compares recipes at an equal budget over `seeds` seeds (data order, initialisation); the first is the reference.

    Each arm is trained once per seed and measured on the same rows. `budget` replaces the length each recipe names;
    without it the recipes' own lengths must be equal in tokens. `measure` is judged (default: the first target
    measure). `tune` chooses hyperparameters per arm first, on other rows and other seeds. `target` also tells when
    each arm reaches a value, given or set by arms, `landscape` what each of some hyperparameters does alone. `jobs` trials run at once (default: as many as cores and memory allow).

    Everything is kept in `folder`; calling again, also after an interruption or with more seeds, does only what is
    not there. Raises `BadInput` for arms that cannot be compared fairly, saying what to change.
    """
    folder, sides = Path(folder), sides_of(arms, seeds)
    judged = judged_measure(sides, measure)
    if target is not None and target.studies and tune is None:
        raise BadInput("studies need something to tune", field="target.studies", hint="Add --tune, or --tune-key.")
    called = [side.name for side in sides]
    for name in target.of if target else ():
        if name not in called:
            hint = nearest(name, called) or f"Arms: {', '.join(called)}."
            raise BadInput("no arm is called so", field="target.of", found=name, hint=hint)
    spaces = {side.name: tune.space(side.recipe) for side in sides} if tune else {}
    ranges = {side.name: landscape.space(side.recipe) for side in sides} if landscape else {}
    claim(folder, overwrite)
    with Crew(folder / TRIALS, 1 if budget and budget.unit == "seconds" and jobs is None else jobs, ray, say) as crew:
        base = _base(sides, crew, say)
        higher = _described(base, judged, sides).higher_is_better
        if budget is None:
            equal_lengths(sides, crew)
        steps = _paces(sides, budget, crew, say)
        by_name = {side.name: side for side in sides}

        def judge(name: str, seed: int, values: Values, schedule: Sequence[Values] = ()) -> Job:
            limit = (budget.unit, budget.amount) if budget else None
            followed, every = (judged, target.every) if target else (None, 0)
            side = by_name[name]
            recipe = trial_recipe(side.recipe, seed, {} if schedule else values)
            phases = tuple(schedule)
            return Job(
                "judge", recipe, side.digests, limit, steps.get(name), measure=followed, every=every, phases=phases
            )

        asks = _asks(sides, budget, steps, judged, tune or Tuning()) if tune or landscape else {}
        chosen: dict[str, Tuned] = {}
        if tune:
            say(f"Tuning {', '.join(spaces[sides[0].name])}: {tune.trials} trials for each of {len(sides)} arms ...")
            own = tuning_seeds(tune.seeds, range(seeds))
            choose = populations.tune if tune.sampler in POPULATION else search
            chosen = choose({name: (spaces[name], ask) for name, ask in asks.items()}, tune, own, judged, higher, crew)
            for name, one in chosen.items() if tune.pruner else ():
                say(
                    f"{name}: {one.stopped} of {len(one.history)} trials stopped for what their learning curve promised"
                )
        values = {side.name: dict(chosen[side.name].chosen) if tune else {} for side in sides}
        schedules = {side.name: chosen[side.name].schedule if tune else () for side in sides}
        say(f"Judging {len(sides)} arms over {seeds} seeds ...")
        results = crew.results(
            [judge(side.name, seed, values[side.name], schedules[side.name]) for seed in range(seeds) for side in sides]
        )
        by_arm = [results[index :: len(sides)] for index in range(len(sides))]
        beside: dict[str, Mapping[str, Any]] = {"tuned": chosen}
        reached: dict[str, float] = {}
        if target is not None and target.of:
            say(f"Training {', '.join(target.of)} with {target.repeats} further seeds to set the target ...")
            reached = set_by(target, {name: (values[name], schedules[name]) for name in values}, judge, higher, crew)
            target = replace(target, value=(max if higher else min)(reached.values()), of=())
        if target is not None and target.studies and tune is not None:
            say(f"Timing {target.studies} studies of {tune.trials} settings for each of {len(sides)} arms ...")
            beside["studied"] = studies(spaces, tune.trials, target, judge, higher, crew)
        if tune is not None and tune.on and tune.conventional:
            count = sum(len(full_settings(one)) for one in chosen.values())
            say(f"Training all {count} settings on the judging scenario, as the usual protocol would ...")
            beside["conventional"] = conventional(chosen, range(seeds), judge, judged, higher, crew)
        if landscape is not None:
            say(f"Varying {', '.join(landscape.parameters)} alone ...")
            swept = {name: (ranges[name], ask, values[name], schedules[name]) for name, ask in asks.items()}
            own = tuning_seeds(landscape.seeds, range(seeds))
            beside["landscape"] = landscapes(swept, landscape, own, judged, crew)
        found = _comparison(folder, sides, by_arm, base, judged, seeds, budget, tune, target, beside, crew.done)
    found = replace(found, target_set_by=reached)
    output.write(folder / RESULT, output.as_json(plain(found)))
    write(folder / PAGE, found)
    return found


def _base(sides: Sequence[Side], crew: Crew, say: Say) -> dict[str, Result]:
    """The untuned model's scores by arm; measured once where model, data and tasks are equal."""
    made = {}
    for side in sides:
        keys = trial_recipe(side.recipe, 0)
        plain: dict[str, Any] = {key: keys[key] for key in ("model", "data", "evaluate", "use") if key in keys}
        methods = [one for place, one in side.recipe.methods.items() if place[0] in plain] + list(side.recipe.evaluate)
        asked = {need for method in methods for need in method.needs | method.accepts}
        plain["supplies"] = {need: given for need, given in side.recipe.supplies.items() if need in asked}
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


def _asks(
    sides: Sequence[Side], budget: Budget | None, steps: Mapping[str, int], judged: str, tuning: Tuning
) -> dict[str, Ask]:
    """What makes a tuning trial of every arm."""
    limit = (budget.unit, budget.amount) if budget else None
    asks: dict[str, Ask] = {}
    for side in sides:
        recipe = side.arm.resolved(tuning.on) if tuning.on else side.recipe
        if tuning.on:
            check_held(read(recipe), read(side.recipe))
        rows, files = (None, digests(recipe)) if tuning.on else (tuning.rows, side.digests)

        def ask(
            values: Values, seed: int, share: float, *, recipe: Recipe = recipe, files: Mapping[str, str] = files,
            rows: int | None = rows, pace: int | None = steps.get(side.name),
        ) -> Job:  # fmt: skip
            return Job("tune", trial_recipe(recipe, seed, values), files, limit, pace, share, rows, judged)

        asks[side.name] = ask
    return asks


def _comparison(
    folder: Path, sides: Sequence[Side], results: Sequence[Sequence[Result]], base: Mapping[str, Result], judged: str,
    seeds: int, budget: Budget | None, tuning: Tuning | None, target: Target | None,
    beside: Mapping[str, Mapping[str, Any]], done: int,
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
    made = [_outcome(side, own, list(about), beside, target, higher) for side, own in zip(sides, results, strict=True)]
    scores = {
        name: {side.name: found.score for side in sides if (found := score_of(base[side.name], name))} for name in about
    }
    warnings = tuple(_warnings(made, about[judged], seeds, beside["tuned"]))
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
        tuning,
    )


def _outcome(
    side: Side,
    own: Sequence[Result],
    measures: Sequence[str],
    beside: Mapping[str, Mapping[str, Any]],
    target: Target | None,
    higher: bool,
) -> ArmOutcome:
    scores = {name: [found for result in own if (found := score_of(result, name))] for name in measures}
    times = None
    if target is not None:
        rows = [first(result, float(target.value), higher) for result in own]  # type: ignore[arg-type]
        times = Times(*(np.asarray(column) for column in zip(*rows, strict=True)))
    tuned = beside["tuned"].get(side.name)
    return ArmOutcome(
        side.name,
        trial_recipe(side.recipe, 0, (*tuned.schedule, tuned.chosen)[0] if tuned else None),
        {name: np.asarray([one.score for one in each]) for name, each in scores.items()},
        {name: np.stack([one.values for one in each]) for name, each in scores.items()},
        {key: np.asarray([_number(result.cost[key]) for result in own]) for key in own[0].cost},
        sum(result.cut for result in own),
        times=times,
        **{field: each[side.name] for field, each in beside.items() if side.name in each},
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


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

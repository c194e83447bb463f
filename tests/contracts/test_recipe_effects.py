"""Each field of the recipe's sections has the effect it declares, through a whole run."""

from pathlib import Path

import pytest
from recipe_runs import prepared, runner

from tunewright.recipe import NESTED, AddedTokens, DataSpec, EarlyStop, ModelSpec, Reading, SourceSpec, TrainSpec
from tunewright.testing.effects import assert_differs, fields_of

SECTIONS = {
    "model": ModelSpec,
    "model.add_tokens": AddedTokens,
    "data": DataSpec,
    "data.train.0": SourceSpec,
    "train": TrainSpec,
    "train.early_stop": EarlyStop,
}
"""Where a section stands in a recipe. The options of `Reading` are tried where they are declared: under `data`."""

FIELDS = [
    (f"{place}.{field.name}", field)
    for place, section in SECTIONS.items()
    for field in fields_of(section)
    if section is not SourceSpec or field.name not in Reading.model_fields
    # A key that holds a method shows itself in that method's own options.
    if (place, field.name) not in NESTED
]


ONE = "data.train"
WATCHED = {"evaluate": ["perplexity"], "train.evaluate_every": 1, "train.steps": 10}
ASTRAY = {**WATCHED, "optimizer.lr": 2.0, "schedule": "constant"}

CIRCUMSTANCES = {
    "data.format": {ONE: "{folder}/both.jsonl"},
    "data.template": {ONE: "{folder}/chat.jsonl"},
    "data.truncation": {ONE: "{folder}/long.jsonl", "data.max_length": 48, "data.max_lost": 1.0},
    "data.max_lost": {ONE: "{folder}/long.jsonl", "data.max_length": 48},
    "data.max_length": {ONE: "{folder}/long.jsonl"},
    "data.duplicates": {ONE: "{folder}/twice.jsonl"},
    "train.tokens_per_step": {"train.tokens_per_step": 400},
    "train.evaluate_limit": WATCHED,
    "train.rehearsal": {"train.rehearsal": True},
    "train.trackers": {"train.trackers": ["tensorboard"]},
    "train.early_stop.patience": {**ASTRAY, "train.early_stop": {"patience": 3}},
}
"""Rows and settings in which an option can show; what the option itself requires is declared with it (`given`)."""

BY_HAND = {
    "model.path": ({}, "{folder}/another"),
    "model.chat_template": ({ONE: "{folder}/chat.jsonl"}, "{folder}/template.jinja"),
    "model.add_tokens": ({}, {"tokens": ["<a>"]}),
    "data.fields": (
        {ONE: "{folder}/both.jsonl", "data.format": "completion"}, {"prompt": "completion", "completion": "prompt"}
    ),
    "data.labels": ({ONE: "{folder}/classes.jsonl"}, {"0": "no", "1": "yes"}),
    "data.prompt": ({ONE: "{folder}/classes.jsonl"}, "{text} is"),
    "data.function": ({}, "{folder}/change.py:change"),
    "data.eval": ({}, "{folder}/held.jsonl"),
    "data.train.0.path": ({}, "{folder}/long.jsonl"),
    "data.train.0.eval": ({}, "{folder}/held.jsonl"),
    "train.early_stop": (ASTRAY, {"patience": 1}),
    "train.keep_best": (ASTRAY, "perplexity"),
    "train.early_stop.measure": (
        {**WATCHED, "evaluate": ["perplexity", "stop_rate"], "train.early_stop": {"patience": 1}},
        "stop_rate",
    ),
}  # fmt: skip
"""Options without a second value that would do anywhere: (circumstances, second value)."""

ELSEWHERE = {
    "model.revision": "unit/models/test_repositories.py::test_the_revision_that_is_named_is_loaded",
    "model.trust_remote_code": "unit/models/test_repositories.py::test_code_of_a_repository_runs_only_where_it_is_trusted",
    "model.adapter": "journeys/test_commands.py::test_an_adapter_is_continued",
    "model.adapter_as": "journeys/test_commands.py::test_training_of_an_adapter_goes_on",
    "data.sources": "unit/core/test_recipe.py::test_options_under_data_hold_for_every_source_and_yield_to_its_own",
    "data.train.0.subset": "unit/data/test_data_hub.py::test_subset_and_part_choose_the_rows",
    "data.train.0.part": "unit/data/test_data_hub.py::test_subset_and_part_choose_the_rows",
    "train.compile": "unit/core/test_run_options.py::test_compiled_model_trains_to_the_same_losses",
    "train.shard": "unit/train/test_loop_processes.py::test_two_processes_equal_one",
    "train.threads": "unit/core/test_run_options.py::test_threads",
    "train.watchdog": "unit/train/test_watchdog.py::test_the_recipe_says_how_long_a_step_may_take",
}
"""Options whose effect no tiny run of this process can show (they need a hub, another run, time, or two processes) ->
the test that shows it."""


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    folder = prepared(tmp_path_factory.mktemp("effects"))
    return runner(folder, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def base(run):
    """The usual run in given circumstances, made twice."""
    made = {}

    def get(given):
        key = repr(sorted(given.items()))
        if key not in made:
            made[key] = (run(given), run(given))
        return made[key]

    return get


GENERATED = [(place, field) for place, field in FIELDS if field.to is None or field.to.second is not None]


@pytest.mark.parametrize(("place", "field"), GENERATED, ids=[place for place, _ in GENERATED])
def test_field_of_a_section_has_its_effect(place, field, run, base):
    assert field.info.description and field.to is not None, f"{place} is not made with `option`"
    given = {**field.to.given, **CIRCUMSTANCES.get(place, {})}
    assert_differs(place, field.to, *base(given), run({**given, place: field.to.second}))


@pytest.mark.parametrize("place", BY_HAND)
def test_field_with_a_second_value_by_hand_has_its_effect(place, run, base):
    field = dict(FIELDS)[place]
    given, second = BY_HAND[place]
    effect = field.to._replace(second=second)
    assert_differs(place, effect, *base(given), run({**given, place: second}))


@pytest.mark.parametrize("place", ELSEWHERE)
def test_an_option_shown_elsewhere_has_that_test(place):
    file, _, name = ELSEWHERE[place].partition("::")
    assert f"def {name}(" in (Path(__file__).parents[1] / file).read_text()


def test_every_option_without_a_second_value_is_listed():
    assert {place for place, field in FIELDS if field.to and field.to.second is None} == {*BY_HAND, *ELSEWHERE}

"""Recipes: defaults, short forms, and the resolved recipe as a recipe again."""

import json

import pytest

from tunewright import adapters
from tunewright.document import Document
from tunewright.errors import BadInput
from tunewright.optimize import optimizers
from tunewright.output import as_yaml
from tunewright.recipe import Recipe

RECIPES = {
    "shortest": {"model": "nano", "data": "a.jsonl"},
    "eval": {"model": "nano", "data": {"train": "a.jsonl", "eval": "b.jsonl"}, "evaluate": []},
    "held out": {"model": "nano", "data": {"train": "a.jsonl", "split": 0.3, "labels": {0: "negative", True: "yes"}}},
    "sources": {
        "model": {"path": "x", "add_tokens": {"tokens": ["<a>"], "init": "zero"}},
        "data": {
            "sources": ["a.jsonl", {"path": "b.jsonl", "weight": 2, "train_on": "all"}],
            "eval": [{"path": "c.jsonl", "limit": 5}],
            "truncation": "right",
        },
        "adapter": {"method": "lora", "rank": 4, "target_modules": ["q_proj"], "ranks": {"q_proj": 2}},
        "optimizer": {"method": "sgd", "momentum": 0.9, "rates": {"*.up": 2.0}},
        "schedule": {"method": "wsd", "decay": 0.5},
        "train": {"steps": 7, "precision": "fp32", "evaluate_every": 2, "early_stop": {"patience": 1}},
        "evaluate": ["perplexity", {"task": "exact_match", "answer": "last_number"}],
    },
}


def test_absent_keys_take_their_defaults():
    recipe = Recipe.of(model="nano", data="a.jsonl")
    assert [recipe.adapter.name, recipe.objective.name, recipe.optimizer.name, recipe.schedule.name] == [
        "lora", "sft", "adamw", "cosine"
    ]  # fmt: skip
    measured = ["perplexity", "calibration", "format_spread", "prompt_sensitivity", "retention"]
    assert [task.name for task in recipe.evaluate] == measured
    assert recipe.data.sources[0].path == "a.jsonl" and recipe.data.eval == ()
    assert recipe.train.epochs is None and recipe.train.tokens_per_step == 4096


def test_null_is_the_same_as_absent():
    keys = {"adapter": None, "train": None, "schedule": None, "use": None}
    assert Recipe.of(model="nano", data="a", **keys).plain() == Recipe.of(model="nano", data="a").plain()
    assert Recipe.of(model="nano", data="a", evaluate=None).evaluate == ()


def test_objects_stand_where_options_may():
    method = adapters.LoRA(rank=2)
    assert Recipe.of(model="nano", data="a", adapter=method).adapter is method
    with pytest.raises(BadInput, match="'adamw' is a method of kind optimizer, not adapter"):
        Recipe.of(model="nano", data="a", adapter=optimizers.AdamW())


def test_options_under_data_hold_for_every_source_and_yield_to_its_own():
    data = {"train": ["a", {"path": "b", "train_on": "all"}], "eval": "c", "train_on": "last_turn", "limit": 3}
    recipe = Recipe.of(model="nano", data=data)
    assert [source.train_on for source in recipe.data.sources] == ["last_turn", "all"]
    assert [source.limit for source in (*recipe.data.sources, *recipe.data.eval)] == [3, 3, 3]


def test_words_of_labels_are_text():
    data = {"train": "a", "labels": {0: "no", 2: 5, True: False}}
    assert Recipe.of(model="nano", data=data).data.labels == {"0": "no", "2": "5", "true": "false"}


def test_yaml_words_reach_options_of_truth(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: nano\ndata: a\ntrain: {rehearsal: false, activation_checkpointing: true}\n")
    train = Recipe.read(path).train
    assert train.rehearsal is False and train.activation_checkpointing is True


@pytest.mark.parametrize("name", RECIPES)
def test_the_resolved_recipe_is_a_recipe_and_resolves_to_itself(name, tmp_path):
    recipe = Recipe.of(**RECIPES[name])
    plain = recipe.plain()
    for again in (Recipe.of(**json.loads(json.dumps(plain))), _through_file(plain, tmp_path)):
        assert again.plain() == plain
        assert again.train == recipe.train and again.data == recipe.data and again.adapter == recipe.adapter


@pytest.mark.parametrize(
    ("change", "look"),
    [
        ("adapter.rank=8", lambda r: r.adapter.rank == 8),
        ("adapter=full", lambda r: r.adapter.name == "full"),
        ("optimizer={method: sgd, lr: 1e-2}", lambda r: (r.optimizer.name, r.optimizer.lr) == ("sgd", 0.01)),
        ("data.train=b.jsonl", lambda r: r.data.sources[0].path == "b.jsonl"),
        ("data.max_length=32", lambda r: r.data.max_length == 32),
        ("evaluate=[]", lambda r: r.evaluate == ()),
        ("train.clip=null", lambda r: r.train.clip is None),
    ],
)
def test_changes_reach_the_recipe(change, look, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: nano\ndata: a.jsonl\nadapter: lora\n")
    assert look(Recipe.read(path, [change]))


@pytest.mark.parametrize(
    ("change", "look"),
    [
        ("data.format.k=2", lambda r: r.data.sources[0].format.k == 2),
        ("data.train.0.limit=3", lambda r: (r.data.sources[0].path, r.data.sources[0].limit) == ("a.jsonl", 3)),
        ("data.order.share=0.5", lambda r: r.data.order.share == 0.5),
        ("model.quantize.bits=3", lambda r: r.model.quantize.bits == 3),
    ],
)
def test_options_of_what_a_bare_word_names(change, look):
    data = {"train": ["a.jsonl"], "format": "sift_sequence_labeling", "order": "domain_upsampling"}
    document = Document({"model": {"path": "m", "quantize": "lorc"}, "data": data})
    assert look(Recipe._resolved(document.changed([change])))


def _through_file(plain, folder):
    path = folder / "recipe.yaml"
    path.write_text(as_yaml(plain))
    return Recipe.read(path)

"""Recipes that cannot be used: one message with file, line, field, what was found and what was expected."""

import json

import pytest

from tunewright.errors import BadInput
from tunewright.recipe import Recipe

HEAD = "model: nano\ndata: rows.jsonl\n"

CASES = {
    "unknown key": (HEAD + "modle: x\n", 3, "modle", "unknown key. Did you mean 'model'?"),
    "unknown key, nothing near": (HEAD + "zzz: x\n", 3, "zzz", "Known: model, data,"),
    "a number as key": (HEAD + "3: x\n", 3, "3", "unknown key"),
    "unknown key of a section": (HEAD + "train:\n  seed: 1\n  epoch: 2\n", 5, "train.epoch", "Did you mean 'epochs'?"),
    "unknown key of a method": (HEAD + "adapter:\n  method: lora\n  rnk: 4\n", 5, "adapter.rnk", "Did you mean 'rank'?"),
    "unknown key of data": ("model: nano\ndata:\n  trian: a\n", 2, "data", "Hint|Add 'train: FILE'"),
    "unknown key beside train": (
        "model: nano\ndata:\n  train: a\n  evl: b\n", 4, "data.evl", "Did you mean 'eval'?"
    ),
    "unknown key of a source": (
        "model: nano\ndata:\n  train:\n    - path: a\n      wieght: 2\n", 5, "data.train.0.wieght", "Did you mean 'weight'?"
    ),
    "unknown key deep inside": (
        "model:\n  path: nano\n  add_tokens:\n    tokenz: [x]\ndata: a\n", 4, "model.add_tokens.tokenz", "'tokens'"
    ),
    "unknown method": (HEAD + "adapter: lroa\n", 3, "adapter", "no adapter is called 'lroa'. Did you mean 'lora'?"),
    "unknown method in options": (
        HEAD + "optimizer:\n  lr: 1.0\n  method: adam\n", 5, "optimizer.method", "Did you mean 'adamw'?"
    ),
    "unknown task": (HEAD + "evaluate:\n  - perplexity\n  - exact_mach\n", 5, "evaluate.1", "'exact_match'"),
    "options without a method": (HEAD + "adapter: {rank: 4}\n", 3, "adapter", "options with 'method: NAME'"),
    "empty options": (HEAD + "adapter: {}\n", 3, "adapter", "names no adapter"),
    "no method at all": (HEAD + "adapter: false\n", 3, "adapter", "names no adapter"),
    "a list of methods": (HEAD + "objective: [sft]\n", 3, "objective", "names no objective"),
    "missing model": ("data: a\n", None, None, "the recipe has no 'model'. Add a line 'model: ...'"),
    "missing data": ("model: nano\n", None, None, "the recipe has no 'data'"),
    "data null": ("model: nano\ndata:\n", None, None, "the recipe has no 'data'"),
    "data a number": ("model: nano\ndata: 5\n", 2, "data", "not a source"),
    "data empty": ("model: nano\ndata: []\n", 2, "data", "names no training rows"),
    "train a number": ("model: nano\ndata:\n  train: 5\n", 3, "data.train", "not a source"),
    "eval true": ("model: nano\ndata:\n  train: a\n  eval: true\n", 4, "data.eval", "not a source"),
    "source a number": ("model: nano\ndata: [a, 5]\n", 2, "data.sources.1", "not a source"),
    "source without a path": ("model: nano\ndata:\n  train:\n    - weight: 2\n", 4, "data.train.0", "lacks 'path'"),
    "train and sources": (
        "model: nano\ndata:\n  train: a\n  sources: [b]\n", 2, "data", "names both 'train' and 'sources'"
    ),
    "weight and epochs": (
        "model: nano\ndata:\n  train: [{path: a, weight: 1, epochs: 2}]\n", 3, "data.train.0", "Give one of them"
    ),
    "split with eval": (
        "model: nano\ndata:\n  train: a\n  eval: b\n  split: 0.2\n", 5, "data.split", "only when no eval data"
    ),
    "wrong format, set for all": (
        "model: nano\ndata:\n  train: a\n  format: jsonl\n", 4, "data.format", "found 'jsonl', expected 'auto'"
    ),
    "labels a list": ("model: nano\ndata:\n  train: a\n  labels: [x]\n", 4, "data.labels", "a valid dictionary"),
    "model a number": ("model: 7\ndata: a\n", 1, "model", "not a set of options; found 7"),
    "model without path": ("model: {revison: x}\ndata: a\n", 1, "model.revison", "Did you mean 'revision'?"),
    "train a word": (HEAD + "train: fast\n", 3, "train", "found 'fast', expected options"),
    "train an empty list": (HEAD + "train: []\n", 3, "train", "expected options"),
    "a word for a number": (HEAD + "train:\n  steps: many\n", 4, "train.steps", "found 'many', expected a valid integer"),
    "a fraction for an integer": (HEAD + "train: {steps: 2.5}\n", 3, "train.steps", "found 2.5, expected"),
    "a truth value for a number": (HEAD + "adapter: {method: lora, rank: true}\n", 3, "adapter.rank", "found True"),
    "a list for a number": (HEAD + "optimizer: {method: adamw, lr: [1]}\n", 3, "optimizer.lr", "found [1]"),
    "zero rank": (HEAD + "adapter: {method: lora, rank: 0}\n", 3, "adapter.rank", "found 0, expected greater than"),
    "zero rank of a layer": (
        HEAD + "adapter: {method: lora, ranks: {down_proj: 0}}\n", 3, "adapter.ranks.down_proj", "found 0"
    ),
    "negative rate": (HEAD + "optimizer: {method: adamw, lr: -1}\n", 3, "optimizer.lr", "greater than 0"),
    "negative factor on a rate": (
        HEAD + "optimizer: {method: adamw, rates: {'*.up': -1}}\n", 3, "optimizer.rates.*.up", "found -1"
    ),
    "dropout of one": (HEAD + "adapter: {method: lora, dropout: 1.0}\n", 3, "adapter.dropout", "less than 1"),
    "not finite": (HEAD + "optimizer: {method: adamw, lr: .inf}\n", 3, "optimizer.lr", "a finite number"),
    "a word for infinity": (HEAD + "optimizer: {method: adamw, lr: inf}\n", 3, "optimizer.lr", "finite number"),
    "a seed too large": (HEAD + "train: {seed: 99999999999999}\n", 3, "train.seed", "found 99999999999999"),
    "negative seed": (HEAD + "train: {seed: -1}\n", 3, "train.seed", "greater than or equal to 0"),
    "unknown precision": (HEAD + "train: {precision: fp16}\n", 3, "train.precision", "found 'fp16'"),
    "two budgets": (HEAD + "train: {epochs: 1, steps: 5}\n", 3, "train", "epochs and steps are each the length"),
    "early stop without evaluations": (
        HEAD + "train:\n  early_stop: {patience: 2}\n", 3, "train", "early_stop needs evaluate_every"
    ),
    "keep best without evaluations": (
        HEAD + "train:\n  keep_best: perplexity\n", 3, "train", "keep_best needs evaluate_every"
    ),
    "unknown tracker": (HEAD + "train: {trackers: [tensorbord]}\n", 3, "train.trackers.0", "found 'tensorbord'"),
    "evaluate a word": (HEAD + "evaluate: perplexity\n", 3, "evaluate", "a list, as [perplexity]"),
    "evaluate a number inside": (HEAD + "evaluate: [3]\n", 3, "evaluate.0", "names no task"),
    "use a number": (HEAD + "use: 3\n", 3, "use", "a list of paths"),
    "use an absent file": (HEAD + "use: [absent.py]\n", 3, "use", "no such file or directory"),
    "a kind's name for another": (HEAD + "schedule: lora\n", 3, "schedule", "no schedule is called 'lora'"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_bad_recipe_is_refused_with_its_place(case, tmp_path):
    text, line, field, says = CASES[case]
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        Recipe.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: "), message
    assert field is None or f"field '{field}': " in message, message
    assert any(part in message for part in says.split("|")), message
    assert "\n" not in message and caught.value.status == 2


def test_json_has_lines_too(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"model": "nano", "data": "a", "train": {"sed": 1}}, indent=1))
    with pytest.raises(BadInput, match=rf"^{path}:5: field 'train\.sed': unknown key\. Did you mean 'seed'\?"):
        Recipe.read(path)


def test_a_recipe_in_python_names_the_field_alone():
    with pytest.raises(BadInput, match=r"^field 'adapter\.rank': not usable; found 0"):
        Recipe.of(model="nano", data="a", adapter={"method": "lora", "rank": 0})


def test_a_change_is_checked_like_the_rest(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(HEAD)
    with pytest.raises(BadInput, match=r"field 'train\.sede': unknown key\. Did you mean 'seed'\?"):
        Recipe.read(path, ["train.sede=1"])

"""From a recipe's data to a subject: held-out rows, a task's own rows, examples for few-shot prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluate_models import policy, tokenizer

from tunewright.data.prepare import Prepared, prepare
from tunewright.errors import BadInput
from tunewright.evaluate.base import Subject
from tunewright.evaluate.measure import measure, with_shots
from tunewright.evaluate.rows import OwnRows, examples, sampled, subject
from tunewright.recipe import Recipe


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def made(folder: Path, evaluate: list[Any], **data: Any) -> tuple[Recipe, Prepared, Subject]:
    train = write(folder / "train.jsonl", [{"text": f"w{40 + n} w41", "label": n % 2} for n in range(40)])
    held = write(folder / "eval.jsonl", [{"text": f"w{50 + n} w42", "label": n % 2} for n in range(12)])
    given = {"train": train, "eval": held, "labels": {"0": "negative", "1": "positive"}, "prompt": "{text} Label :"}
    recipe = Recipe.of(model="nano", data={**given, "cache": False, **data}, evaluate=evaluate)
    prepared = prepare(recipe, own := tokenizer())
    return recipe, prepared, subject(policy(), own, prepared, recipe)


def test_held_out_rows(tmp_path: Path) -> None:
    recipe, _, found = made(tmp_path, ["perplexity", "classification"])
    assert len(found.rows) == 12 and found.stop == {2} and found.embedded
    loss, accuracy = measure(found, recipe.evaluate, automatic=False)
    assert len(loss.values) == len(accuracy.values) == 12 and set(accuracy.references) == {"negative", "positive"}
    assert set(loss.groups) == {"eval.jsonl"}
    assert loss.weights.tolist() == [2.0] * 12


def test_own_rows_follow_the_training_data(tmp_path: Path) -> None:
    own = write(tmp_path / "own.jsonl", [{"text": f"w{60 + n}", "label": n % 2} for n in range(5)])
    recipe, _, found = made(tmp_path, [{"task": "classification", "data": own}])
    [scores] = measure(found, recipe.evaluate, automatic=False)
    assert scores.ids == [f"{own}:{n}" for n in range(1, 6)] and scores.prompts[0] == "w60 Label :"


def test_own_rows_with_options_of_their_own(tmp_path: Path) -> None:
    rows = [{"body": f"w{60 + n}", "kind": "ab"[n % 2]} for n in range(4)]
    own = write(tmp_path / "own.jsonl", rows)
    listed = {
        "task": "classification", "data": own, "fields": {"text": "body", "label": "kind"},
        "labels": {"a": "neutral", "b": "positive"},
    }  # fmt: skip
    recipe, _, found = made(tmp_path, [listed])
    [scores] = measure(found, recipe.evaluate, automatic=False)
    assert set(scores.references) == {"neutral", "positive"}


def test_retention_text_is_read_as_text(tmp_path: Path) -> None:
    own = write(tmp_path / "known.jsonl", [{"text": "w60 w61 w62"}, {"text": "w63"}])
    fields = {"fields": {"text": "text", "label": "label"}}
    recipe, _, found = made(tmp_path, [{"task": "retention", "data": own}], **fields)
    [scores] = measure(found, recipe.evaluate, automatic=False)
    assert scores.weights.tolist() == [3.0, 1.0]


def test_faulty_own_rows_name_their_line(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"text": "w1", "label": 0}\n{"text": 1')
    recipe, _, found = made(tmp_path, [{"task": "classification", "data": str(tmp_path / "own.jsonl")}])
    with pytest.raises(BadInput, match=r"own.jsonl:2: not valid JSON"):
        measure(found, recipe.evaluate)


def test_a_file_is_read_once(tmp_path: Path) -> None:
    own = write(tmp_path / "own.jsonl", [{"text": "w1", "label": 0}])
    recipe, *_ = made(tmp_path, [])
    read = OwnRows(tokenizer(), recipe)
    assert read({"path": own}) is read({"path": own}) is not read({"path": own}, False)


def test_examples_are_training_records(tmp_path: Path) -> None:
    recipe, prepared, found = made(tmp_path, [{"task": "exact_match", "shots": 3, "max_new_tokens": 2}])
    assert [record.line for record in found.examples] == [1, 2, 3]
    assert {record.turns[0].content.split()[0] for record in found.examples} == {"w40", "w41", "w42"}
    held = {record.where for record in prepared.eval_records}
    assert not held & {record.where for record in examples(recipe, prepared)}
    [few] = with_shots(found, recipe.evaluate)
    assert few.details["shots"] == 3 and len(few.values) == 12


def test_demonstrations_come_from_all_of_the_training_rows(tmp_path: Path) -> None:
    """A file sorted by class would otherwise show one class alone."""
    recipe, prepared, _ = made(tmp_path, ["perplexity"])
    every = [record.where for record in examples(recipe, prepared)]
    drawn = [record.where for record in sampled(examples(recipe, prepared), 10)]
    assert len(drawn) == len(set(drawn)) == 10 and set(drawn) <= set(every)
    assert drawn == [record.where for record in sampled(examples(recipe, prepared), 10)]
    assert max(every.index(where) for where in drawn) > 20
    assert len(sampled(examples(recipe, prepared), 100)) == len(every)

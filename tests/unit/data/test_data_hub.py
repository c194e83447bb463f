"""A data set of the hub: its configurations and splits, by a folder that stands in for its repository."""

from __future__ import annotations

import json

import datasets
import pytest

from tunewright import network
from tunewright.data.prepare import prepare
from tunewright.errors import BadInput
from tunewright.recipe import Recipe

CARD = """---
configs:
- {config_name: first, default: true, data_files: [{split: train, path: first.jsonl}, {split: test, path: other.jsonl}]}
- {config_name: second, data_files: [{split: train, path: second.jsonl}]}
---
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """`owner/set` with the configurations `first` (train and test) and `second`."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "README.md").write_text(CARD)
    for name in ("first", "second", "other"):
        rows = [{"text": f"{name} row {n}"} for n in range(20)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    load = datasets.load_dataset
    monkeypatch.setattr(network, "_reachable", lambda endpoint: True)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda path, name: load(str(folder), name=name, cache_dir=str(tmp_path / "cache"))
    )


@pytest.mark.parametrize(
    ("options", "word"), [({}, "first"), ({"subset": "second"}, "second"), ({"part": "test"}, "other")]
)
def test_subset_and_part_choose_the_rows(options, word, repository, recipe, tokenizer):
    found = prepare(recipe(train={"path": "owner/set", **options}), tokenizer, 64)
    assert len(found.train) + len(found.eval) == 20
    assert {record.answer.split()[0] for record in found.eval_records} == {word}
    assert tokenizer.decode(found.train.ids[: found.train.starts[1]]).startswith(word)


def test_a_subset_that_is_not_there(repository, recipe, tokenizer):
    with pytest.raises(BadInput, match=r"'third' not found.*first.*second"):
        prepare(recipe(train={"path": "owner/set", "subset": "third"}), tokenizer, 64)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ("owner/other", "no data set of the hub"),
        ("{path: nano:arithmetic/train}", "Add 'limit: 2000'"),
        ("{path: nano:arithmetics/train, limit: 3}", "Did you mean 'arithmetic/train'"),
    ],
)
def test_what_cannot_be_read_names_the_line_of_the_recipe(train, told, tmp_path, tokenizer, monkeypatch):
    def fail(path, name):
        raise ConnectionError("no network")

    monkeypatch.setattr(network, "_reachable", lambda endpoint: True)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    file = tmp_path / "recipe.yaml"
    file.write_text(f"model: nano\ndata:\n  train: {train}\n")
    with pytest.raises(BadInput, match=rf"recipe.yaml:3: field 'data.train'.*{told}"):
        prepare(Recipe.read(file), tokenizer, 64)

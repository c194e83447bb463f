"""Further numbers of the rows reach the methods that ask for them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tunewright.data.batches import collate
from tunewright.data.check import check
from tunewright.data.prepare import prepare
from tunewright.errors import BadInput
from tunewright.objectives.supervised.sft import SFT
from tunewright.recipe import Recipe


class Wants(SFT):
    """The same loss, asking for columns."""

    wanted: tuple[str, ...] = ("confidence",)

    @property
    def columns(self):
        return frozenset(self.wanted)


def made(path, *wanted, cache=False, **data):
    return Recipe.of(model="unused", data={"train": str(path), "cache": cache, **data}, objective=Wants(wanted=wanted))


def rows(n=20, **columns):
    return [{"text": f"row {k} of them", **{name: value(k) for name, value in columns.items()}} for k in range(n)]


def test_numbers_of_a_row_are_columns_of_the_table_and_of_batches(write, tokenizer):
    path = write("a.jsonl", rows(confidence=lambda k: k / 8, group=lambda k: 2**40 + k, other=lambda k: k))
    table = prepare(made(path, "confidence", "group", "source"), tokenizer).train
    lines = table.columns["line"] - 1
    assert table.columns["confidence"].tolist() == [k / 8 for k in lines]
    assert table.columns["group"].dtype == np.int64
    assert table.columns["group"].tolist() == [2**40 + k for k in lines]
    assert set(table.columns) == {"source", "file", "line", "prompt", "confidence", "group"}
    batch = collate(table, [2, 0])
    assert batch.columns["confidence"].tolist() == [lines[2] / 8, lines[0] / 8]
    assert batch.columns["group"].tolist() == [2**40 + lines[2], 2**40 + lines[0]]


def test_lists_of_numbers_are_columns_per_token_cut_as_the_tokens_are(write, tokenizer):
    plain = prepare(made(write("plain.jsonl", rows())), tokenizer)
    lengths = {plain.train.columns["line"][i]: n for i, n in enumerate(plain.train.lengths)}
    given = rows(old=lambda k: [k + t / 64 for t in range(int(lengths.get(k + 1, 1)))])
    path = write("a.jsonl", [row for k, row in enumerate(given) if k + 1 in lengths])
    shorter = int(min(lengths.values())) - 2
    recipe = made(path, "old", max_length=shorter, truncation="left", max_lost=1.0)
    table = prepare(recipe, tokenizer).train
    for index in range(len(table)):
        own = table.token_columns["old"][table.starts[index] : table.starts[index + 1]]
        row = json.loads(path.read_text().splitlines()[table.columns["line"][index] - 1])
        assert own.tolist() == row["old"][-shorter:]
    batch = collate(table, [0, 1], packed=True)
    assert batch.token_columns["old"][0].tolist() == table.token_columns["old"][: 2 * shorter].tolist()


def test_text_files_hold_numbers_as_text(write, tokenizer):
    path = write("a.csv", "text,confidence\n" + "".join(f"row {k} here,{k / 4}\n" for k in range(20)))
    table = prepare(made(path, "confidence"), tokenizer).train
    assert table.columns["confidence"].tolist() == [(k - 2) / 4 for k in table.columns["line"]]


WANTED = "the column that the objective 'sft' wants is"
FAULTY = {
    "missing": ({}, f"{WANTED} missing; found a row with no further columns"),
    "another name": ({"confidance": 1}, "Did you mean 'confidance'"),
    "null": ({"confidence": None}, f"{WANTED} missing"),
    "text": ({"confidence": "high"}, f"{WANTED} not usable; found 'high', expected a finite number"),
    "true": ({"confidence": True}, f"{WANTED} not usable"),
    "not finite": ({"confidence": float("nan")}, f"{WANTED} not usable"),
    "too large to keep": ({"confidence": 2**60}, f"{WANTED} not usable"),
    "a list where others are numbers": ({"confidence": [1.0]}, "expected a number, as in the first row"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_faulty_column_names_row_column_and_method(case, write, tokenizer):
    more, expected = FAULTY[case]
    good = rows(confidence=lambda k: 0.5)
    path = write("a.jsonl", [*good, {"text": "the last row", **more}])
    recipe = made(path, "confidence", eval=str(write("e.jsonl", [{"text": "held out, with no column"}])))
    with pytest.raises(BadInput) as fault:
        prepare(recipe, tokenizer)
    assert expected in str(fault.value)
    assert str(fault.value).startswith(f"{path}:21: field 'confidence': ")
    report = check(recipe, tokenizer)
    assert report.faulty == 1
    assert expected in str(report)


def test_list_of_another_length_than_the_tokens(write, tokenizer):
    with pytest.raises(BadInput, match=r"expected a list of \d+ numbers, one per token"):
        prepare(made(write("a.jsonl", rows(confidence=lambda k: [0.0])), "confidence"), tokenizer)


def test_evaluation_rows_need_no_columns(write, tokenizer):
    path = write("a.jsonl", rows(confidence=lambda k: 0.5))
    held = str(write("e.jsonl", [{"text": "held out"}]))
    found = prepare(made(path, "confidence", eval=held), tokenizer)
    assert "confidence" in found.train.columns
    assert "confidence" not in found.eval.columns


def test_kept_data_is_not_taken_for_other_columns(write, tokenizer, tmp_path):
    path = write("a.jsonl", rows(confidence=lambda k: 0.5, group=lambda k: k))
    for wanted in (("confidence",), ("group",), ("group", "confidence")):
        assert not prepare(made(path, *wanted, cache=True), tokenizer, cache_dir=tmp_path / "kept").reused
    again = prepare(made(path, "confidence", "group", cache=True), tokenizer, cache_dir=tmp_path / "kept")
    assert again.reused
    assert again.train.columns["group"].dtype == np.int64

"""Which answers of a row become sequences, as the objectives ask."""

import numpy as np
import pytest

from tunewright.data.prepare import prepare
from tunewright.errors import BadInput
from tunewright.objectives import DPO, KTO
from tunewright.recipe import Recipe

PAIRS = [{"prompt": f"say {k}: ", "chosen": f"{k} it is", "rejected": f"not {k}"} for k in range(600)]
JUDGED = [{"prompt": f"say {k}: ", "completion": f"{k} it is", "label": k % 3 == 0} for k in range(600)]


def table_of(path, objective, tokenizer):
    data = {"train": [{"path": str(path), "split": 0.1}], "cache": False}
    return prepare(Recipe.of(model="unused", data=data, objective=objective), tokenizer).train


def texts(table, tokenizer):
    return [tokenizer.decode(table.ids[a:b]) for a, b in zip(table.starts, table.starts[1:], strict=False)]


def number(text):
    return int("".join(filter(str.isdigit, text)))


def test_pairs_stand_side_by_side(write, tokenizer):
    table = table_of(write("pairs.jsonl", PAIRS), DPO(), tokenizer)
    found = texts(table, tokenizer)
    assert table.together == 2 and table.columns["chosen"].tolist() == [1, 0] * (len(table) // 2)
    assert np.array_equal(table.columns["line"][::2], table.columns["line"][1::2])
    for better, worse, line in zip(found[::2], found[1::2], table.columns["line"][::2], strict=True):
        assert f"{line - 1} it is" in better and f"not {line - 1}" in worse


def test_each_judged_answer_is_followed_by_its_prompt_with_another_rows_answer(write, tokenizer):
    table = table_of(write("judged.jsonl", JUDGED), KTO(), tokenizer)
    found, lines = texts(table, tokenizer), table.columns["line"]
    assert len(table) > 1024  # more than is tokenised at once
    assert table.columns["mismatched"].tolist() == [0, 1] * (len(table) // 2)
    assert table.columns["label"].tolist() == [float((line - 1) % 3 == 0) for line in lines]
    for own, strange in zip(found[::2], found[1::2], strict=True):
        prompt, _, answer = own.partition(":")
        assert strange.startswith(prompt) and number(answer) == number(prompt)
        assert number(strange.partition(":")[2]) != number(prompt)


def test_rows_that_were_not_judged_are_refused(write, tokenizer):
    with pytest.raises(BadInput, match="was not judged"):
        table_of(
            write("plain.jsonl", [{"prompt": f"say {k}", "completion": "it"} for k in range(30)]), KTO(), tokenizer
        )

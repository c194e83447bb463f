"""What a user is shown before a run: faulty rows, and examples token by token."""

from __future__ import annotations

import io
import json

import pytest
from data_samples import STRICT, UNMARKED, wrapped
from rich.console import Console

from tunewright.data.check import SHOWN, check
from tunewright.data.prepare import prepare
from tunewright.data.preview import preview
from tunewright.errors import BadInput

ROWS = [{"prompt": f"question {i}", "completion": f" answer {i}"} for i in range(30)]


def printed(renderable):
    console = Console(file=io.StringIO(), width=400, force_terminal=True)
    console.print(renderable)
    return console.file.getvalue()


def test_check_of_good_rows(write, recipe):
    found = check(recipe(train=str(write("a.jsonl", ROWS)), eval=str(write("e.jsonl", ROWS[:3]))))
    assert found.ok
    assert str(found).splitlines() == [
        "a.jsonl (train): prompt and completion; 30 rows, all fine",
        "e.jsonl (eval): prompt and completion; 3 rows, all fine",
    ]


def test_check_collects_all_faults(write, recipe):
    lines = [json.dumps(row) for row in ROWS]
    lines[2], lines[5], lines[9] = "{broken", json.dumps({"prompt": "x"}), json.dumps({"text": "y"})
    path = write("a.jsonl", "\n".join(lines))
    found = check(recipe(train=str(path)))
    assert (found.faulty, found.sources[0].rows) == (3, 27)
    told = str(found)
    assert f"{path}:3: not valid JSON" in told
    assert f"{path}:6: field 'completion': missing" in told
    assert "the row: {'prompt': 'x'}" in told
    assert f"{path}:10: the file mixes formats" in told


def test_check_counts_what_it_does_not_show(write, recipe):
    path = write("a.jsonl", [*ROWS[:1], *({"prompt": "x"} for _ in range(50))])
    found = check(recipe(train=str(path)))
    assert found.faulty == 50
    assert len(found.sources[0].shown) == SHOWN
    assert "and 30 more" in str(found)
    assert "50 x field 'completion': missing" in str(found)


def test_check_reads_the_rows_that_tasks_name(write):
    from tunewright.recipe import Recipe

    rows, own = write("a.jsonl", ROWS), write("test.jsonl", [*ROWS[:4], {"prompt": "x"}])
    tasks = [{"task": "exact_match", "data": str(own)}, {"task": "rouge_l", "data": str(own)}, "perplexity"]
    found = check(Recipe.of(model="unused", data={"cache": False, "train": str(rows)}, evaluate=tasks))
    assert [(one.name, one.faulty) for one in found.sources] == [("a.jsonl", 0), ("test.jsonl", 1)]
    assert f"{own}:5: field 'completion': missing" in str(found)


def test_check_goes_on_with_the_next_source(write, recipe):
    found = check(recipe(sources=["missing.jsonl", str(write("a.jsonl", ROWS))]))
    assert [source.faulty for source in found.sources] == [1, 0]
    assert "no such file" in str(found)


def test_check_renders_rows_where_a_tokenizer_is_at_hand(write, recipe, byte_level):
    talk = {"messages": [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]}
    path = write("a.jsonl", [talk])
    assert check(recipe(train=str(path))).ok
    assert "roles must alternate" in str(check(recipe(train=str(path)), wrapped(byte_level, STRICT)))


def too_long(write):
    return {"train": str(write("a.jsonl", [{"text": f"{i} " + "word " * 600} for i in range(5)]))}


REFUSED = {
    "a single row": (lambda write: {"train": str(write("a.jsonl", ROWS[:1]))}, {}, "no row is left held out"),
    "rows over the limit": (too_long, {"context": 16}, "rows are longer than 16 tokens"),
    "all held out": (
        lambda write: {"train": str(write("a.jsonl", ROWS)), "eval": str(write("e.jsonl", ROWS))}, {},
        "30 rows stand in the evaluation data too",
    ),
    "unknown tokens": (lambda write: {"train": str(write("a.jsonl", ROWS))}, {"vocabulary": 10}, "ids below 10"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_check_and_preview_tell_what_a_run_refuses(case, write, recipe, tokenizer):
    data, model, expected = REFUSED[case]
    made = recipe(**data(write))
    with pytest.raises(BadInput, match=expected):
        prepare(made, tokenizer, **model)
    report = check(made, tokenizer, **model)
    assert (report.ok, report.faulty) == (False, 0)
    assert expected in str(report)
    assert any(expected in told for told in report.plain()["refused"])
    assert expected in preview(made, tokenizer, plain=True, **model)


def test_check_tells_a_limit_beyond_the_models_context(write, recipe, tokenizer):
    report = check(recipe(train=str(write("a.jsonl", ROWS)), max_length=99), tokenizer, 50)
    assert not report.ok
    assert "longer than the model's context" in str(report)


def test_preview_as_text(write, recipe, byte_level):
    shown = preview(
        recipe(train=str(write("a.jsonl", ROWS))), wrapped(byte_level, UNMARKED), n=2, plain=True, context=512
    )
    assert "a.jsonl:1: " in shown
    assert "a.jsonl:2: " in shown
    assert "a.jsonl:3: " not in shown
    first = shown.split("\n\n")[0].splitlines()
    assert first[1].startswith("  0    |<|im_start|>|")
    assert first[2].startswith("  1    |")
    assert first[2].endswith("|<|im_end|>|")
    assert "with loss (" in first[0]
    assert "held out" in shown
    assert "special tokens per row: <|im_end|> 2.00, <|im_start|> 2.00" in shown
    assert "warning: answers end with <|im_end|>" in shown
    assert "template: the tokenizer's own chat template" in shown


def test_preview_in_colour_shows_the_same_tokens(write, recipe, tokenizer):
    made = recipe(
        train=str(write("a.jsonl", [{**row, "weight": w} for row, w in zip(ROWS, [0.5, 2.0] * 15, strict=True)]))
    )
    shown = printed(preview(made, tokenizer, n=2, context=512))
    assert "</s>" in shown
    for code in ("\x1b[1;33", "\x1b[1;35", "\x1b[1;90"):
        assert code in shown


def test_preview_tells_of_lost_rows_instead_of_stopping(write, recipe, tokenizer):
    path = write("a.jsonl", [{"text": f"{i} " + "word " * 600} for i in range(5)])
    shown = preview(recipe(train=str(path)), tokenizer, n=1, plain=True, context=16)
    assert "dropped, longer than 16" in shown
    assert "tokens ..." in shown
    assert "none of the" in shown
    shown = preview(recipe(train=str(path), truncation="right"), tokenizer, n=1, plain=True, context=16)
    assert "16 tokens, 15 with loss (94%); cut (right) from" in shown

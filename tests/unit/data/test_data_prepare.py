"""The account of every row: split, duplicates, overlap, length, cache; and the tables that come out."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from dataclasses import asdict

import numpy as np
import pytest
from data_processes import ask
from data_samples import UNMARKED, wrapped

from tunewright.data import duplicates
from tunewright.data.cache import packed, unpacked
from tunewright.data.lengths import shortened
from tunewright.data.prepare import prepare
from tunewright.data.records import Record, Turn
from tunewright.data.table import Table, TableWriter
from tunewright.data.templates import Rendered, Renderer
from tunewright.recipe import Recipe


def rows(count, start=0):
    return [{"prompt": f"question {i}", "completion": f" answer {i}"} for i in range(start, start + count)]


def balanced(report):
    parts = (
        report.kept,
        report.dropped,
        report.empty,
        report.duplicates,
        report.overlap,
        report.left_out,
        report.held_out,
    )
    return report.rows == sum(parts)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("right", [0, 1, 2, 3, 4]),
        ("left", [0, 6, 7, 8, 9]),
        ("middle", [0, 1, 2, 8, 9]),
        ("drop", None),
        ("error", None),
        (None, None),
    ],
)
def test_truncation(policy, kept):
    whole = Rendered(list(range(10)), [0.0] + [1.0] * 9)
    cut = shortened(whole, 5, policy, opening=[0])
    assert (cut.ids if cut else None) == kept
    assert cut is None or cut.weights == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert shortened(whole, 10, policy) is whole
    assert shortened(whole, None, policy) is whole


def test_left_without_an_opening_trains_no_first_token():
    cut = shortened(Rendered(list(range(10)), [0.0] + [1.0] * 9), 4, "left")
    assert (cut.ids, cut.weights) == ([6, 7, 8, 9], [0.0, 1.0, 1.0, 1.0])


def test_counts_of_lost_rows(write, recipe, tokenizer):
    short, held = rows(40), rows(4, start=100)
    long_answer = {"prompt": "q", "completion": " word" * 40}
    long_prompt = {"prompt": "word " * 40, "completion": " a"}
    path, other = write("train.jsonl", [*short, long_answer, long_prompt]), write("eval.jsonl", held)
    renderer = Renderer(tokenizer, recipe(train=str(path)).data.sources[0])
    sizes = [
        len(renderer.render(Record((Turn("user", r["prompt"]), Turn("assistant", r["completion"])), "completion")).ids)
        for r in (long_answer, long_prompt)
    ]

    def report(**options):
        made = prepare(recipe(train=str(path), eval=str(other), max_length=30, **options), tokenizer, 512)
        assert balanced(made.sources[0])
        return made.sources[0]

    dropped = report()
    assert (dropped.kept, dropped.dropped, dropped.answers_lost, dropped.cut) == (40, 2, 2, 0)
    assert dropped.tokens_lost == sum(sizes)
    cut = report(truncation="right")
    assert (cut.kept, cut.dropped, cut.answers_lost, cut.cut) == (41, 1, 1, 1)
    assert cut.tokens_lost == sizes[0] - 30 + sizes[1]
    assert (cut.cut_answers, cut.long_prompts, cut.ends) == (1, 1, 40)
    left = report(truncation="left")
    assert (left.kept, left.dropped, left.cut, left.tokens_lost) == (42, 0, 2, sum(sizes) - 60)


def test_tables_hold_what_the_renderer_says(write, recipe, templated):
    path = write("train.jsonl", rows(30))
    made = prepare(recipe(train=str(path)), templated(UNMARKED), 512)
    renderer = made.renderers[0]
    for index, record in enumerate(made.eval_records):
        span = slice(made.eval.starts[index], made.eval.starts[index + 1])
        rendered = renderer.render(record)
        assert made.eval.ids[span].tolist() == rendered.ids
        assert made.eval.weights[span].tolist() == rendered.weights
        assert made.eval.columns["prompt"][index] == rendered.prompt_length
        assert made.eval.where(index) == record.where
    report = made.sources[0]
    assert report.tokens == len(made.train.ids)
    assert report.trained_tokens == np.count_nonzero(made.train.weights)
    assert report.format == "prompt and completion"
    assert report.template == "the tokenizer's own chat template"
    assert made.hashes[str(path)] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_split_depends_on_the_prompt_alone(write, recipe, tokenizer):
    def held(listed, **options):
        made = prepare(recipe(train=str(write("train.jsonl", listed)), **options), tokenizer, 512)
        assert all(balanced(report) for report in made.sources)
        return {record.turns[0].content for record in made.eval_records}

    many = rows(1000)
    first = held(many)
    assert 70 < len(first) < 130
    assert held(many[::-1]) == first
    assert held([{**row, "completion": " other"} for row in many]) == first
    assert held(many + rows(500, start=5000)) > first
    assert first < held(many, split=0.3)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
@pytest.mark.parametrize("split", [0.001, 0.1, 0.5, 0.999])
def test_small_sources_keep_a_row_on_each_side(count, split, write, recipe, tokenizer):
    made = prepare(recipe(train=str(write("train.jsonl", rows(count))), split=split), tokenizer, 512)
    assert len(made.train) + len(made.eval) == count
    assert min(len(made.train), len(made.eval)) >= 1


def test_the_same_question_stays_on_one_side(write, recipe, tokenizer):
    listed = [{**row, "completion": f" {n}"} for row in rows(50) for n in range(4)]
    made = prepare(recipe(train=str(write("train.jsonl", listed)), split=0.4), tokenizer, 512)
    prompts = [record.turns[0].content for record in made.eval_records]
    assert all(prompts.count(prompt) == 4 for prompt in prompts)


def test_one_training_row_with_its_own_evaluation_is_legal(write, recipe, tokenizer):
    made = prepare(recipe(train=str(write("t.jsonl", rows(1))), eval=str(write("e.jsonl", rows(1, 9)))), tokenizer, 512)
    assert (len(made.train), len(made.eval)) == (1, 1)


def test_duplicates_and_overlap(write, recipe, tokenizer):
    spaced = {"prompt": " question  3", "completion": "answer 3\n"}
    train = write("train.jsonl", [*rows(10), *rows(4), spaced])
    made = prepare(recipe(train=str(train), eval=str(write("eval.jsonl", [*rows(2), *rows(2)]))), tokenizer, 512)
    report, held = made.sources
    assert (report.rows, report.kept, report.duplicates, report.overlap) == (15, 8, 3, 4)
    assert (held.rows, held.kept) == (4, 4)
    assert [made.train.columns["line"][i] for i in range(8)] == list(range(3, 11))


def test_duplicates_are_found_across_sources(write, recipe, tokenizer):
    sources = [str(write("a.jsonl", rows(6))), str(write("b.jsonl", rows(8)))]
    made = prepare(recipe(sources=sources, eval=str(write("e.jsonl", rows(1, 99)))), tokenizer, 512)
    assert [report.duplicates for report in made.sources] == [0, 6, 0]
    assert np.bincount(np.asarray(made.train.columns["source"])).tolist() == [6, 2]


def test_what_a_record_says_decides_its_hash():
    record = Record((Turn("user", "a b"), Turn("assistant", "c")), "chat")
    same = Record((Turn("user", " a\n b"), Turn("assistant", "c", weight=2.0)), "completion", weight=3.0, line=7)
    assert duplicates.content(record) == duplicates.content(same)
    for other in (
        Record((Turn("user", "a"), Turn("assistant", "b c")), "chat"),
        Record((Turn("user", "a b"), Turn("assistant", "c", reasoning="d")), "chat"),
        Record(record.turns, "chat", rejected=record.turns),
        Record(record.turns, "chat", label=True),
        Record(record.turns, "chat", tools=({"name": "f"},)),
    ):
        assert duplicates.content(record) != duplicates.content(other)
        assert duplicates.prompt(Record(record.turns, "chat", label=True)) == duplicates.prompt(record)


def test_each_source_has_its_own_options_and_evaluation(write, recipe, tokenizer):
    sources = [
        {"path": str(write("a.jsonl", rows(20))), "train_on": "all", "name": "first"},
        {"path": str(write("b.jsonl", rows(20, 50))), "eval": str(write("be.jsonl", rows(3, 90))), "loss_weight": 0.5},
    ]
    made = prepare(recipe(sources=sources), tokenizer, 512)
    assert made.names == ("first", "b.jsonl")
    assert [(report.name, report.role) for report in made.sources] == [
        ("first", "train"),
        ("b.jsonl", "train"),
        ("first", "eval"),
        ("be.jsonl", "eval"),
    ]
    assert {record.source for record in made.eval_records} == {0, 1}
    assert sum(record.source == 1 for record in made.eval_records) == 3
    for source, values in ((0, {0.0, 1.0}), (1, {0.0, 0.5})):
        own = np.flatnonzero(made.train.columns["source"] == source)
        weights = np.concatenate([made.train.weights[made.train.starts[i] : made.train.starts[i + 1]] for i in own])
        assert set(weights.tolist()) == values


def test_common_evaluation_is_numbered_behind_the_sources(write, recipe, tokenizer):
    made = prepare(
        recipe(train=str(write("a.jsonl", rows(9))), eval=[str(write("e.jsonl", rows(2, 50)))]), tokenizer, 512
    )
    assert made.names == ("a.jsonl", "e.jsonl")
    assert {record.source for record in made.eval_records} == {1}
    assert len(made.renderers) == 2


def test_rows_judged_false_are_left_out(write, recipe, tokenizer):
    listed = [{**row, "label": index % 3 == 0} for index, row in enumerate(rows(30))]
    made = prepare(recipe(train=str(write("train.jsonl", listed))), tokenizer, 512)
    assert made.sources[0].left_out == 20
    assert len(made.train) + len(made.eval) == 10
    assert all(balanced(report) for report in made.sources)


def test_rows_without_weight_are_counted(write, recipe, tokenizer):
    made = prepare(
        recipe(
            train=str(write("t.jsonl", [*rows(20), {**rows(1, 77)[0], "weight": 0}])),
            eval=str(write("e.jsonl", rows(1, 99))),
        ),
        tokenizer,
        512,
    )
    assert (made.sources[0].kept, made.sources[0].empty) == (20, 1)
    assert any("nothing to learn" in text for text in made.warnings)


def test_warnings(write, recipe, byte_level):
    listed = [
        *rows(20),
        {"prompt": "q", "completion": ""},
        {"prompt": "p" * 60, "completion": "a"},
        {"prompt": "x", "completion": " word" * 60},
    ]
    tokenizer = wrapped(byte_level, pad_token="</s>")
    made = prepare(
        recipe(
            train=str(write("t.jsonl", listed)),
            eval=str(write("e.jsonl", rows(2, 99))),
            max_length=40,
            truncation="right",
        ),
        tokenizer,
        512,
    )
    told = "\n".join(made.warnings)
    for text in (
        "the pad token </s> is also the end",
        "learned in only 21 of 22 rows",
        "prompt that fills the limit of 40",
        "1 rows lose part of their answer",
        "1 rows have an empty answer",
    ):
        assert text in told
    other = prepare(recipe(train=str(write("t.jsonl", rows(20)))), wrapped(byte_level, UNMARKED), 512)
    assert "answers end with <|im_end|>, but the tokenizer's end token is </s>" in "\n".join(other.warnings)
    double = prepare(
        recipe(train=str(write("t.jsonl", rows(20)))),
        wrapped(byte_level, "{{ bos_token + bos_token }}" + UNMARKED),
        512,
    )
    assert "writes two BOS tokens" in "\n".join(double.warnings)


def test_a_template_without_the_begin_token_is_told(write, recipe, metaspace):
    made = prepare(recipe(train=str(write("t.jsonl", rows(20)))), wrapped(metaspace, UNMARKED), 512)
    assert any("does not begin with <s>" in text for text in made.warnings)


def test_special_tokens_are_counted(write, recipe, byte_level):
    made = prepare(recipe(train=str(write("t.jsonl", rows(20)))), wrapped(byte_level, UNMARKED), 512)
    report = made.sources[0]
    assert report.specials == {"<|im_start|>": 2 * report.kept, "<|im_end|>": 2 * report.kept}
    assert report.ends == report.kept


@pytest.fixture
def counted(monkeypatch):
    """Counts the records that are tokenised."""
    seen = []
    plain = Renderer.render_many
    monkeypatch.setattr(
        Renderer, "render_many", lambda self, records: seen.append(len(records)) or plain(self, records)
    )
    return seen


def test_cache_is_reused_until_something_changes(write, tokenizer, tmp_path, counted, byte_level):
    path = write("train.jsonl", rows(30))

    def run(made_by=tokenizer, **data):
        return prepare(Recipe.of(model="m", data={"train": str(path), **data}), made_by, 512, tmp_path / "cache")

    first = run()
    done = sum(counted)
    again = run()
    assert sum(counted) == done
    assert (first.reused, again.reused) == (False, True)
    assert again.eval_records == first.eval_records
    assert [asdict(report) for report in again.sources] == [asdict(report) for report in first.sources]
    for name in ("ids", "weights", "starts"):
        assert np.array_equal(getattr(first.train, name), getattr(again.train, name))
    assert isinstance(again.train.ids, np.memmap)
    assert run(max_lost=0.5).reused
    assert not run(train_on="all").reused
    assert not run(max_length=100).reused
    assert not run(wrapped(byte_level, UNMARKED)).reused
    path.write_text(path.read_text() + json.dumps(rows(1, 500)[0]) + "\n")
    assert not run().reused


def test_cache_of_a_user_function_follows_its_file(write, tokenizer, tmp_path):
    path = write("train.jsonl", rows(30))
    recipe = Recipe.of(model="m", data={"train": str(path), "function": f"{tmp_path}/f.py:convert"})
    for text in ("x", "y"):
        write("f.py", f"def convert(row): return {{**row, 'completion': ' {text}'}}\n")
        made = prepare(recipe, tokenizer, 512, tmp_path / "cache")
        assert not made.reused
        assert made.eval_records[0].answer == f" {text}"


def test_a_failed_preparation_leaves_nothing_behind(write, tokenizer, tmp_path):
    path = write("train.jsonl", "{broken\n")
    with pytest.raises(Exception, match="not valid JSON"):
        prepare(Recipe.of(model="m", data=str(path)), tokenizer, 512, tmp_path / "cache")
    assert [item.name for item in (tmp_path / "cache" / "data").iterdir() if item.suffix != ".lock"] == []


def test_two_processes_prepare_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=ask, args=(tmp_path,)) for _ in range(2)]
    [process.start() for process in both], [process.join(60) for process in both]
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "made").read_text() == "x"


def test_records_survive_the_cache():
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    turns = (Turn("user", "a", 0.5), Turn("assistant", "b", None, "c", (call,)))
    record = Record(turns, "chat", turns, "label", 2.0, (call,), 1, "f.jsonl", 3, {"score": 0.5})
    again = unpacked(packed(record))
    assert duplicates.content(again) == duplicates.content(record)
    assert packed(again) == packed(record)
    assert again.columns == record.columns


def test_records_kept_before_a_field_was_known_are_still_read():
    plain = json.loads(packed(Record((Turn("user", "a"), Turn("assistant", "b")), "chat")))
    del plain["scored"]
    assert unpacked(json.dumps(plain)).scored == ()


def test_writer_and_table_agree(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 200_000, 12)
    sequences = [(rng.integers(0, 1000, n), rng.random(n).astype(np.float32)) for n in lengths]
    writer = TableWriter(tmp_path / "table")
    for index, (ids, weights) in enumerate(sequences):
        writer.add(ids.tolist(), weights.tolist(), source=index % 2, file=f"f{index % 3}", line=index, prompt=index)
    writer.close()
    table = Table.load(tmp_path / "table")
    assert np.array_equal(table.ids, np.concatenate([ids for ids, _ in sequences]))
    assert np.array_equal(table.weights, np.concatenate([weights for _, weights in sequences]))
    assert table.lengths.tolist() == lengths.tolist()
    assert table.where(5) == "f2:5"
    table.save(tmp_path / "again")
    assert np.array_equal(Table.load(tmp_path / "again").ids, table.ids)

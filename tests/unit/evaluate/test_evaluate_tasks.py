"""Tasks: what each scores, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluate_models import pair, pairs, policy, subject, tokenizer

from tunewright import catalog
from tunewright.data.records import Record, Turn
from tunewright.data.templates import Renderer
from tunewright.errors import BadInput
from tunewright.evaluate.base import Rows, Scores, Subject, Task
from tunewright.models.generate import Decoding, generate
from tunewright.models.load import load, load_tokenizer
from tunewright.recipe import ModelSpec, Reading


def task(name: str, **options: Any) -> Task:
    made = catalog.find("task", name)(**options)
    assert isinstance(made, Task)
    return made


def answered_by(model_subject: Subject, records: list[Record], new: int = 4) -> list[Record]:
    """The records with the model's own greedy answers as references."""
    own = tokenizer()
    ids = [own.encode(record.turns[0].content) for record in records]
    found = generate(model_subject.policy, own, ids, Decoding(new, frozenset({2})))
    return [pair(r.turns[0].content, " " + a.text, r.line) for r, a in zip(records, found, strict=True)]


def classified(count: int = 12) -> list[Record]:
    labels = ["positive", "negative", "neutral"]
    return [
        pair(f"w{40 + n} w{50 + n % 7} Label :", f" {labels[n % 3]}", n + 1, label=labels[n % 3]) for n in range(count)
    ]


def test_perplexity_is_the_loss_of_the_completions() -> None:
    scores = task("perplexity").score(subject(records := pairs(9)))
    own, model = tokenizer(), policy().model
    total, tokens = 0.0, 0
    for n, record in enumerate(records):
        start = len(own.encode(record.turns[0].content))
        ids = torch.tensor([[*own.encode(record.turns[0].content + record.answer), 2]])
        labels = ids.clone()
        labels[:, :start] = -100
        loss = model(ids, labels=labels).loss.item()
        assert scores.values[n] == pytest.approx(loss, abs=1e-5)
        assert scores.weights[n] == ids.shape[1] - start
        total, tokens = total + loss * (ids.shape[1] - start), tokens + ids.shape[1] - start
    assert scores.score == pytest.approx(total / tokens, abs=1e-5)
    assert scores.details["perplexity"] == pytest.approx(math.exp(scores.score))
    assert scores.metric == "loss" and not scores.higher_is_better


def test_perplexity_takes_the_prepared_table() -> None:
    plain = subject(pairs(6))
    whole = task("perplexity").score(plain)
    from dataclasses import replace

    from tunewright.evaluate.base import tabulated

    rendered = plain.rows.rendered(plain.rows.records)
    table = tabulated((one.ids, one.weights) for one in rendered)
    prepared = replace(plain, rows=replace(plain.rows, table=table))
    assert task("perplexity").score(prepared).values == pytest.approx(whole.values)
    assert task("perplexity", limit=3).score(prepared).ids == [whole.ids[n] for n in (0, 2, 5)]


def test_long_records_are_cut_and_counted() -> None:
    scores = task("perplexity").score(subject([pair("w40", " w41" * 200), pair("w42", " w43")]))
    assert scores.weights.tolist() == [127.0, 2.0]
    assert scores.notes == ("1 records were cut to the context of 128 tokens",)


def test_limits_spread_over_the_rows() -> None:
    records = pairs(10)
    assert task("perplexity", limit=3).score(subject(records)).ids == [f"rows.jsonl:{n}" for n in (1, 5, 10)]
    assert len(task("perplexity", limit=8).score(subject(records, limit=2)).values) == 2


def test_retention() -> None:
    known = [Record((Turn("assistant", "w50 w51 w52"),), "text")]
    assert "no reference text is named" in str(task("retention").omitted(subject(known)))
    assert task("retention").omitted(subject(known, embedded=True)) is None
    scores = task("retention", texts=5).score(subject(known, embedded=True))
    assert scores.role == "retention" and len(scores.values) == 5
    own = subject(known, read=lambda options, follow: subject(known).rows)
    assert task("retention", data="known.txt").score(own).weights.tolist() == [3.0]


def test_exact_match_on_the_models_own_answers() -> None:
    own = subject(pairs(8))
    right = answered_by(own, pairs(8))
    half = [r if n % 2 else pair(r.turns[0].content, " w96 w96", r.line) for n, r in enumerate(right)]
    scores = task("exact_match", max_new_tokens=4).score(subject(half))
    assert scores.values.tolist() == [0.0, 1.0] * 4
    assert scores.answers[1] == scores.references[1].strip() and scores.prompts[0] == half[0].turns[0].content
    assert scores.lengths is not None and scores.stopped is not None and scores.lengths.max() <= 4
    short = task("exact_match", max_new_tokens=2).score(subject(right))
    assert short.details["max_new_tokens"] == 2 and short.score < 1


def test_default_answer_length_follows_the_references() -> None:
    records = [pair("w50 w51", " w60" * 20), pair("w52", " w61")]
    assert task("exact_match").score(subject(records)).details["max_new_tokens"] == 31


def test_answer_parts() -> None:
    from tunewright.models.generate import Answer

    rows = subject([pair("w50", " so 4 #### 1,200")])
    judge = lambda name, text, **options: task(name, **options).judge(rows)(  # type: ignore[attr-defined]
        Answer([], text, True, []), rows.rows.records[0]
    )
    assert judge("exact_match", "it is 1200.", answer="last_number") == 1.0
    assert judge("exact_match", "#### 1,200", answer="after ####") == 1.0
    assert judge("exact_match", "#### 1200", answer="after ####") == 0.0
    assert judge("exact_match", "SO 4 #### 1,200", ignore_case=True) == 1.0
    assert judge("exact_match", "so 5 1,200", ignore_punctuation=True) == 0.0
    assert judge("exact_match", "so 4 #### 1 200", ignore_punctuation=True) == 1.0
    assert judge("number_match", "1201 #### 1200") == 1.0
    assert judge("number_match", "1201", tolerance=0.001) == 1.0
    assert judge("number_match", "#### 7\n1200", answer="after ####") == 0.0
    assert judge("rouge_l", "so 4") == pytest.approx(2 * 2 / 6)
    with pytest.raises(BadInput, match=r"rows.jsonl:1.*no part 'regex z'"):
        judge("exact_match", "", answer="regex z")
    with pytest.raises(BadInput, match="no number"):
        task("number_match").judge(rows)(Answer([], "1", True, []), pair("w1", " none"))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="is no rule"):
        task("exact_match", answer="first")


def test_classification() -> None:
    records = classified()
    scores = task("classification").score(subject(records))
    assert scores.metric == "accuracy" and set(scores.references) == {"positive", "negative", "neutral"}
    assert scores.score == np.mean([a == r for a, r in zip(scores.answers, scores.references, strict=True)])
    model, own = policy().model, tokenizer()
    for n, record in enumerate(records):
        last = model(torch.tensor([own.encode(record.turns[0].content)])).logits[0, -1].double()
        among = last[own.convert_tokens_to_ids(["negative", "neutral", "positive"])].softmax(-1)
        assert scores.confidences is not None and scores.correct is not None
        assert scores.confidences[n] == pytest.approx(among.max().item(), abs=1e-5)
        assert scores.answers[n] == ["negative", "neutral", "positive"][int(among.argmax())]
    assert 0 <= scores.details["brier"] <= 2


def test_classification_refuses() -> None:
    with pytest.raises(BadInput, match=r"rows.jsonl:2.*no class"):
        task("classification").score(subject([classified()[0], pair("w1", " w2", 2)]))
    with pytest.raises(BadInput, match="same label"):
        task("classification").score(subject(classified(1)))


def test_multiple_choice() -> None:
    choices = ["w50", "w60 w61 w62", "w70"]
    records = [
        pair("w40 w41", " w60 w61 w62", 1, columns={"choices": choices}),
        pair("w42", " 2", 2, columns={"choices": choices}),
        pair("w43", " A", 3, columns={"choices": {"text": choices, "label": ["A", "B", "C"]}}),
    ]
    scores = task("multiple_choice").score(subject(records))
    assert scores.references == ["w60 w61 w62", "w70", "w50"]
    even = task("multiple_choice", normalize="tokens").score(subject(records))
    own, model = tokenizer(), policy().model
    for n, record in enumerate(records):
        start = own.encode(record.turns[0].content)
        logprobs = []
        for choice in choices:
            ids = own.encode(choice)
            logits = model(torch.tensor([start + ids])).logits[0].log_softmax(-1)
            logprobs.append(sum(logits[len(start) - 1 + k, i].item() for k, i in enumerate(ids)))
        assert scores.answers[n] == choices[int(np.argmax(logprobs))]
        assert even.answers[n] == choices[int(np.argmax(np.array(logprobs) / [1, 3, 1]))]
    fixed = task("multiple_choice", choices=["w50", "w70"]).score(subject([pair("w40", " w70")]))
    assert fixed.references == ["w70"]
    with pytest.raises(BadInput, match="lists no choices"):
        task("multiple_choice", choices="options").score(subject(records))
    with pytest.raises(BadInput, match="none of the choices"):
        task("multiple_choice").score(subject([pair("w42", " 3", columns={"choices": choices})]))


def test_multiple_choice_by_letters() -> None:
    given = ModelSpec(path="nano")
    nano, own = load(given, "fp32", torch.device("cpu")).policy, load_tokenizer(given)
    choices = ["red", "two words", "a blue one"]
    turns = lambda prompt, answer: (Turn("user", prompt), Turn("assistant", answer))
    records = [
        Record(
            turns(f"Which is the {word} of them? ", " " + choices[n % 3]), "completion", columns={"choices": choices}
        )
        for n, word in enumerate(("first", "next", "last", "largest"))
    ]
    chat = [replace(record, style="chat") for record in records]

    def measured(records: list[Record], **options: Any) -> Scores:
        rows = Rows(records, (Renderer(own, Reading()),), None, ("rows",))
        return task("multiple_choice", **options).score(Subject(nano, own, rows, frozenset({2})))

    found = measured(records, formulation="letters")
    for n, record in enumerate(records):
        asked = f"{record.turns[0].content.rstrip()}\nA. red\nB. two words\nC. a blue one\nAnswer:"
        assert found.prompts[n] == asked
        rendered = [
            list(Renderer(own, Reading()).render(replace(record, turns=turns(asked, " " + x))).ids) for x in "ABC"
        ]
        at = next(k for k, ids in enumerate(zip(*rendered, strict=True)) if len(set(ids)) > 1)
        with torch.no_grad():
            logits = nano.model(torch.tensor([rendered[0][:at]])).logits[0, -1]
        likelihoods = logits[[ids[at] for ids in rendered]].softmax(-1)
        assert found.answers[n] == choices[int(likelihoods.argmax())]
        assert found.confidences is not None and found.confidences[n] == pytest.approx(
            likelihoods.max().item(), abs=1e-4
        )
    assert found.references == [choices[n % 3] for n in range(4)] and found.unit == "share"
    assert measured(records).prompts == [record.turns[0].content for record in records]
    talked = measured(chat, formulation="letters")
    assert talked.prompts == found.prompts and talked.confidences is not None
    assert not np.allclose(talked.confidences, found.confidences)


def test_choices_that_cannot_be_letters_are_refused() -> None:
    letters = task("multiple_choice", formulation="letters", choices=[f"w{40 + n}" for n in range(27)])
    with pytest.raises(BadInput, match="cannot be listed under letters"):
        letters.score(subject([pair("w40", " w41")]))
    two = task("multiple_choice", formulation="letters", choices=["w50", "w51"])
    with pytest.raises(BadInput, match="cannot be listed under letters"):
        two.score(subject([Record((Turn("assistant", "w50"),), "text")]))
    with pytest.raises(BadInput, match="two letters are the same tokens"):
        two.score(subject([pair("w40", " w50")]))  # a tokenizer of whole words, to which all letters are unknown
    with pytest.raises(ValueError, match="letters have no lengths"):
        task("multiple_choice", formulation="letters", normalize="tokens")


def test_custom_function(tmp_path: Path) -> None:
    file = tmp_path / "judge.py"
    file.write_text(
        "def words(answer, record):\n    return len(answer.split()) + len(record.columns)\n"
        "def fails(answer, record):\n    return 1 / 0\n"
        "def text(answer, record):\n    return answer\n"
    )
    rows = subject([pair("w40", " w41", columns={"level": 3})], stop=frozenset())
    scores = task("custom", function=f"{file}:words", max_new_tokens=5).score(rows)
    assert scores.metric == "words" and scores.values.tolist() == [6.0] and scores.unit == "score"
    assert not task("custom", function=f"{file}:words", higher_is_better=False).score(rows).higher_is_better
    for name, said in (("fails", "ZeroDivisionError"), ("text", "gave no number"), ("word", "Did you mean 'words'")):
        with pytest.raises(BadInput, match=said):
            task("custom", function=f"{file}:{name}").score(rows)
    with pytest.raises(BadInput, match="no such file"):
        task("custom", function="nowhere.py:words").score(rows)


def test_shots_stand_before_the_prompt() -> None:
    from tunewright.evaluate.tasks._generated import with_shots

    own, rows = tokenizer(), subject([]).rows
    record, shots = pair("w40", " w41"), [pair("w50", " w51"), pair("w52", " w53")]
    assert own.decode(with_shots(rows, record, shots)) == "w50 w51 w52 w53 w40"
    chat = Record((Turn("system", "w60"), Turn("user", "w61"), Turn("assistant", "w62")), "chat")
    told = own.decode(with_shots(rows, chat, [chat]))
    assert told.count("w60") == 1 and told.index("w60") < told.index("w61") < told.index("w62")
    assert own.decode(with_shots(rows, Record((Turn("assistant", "w40 w41 w42 w43"),), "text"), [])) == "w40 w41"
    scored = task("exact_match", shots=2, max_new_tokens=2)
    zero = scored.score(subject([record], examples=shots))
    few = scored.score_with_shots(subject([record], examples=shots))  # type: ignore[attr-defined]
    assert zero.answers != few.answers


def test_prompts_that_fill_the_context_are_left_out() -> None:
    scores = task("stop_rate").score(subject([pair("w40 " * 130, " w41"), pair("w40", " w41", 2)]))
    assert scores.ids == ["rows.jsonl:2"] and "1 rows" in scores.notes[0]
    with pytest.raises(BadInput, match="every prompt"):
        task("stop_rate").score(subject([pair("w40 " * 130, " w41")]))


def test_no_rows_and_unknown_format() -> None:
    with pytest.raises(BadInput, match="has no rows"):
        task("perplexity").score(subject([]))
    with pytest.raises(BadInput, match="no row of the task 'perplexity' has a token that carries loss"):
        task("perplexity").score(subject([pair("w1", "", weight=0.0)]))
    with pytest.raises(ValueError, match="Did you mean 'alpaca'"):
        task("perplexity", format="alpacca")


@pytest.mark.parametrize("name", ["perplexity", "exact_match", "classification", "rouge_l", "number_match"])
def test_scores_do_not_move_with_batch_size(name: str) -> None:
    records = (
        classified() if name == "classification" else [pair(f"w{n} " * (n % 9 + 1), f" {n}", n) for n in range(12)]
    )
    runs: list[Scores] = [task(name).score(subject(records, batch_tokens=size)) for size in (1, 64, 4096)]
    for run in runs[1:]:
        assert run.values == pytest.approx(runs[0].values, abs=1e-5)
        assert run.answers == runs[0].answers


def test_every_task_names_its_options() -> None:
    for method in catalog.methods("task"):
        assert issubclass(method, Task) and method.summary()
        assert all(catalog.effect(field) for field in method.model_fields.values())

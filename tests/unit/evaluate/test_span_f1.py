"""Micro-F1 of labelled spans, and answers held to the format."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tunewright import catalog
from tunewright.data.completing import Completion
from tunewright.data.records import Record, Turn
from tunewright.data.spans import Answers, Span, parsed, written
from tunewright.data.templates import Renderer
from tunewright.errors import BadInput
from tunewright.evaluate.base import Rows, Subject
from tunewright.evaluate.metrics.weighted_mean import evened
from tunewright.models.constrained import Constrained
from tunewright.models.generate import Answer, Decoding, generate
from tunewright.recipe import SourceSpec
from tunewright.testing.models import tiny, tiny_tokenizer
from tunewright.testing.runs import tiny_policy

LABELS = ["LOC", "PER"]


def record(text, spans, **columns):
    turns = (Turn("user", text), Turn("assistant", written(text, spans)))
    return Record(turns, "chat", columns={"text": text, "spans": [list(s) for s in spans], "labels": LABELS, **columns})


ROWS = [
    (record("Ann met Bob in Rome", [Span(0, 3, "PER"), Span(8, 11, "PER"), Span(15, 19, "LOC")]),
     "Ann | PER\nBob | LOC\nRome | LOC"),
    (record("Paris met Paris", [Span(10, 15, "LOC")]), "Paris | LOC"),
    (record("nobody came", []), "none"),
    (record("Eve left", [Span(0, 3, "PER")]), "Eve | PER\nZoe | PER"),
]  # fmt: skip
"""Rows and answers: 3 hits; 3 + 1 + 0 + 2 spans named, 3 + 1 + 0 + 1 wanted."""


@pytest.fixture
def measured(monkeypatch):
    """The scores of given answers."""

    def make(rows, **options):
        made = [Answer([1], text, True, [0.0]) for _, text in rows]
        monkeypatch.setattr("tunewright.evaluate.tasks._generated.generate", lambda *args: made)
        tokenizer = tiny_tokenizer()
        held = Rows([one for one, _ in rows], (Renderer(tokenizer, SourceSpec(path="x")),), None, ("x",))
        policy = SimpleNamespace(model=tiny(max_position_embeddings=512))
        task = catalog.find("task", "span_f1")(max_new_tokens=8, **options)
        return task.score(Subject(policy, tokenizer, held, frozenset({2})))

    return make


def test_scores_of_known_answers(measured):
    scores = measured(ROWS)
    assert scores.score == pytest.approx(2 * 3 / (6 + 5))
    assert scores.further["precision"].values.mean() == pytest.approx(3 / 6)
    assert scores.further["recall"].values.mean() == pytest.approx(3 / 5)
    assert scores.details["f1"] == pytest.approx({"LOC": 2 / 5, "PER": 4 / 5})
    assert scores.details["macro_f1"] == pytest.approx(0.6)


def test_nothing_named_and_nothing_wanted(measured):
    nothing = measured([(one, "none") for one, _ in ROWS])
    assert nothing.score == 0 and nothing.further["precision"].values.mean() == 0
    right = measured([(ROWS[2][0], "none")])
    assert right.score == 1 and right.further["recall"].values.tolist() == [1]


def test_rows_of_another_format_are_refused(measured):
    with pytest.raises(BadInput, match="holds no labelled spans"):
        measured([(Record((Turn("user", "a"), Turn("assistant", "b")), "chat"), "none")])


def test_values_of_equal_weight_have_the_weighted_mean():
    rng = np.random.default_rng(0)
    values, weights = rng.random(50), rng.integers(0, 6, 50)
    assert evened(values, weights).mean() == pytest.approx(np.average(values, weights=weights))
    assert evened(values, np.ones(50)).tolist() == values.tolist()


def test_a_difference_of_f1_varies_as_that_of_resampled_rows():
    """The spread of the mean of the values is that of F1 over samples of rows (to first order)."""
    rng = np.random.default_rng(0)
    hits, named = rng.integers(0, 4, 400), rng.integers(0, 3, 400)
    d = 2 * hits + named
    values = evened(np.divide(2 * hits, d, out=np.ones(400), where=d > 0), d)
    drawn = rng.integers(0, 400, (4000, 400))
    f1 = 2 * hits[drawn].sum(1) / d[drawn].sum(1)
    assert values[drawn].mean(1).std() == pytest.approx(f1.std(), rel=0.05)


TEXTS = ["Ann met Bob in Rome", "Paris met Paris", "a | LOC b", "none of it", "x"]


def test_a_constrained_model_names_spans_of_the_text_alone():
    tokenizer, policy = tiny_tokenizer(), tiny_policy(tiny(max_position_embeddings=512))
    prompts = [tokenizer(f"{text} {n}:", add_special_tokens=False)["input_ids"] for n in range(6) for text in TEXTS]
    languages = [Answers(text, LABELS) for _ in range(6) for text in TEXTS]
    stop = frozenset({2})
    processor = Constrained(tokenizer, languages, [len(prompt) for prompt in prompts], stop)
    answers = generate(policy, tokenizer, prompts, Decoding(120, stop, processors=(processor,)))
    free = generate(policy, tokenizer, prompts, Decoding(120, stop))
    said = set()
    for answer, other, language in zip(answers, free, languages, strict=True):
        assert answer.stopped and language.whole(answer.text), answer.text
        assert parsed(answer.text, language.text, LABELS)[1] == 0
        said.add(answer.text)
        assert not language.whole(other.text)
    assert len(said) > 5


def test_allowed_tokens_are_exactly_those_that_lead_on():
    tokenizer = tiny_tokenizer()
    language = Answers("Ann met Bob", LABELS)
    processor = Constrained(tokenizer, [language], [0], frozenset({2}))
    for text, onward in {
        "": "AmBn",
        "Ann": " ",
        "Ann | ": "LP",
        "Ann | PER": "\n",
        "none": "",
        "Bob | PER": "",
    }.items():
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]], dtype=torch.int64).reshape(1, -1)
        logits = processor(torch.zeros(1, 97), SimpleNamespace(rows=torch.tensor([0]), ids=ids))[0]
        allowed = {tokenizer.decode([index]) for index in logits.isfinite().nonzero()[:, 0].tolist() if index != 2}
        assert allowed == set(onward), text
        assert bool(logits[2].isfinite()) == language.whole(text)


def test_completed_rows_of_a_file_are_measured_with_demonstrations():
    source = SourceSpec(path="x", format=catalog.find("format", "sift_sequence_labeling")(k=1))
    pool = [ROWS[0][0], ROWS[3][0]]
    ((made,),) = Completion([source], {}, {0: pool}).of(source, None, [ROWS[1][0]], "eval", lambda record: "chat")
    assert len(made.turns) == 4 and made.columns["labels"] == LABELS

"""Edits applied to their source, and what they cost."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tunewright import catalog
from tunewright.data.records import Record, Turn
from tunewright.data.templates import Renderer
from tunewright.errors import BadInput
from tunewright.evaluate.base import Rows, Subject
from tunewright.evaluate.measure import compare
from tunewright.models.generate import Answer
from tunewright.recipe import SourceSpec
from tunewright.testing.models import tiny, tiny_tokenizer


def row(source, target, said):
    columns = {"source": source, "target": target}
    return Record((Turn("user", source), Turn("assistant", said)), "chat", columns=columns)


RECORD = row("a b c", "a x c", "1 2 x")
ANSWERS = ["1 2 x", "1 2 y", "None", "rubbish", "1 2 x, 1 2 y"]


@pytest.fixture
def measured(monkeypatch):
    def make(record, answers):
        made = [Answer([5] * len(text) + [2], text, True, [0.0]) for text in answers]
        monkeypatch.setattr("tunewright.evaluate.tasks._generated.generate", lambda *args: made)
        tokenizer = tiny_tokenizer()
        held = Rows([record] * len(answers), (Renderer(tokenizer, SourceSpec(path="x")),), None, ("x",))
        policy = SimpleNamespace(model=tiny())
        task = catalog.find("task", "edit_match")(max_new_tokens=8)
        return task.score(Subject(policy, tokenizer, held, frozenset({2})))

    return make


def test_scores_of_known_answers(measured):
    scores = measured(RECORD, ANSWERS)
    assert scores.values.tolist() == [1, 0, 0, 0, 1]
    further = {name: one.values.tolist() for name, one in scores.further.items()}
    assert further["copies"] == [0, 0, 1, 1, 0]
    assert further["unreadable"] == [0, 0, 0, 1, 0]
    assert further["length"] == [len(answer) / len("a x c") for answer in ANSWERS]


def test_further_quantities_are_compared(measured):
    before, after = measured(RECORD, ["None"] * 3), measured(RECORD, ANSWERS[:3])
    found = {one.name: (one.before, one.after, one.higher_is_better) for one in compare([before], [after])}
    assert found["edit_match: copies"] == (1, pytest.approx(1 / 3), False)
    assert found["edit_match"] == (0, pytest.approx(1 / 3), True)


def test_rows_of_another_format_are_refused(measured):
    with pytest.raises(BadInput, match="holds no edits"):
        measured(Record(RECORD.turns, "chat"), ["None"])

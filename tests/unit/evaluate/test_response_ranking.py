"""The ranking of a prompt's own answer against another prompt's."""

import numpy as np

from tunewright.data.records import Record, Turn
from tunewright.evaluate.tasks.response_ranking import ResponseRanking, _another
from tunewright.testing.tasks import _subjects


def test_another_is_never_the_own_answer():
    answers = ["a", "b", "a", "a", "c"]
    assert all(answers[_another(answers, index)] != answer for index, answer in enumerate(answers))
    assert _another(["a", "b", "c", "d"], 0) == 2


def test_a_models_own_greedy_answers_are_ranked_right_and_swapped_ones_wrong():
    from dataclasses import replace

    from tunewright.evaluate.tasks._greedy import greedy

    subject = _subjects()["pairs.jsonl"]
    own = greedy(subject, subject.rows, subject.rows.records, 4)
    made = {}
    for record, answer in zip(subject.rows.records, own, strict=True):
        if answer.text.strip():
            made.setdefault(answer.text, Record((*record.prompt, Turn("assistant", answer.text)), record.style))
    records = list(made.values())[:2]
    assert len(records) == 2
    scored = lambda rows: ResponseRanking().score(
        replace(subject, rows=replace(subject.rows, records=rows, table=None))
    )
    right = scored(records)
    one, two = records
    swapped = [replace(one, turns=(*one.prompt, two.turns[-1])), replace(two, turns=(*two.prompt, one.turns[-1]))]
    wrong = scored(swapped)
    assert np.array_equal(right.values + wrong.values, np.ones(2))
    assert np.isclose(right.details["margin"], -wrong.details["margin"])


def test_one_answer_alone_cannot_be_ranked():
    from dataclasses import replace

    subject = _subjects()["pairs.jsonl"]
    [first, *_] = subject.rows.records
    alone = replace(subject, rows=replace(subject.rows, records=[first, first], table=None))
    assert "no other answer" in ResponseRanking().omitted(alone)

"""Asking through a text written otherwise."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
from evaluate_models import pair, policy, subject

from tunewright.data.demonstrations import preceded
from tunewright.errors import BadInput
from tunewright.evaluate.base import Scores
from tunewright.evaluate.language_test import QUERIES, RULES, begins, cases
from tunewright.evaluate.tasks import ConjugatePrompting
from tunewright.evaluate.tasks import conjugate_prompting as module
from tunewright.models.generate import Answer
from tunewright.recipe import Recipe

ROWS = [pair(f"say {word}", word, line) for line, word in enumerate(["stone", "river", "apple", "lamp"], 1)]


class Spoken:
    """In the place of generation: says what a table of (adapter on, prompt) holds."""

    def __init__(self, said: dict[tuple[bool, str], str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.tuned, self.said, self.asked = True, said, list[tuple[bool, str]]()
        monkeypatch.setattr(module, "greedy", self)

    def __call__(self, subject: Any, rows: Any, records: Any, new: int | None = None) -> list[Answer]:
        keys = [(self.tuned, record.turns[-2].content) for record in records]
        self.asked += keys
        return [Answer([], self.said.get(key, "nothing"), True, []) for key in keys]

    @contextmanager
    def off(self) -> Any:
        assert self.tuned, "opened twice"
        self.tuned = False
        try:
            yield
        finally:
            self.tuned = True


def measured(spoken: Spoken, opened: bool = False, **options: Any) -> Scores:
    model = policy()
    model.set_reference(spoken.off)
    task = ConjugatePrompting(**options)
    if not opened:
        return task.score(subject(ROWS, model))
    with model.start():
        found = task.score(subject(ROWS, model))
        assert not spoken.tuned, "the base was switched off within"
        return found


def caesar(text: str) -> str:
    return module.CIPHERS["caesar"].there(text)


def test_recovery_is_the_share_of_the_loss_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [row.turns[0].content for row in ROWS]
    said = {(False, asked[n]): ROWS[n].answer for n in range(4)}  # the base: 4 of 4, plain
    said |= {(True, asked[0]): "stone"}  # the tuned model: 1 of 4, plain
    said |= {(True, caesar(asked[n])): caesar(ROWS[n].answer) for n in range(3)}  # 3 of 4 through the cipher
    said |= {(False, caesar(asked[0])): caesar("stone"), (False, caesar(asked[1])): "river"}  # the base: 1 of 4
    scores = measured(Spoken(said, monkeypatch), transforms=("caesar",))
    assert scores.values.tolist() == [1, 1, 1, 0] and scores.score == 0.75
    assert {name: one.values.tolist() for name, one in scores.further.items()} == {
        "as it is": [1, 0, 0, 0], "caesar": [1, 1, 1, 0],
    }  # fmt: skip
    (table,) = scores.grids
    assert table.columns == ("right", "right, base", "drop", "recovery")
    assert table.rows["as it is"] == pytest.approx([0.25, 1.0, 0.75, None])
    assert table.rows["caesar"] == pytest.approx([0.75, 0.25, -0.5, 2 / 3])


def test_no_recovery_where_tuning_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {(True, ROWS[0].turns[0].content): "stone"}
    rows = measured(Spoken(said, monkeypatch)).grids[0].rows
    assert list(rows) == ["as it is", "leet", "pig_latin", "caesar"]
    assert [row[-1] for row in rows.values()] == [None] * 4


def test_before_tuning_the_model_is_its_own_base(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = Spoken({(False, row.turns[0].content): row.answer for row in ROWS}, monkeypatch)
    scores = measured(spoken, opened=True)
    assert scores.grids[0].rows["as it is"] == [1.0, 1.0, 0.0, None]
    assert not any(tuned for tuned, _ in spoken.asked) and len(spoken.asked) == 16, "nothing is asked twice"


def test_a_table_of_words_is_a_further_transform(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    file = tmp_path / "words.json"
    file.write_text(json.dumps({"say": "dira", "stone": "goto"}))
    spoken = Spoken({(True, "dira goto"): "goto"}, monkeypatch)
    scores = measured(spoken, transforms=(), words=str(file))
    assert list(scores.grids[0].rows) == ["as it is", "words"] and scores.values.tolist() == [1, 0, 0, 0]


def test_a_recipe_finds_the_file_beside_it(tmp_path: Any) -> None:
    (tmp_path / "words.json").write_text('{"a": "b"}')
    (tmp_path / "recipe.yaml").write_text(
        "model: nano\ndata: nano:facts/train\nevaluate: [{task: conjugate_prompting, words: words.json}]\n"
    )
    made = Recipe.read(tmp_path / "recipe.yaml")
    assert made.evaluate[0].words == str(tmp_path / "words.json")  # type: ignore[attr-defined]


def test_the_whole_prompt_is_written_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    model = policy()
    model.set_reference(nullcontext)
    monkeypatch.setattr(module, "greedy", lambda s, r, records, n: seen.append(records) or [Answer([], "", True, [])])
    ConjugatePrompting(transforms=("caesar",)).score(subject([preceded(ROWS[0], ROWS[1:2], "chat")], model))
    assert [turn.content for turn in seen[1][0].turns] == [
        caesar(t) for t in ("say river", "river", "say stone", "stone")
    ]


@pytest.mark.parametrize(("rule", "query"), [(rule, query) for rule in RULES for query in QUERIES])
def test_built_in_prompts_have_two_answers(rule: str, query: str) -> None:
    made = cases(rule, query, 50, 2, True, 0)
    assert made == cases(rule, query, 50, 2, True, 0) != cases(rule, query, 50, 2, True, 1)
    for case in made:
        *shown, asked = case.prompt.split("\n\n")[1:]
        assert len(shown) == 2 and asked.endswith("\nOutput:")
        for one in shown:
            text, answer = (line.split(": ", 1)[1] for line in one.splitlines())
            assert answer == RULES[rule](text)
        question = asked.splitlines()[0].removeprefix("Input: ")
        assert case.by_rule == RULES[rule](question.split()[0])
        assert not begins(case.by_rule, case.by_instruction)
        if query == "sum":
            a, word, b = question.removeprefix("What is ").removesuffix("?").split()
            value = {"plus": int(a) + int(b), "minus": int(a) - int(b), "times": int(a) * int(b)}[word]
            assert begins(f" {value}", case.by_instruction)
    assert not cases(rule, query, 1, 2, False, 0)[0].prompt.startswith(("Repeat", "Write"))


def test_an_answer_may_begin_with_one_blank() -> None:
    assert begins("12 and", ("12",)) == begins(" 12", ("7", "12")) == 1
    assert begins("  12", ("12",)) == begins("the 12", ("12",)) == 0


def test_the_language_test_tells_the_two_answers_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made = cases("upper case", "sum", 4, 2, True, 0)
    said = {(False, case.prompt): case.by_rule for case in made}
    said |= {(True, case.prompt): f" {case.by_instruction[0]}." for case in made}
    said |= {(True, caesar(case.prompt)): caesar(case.by_rule) for case in made[:3]}
    scores = measured(Spoken(said, monkeypatch), test="language", transforms=("caesar",), n_prompts=4)
    (table,) = scores.grids
    assert len(table.rows) == 8 and len(scores.values) == 16 and scores.score == pytest.approx(3 / 16)
    row = dict(zip(table.columns, table.rows["upper case, sum, as it is"], strict=True))
    assert row == {
        "rule followed": 0, "rule followed, base": 1, "instruction followed": 1, "instruction followed, base": 0, "drop": 1,
        "recovery": None,
    }  # fmt: skip
    through = dict(zip(table.columns, table.rows["upper case, sum, caesar"], strict=True))
    assert through["rule followed"] == 0.75 == through["recovery"] and through["drop"] == -0.75


def test_a_real_model_is_asked_both_ways() -> None:
    rows = [pair(f"w{40 + n} w{50 + n}", f" w{60 + n}", n + 1) for n in range(5)]
    model = policy()
    other = policy(seed=1)

    @contextmanager
    def swapped() -> Any:
        kept, model.model = model.model, other.model
        try:
            yield
        finally:
            model.model = kept

    model.set_reference(swapped)
    plain = subject(rows, model)
    scores = ConjugatePrompting(transforms=("caesar",)).score(plain)
    assert scores.grids[0].rows["as it is"][:2] == [0, 0]
    answers = module.greedy(plain, plain.rows, rows)
    known = [replace(one, turns=(one.turns[0], replace(one.turns[1], content=a.text))) for one, a in zip(rows, answers, strict=True)]  # fmt: skip
    scores = ConjugatePrompting(transforms=("leet",), max_new_tokens=module.longest_answer(plain.rows)).score(
        replace(plain, rows=replace(plain.rows, records=known))
    )
    assert scores.grids[0].rows["as it is"][0] == 1.0 and scores.grids[0].rows["as it is"][1] < 1


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="no transform"):
        ConjugatePrompting(transforms=())
    with pytest.raises(ValueError, match="twice"):
        ConjugatePrompting(transforms=("leet", "leet"))
    model = policy()
    with pytest.raises(BadInput, match="context"):
        ConjugatePrompting().score(subject([pair("w40 " * 125, " w41")], model))

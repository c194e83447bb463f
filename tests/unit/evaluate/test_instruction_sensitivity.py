"""A score over wordings: known cases, no spread among equal wordings, choices and free answers, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from evaluate_models import pair, pairs, policy, subject

from tunewright.data.records import Record, Turn
from tunewright.errors import BadInput
from tunewright.evaluate.base import Scores
from tunewright.evaluate.tasks import ExactMatch, InstructionSensitivity
from tunewright.evaluate.tasks import instruction_sensitivity as module
from tunewright.models.generate import Answer
from tunewright.recipe import Recipe

LABELS = ["positive", "negative", "neutral"]
WORDINGS = {"seen": ("{prompt}", "w50 {prompt}"), "unseen": ("{prompt} w60", "w70 {word} :", "w80 {word} w81")}


def classified(count: int = 12) -> list[Record]:
    made = []
    for n in range(count):
        label, word = LABELS[(7 * n + n // 3) % 3], f"w{40 + n}"
        made.append(pair(f"{word} Label :", f" {label}", n + 1, label=label, columns={"word": word}))
    return made


def scored(rows: list[Record] | None = None, **options: Any) -> Scores:
    return InstructionSensitivity(**{**WORDINGS, **options}).score(subject(rows or classified()))


def grid(scores: Scores, number: int) -> dict[str, dict[str, Any]]:
    made = scores.grids[number]
    return {name: dict(zip(made.columns, line, strict=True)) for name, line in made.rows.items()}


def partly_right(prompts: list[str], every: int, wording: str = "{prompt}") -> list[Record]:
    """Rows whose references are what the model answers to a wording, but for each `every`-th."""
    asked = [pair(wording.format(prompt=prompt), " w41", n) for n, prompt in enumerate(prompts, 1)]
    answered = ExactMatch(max_new_tokens=3).score(subject(asked)).answers
    references = [f" {answer}" if n % every else " w41" for n, answer in enumerate(answered)]
    return [
        pair(prompt, reference, n) for n, (prompt, reference) in enumerate(zip(prompts, references, strict=True), 1)
    ]


PROMPTS = [record.turns[0].content for record in pairs(10)]


def test_equal_wordings_have_no_spread() -> None:
    for same in (["{prompt}"] * 3, ["{prompt} w90"] * 7):
        scores = scored(partly_right(PROMPTS, 3, same[0]), seen=same, unseen=same, max_new_tokens=3)
        told = grid(scores, 0)
        assert 0 < scores.score < 1 and told["seen"] == told["unseen"]
        assert told["seen"]["standard deviation"] == 0.0 and told["seen"]["agreement"] == 1.0
        assert set(told["seen - unseen"].values()) == {0.0}
        [line] = grid(scores, 1).values()
        assert line["distance to it"] == 0.0 == line["drop from the nearest seen"] and line["its number in 'seen'"] == 1


def test_free_answers_are_right_when_they_equal_the_reference() -> None:
    rows = partly_right(PROMPTS, 3)
    task = InstructionSensitivity(seen=("{prompt}",), unseen=("{prompt}", "w50 {prompt}"), max_new_tokens=3)
    plain, found = ExactMatch(max_new_tokens=3).score(subject(rows)), task.score(subject(rows))
    assert 0 < plain.score < 1 and (found.further["seen wordings"].values == plain.values).all()
    other = [pair(f"w50 {r.turns[0].content}", r.answer, r.line) for r in rows]
    reworded = ExactMatch(max_new_tokens=3).score(subject(other))
    assert found.values == pytest.approx((plain.values + reworded.values) / 2)


def test_where_there_are_choices_the_likeliest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known answers: the word after the wording's own letter decides."""
    rows = classified(6)
    right = {"w50": [1, 1, 1, 1, 1, 1], "w51": [1, 1, 1, 0, 0, 0], "w60": [1, 1, 0, 0, 0, 0], "w61": [0, 0, 1, 1, 0, 0]}
    labels = sorted(LABELS)

    def known(self: Any, subject: Any, every: Any, records: list[Record]) -> list[np.ndarray]:
        first = records[0].turns[0].content.split()[0]
        made = []
        for n, record in enumerate(records):
            truth = labels.index(str(record.label))
            made.append(np.eye(3)[truth if right[first][n] else (truth + 1) % 3])
        return made

    monkeypatch.setattr(module.Choices, "probabilities", known)
    task = InstructionSensitivity(seen=("w50 {word}", "w51 {word}"), unseen=("w60 {word}", "w61 {word}"))
    scores = task.score(subject(rows))
    told, near = grid(scores, 0), grid(scores, 1)
    assert scores.values.tolist() == [0.5, 0.5, 0.5, 0.5, 0, 0] and scores.score == pytest.approx(1 / 3)
    assert told["seen"] == pytest.approx(
        {"mean": 0.75, "standard deviation": 0.25, "worst wording": 0.5, "agreement": 0.5}
    )
    assert told["unseen"] == pytest.approx(
        {"mean": 1 / 3, "standard deviation": 0.0, "worst wording": 1 / 3, "agreement": 1 / 3}
    )
    assert told["seen - unseen"]["mean"] == pytest.approx(5 / 12)
    assert scores.further["agreement over unseen wordings"].values.tolist() == [0, 0, 0, 0, 1, 1]
    for name in ("w60 {word}", "w61 {word}"):
        seen = (1.0, 0.5)[int(near[name]["its number in 'seen'"]) - 1]
        assert near[name]["drop from the nearest seen"] == pytest.approx(seen - 1 / 3)
    assert scores.details["formats"] == pytest.approx(
        {"w50 {word}": 1.0, "w51 {word}": 0.5, "w60 {word}": 1 / 3, "w61 {word}": 1 / 3}
    )


def test_the_distance_is_that_of_the_last_hidden_states() -> None:
    rows, model = classified(5), policy()
    made = subject(rows, model)
    scores = InstructionSensitivity(**WORDINGS).score(made)

    def states(wording: str) -> torch.Tensor:
        found = []
        for record in rows:
            text = wording.format(prompt=record.turns[0].content, word=record.columns["word"])
            ids = torch.tensor([made.tokenizer(text)["input_ids"]])
            with torch.no_grad():
                found.append(model.model(ids, output_hidden_states=True).hidden_states[-1][0, -1])
        return torch.stack(found)

    for wording in WORDINGS["unseen"]:
        away = [(states(wording) - states(s)).norm(dim=1).mean().item() for s in WORDINGS["seen"]]
        line = grid(scores, 1)[wording]
        assert line["distance to it"] == pytest.approx(min(away), rel=1e-4)
        assert line["its number in 'seen'"] == int(np.argmin(away)) + 1


def test_a_conversation_keeps_what_stands_before_the_last_turn() -> None:
    turns = (Turn("system", "s"), Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d"))
    made = module.reworded(Record(turns, "chat", columns={"k": 3}), "{k} and {prompt}")
    assert [turn.content for turn in made.turns] == ["s", "a", "b", "3 and c", "d"]


def test_one_wording_agrees_with_itself() -> None:
    one = module.Found(np.ones(4), ["a"] * 4, np.zeros((4, 2)))
    assert module.agreement([one]).tolist() == [1.0] * 4


def test_names_that_rows_lack_are_refused() -> None:
    rows = [pair("w41", "w42", 3, columns={"word": "w43", "empty": None})]
    for name in ("words", "empty"):
        with pytest.raises(BadInput, match="names what the row does not have") as caught:
            scored(rows, unseen=("{prompt} {" + name + "}",))
        assert "rows.jsonl:3" in str(caught.value) and f"{{{name}}}" in str(caught.value)
        assert "word, empty, prompt" in str(caught.value)


@pytest.mark.parametrize("wording", ["no name", "{}", "{0.a}", "{prompt!r}", "{prompt:>9}", "{prompt", "{a[0]}"])
def test_what_is_no_wording_is_refused(wording: str) -> None:
    for group in ("seen", "unseen"):
        task = {"task": "instruction_sensitivity", **WORDINGS, group: [wording]}
        with pytest.raises(BadInput, match="is no wording") as caught:
            Recipe.of(model="nano", data={"train": "nano:arithmetic/train"}, evaluate=[task])
        assert group in str(caught.value)
    with pytest.raises(BadInput):
        Recipe.of(
            model="nano", data={"train": "nano:arithmetic/train"},
            evaluate=[{"task": "instruction_sensitivity", "seen": [], "unseen": [wording]}],
        )  # fmt: skip


def test_what_was_said_is_compared_without_regard_to_white_space(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = iter(["w1  w2", "w1 w2", "w3 \n", " w3"] * 2)
    said = lambda subject, rows, records, new: [Answer([], next(texts), True, []) for _ in records]
    monkeypatch.setattr(module, "greedy", said)
    rows = [pair("w41", " w1 w2"), pair("w42", " w3")]
    scores = scored(rows, seen=("{prompt}",), unseen=("w5 {prompt}",))
    assert scores.values.tolist() == [0.0, 1.0] and scores.further["seen wordings"].values.tolist() == [1.0, 0.0]

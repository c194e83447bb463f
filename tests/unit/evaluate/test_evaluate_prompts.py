"""Tasks that ask in other ways: calibration, format spread, prompt sensitivity; their metrics on known cases."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluate_models import pair, pairs, policy, subject

from tunewright import catalog
from tunewright.data.records import Record, Turn
from tunewright.errors import BadInput
from tunewright.evaluate.base import Task
from tunewright.evaluate.choices import choices_of
from tunewright.evaluate.measure import compare
from tunewright.evaluate.metrics.coherence import coherence
from tunewright.evaluate.metrics.format_spread import prior, thompson_extremes, uniform_extremes
from tunewright.evaluate.metrics.posix import prompt_sensitivity
from tunewright.evaluate.prompts import ORIGINAL, Listing, formats, misspelt
from tunewright.models.policy import Policy


def task(name: str, **options: object) -> Task:
    return catalog.find("task", name)(**options)  # type: ignore[return-value]


def of_two(count: int = 12) -> list[Record]:
    """Rows that share two answers."""
    return [pair(f"w{40 + n} w50", f" w{60 + n % 2}", n) for n in range(count)]


def test_posix_by_hand() -> None:
    assert prompt_sensitivity([[-1, -4], [-3, -2]], [2, 4]) == pytest.approx(0.75)
    assert prompt_sensitivity([[-4.0]], [3]) == 0
    a, lengths = np.array([[-1.0, -4, -2], [-3, -2, -6], [-2, -2, -1]]), np.array([2, 4, 1])
    turned = [2, 0, 1]
    assert prompt_sensitivity(a[np.ix_(turned, turned)], lengths[turned]) == pytest.approx(
        prompt_sensitivity(a, lengths)
    )
    assert prompt_sensitivity(np.tile([[-3.0, -5.0]], (2, 1)), [1, 2]) == 0


def test_coherence_by_hand() -> None:
    vectors = [[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]
    assert coherence(["a", "b", "c"], vectors) == pytest.approx((0 + 2 * np.sqrt(0.5)) / 3)
    assert coherence(["a", "a", ""], [[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]]) == pytest.approx(1 / 3)
    assert coherence(["", ""], np.zeros((2, 3))) == coherence(["a"], [[1.0]]) == 1.0


def test_prior_of_a_format() -> None:
    assert prior(0.5) == (5.0, 5.0)
    assert prior(0.0) == (1.1, 5.0)
    assert prior(1.0) == pytest.approx((495.0, 5.0))


@pytest.mark.parametrize("batch", [20, 7])
def test_a_bandit_with_enough_budget_finds_the_true_extremes(batch: int) -> None:
    table = (np.random.default_rng(0).random((20, 45)) < np.linspace(0.2, 0.9, 20)[:, None]).astype(float)
    asked = []

    def evaluate(arm: int, items: np.ndarray) -> np.ndarray:
        asked.extend((arm, item) for item in items)
        return table[arm, items]

    found = thompson_extremes(evaluate, 20, 45, 0.5, 2 * 20 * 45, batch)
    means = table.mean(1)
    assert (means[found.best], means[found.worst]) == (means.max(), means.min())
    assert len(asked) == len(set(asked)) == found.used == 20 * 45


def test_a_bandit_keeps_its_budget() -> None:
    table = (np.random.default_rng(1).random((30, 100)) < np.linspace(0.2, 0.9, 30)[:, None]).astype(float)
    for budget in (1, 57, 600):
        found = thompson_extremes(lambda arm, items: table[arm, items], 30, 100, 0.5, budget, pick="posterior_mean")
        assert found.used == budget
    assert uniform_extremes(table, 3000).used == 3000
    assert uniform_extremes(table, 3000).best == table.mean(1).argmax()


def test_formats_keep_the_text_and_differ() -> None:
    made = formats(500, seed=3)
    assert made[0] is ORIGINAL and len({form.put("w1 w2") for form in made}) == 500
    assert all("w1 w2" in form.put("w1 w2") for form in made)
    assert all("\n" in form.space for form in made if "\n" in form.separator)
    assert formats(9, 1) == formats(9, 1) != formats(9, 2)


def test_misspelling_leaves_digits_and_changes_letters() -> None:
    text = "add 12 and 30 to the pile"
    for seed in range(20):
        wrong = misspelt(text, 0.1, random.Random(seed))
        assert [c for c in wrong if c.isdigit()] == list("1230") and abs(len(wrong) - len(text)) <= 2
    assert misspelt("12 + 3", 0.5, random.Random(0)) == "12 + 3"


def test_choices_come_from_labels_columns_or_shared_answers() -> None:
    rows = lambda records: subject(records).rows
    labelled = rows([pair("w40", f" {word}", n, label=word) for n, word in enumerate(("w60", "w61", "w60"))])
    found = choices_of(labelled, labelled)
    assert found and list(found.answers[0]) == [" w60", " w61"] and list(found.truths) == [0, 1, 0]
    listed = rows([pair("w40", " w62", 1, columns={"choices": ["w60", "w62"]})])
    found = choices_of(listed, listed)
    assert found and list(found.answers[0]) == [" w60", " w62"] and list(found.truths) == [1]
    shared = rows(of_two())
    found = choices_of(shared, shared)
    assert found and list(found.answers[3]) == [" w60", " w61"] and found.truths[3] == 1
    free = rows(pairs(12))
    assert choices_of(free, free) is None


def test_calibration_scores_the_probabilities_of_choices() -> None:
    rows = subject(of_two())
    scores = task("calibration").score(rows)
    found = choices_of(rows.rows, rows.rows)
    assert found and scores.confidences is not None and scores.correct is not None
    made = found.probabilities(rows, rows.rows, rows.rows.records)
    for p, truth, value, correct in zip(made, found.truths, scores.values, scores.correct, strict=True):
        assert p.sum() == pytest.approx(1.0) and correct == (p.argmax() == truth)
        assert value == pytest.approx(2 * (1 - p[truth]) ** 2)
    measures = compare([scores], [scores])
    assert [one.metric for one in measures] == ["brier", "ece"] and measures[0].delta == 0


def test_calibration_of_free_answers_takes_the_probability_of_the_answer() -> None:
    rows = subject(pairs(12), stop=frozenset())
    scores = task("calibration").score(rows)
    assert scores.confidences is not None and scores.correct is not None and not scores.correct.any()
    assert scores.values == pytest.approx(scores.confidences**2)
    assert (scores.confidences > 0).all() and (scores.confidences <= 1).all()


def test_format_spread_is_best_minus_worst() -> None:
    rows = subject(of_two(40))
    scores = task("format_spread", formats=6).score(rows)
    accuracies = scores.details["formats"]
    assert len(accuracies) == 6 and scores.score == pytest.approx(max(accuracies.values()) - min(accuracies.values()))
    part = task("format_spread", formats=6, budget=60).score(rows)
    assert 0 <= part.score <= scores.score and part.details["formats"].items() <= accuracies.items()
    free = task("format_spread", formats=3, metric="exact_prefix", limit=5).score(rows)
    assert len(free.values) == 5 and set(np.unique(free.values)) <= {-1.0, 0.0, 1.0}


class Deaf(torch.nn.Module):
    """A model whose logits depend on nothing."""

    def __init__(self, like: Policy) -> None:
        super().__init__()
        self.config, self.generation_config = like.model.config, None
        self.bias = torch.nn.Parameter(torch.linspace(0, 1, like.model.config.vocab_size))

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> object:
        from types import SimpleNamespace

        return SimpleNamespace(logits=self.bias.expand(*input_ids.shape, -1))


def test_prompt_sensitivity_is_zero_for_a_model_that_ignores_its_prompt() -> None:
    deaf = Policy(Deaf(policy()), plain_head=False)
    asked = task("prompt_sensitivity", max_new_tokens=3)
    still = asked.score(subject(of_two(4), deaf))
    assert still.values == pytest.approx(np.zeros(4), abs=1e-6)
    moved = asked.score(subject(of_two(4)))
    assert (moved.values > 0).all() and set(moved.grids[0].rows) == {"all", "spelling", "template"}
    assert moved.grids[0].rows["all"][0] == pytest.approx(moved.score)


def test_prompt_sensitivity_against_a_literal_computation() -> None:
    rows = subject([pair("w40 w41", " w50")], stop=frozenset())
    made = task("prompt_sensitivity", variants=1, variations=("template",), max_new_tokens=2)
    [value] = made.score(rows).values
    tokenizer, model = rows.tokenizer, rows.policy.model
    prompts = [tokenizer.encode(form.put("w40 w41")) for form in formats(2)]
    logp = lambda ids: model(torch.tensor([ids])).logits[0].log_softmax(-1)
    responses = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(2):
            ids.append(int(logp(ids)[-1].argmax()))
        responses.append(ids[len(prompt) :])
    a = [
        [sum(logp(x + y)[len(x) - 1 + k, token].item() for k, token in enumerate(y)) for y in responses]
        for x in prompts
    ]
    assert value == pytest.approx(prompt_sensitivity(a, [2, 2]), abs=1e-5)
    legacy = task("prompt_sensitivity", variants=1, variations=("template",), max_new_tokens=2, legacy=True)
    other = (abs(a[0][1] - a[0][0]) + abs(a[1][0] - a[1][1])) / 2 / 2
    assert legacy.score(rows).values == pytest.approx([other], abs=1e-5)


@pytest.mark.parametrize("name", ["calibration", "format_spread", "prompt_sensitivity"])
def test_plain_text_is_left_out_with_a_warning(name: str) -> None:
    texts = subject([Record((Turn("assistant", "w40 w41"),), "text", file="rows.txt", line=3)])
    assert "rows.txt:3" in str(task(name).omitted(texts))
    assert task(name).omitted(subject(of_two())) is None


def test_long_answers_are_left_out_where_they_are_compared_whole() -> None:
    long_answers = subject([pair("w40", " w41" * 60)])
    assert "240 characters" in str(task("calibration").omitted(long_answers))
    assert task("format_spread").omitted(long_answers) and task("prompt_sensitivity").omitted(long_answers) is None


def test_the_companions_of_prompt_sensitivity() -> None:
    deaf = Policy(Deaf(policy()), plain_head=False)
    asked = task("prompt_sensitivity", max_new_tokens=3, paraphrases=("Say: {prompt}", "{prompt} Now."), variants=1)
    embed = lambda texts: np.array([[len(text), 1.0] for text in texts])
    columns, still = (grid := asked.score(subject(of_two(4), deaf, embed=embed)).grids[0]).columns, grid.rows
    assert set(still) == {"all", "spelling", "template", "paraphrase"}
    whole = dict(zip(columns, still["all"], strict=True))
    assert whole["different responses"] == pytest.approx(1 / 5) and whole["coherence"] == 1.0
    for name in ("entropy", "likelihood variance", "accuracy spread"):
        assert whole[name] == pytest.approx(0.0, abs=1e-9)
    assert still["paraphrase"][1] == pytest.approx(1 / 3)
    moved = dict(zip(columns, asked.score(subject(of_two(4), embed=embed)).grids[0].rows["all"], strict=True))
    assert moved["entropy"] > 0 and moved["likelihood variance"] > 0 and 0 < moved["coherence"] < 1
    plain = asked.score(subject(of_two(4))).grids[0].rows["all"]
    assert dict(zip(columns, plain, strict=True)) == {**moved, "coherence": None}
    with pytest.raises(ValueError, match=r"no \{prompt\}"):
        task("prompt_sensitivity", paraphrases=("Say it.",))


def test_listed_choices_keep_the_text_and_the_rule_of_line_ends() -> None:
    drawn = formats(60, seed=3, listed=2)
    assert drawn[0].listing is None and all(form.listing for form in drawn[1:])
    shown = [form.put("the text", ("one choice", "another")) for form in drawn[1:]]
    assert len(set(shown)) == 59
    for form, text in zip(drawn[1:], shown, strict=True):
        assert "the text" in text and "one choice" in text and "another" in text
        assert "\n" in form.space or "\n" not in form.listing.separator
    assert [replace(form, listing=None) for form in drawn] == formats(60, seed=3)


@pytest.mark.parametrize(
    ("numbering", "expected"), [("1", "14"), ("A", "N"), ("a", "n"), ("I", "XIV"), ("i", "xiv"), ("\u2160", "\u2163")]
)
def test_numberings(numbering, expected) -> None:
    last = 4 if numbering == "\u2160" else 14
    listed = Listing("({})", numbering, "; ").put([f"w{n}" for n in range(last)])
    assert listed.split("; ")[-1] == f"({expected}) w{last - 1}"
    if numbering == "\u2160":
        with pytest.raises(BadInput, match="more choices"):
            Listing("({})", numbering, "; ").put(["w"] * 13)


def test_choices_are_listed_only_where_there_are_some() -> None:
    scores = task("format_spread", formats=5, list_choices=True).score(subject(of_two(40)))
    assert any("ONE" in name for name in scores.details["formats"]) and len(scores.details["quartiles"]) == 3
    with pytest.raises(BadInput, match="no choices to list"):
        task("format_spread", list_choices=True).score(subject(pairs(12)))


def test_demonstrations_stand_in_the_format_of_the_question_and_are_the_same_in_all(monkeypatch) -> None:
    seen: list[list[str]] = []

    def answered(self, subject, rows, records):
        seen.append(["".join(turn.content for turn in one.prompt) for one in records])
        return [np.eye(len(each))[0] for each in self.answers]

    monkeypatch.setattr("tunewright.evaluate.choices.Choices.probabilities", answered)
    pool = [pair(f"w{20 + n} w51", f" w{60 + n % 2}", n) for n in range(30)]
    asked = task("format_spread", formats=4, k=2, list_choices=True)
    assert asked.pool and not task("format_spread").pool
    asked.score(subject(of_two(12), pool=pool))
    every = formats(4, 0, 2)
    assert len(seen) == 4
    choices = ["w60", "w61"]
    shown = [one for one in pool if every[0].put(one.turns[0].content) in seen[0][0]]
    assert len(shown) == 2 and shown != [one for one in pool if every[0].put(one.turns[0].content) in seen[0][1]]
    for form, texts in zip(every, seen, strict=True):
        assert all(form.put(one.turns[0].content, choices) + one.answer in texts[0] for one in shown)
        assert texts[0].endswith(form.put("w40 w50", choices))
    with pytest.raises(BadInput, match="no training row"):
        asked.score(subject(of_two(12)))
    with pytest.raises(BadInput, match="no choices to list in the demonstrations"):
        asked.score(subject(of_two(12), pool=pairs(12)))


def test_free_answers_are_asked_for_behind_demonstrations_too() -> None:
    free = subject(pairs(6), pool=[pair(f"w{20 + n}", " w51", n) for n in range(9)])
    assert len(task("format_spread", formats=3, k=2).score(free).values) == 6
    with pytest.raises(BadInput, match="longer than the model's context"):
        task("format_spread", formats=3, k=60).score(
            replace(free, pool=[pair(f"w{20 + n} w52", " w51", n) for n in range(70)])
        )

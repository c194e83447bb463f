"""Every skill: the reference verifies, a wrong reply does not, levels get harder, and the same seed gives the same."""

from __future__ import annotations

import json
from itertools import islice
from statistics import mean

import pytest

from tunewright import nanoworld
from tunewright.nanoworld.seeds import stream

CASES = [(name, level) for name, skill in nanoworld.skills().items() for level in skill.levels]


def test_every_kind_of_task_is_found_in_the_folder() -> None:
    assert set(nanoworld.skills()) == {
        "arithmetic",
        "dialogues",
        "documents",
        "entailment",
        "facts",
        "functions",
        "instructions",
        "programs",
        "sentiment",
        "storytelling",
        "tools",
        "translation",
        "unknown_facts",
        "word_problems",
    }


@pytest.mark.parametrize(("name", "level"), CASES)
def test_the_reference_verifies_and_another_answer_does_not(name: str, level: int) -> None:
    batch = list(nanoworld.rows(name, "train", 30, seed=3, level=level))
    for row, other in zip(batch, [*batch[1:], batch[0]], strict=True):
        assert nanoworld.verify(row, nanoworld.reply(row))
        if nanoworld.verify(row, nanoworld.reply(other)):
            assert _same_problem(row, other)
        for nonsense in ("", "####", "{", "I do not know.", "def", "\x00 ####  "):
            assert not nanoworld.verify(row, nonsense)


def _same_problem(row: nanoworld.Row, other: nanoworld.Row) -> bool:
    """Whether a reply to `other` may be right for `row`: the answers agree, or what is wanted is only a part of it."""
    if row["skill"] == "storytelling":
        return set(row["answer"].split(", ")) <= set(nanoworld.reply(other).replace(".", "").split())
    if row["skill"] == "functions":
        return bool(row["tests"] == other["tests"])
    return bool(row["answer"] == other["answer"])


@pytest.mark.parametrize("name", ["arithmetic", "word_problems", "programs"])
def test_the_marked_number_decides_and_not_the_work(name: str) -> None:
    for row in nanoworld.rows(name, "train", 40, seed=5):
        right = nanoworld.reply(row)
        work, mark, answer = right.rpartition("#### ")
        assert nanoworld.verify(row, f"Something else entirely. {mark}{answer}")
        assert not nanoworld.verify(row, f"{work}{mark}{int(answer) + 1}")
        assert not nanoworld.verify(row, f"{work}{mark}{answer}0")
        assert not nanoworld.verify(row, work + answer)


@pytest.mark.parametrize("name", list(nanoworld.skills()))
def test_levels_change_the_difficulty(name: str) -> None:
    """Harder problems take more characters to pose and to solve; a list of unknown facts is hard at once."""
    if name == "unknown_facts":
        return
    levels = nanoworld.skills()[name].levels
    sizes = []
    for level in (levels[0], levels[-1]):
        batch = nanoworld.rows(name, "train", 30, seed=1, level=level)
        sizes.append(mean(len(nanoworld.prompt(row)) + len(nanoworld.reply(row)) for row in batch))
    assert sizes[1] > 1.05 * sizes[0]


@pytest.mark.parametrize(("name", "level"), CASES)
def test_a_draw_depends_on_its_seed_alone(name: str, level: int) -> None:
    skill = nanoworld.skills()[name]
    assert skill.draw(stream(7), level) == skill.draw(stream(7), level)
    assert len({json.dumps(skill.draw(stream(i), level)) for i in range(20)}) > 10


@pytest.mark.parametrize("name", list(nanoworld.skills()))
def test_rejected_replies_are_wrong_and_chosen_ones_right(name: str) -> None:
    for pair in nanoworld.preferences(name, "train", 12, seed=2):
        [chosen], [rejected] = pair["chosen"], pair["rejected"]
        assert nanoworld.verify(
            {**pair, "messages": [*pair["prompt"], chosen]}, nanoworld.reply({"messages": [chosen]})
        )
        row = {**pair, "messages": [*pair["prompt"], chosen]}
        assert not nanoworld.verify(row, nanoworld.reply({"messages": [rejected]}))


def test_worked_steps_of_sums_add_up() -> None:
    """Every `x sign y = z` of a worked solution is true, in each skill that shows its work."""
    signs = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b}
    checked = 0
    for name in ("word_problems", "programs"):
        for row in nanoworld.rows(name, "train", 60, seed=4):
            words = nanoworld.reply(row).replace(".", " ").split()
            for left, sign, right, equals, result in zip(*(islice(words, i, None) for i in range(5)), strict=False):
                if equals == "=" and sign in signs:
                    assert signs[sign](int(left), int(right)) == int(result)
                    checked += 1
    assert checked > 200


def test_translation_follows_the_rules_of_the_language() -> None:
    from tunewright.nanoworld.language import Phrase, Sentence, vocabulary

    v = vocabulary()
    assert len(set(v.values())) == len(v)
    sentence = Sentence(Phrase("child", "happy", many=True), "see", Phrase("fox", "red"), past=True)
    assert sentence.english() == "The happy children saw the red fox."
    expected = f"{v['child']}ni {v['happy']} {v['fox']}m {v['red']} {v['see']}du."
    assert sentence.velmic().lower() == expected


def test_a_fact_is_said_only_if_no_other_value_is() -> None:
    row = next(row for row in nanoworld.rows("facts", "train", 50, level=1) if row["relation"] == "river")
    name = row["answer"]
    other = next(one for one in nanoworld.world.domain("river") if one != name)
    assert nanoworld.verify(row, f"I think it is the {name}.")
    assert not nanoworld.verify(row, f"It is the {name} or the {other}.")
    assert not nanoworld.verify(row, f"It is the {name}ish.")

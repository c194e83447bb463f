"""Edits lead from the source to the target, whatever the words."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from format_rows import read_rows

from tunewright.data.edits import Edit, applied, edits, parsed, written

WORDS = ["a", "b", "c", ",", "x,", "None", "7", '"', "\\", "None,", "1,", "'"]


def drawn(seed, signs=WORDS, longest=9):
    rng = random.Random(seed)
    return [rng.choice(signs) for _ in range(rng.randrange(longest))]


@pytest.mark.parametrize("align", ["difflib", "cost"])
def test_edits_give_the_target_and_stand_apart_in_order(align):
    for seed in range(0, 3000, 2):
        source, target = drawn(seed), drawn(seed + 1)
        found = edits(source, target, align)
        assert parsed(written(found)) == found
        assert applied(source, parsed(written(found))) == target
        assert all(one.end < other.start for one, other in pairwise(found))
        assert (written(found) == "None") == (source == target)


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("She go to school every days", "She goes to school every day", "1 2 goes, 5 6 day"),
        ("b", "a b c", "0 0 a, 1 1 c"),
        ("on on the mat", "on the mat", "0 1 None"),
        ("a b", "a None", '1 2 "None"'),
        ("a b", "a x, y", '1 2 "x, y"'),
        ("a b", 'a "', '1 2 "\\""'),
        ("a b", "a \\", '1 2 "\\\\"'),
        ("a b", "a 7", "1 2 7"),
        ("same text", "same text", "None"),
        ("", "new text", "0 0 new text"),
    ],
)
def test_what_is_written(source, target, said):
    assert written(edits(source.split(), target.split())) == said


def test_the_cheapest_alignment_prefers_similar_words_and_swaps():
    source, target = ["the", "big", "red", "dog"], ["the", "small", "dog", "red"]
    assert written(edits(source, target)) == "1 2 small dog, 3 4 None"
    assert written(edits(source, target, "cost")) == "1 4 small dog red"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9 10 x", "a b c"),
        ("2 1 x", "a b c"),
        ("0 2 x, 1 3 y", "x c"),
        ("1 1 x, 1 1 y", "a x b c"),
        ("2 3 z, 0 1 y", "y b z"),
        ('0 1 "broken, 2 3 x', "a b x"),
        ('0 1 "\\q", 2 3 x', "a b x"),
        ("99999999999999999999 3 x", "a b c"),
        ("rubbish, 0 1 x", "x b c"),
        ("", "a b c"),
    ],
)
def test_malformed_edits_are_ignored(text, words):
    assert applied(["a", "b", "c"], parsed(text)) == words.split()


def test_no_string_raises():
    for seed in range(4000):
        text = "".join(drawn(seed, '01 9,None"\\ux{}\n', 30))
        applied(["a", "b"], parsed(text))


def test_rows_become_prompts_and_edits():
    row = {"source": "She  go\nto school", "target": "She goes to school"}
    (plain,) = read_rows("edit_span_targets", [row])
    assert [turn.content for turn in plain.turns] == ["She go to school", "1 2 goes"]
    assert plain.columns == {"source": "She go to school", "target": "She goes to school"}
    shown = read_rows("edit_span_targets", [row, {**row, "instruction": "Own."}], show_indices=True, instruction="Fix.")
    assert [one.turns[0].content for one in shown] == [
        "Fix.\n\n0 She 1 go 2 to 3 school",
        "Own.\n\n0 She 1 go 2 to 3 school",
    ]


def test_edits_without_an_overlap_apply_in_any_order():
    found = [Edit(0, 1, ("x",)), Edit(2, 2, ("y",)), Edit(3, 4, ())]
    assert applied(["a", "b", "c", "d"], found) == applied(["a", "b", "c", "d"], found[::-1]) == ["x", "b", "y", "c"]

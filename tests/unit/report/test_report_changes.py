import time

from hypothesis import given
from hypothesis import strategies as st

from tunewright.report.changes import compare


def joined(pieces):
    return "".join(piece.text for piece in pieces)


@given(st.text(), st.text())
def test_nothing_is_lost_and_what_both_have_is_equal(before, after):
    left, right = compare(before, after)
    assert (joined(left), joined(right)) == (before, after)
    shared = [joined(p for p in side if not p.differs and not p.text.isspace()) for side in (left, right)]
    assert "".join(shared[0].split()) == "".join(shared[1].split())


def test_words_are_compared_whole_and_neighbours_joined():
    left, right = compare("the cat sat down", "the dog ran down")
    assert [p.text for p in left if p.differs] == ["cat sat"]
    assert [p.text for p in right if p.differs] == ["dog ran"]


def test_scripts_without_spaces_are_compared_by_character():
    left, _ = compare("約三百キロです", "約四百キロです")
    assert [p.text for p in left if p.differs] == ["三"]


def test_very_long_texts_are_not_compared():
    start = time.perf_counter()
    left, _ = compare("a b " * 200_000, "b a " * 200_000)
    assert time.perf_counter() - start < 5 and not any(p.differs for p in left)

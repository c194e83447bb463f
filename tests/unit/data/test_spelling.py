"""Which characters each token stands for."""

import pytest

from tunewright.data.encoding import Encoder
from tunewright.data.spelling import spelled

TEXTS = ["def f(x):\n    return x >= 2", "naïve 日本語 🙂 end", "  two  blanks ", ""]


@pytest.mark.parametrize("text", TEXTS)
def test_the_characters_are_those_that_the_tokenizer_gave(tokenizer, text):
    encoder = Encoder(tokenizer)
    [(ids, offsets)] = encoder.with_offsets([text])
    found = encoder.spelled(ids)
    assert found.text == text and len(found.offsets) == len(ids)
    for (start, end), (first, last) in zip(found.offsets, offsets, strict=True):
        assert start <= first and last <= end


def test_special_tokens_have_no_characters(tokenizer):
    encoder = Encoder(tokenizer)
    found = encoder.spelled([*encoder.ids(["a b"])[0], encoder.eos])
    assert found.text == "a b" and found.offsets[-1] == (3, 3)


def test_a_blank_that_depends_on_the_token_before_is_kept():
    # As tokenizers do that mark words: decoding drops the blank of the first one.
    words = ["_one", "_two", "_three"]
    decode = lambda ids: "".join(words[i] for i in ids).replace("_", " ").lstrip()
    assert spelled([0, 1, 2], decode) == ("one two three", [(0, 3), (3, 7), (7, 13)])


def test_tokens_of_one_character_share_it():
    raw = "é!".encode()
    decode = lambda ids: bytes(raw[i] for i in ids).decode(errors="replace")
    assert spelled([0, 1, 2], decode) == ("é!", [(0, 1), (0, 1), (1, 2)])

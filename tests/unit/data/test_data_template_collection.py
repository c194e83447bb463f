"""The chat templates that TRL ships, those of current model families: weights agree with their marks and prefixes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from data_samples import wrapped

from tunewright.data.records import Record, Turn
from tunewright.data.templates import Renderer
from tunewright.errors import BadInput
from tunewright.recipe import Reading

SPEC = importlib.util.find_spec("trl")
FOLDER = Path((SPEC.submodule_search_locations or ["."])[0]) / "chat_templates" if SPEC else Path("nowhere")
FILES = sorted(FOLDER.glob("*.jinja"))

TURNS = (
    Turn("user", "Hello!"),
    Turn("assistant", "How can I help?"),
    Turn("user", "What is two plus two?"),
    Turn("assistant", "It is four."),
)
TALK = Record(TURNS, "chat", file="talk.jsonl", line=1)
CALL = {"type": "function", "function": {"name": "add", "arguments": {"x": 2, "y": 2}}, "id": "a1b2c3d4e"}
CALLING = (
    Turn("user", "What is two plus two?"),
    Turn("assistant", "", calls=(CALL,)),
    Turn("tool", "4", name="add", answers="a1b2c3d4e"),
    Turn("assistant", "It is four."),
)
MARK = re.compile(r"\{%-?\s*generation")
SPECIAL = re.compile(r"<\|[\w/ ]+\|>|<[a-z_]*turn[a-z_]*>|<\uff5c[^>\uff5c]+\uff5c>|<end_of_utterance>")

pytestmark = [
    pytest.mark.skipif(not FILES, reason="TRL, whose chat templates are tried, is not installed"),
    pytest.mark.parametrize("file", FILES or [None], ids=lambda file: file.stem if file else "none"),
]


@pytest.fixture
def chat(file, byte_level):
    """A tokenizer with the template and the special tokens it writes, and whether the template marks answers."""
    template = file.read_text()
    tokenizer = wrapped(byte_level, template)
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(set(SPECIAL.findall(template)))})
    return tokenizer, MARK.search(template) is not None


def spoken(tokenizer, turns, **options):
    """The conversation by the tokenizer itself: plain contents, or parts where the template reads parts alone."""
    plain = [turn.message() for turn in turns]
    parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in plain]
    for messages in (plain, parts):
        try:
            if all(turn.content in tokenizer.apply_chat_template(messages, tokenize=False) for turn in turns):
                return tokenizer.apply_chat_template(messages, **options)
            refused: object = "it leaves out what is said"
        except Exception as error:
            refused = error
    pytest.skip(f"the template does not take this conversation: {refused}")


def runs(rendered, tokenizer):
    """The texts that carry loss, run by run."""
    found, last = [], 0.0
    for index, weight in zip(rendered.ids, rendered.weights, strict=True):
        if weight:
            found[-1:] = [[*found[-1], index]] if last else [*found[-1:], [index]]
        last = weight
    return [tokenizer.decode(ids) for ids in found]


@pytest.mark.parametrize("turns", [TURNS[:2], TURNS, CALLING], ids=["one answer", "two answers", "a tool call"])
def test_weights_are_the_templates_own_marks(chat, turns):
    tokenizer, marked = chat
    if not marked:
        pytest.skip("the template has no generation marks")
    wanted = spoken(tokenizer, turns, return_dict=True, return_assistant_tokens_mask=True)
    made = Renderer(tokenizer, Reading(train_on="all_turns")).render(Record(turns, "chat"))
    assert made.ids == wanted["input_ids"]
    assert made.weights == [float(mark) for mark in wanted["assistant_masks"]]


def test_without_marks_all_turns_weigh_or_are_refused(chat):
    tokenizer, marked = chat
    if marked:
        pytest.skip("the template has generation marks")
    renderer = Renderer(tokenizer, Reading(train_on="all_turns"))
    whole = spoken(tokenizer, TURNS, tokenize=False)
    if whole.startswith(spoken(tokenizer, TURNS[:2], tokenize=False)):
        first, second = runs(renderer.render(TALK), tokenizer)
        assert "How can I help?" in first
        assert "It is four." in second
        assert not any("Hello" in run or "two plus" in run for run in (first, second))
    else:
        with pytest.raises(BadInput, match=r"does not show where turn 2.*Set 'train_on: last_turn'"):
            renderer.render(TALK)


def test_the_last_turn_weighs_alone(chat):
    tokenizer, _ = chat
    made = Renderer(tokenizer, Reading(train_on="last_turn")).render(TALK)
    (only,) = runs(made, tokenizer)
    assert "It is four." in only
    assert not any(text in only for text in ("Hello", "How can", "two plus"))
    assert made.ids == spoken(tokenizer, TURNS, return_dict=True)["input_ids"]

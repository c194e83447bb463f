"""The tokenizer and its chat template: exact round trips, single digits, and loss marks where they belong."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer

from tunewright import nanoworld
from tunewright.nanoworld import embedded


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(nanoworld.BASE)


ROWS = [row for name in nanoworld.skills() for row in nanoworld.rows(name, "train", 8, seed=1)]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Good morning."},
    {"role": "user", "content": "How many?"},
    {"role": "assistant", "content": "42"},
]


def test_building_again_gives_the_shipped_files(tmp_path: Path) -> None:
    embedded.build(tmp_path)
    built = {file.name: _without_version(file) for file in tmp_path.iterdir()}
    assert set(built) >= {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"}
    for name, content in built.items():
        assert _without_version(nanoworld.BASE / name) == content, name


def _without_version(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if "transformers_version" not in line]


def test_ids_of_special_tokens_are_those_of_the_model(tokenizer: Any) -> None:
    config = AutoConfig.from_pretrained(nanoworld.BASE)
    assert len(tokenizer) == config.vocab_size == 2048
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
    assert tokenizer.eos_token == "<|end|>"


def test_any_text_comes_back(tokenizer: Any) -> None:
    for text in ["  two  spaces\n\ttab", "Zoë paid 12.50 €", "def f(x):\n    return x", "x" * 50, "007"]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    for row in islice(nanoworld.corpus(3), 200):
        text = row.get("text") or nanoworld.reply(row)
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_digits_stand_alone(tokenizer: Any) -> None:
    digits = [token for token in tokenizer.tokenize("In 1962 and 2048 + 77.") if any(c.isdigit() for c in token)]
    assert digits == list("1962204877")
    assert not [token for token in tokenizer.get_vocab() if len(token) > 1 and any(c in "0123456789" for c in token)]


def test_text_of_the_world_is_short_in_tokens(tokenizer: Any) -> None:
    texts = [row["text"] for row in nanoworld.retention(60)]
    assert sum(map(len, texts)) / sum(len(tokenizer(text).input_ids) for text in texts) > 3.5


def test_bos_comes_once_and_from_the_template(tokenizer: Any) -> None:
    assert tokenizer("Hello").input_ids[0] != tokenizer.bos_token_id
    for row in ROWS:
        ids = _ids(tokenizer, row["messages"], row)
        assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
        text = tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), tokenize=False)
        assert tokenizer(text).input_ids == ids


def test_marks_cover_exactly_what_the_assistant_says_and_its_end(tokenizer: Any) -> None:
    for row in ROWS:
        both = tokenizer.apply_chat_template(
            row["messages"], tools=row.get("tools"), return_dict=True, return_assistant_tokens_mask=True
        )
        trained = [i for i, mark in zip(both["input_ids"], both["assistant_masks"], strict=True) if mark]
        turns = [{"messages": [turn]} for turn in row["messages"] if turn["role"] == "assistant"]
        assert tokenizer.decode(trained) == "".join(nanoworld.reply(turn) + "<|end|>" for turn in turns)


def test_a_conversation_is_rendered_as_the_page_says(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|bos|><|system|>Be brief.<|end|><|user|>Hello<|end|><|assistant|>Good morning.<|end|>"
        "<|user|>How many?<|end|><|assistant|>42<|end|><|assistant|>"
    )


def test_the_beginning_of_a_conversation_is_the_beginning_of_its_rendering(tokenizer: Any) -> None:
    for messages, row in [(TALK, {}), *((row["messages"], row) for row in ROWS)]:
        whole = _ids(tokenizer, messages, row)
        for end in range(1, len(messages)):
            generation = messages[end]["role"] == "assistant"
            part = _ids(tokenizer, messages[:end], row, add_generation_prompt=generation)
            assert whole[: len(part)] == part


def test_a_tool_may_lack_description_and_parameters(tokenizer: Any) -> None:
    tools = [{"type": "function", "function": {"name": "now"}}]
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Time?"}], tools=tools, tokenize=False)
    assert text == "<|bos|><|system|>Tools:\nnow()<|end|><|user|>Time?<|end|>"


def test_tools_and_their_calls_are_rendered(tokenizer: Any) -> None:
    row = next(nanoworld.rows("tools", "train", 1, level=3))
    text = tokenizer.apply_chat_template(row["messages"], tools=row["tools"], tokenize=False)
    for tool in row["tools"]:
        assert f"\n{tool['function']['name']}(" in text.split("<|end|>")[0]
    call = next(turn for turn in row["messages"] if "tool_calls" in turn)
    assert nanoworld.reply({"messages": [call]}) in text
    assert f"<|tool|>{row['messages'][2]['content']}<|end|>" in text
    as_text = {"name": "f", "arguments": '{"a": 1}'}
    said = [{"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": as_text}]}]
    rendered = tokenizer.apply_chat_template(said, tokenize=False)
    assert rendered == '<|bos|><|assistant|>{"name": "f", "arguments": {"a": 1}}<|end|>'


def test_an_unknown_role_is_refused(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="the role is wizard"):
        tokenizer.apply_chat_template([{"role": "wizard", "content": "Hi"}], tokenize=False)


def _ids(tokenizer: Any, messages: list[dict[str, Any]], row: dict[str, Any], **options: Any) -> list[int]:
    rendered = tokenizer.apply_chat_template(messages, tools=row.get("tools"), return_dict=True, **options)
    return list(rendered["input_ids"])

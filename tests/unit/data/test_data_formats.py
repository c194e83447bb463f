"""Rows of every format become the same records."""

from __future__ import annotations

import json

import pytest

from tunewright import catalog
from tunewright.data.reading import Reader
from tunewright.data.records import Turn
from tunewright.document import Keys
from tunewright.recipe import Recipe, SourceSpec

HERE = Keys(None, {})
ASKED, SAID = Turn("user", "q"), Turn("assistant", "a")


@pytest.fixture
def read(write):
    """The format and records of rows in a file."""

    def make(*rows, **options):
        reader = Reader(SourceSpec(path=str(write("rows.jsonl", list(rows))), **options), HERE)
        records = list(reader.records())
        return reader.format.name, records

    return make


def chat(*pairs, key=("role", "content")):
    return [dict(zip(key, pair, strict=True)) for pair in pairs]


SHAREGPT = ("from", "value")
TALK = chat(("user", "q"), ("assistant", "a"))

SAME = {
    "alpaca": {"instruction": "q", "input": "", "output": "a"},
    "alpaca without input": {"instruction": "q", "output": "a"},
    "question": {"question": "q", "answer": "a"},
    "messages": {"messages": TALK},
    "sharegpt": {"conversations": chat(("human", "q"), ("gpt", "a"), key=SHAREGPT)},
    "conversations with roles": {"conversations": TALK},
    "completion as messages": {"prompt": TALK[:1], "completion": TALK[1:]},
    "parts with text": {"messages": chat(("user", [{"type": "text", "text": "q"}]), ("assistant", "a"))},
    "parts with value": {"messages": chat(("user", [{"type": "text", "value": "q"}]), ("assistant", ["a"]))},
    "chosen": {
        "conversations": chat(("human", "q"), key=SHAREGPT),
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    },
    "chosen beside a question": {"question": "q", "chosen": "a", "rejected": "b"},
    "chosen messages": {"chosen_messages": TALK, "rejected_messages": chat(("user", "q"), ("assistant", "b"))},
    "chosen repeats the prompt": {"prompt": "q", "chosen": TALK, "rejected": chat(("user", "q"), ("assistant", "b"))},
    "dialogue": {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
    "messages with a judgement": {"messages": TALK, "label": True},
    "conversations with a judgement": {"conversations": TALK, "label": 1},
}


@pytest.mark.parametrize("case", SAME)
def test_same_conversation(case, read):
    _, (record,) = read(SAME[case])
    assert record.turns == (ASKED, SAID)
    assert record.style == "chat"
    if "chosen" in SAME[case] or "chosen_messages" in SAME[case]:
        assert record.rejected == (ASKED, Turn("assistant", "b"))
    if "label" in SAME[case]:
        assert record.label is True


TEXTS = {"prompt": "q", "completion": "a"}

RECOGNISED = [
    ("preference", {**TEXTS, "chosen": "a", "rejected": "b"}),
    ("unpaired", {**TEXTS, "label": True}),
    ("unpaired", {"messages": TALK, "text": "t", "label": 0}),
    ("messages", {**TEXTS, "messages": TALK}),
    ("messages", {"messages": TALK, "conversations": TALK}),
    ("sharegpt", {**TEXTS, "conversations": TALK}),
    ("alpaca", {**TEXTS, "instruction": "q", "output": "a"}),
    ("completion", {**TEXTS, "question": "q", "answer": "a"}),
    ("question", {"question": "q", "answer": "a", "text": "t", "label": "x"}),
    ("classification", {"text": "t", "label": "x"}),
    ("text", {"text": "t", "n": 1}),
]
"""Rows that more than one format would take, or that have further fields."""


@pytest.mark.parametrize(("name", "row"), RECOGNISED)
def test_the_format_with_the_most_telling_fields_is_recognised(name, row, read):
    assert read(row)[0] == name


def test_a_format_is_a_method_with_options_or_a_bare_name(write):
    path = str(write("a.jsonl", [TEXTS]))
    made = Recipe.of(model="unused", data={"train": [path, {"path": path, "format": "auto"}], "format": "text"})
    assert [source.format if source.format == "auto" else source.format.name for source in made.data.sources] == [
        "text",
        "auto",
    ]
    assert made.plain()["data"]["format"] == "text"
    assert [source["format"] for source in made.plain()["data"]["sources"]] == ["text", "auto"]
    assert made.methods["data", "format"] is made.data.sources[0].format


OWN = """
from tunewright.data.formats.base import Format, Read
from tunewright.data.records import Turn


class Riddle(Format):
    \"\"\"A riddle and what it is.\"\"\"

    name = "riddle"
    title = "riddles (riddle/solution)"
    required = (("riddle", "solution"),)
    precedence = 5
    examples = ({"riddle": "q", "solution": "a"},)

    def read(self, values, reading):
        return Read((Turn("user", values["riddle"]), Turn("assistant", values["solution"])), "chat")
"""


def test_a_format_of_the_users_own_is_recognised(read, write, monkeypatch):
    monkeypatch.setattr(catalog, "_added", {})
    catalog.use(write("riddle.py", OWN))
    name, (record,) = read({"riddle": "q", "solution": "a", "text": "t"})
    assert (name, record.turns, record.columns) == ("riddle", (ASKED, SAID), {"text": "t"})


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "q", "completion": "a"}, "completion"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference"),
        ({"prompt": "q", "completion": "a", "label": False}, "unpaired"),
    ],
)
def test_texts_are_joined_verbatim(row, name, read):
    found, (record,) = read(row)
    assert (found, record.style, record.turns) == (name, "completion", (ASKED, SAID))


def test_plain_text(read):
    assert read({"text": "t"})[1][0].turns == (Turn("assistant", "t"),)
    assert read({"text": "t"})[1][0].style == "text"


def test_alpaca_input_follows_the_instruction(read):
    _, (record,) = read({"instruction": "q", "input": "i", "output": "a", "system": "s"})
    assert record.turns == (Turn("system", "s"), Turn("user", "q\n\ni"), SAID)


@pytest.mark.parametrize(
    ("label", "options", "words"),
    [
        (1, {"labels": {"1": "good"}}, "good"),
        (1.0, {"labels": {"1": "good"}}, "good"),
        (True, {"labels": {"true": "yes"}}, "yes"),
        ("1", {"labels": {"1": "good"}}, "good"),
        ("sports", {}, "sports"),
        (3, {}, "3"),
    ],
)
def test_classes(label, options, words, read):
    name, (record,) = read({"text": "t", "label": label}, **options)
    assert (name, record.label, record.style) == ("classification", words, "completion")
    assert record.turns == (Turn("user", "t\nLabel:"), Turn("assistant", f" {words}"))


def test_classification_by_sentence_and_own_prompt(read):
    _, (record,) = read({"sentence": "t", "label": "x"}, prompt="Is '{text}' {good}?")
    assert record.turns[0] == Turn("user", "Is 't' {good}?")


def test_fields_are_renamed_and_swapped(read):
    _, (record,) = read({"body": "q", "headline": "a", "id": 3}, fields={"prompt": "body", "completion": "headline"})
    assert record.turns == (ASKED, SAID)
    assert record.columns == {"id": 3}
    _, (record,) = read({"prompt": "a", "completion": "q"}, fields={"prompt": "completion", "completion": "prompt"})
    assert record.turns == (ASKED, SAID)


def test_function_converts_and_leaves_out(read, write):
    script = write(
        "f.py", "def convert(row):\n    return None if row['n'] == 1 else {'text': row['body'], 'n': row['n']}\n"
    )
    name, records = read(*({"body": "x", "n": n} for n in range(3)), function=f"{script}:convert")
    assert name == "text"
    assert [record.columns["n"] for record in records] == [0, 2]
    assert [record.line for record in records] == [1, 3]


@pytest.mark.parametrize("name", ["loss_weight", "weight"])
def test_weights_of_rows_and_turns(name, read):
    _, (record,) = read(
        {
            "messages": [{"role": "user", "content": "q", name: 0}, {"role": "assistant", "content": "a", name: 0.5}],
            name: 2,
        }
    )
    assert record.weight == 2.0
    assert [turn.weight for turn in record.turns] == [0.0, 0.5]
    assert record.columns == {}


CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1}'}}]},
        {"role": "assistant", "content": [{"type": "tool_call", "value": '{"name": "f", "arguments": {"x": 1}}'}]},
        {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
        {"from": "function_call", "value": '[{"name": "f", "arguments": "{\\"x\\": 1}"}]'},
    ],
)
def test_tool_calls(turn, read):
    tools = json.dumps([{"name": "f", "parameters": {}}])
    said = [
        {"role": "user", "content": "q"},
        turn,
        {"from": "observation", "value": "r", "name": "f", "tool_call_id": "c1"},
        {"role": "assistant", "content": "a"},
    ]
    _, (record,) = read({"messages": said, "tools": tools})
    assert record.turns == (
        ASKED,
        Turn("assistant", "", calls=(CALL,)),
        Turn("tool", "r", name="f", answers="c1"),
        SAID,
    )
    assert record.tools == ({"type": "function", "function": {"name": "f", "parameters": {}}},)


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": "a", "reasoning_content": "t"},
        {"role": "assistant", "content": "a", "reasoning": "t"},
        {"role": "assistant", "content": "a", "thinking": "t"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "a"}]},
        {"role": "assistant", "content": [{"type": "reasoning", "value": "t"}, {"type": "text", "value": "a"}]},
    ],
)
def test_reasoning(turn, read):
    _, (record,) = read({"messages": [{"role": "user", "content": "q"}, turn]})
    assert record.turns[-1] == Turn("assistant", "a", reasoning="t")


def test_a_named_format_holds_for_generated_rows_too():
    source = SourceSpec(path="nano:retention", limit=3, format="half_text_distill")
    reader = Reader(source, HERE)
    assert [[turn.role for turn in record.turns] for record in reader.records()] == [["user", "assistant"]] * 3
    assert reader.format.name == "half_text_distill"


def test_null_columns_count_as_absent(read):
    name, records = read({"text": "t", "label": None, "messages": None}, {"text": "u", "label": None, "messages": None})
    assert (name, len(records)) == ("text", 2)


def test_format_can_be_forced(read):
    name, (record,) = read({"text": "t", "label": "x"}, format="text")
    assert (name, record.columns) == ("text", {"label": "x"})


def test_numbers_are_text(read):
    assert read({"question": "1 + 1", "answer": 2})[1][0].answer == "2"

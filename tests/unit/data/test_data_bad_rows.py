"""Data that cannot be used is refused in one message that names file, line, field and what was expected."""

from __future__ import annotations

import gzip
import json

import pytest
from data_samples import wrapped

from tunewright.data import lines
from tunewright.data.prepare import prepare
from tunewright.errors import BadInput
from tunewright.recipe import Recipe

GOOD = {"prompt": "a", "completion": "b"}


def row(**values):
    return json.dumps(values) + "\n"


def turns(*said, **more):
    return row(messages=[{"role": role, "content": content} for role, content in said], **more)


HELLO = turns(("user", "hi"), ("assistant", "hello"))
SAID = ("user", "hi"), ("assistant", "hello")

FILES = {
    "malformed JSON": ("a.jsonl", row(**GOOD) * 2 + '{"prompt": "a",\n', 3, "not valid JSON at column"),
    "JSON array in a file of lines": ("a.jsonl", "[\n{}\n]\n", 1, "name it .json"),
    "row that is a list": ("a.jsonl", row(**GOOD) + "[1]\n", 2, "expected a JSON object"),
    "key twice": (
        "a.jsonl",
        row(**GOOD) + '{"prompt": "a", "completion": "b", "prompt": "c"}\n',
        2,
        "field 'prompt': the key stands twice",
    ),
    "key twice deep inside": (
        "a.jsonl",
        '{"messages": [{"role": "user", "content": "a", "role": "user"}]}\n',
        1,
        "'role': the key stands twice",
    ),
    "key twice in an array": (
        "a.json",
        '[\n{"text": "a"},\n{"text": "b",\n "text": "c"}\n]',
        2,
        "field 'text': the key.*begins on line 3",
    ),
    "key twice in an object of rows": ("a.json", '{"n": 1, "rows": [{"text": "a"}], "n": 2}', 1, "field 'n': the key"),
    "invalid UTF-8": ("a.jsonl", b'{"text": "caf\xe9"}\n', 1, "not UTF-8 text: .* at byte 14"),
    "UTF-16": ("a.jsonl", "text".encode("utf-16"), 1, "likely UTF-16"),
    "NUL byte": ("a.jsonl", b'{"text": "a"}\n{"text": "\0"}\n', 2, "NUL byte"),
    "empty file": ("a.jsonl", "", None, "holds no rows"),
    "blank lines only": ("a.jsonl", "\n\n", None, "holds no rows"),
    "header only": ("a.csv", "prompt,completion\n", None, "holds no rows"),
    "empty array": ("a.json", "[]", None, "holds no rows"),
    "empty text": ("a.txt", " \n\n", None, "holds no rows"),
    "broken array": ("a.json", '[\n{"text": "a"},\n{"text": }\n]', 3, "not valid JSON"),
    "array without a comma": ("a.json", '[\n{"text": "a"}\n{"text": "b"}\n]', 3, "expected ','"),
    "array cut off": ("a.json", '[\n{"text": "a"},\n{"text": "b', 3, "not valid JSON: Unterminated"),
    "text behind the array": ("a.json", '[{"text": "a"}]\nmore', 2, "behind the end"),
    "object instead of rows": ("a.json", '{"text": "a"}', 1, "one object, not rows.*keys text"),
    "number in the array": ("a.json", '[{"text": "a"}, 3]', 2, "found 3, expected a JSON object"),
    "invalid UTF-8 in an array": ("a.json", b'[\n{"text": "caf\xe9"}]', 2, "not UTF-8 text: .* at byte 14"),
    "NUL byte in an array": ("a.json", b'[\n{"text": "a\0"}]', 2, "NUL byte"),
    "ragged CSV": ("a.csv", "prompt,completion\na,b\nc\n", 3, "a row of 1 fields, expected 2"),
    "ragged TSV": ("a.tsv", "prompt\tcompletion\na\tb\nc\td\te\n", 3, "a row of 3 fields, expected 2"),
    "open quote": ("a.csv", 'prompt,completion\na,b\n"c,d\ne,f\n', 3, "not valid CSV.*never closed"),
    "column twice": ("a.csv", "text,text\na,b\n", 1, "field 'text': two columns"),
    "damaged Parquet": ("a.parquet", b"PAR1 nothing", None, "not a readable Parquet file"),
    "damaged gzip": ("a.jsonl.gz", None, 1, "not a complete gzip file"),
    "not gzip": ("b.jsonl.gz", None, 1, "not a complete gzip file"),
    "unknown suffix": ("a.xlsx", "x", None, "'.xlsx', expected a name that ends in"),
    "no format": ("a.jsonl", row(problem="a", solution="b"), 1, "fields: {prompt: problem, completion: solution}"),
    "column missing later": ("a.jsonl", row(**GOOD) + row(prompt="a"), 2, "field 'completion': missing"),
    "null": ("a.jsonl", row(**GOOD) + row(prompt="a", completion=None), 2, "field 'completion': missing"),
    "wrong type": ("a.jsonl", row(**GOOD) + row(prompt="a", completion={"a": 1}), 2, "field 'completion'.*expected"),
    "list for text": ("a.jsonl", row(text=["a"]), 1, "field 'text': of the wrong type.*expected text"),
    "mixed formats": (
        "a.jsonl",
        row(**GOOD) + row(instruction="a", output="b"),
        2,
        "Alpaca.*prompt and completion.*first row",
    ),
    "label appears": ("a.jsonl", row(**GOOD) + row(**GOOD, label=True), 2, "mixes formats"),
    "unknown speaker": (
        "a.jsonl",
        turns(("usr", "hi"), ("assistant", "x")),
        1,
        "messages.0.role.*'usr'.*Did you mean 'user'",
    ),
    "no messages": ("a.jsonl", row(messages=[]), 1, "field 'messages': the conversation has no messages"),
    "messages as text": ("a.jsonl", row(messages="hi"), 1, "field 'messages': not a conversation"),
    "message as text": ("a.jsonl", row(messages=["hi"]), 1, "field 'messages.0': not a message"),
    "nothing said": ("a.jsonl", row(messages=[{"role": "user"}]), 1, "field 'messages.0.content': lacks 'content'"),
    "said null": ("a.jsonl", turns(("user", None), ("assistant", "x")), 1, "messages.0.content': nothing is said"),
    "no answer": ("a.jsonl", turns(("user", "hi")), 1, "field 'messages': no assistant turn"),
    "ends with a question": ("a.jsonl", turns(*SAID, ("user", "so?")), 1, "messages.2.*ends with a user turn"),
    "image part": (
        "a.jsonl",
        turns(("user", [{"type": "image", "url": "x"}]), ("assistant", "x")),
        1,
        "content.0.*'image'.*not read",
    ),
    "part without text": (
        "a.jsonl",
        turns(("user", [{"type": "text"}]), ("assistant", "x")),
        1,
        "content.0': the part holds no text",
    ),
    "tool call as text": (
        "a.jsonl",
        row(conversations=[{"from": "human", "value": "a"}, {"from": "function_call", "value": "search(x)"}]),
        1,
        "conversations.1.value': not valid JSON",
    ),
    "tool call without a name": (
        "a.jsonl",
        row(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"function": {}}]}]),
        1,
        "messages.1.tool_calls.0': the tool call has no name",
    ),
    "arguments of a call": (
        "a.jsonl",
        row(
            messages=[
                {"role": "user", "content": "a"},
                {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "["}]},
            ]
        ),
        1,
        "tool_calls.0.arguments': not valid JSON",
    ),
    "user calls a tool": (
        "a.jsonl",
        row(
            messages=[
                {"role": "user", "content": "a", "tool_calls": [{"name": "f"}]},
                {"role": "assistant", "content": "b"},
            ]
        ),
        1,
        "a user turn cannot call tools",
    ),
    "tools as text": ("a.jsonl", turns(*SAID, tools="search"), 1, "field 'tools': not valid JSON"),
    "tool without a name": ("a.jsonl", turns(*SAID, tools=[{"a": 1}]), 1, "field 'tools.0': the tool has no name"),
    "weight below 0": ("a.jsonl", row(**GOOD, loss_weight=-1), 1, "field 'loss_weight': not a loss weight; found -1"),
    "weight as text": ("a.jsonl", row(**GOOD, weight="much"), 1, "field 'weight': not a loss weight"),
    "weight not finite": ("a.jsonl", row(**GOOD, weight=float("nan")), 1, "field 'weight': not a loss weight"),
    "weight of a turn": (
        "a.jsonl",
        row(messages=[{"role": "user", "content": "a", "loss_weight": "x"}, {"role": "assistant", "content": "b"}]),
        1,
        "field 'messages.0.loss_weight'",
    ),
    "judgement": ("a.jsonl", row(**GOOD, label="maybe"), 1, "field 'label': not a judgement.*expected true or false"),
    "class as a list": ("a.jsonl", row(text="a", label=[1]), 1, "field 'label': not a class"),
    "pair ends with a question": (
        "a.jsonl",
        row(prompt="a", chosen=[{"role": "user", "content": "b"}], rejected="c"),
        1,
        "field 'chosen'.*user turn",
    ),
    "pair without a prompt": ("a.jsonl", row(chosen="a", rejected="b"), 1, "field 'chosen': not a dialogue"),
    "chat in a hidden format": ("a.jsonl", HELLO + row(text="a"), 2, "mixes formats"),
}


@pytest.mark.parametrize("case", FILES)
def test_file_is_refused(case, write, recipe, tokenizer):
    name, content, line, message = FILES[case]
    if name == "a.jsonl.gz":
        path = write("cut.bin", gzip.compress(row(**GOOD).encode() * 50)[:-9]).rename(write(name, "x"))
    elif name == "b.jsonl.gz":
        path = write("plain.bin", row(**GOOD)).rename(write(name, "x"))
    else:
        path = write(name, content)
    with pytest.raises(BadInput, match="(?s)" + message) as fault:
        prepare(recipe(train=str(path), eval=str(path)), tokenizer, 512)
    assert fault.value.status == 2
    assert str(path) in str(fault.value)
    assert fault.value.line == line


def test_line_that_never_ends(write, recipe, tokenizer, monkeypatch):
    monkeypatch.setattr(lines, "LINE_LIMIT", 2**20)
    path = write("a.jsonl", row(**GOOD) + row(prompt="a" * 2**21, completion="b"))
    with pytest.raises(BadInput, match=r"a\.jsonl:2: the line is longer than 1 MB; expected one row per line"):
        prepare(recipe(train=str(path), eval=str(path)), tokenizer, 512)


SETTINGS = {
    "no such file": ({"train": "none.jsonl"}, "no such file or directory.*none.jsonl"),
    "nearest file": ({"train": "DIR/rows.jsnl"}, "Did you mean 'rows.jsonl'"),
    "directory without texts": ({"train": "DIR/empty"}, "holds no text files"),
    "one row": ({"train": "DIR/one.jsonl"}, "a single prompt cannot be split"),
    "unknown field": ({"train": "FILE", "fields": {"promt": "prompt"}}, "fields.promt.*Did you mean 'prompt'"),
    "field that rows lack": (
        {"train": "FILE", "fields": {"prompt": "body"}},
        "rows.jsonl:1: field 'body': the row has no such field",
    ),
    "class without words": (
        {"train": "DIR/classes.jsonl", "labels": {"0": "no"}},
        "classes.jsonl:2: field 'label': the class has no words; found 1, expected one of 0",
    ),
    "prompt without a place": (
        {"train": "DIR/classes.jsonl", "prompt": "Say:"},
        "field 'prompt': leaves no place.*{text}",
    ),
    "format that rows lack": (
        {"train": "FILE", "format": "alpaca"},
        "rows.jsonl:1: field 'instruction': missing.*set 'format: completion'",
    ),
    "template that is not there": ({"train": "FILE", "template": "tokenizer"}, "has no chat template"),
    "longer than the context": (
        {"train": "FILE", "max_length": 600},
        "data.max_length': longer than the model's context; found 600, expected at most 512",
    ),
    "too long": (
        {"train": "DIR/long.jsonl", "max_length": 8},
        "field 'max_lost': 1[01] of 1[01] rows are longer.*at most 10.0%.*tokens lost",
    ),
    "too long is an error": (
        {"train": "DIR/long.jsonl", "max_length": 8, "truncation": "error"},
        "field 'truncation'.*the longest at .*long.jsonl:.*a row of .* tokens",
    ),
    "budget": (
        {"train": "DIR/long.jsonl", "max_length": 8, "truncation": "right", "max_lost": 0.5},
        "found a share of 100.0%, expected at most 50.0%",
    ),
    "nothing to learn": (
        {"train": "DIR/weightless.jsonl", "eval": "FILE"},
        "no row is left to train on.*Every token has the loss weight 0",
    ),
    "train is eval": ({"train": "FILE", "eval": "FILE"}, "no row is left to train on.*stand in the evaluation data"),
    "function without a name": (
        {"train": "FILE", "function": "DIR/f.py"},
        "field 'function': not a function.*FILE.py:NAME",
    ),
    "function not there": (
        {"train": "FILE", "function": "DIR/f.py:convrt"},
        "no such function.*Did you mean 'convert'",
    ),
    "function fails": (
        {"train": "FILE", "function": "DIR/f.py:fails"},
        "rows.jsonl:1: field 'function': the function failed.*KeyError",
    ),
    "function gives text": (
        {"train": "FILE", "function": "DIR/f.py:text"},
        "rows.jsonl:1: field 'function': the function gave no row",
    ),
    "two BOS": ({"train": "DIR/bos.jsonl"}, "bos.jsonl:1: two BOS tokens in a row"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_setting_is_refused(case, write, recipe, metaspace, tmp_path):
    write("rows.jsonl", [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(12)])
    write("one.jsonl", [GOOD]), write("bos.jsonl", [{"text": "<s>a"}, {"text": "b"}])
    write("classes.jsonl", [{"text": "a", "label": 0}, {"text": "b", "label": 1}])
    write("long.jsonl", [{"text": f"{i} one two three four five six seven eight nine"} for i in range(12)])
    write("weightless.jsonl", [{**GOOD, "weight": 0}])
    write("f.py", "def convert(row): return row\ndef fails(row): return row['x']\ndef text(row): return 'x'\n")
    (tmp_path / "empty").mkdir()
    options, message = SETTINGS[case]
    options = {
        key: value.replace("DIR", str(tmp_path)).replace("FILE", str(tmp_path / "rows.jsonl"))
        if isinstance(value, str)
        else value
        for key, value in options.items()
    }
    with pytest.raises(BadInput, match="(?s)" + message):
        prepare(recipe(**options), wrapped(metaspace), 512)


def test_the_recipe_line_is_named(write, tokenizer):
    path = write("r.yaml", "model: unused\ndata:\n  cache: false\n  sources:\n    - path: none.jsonl\n")
    with pytest.raises(BadInput, match=r"r\.yaml:5: field 'data\.sources\.0': no such file"):
        prepare(Recipe.read(path), tokenizer, 512)


def test_option_without_effect(write, tokenizer):
    write("rows.jsonl", [{"prompt": f"p{i}", "completion": "c"} for i in range(12)])
    path = write(
        "r.yaml", "model: unused\ndata:\n  cache: false\n  train:\n    path: rows.jsonl\n    labels: {0: no}\n"
    )
    with pytest.raises(BadInput, match=r"r\.yaml:6: field 'data\.train\.labels': without effect"):
        prepare(Recipe.read(path), tokenizer, 512)


def test_shared_option_without_effect(write, recipe, tokenizer):
    path = write("rows.jsonl", [{"prompt": f"p{i}", "completion": "c"} for i in range(12)])
    with pytest.raises(BadInput, match=r"field 'data\.prompt': without effect.*found 'prompt and completion'"):
        prepare(recipe(train=str(path), prompt="{text}?"), tokenizer, 512)


def test_vocabulary_larger_than_the_embedding(write, recipe, tokenizer):
    path = write("a.jsonl", [{"prompt": f"p{i}", "completion": "c"} for i in range(12)])
    with pytest.raises(
        BadInput, match=r"larger than the model's embedding; found 'token id .*', expected ids below 50"
    ):
        prepare(recipe(train=str(path)), tokenizer, 512, vocabulary=50)


def test_tokenizer_without_an_end_token(write, recipe, byte_level):
    path = write("a.jsonl", [{"prompt": f"p{i}", "completion": "c"} for i in range(12)])
    with pytest.raises(BadInput, match="field 'eos_token': the tokenizer has no end token"):
        prepare(recipe(train=str(path)), wrapped(byte_level, eos_token=None), 512)


def test_cache_that_cannot_be_written(write, tokenizer, tmp_path):
    path = write("a.jsonl", [{"prompt": f"p{i}", "completion": "c"} for i in range(12)])
    write("taken", "a file, not a folder")
    with pytest.raises(BadInput, match=r"cannot be kept.*TUNEWRIGHT_CACHE"):
        prepare(Recipe.of(model="unused", data=str(path)), tokenizer, 512, cache_dir=tmp_path / "taken")

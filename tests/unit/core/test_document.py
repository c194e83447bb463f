"""Documents: YAML 1.2, lines, changes from the command line."""

import json

import pytest

from tunewright.document import Document
from tunewright.errors import BadInput


def read(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Document.read(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4), ("2.0e-4", 2e-4), ("1e3", 1000.0), (".5", 0.5), ("012", 12), ("0o17", 15), ("0x1F", 31),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("true", True), ("false", False), ("null", None),
        ("~", None), ("12:30", "12:30"), ("2024-01-31", "2024-01-31"), ("'5'", "5"), ("[1, a]", [1, "a"]),
    ],
)  # fmt: skip
def test_yaml_1_2_scalars(tmp_path, text, value):
    found = read(tmp_path, f"key: {text}\n").keys["key"]
    assert found == value and type(found) is type(value)


def test_json_is_yaml(tmp_path):
    keys = {"model": "nano", "data": {"train": "a.jsonl"}, "train": {"steps": 3, "clip": None}, "evaluate": [1.5]}
    assert read(tmp_path, json.dumps(keys, indent=1)).keys == keys


def test_values_are_plain_python(tmp_path):
    def types(value):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return {type(value)}.union(*(types(item) for item in inner))

    found = read(tmp_path, 'a: {b: [1, 2.5, "x", yes, true, null]}\nc: |\n  text\n').keys
    assert types(found) <= {dict, list, str, int, float, bool, type(None)}


def test_lines_are_kept(tmp_path):
    document = read(tmp_path, "model: nano\n\ndata:\n  train:\n    - a\n    - path: b\n      weight: 2\n")
    assert document.line(("data", "train", 1, "weight")) == 7
    assert document.line(("data", "train", 0)) == 5
    assert document.line(("data", "other")) == 3
    assert document.line(("absent",)) is None


def test_anchors_and_merge_keys(tmp_path):
    document = read(tmp_path, "base: &b {rank: 4, alpha: 8}\nadapter:\n  <<: *b\n  alpha: 16\n")
    assert document.keys["adapter"] == {"rank": 4, "alpha": 16}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate key"),
        ('{"a": 1,\n "a": 2}', 2, "duplicate key"),
        ("a: 1\nb: [1, 2\n", 3, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: 'open\n", 2, "not valid YAML"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("a: *nowhere\n", 1, "not valid YAML"),
        ("a:\n  b: .nan\n", 2, "a finite number"),
        ("a: [1.0, -.inf]\n", 1, "a finite number"),
        ("a: 1\nb: 1e999\n", 2, "a finite number"),
        ("- a\n- b\n", None, "not a recipe"),
        ("just words\n", None, "not a recipe"),
        ("", None, "not a recipe"),
        (b"a: \xff\xfe\n", None, "not UTF-8"),
        (b"a: x\x00y\n", None, "not valid YAML"),
        ("a: " + "[" * 5000 + "]" * 5000, None, "nested too deeply"),
        ("a: !odd x\n", None, "not usable YAML"),
    ],
)
def test_faults_name_file_and_line(tmp_path, text, line, says):
    with pytest.raises(BadInput) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert says in message
    assert message.startswith(f"{tmp_path / 'recipe.yaml'}:" + (f"{line}:" if line else " ")), message
    assert "\n" not in message


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        Document.read(tmp_path / "absent.yaml")
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        Document.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ("train.seed=3", {"train": {"seed": 3}}),
        ("train.clip=", {"train": {"clip": None}}),
        ("adapter.rank=8", {"adapter": {"method": "lora", "rank": 8}}),
        ("model.revision=main", {"model": {"path": "nano", "revision": "main"}}),
        ("data.max_length=64", {"data": {"train": "a.jsonl", "max_length": 64}}),
        ("evaluate.0.limit=5", {"evaluate": [{"task": "perplexity", "limit": 5}, "retention"]}),
        ("evaluate=[]", {"evaluate": []}),
        ("optimizer.lr=2e-4", {"optimizer": {"lr": 2e-4}}),
        ("a={b: [1, no]}", {"a": {"b": [1, "no"]}}),
        ("data.labels.0=negative", {"data": {"train": "a.jsonl", "labels": {"0": "negative"}}}),
        ("a=b=c", {"a": "b=c"}),
        (" a = 1", {"a": 1}),
    ],
)
def test_changes(change, keys):
    start = {"model": "nano", "data": "a.jsonl", "adapter": "lora", "evaluate": ["perplexity", "retention"]}
    document = Document(start)
    assert document.changed([change]).keys == {**start, **keys}
    assert document.keys == start == {
        "model": "nano", "data": "a.jsonl", "adapter": "lora", "evaluate": ["perplexity", "retention"]
    }  # fmt: skip


def test_changes_come_one_after_the_other():
    assert Document({}).changed(["a.b=1", "a.c=2", "a.b=3"]).keys == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("seed", "expected KEY=VALUE"), ("=3", "expected KEY=VALUE"), ("evaluate.5.limit=1", "no such item"),
        ("train.seed.deeper=1", "cannot be set"), ("a=.nan", "a finite number"), ("a=[1,", "not valid YAML"),
        ("a={b: 1, b: 2}", "duplicate key"), ("evaluate.first=1", "cannot be set"),
    ],
)  # fmt: skip
def test_changes_that_cannot_be_made(change, says):
    with pytest.raises(BadInput, match="field") as caught:
        Document({"train": {"seed": 1}, "evaluate": ["perplexity"]}).changed([change])
    assert says in str(caught.value)


def test_a_path_is_looked_for_beside_the_recipe(tmp_path):
    document = read(tmp_path, "data: rows.jsonl\n")
    (tmp_path / "rows.jsonl").touch()
    assert document.path_of("rows.jsonl", ("data",)) == tmp_path / "rows.jsonl"
    with pytest.raises(BadInput, match=r":1: field 'data': no such file.*Did you mean 'rows.jsonl'\?"):
        document.path_of("row.jsonl", ("data",))

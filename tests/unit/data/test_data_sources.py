"""Every kind of file gives the same rows, and says where they stand."""

from __future__ import annotations

import json

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from tunewright import network
from tunewright.data.sources import rows
from tunewright.document import Keys
from tunewright.errors import BadInput
from tunewright.recipe import SourceSpec

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": 'c, "d"', "completion": "é\n"}]
HERE = Keys(None, {})


def read(path, **options):
    return list(rows(SourceSpec(path=str(path), **options), HERE))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.json.gz"])
def test_json(write, name):
    found = read(write(name, ROWS))
    assert [row.values for row in found] == ROWS
    assert [row.line for row in found] == [1, 2]


def test_json_rows_say_on_which_line_they_begin(write):
    assert [row.note for row in read(write("a.json", ROWS))] == ["Row 1 begins on line 2.", "Row 2 begins on line 6."]


def test_json_file_of_lines_is_read_as_lines(write):
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    assert [row.values for row in read(write("a.json", text))] == ROWS


def test_json_object_with_one_list_stands_for_it(write):
    assert [row.values for row in read(write("a.json", json.dumps({"version": 1, "examples": ROWS})))] == ROWS


def test_json_array_longer_than_what_is_held_at_once(write):
    many = [{"text": "x" * 1000, "number": index} for index in range(700)]
    assert [row.values for row in read(write("a.json", json.dumps(many)))] == many


def test_csv_with_quotes_and_line_ends(write):
    found = read(write("a.csv", 'prompt,completion\na,b\n"c, ""d""","é\nf"\ng,h\n'))
    assert found[1].values == {"prompt": 'c, "d"', "completion": "é\nf"}
    assert [row.line for row in found] == [2, 3, 5]


def test_tsv_knows_no_quotes(write):
    found = read(write("a.tsv", 'sentence\tlabel\nan "open quote\t1\n'))
    assert found[0].values == {"sentence": 'an "open quote', "label": "1"}


def test_byte_order_mark_and_windows_line_ends(write):
    found = read(write("a.tsv", b"\xef\xbb\xbftext\tlabel\r\nx\ty\r\n"))
    assert found[0].values == {"text": "x", "label": "y"}


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_parquet(tmp_path, write, gz):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    path = write("b.parquet.gz", path.read_bytes()) if gz else path
    assert [(row.line, row.values) for row in read(path)] == list(enumerate(ROWS, 1))


def test_saved_data_set_and_its_parts(tmp_path):
    made = datasets.Dataset.from_list(ROWS)
    made.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": made, "test": made.select([1])}).save_to_disk(str(tmp_path / "two"))
    assert [row.values for row in read(tmp_path / "one")] == ROWS
    assert [row.values for row in read(tmp_path / "two")] == ROWS
    assert [row.values for row in read(tmp_path / "two", part="test")] == ROWS[1:]
    with pytest.raises(BadInput, match=r"no such part.*'tset'.*train, test.*Did you mean 'test'"):
        read(tmp_path / "two", part="tset")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n", [(1, "one"), (2, "two")]),
        ("one\ntwo\n\n\nthree\n", [(1, "one\ntwo"), (5, "three")]),
        ("one\n\n", [(1, "one")]),
        ("\n\none\ntwo", [(3, "one"), (4, "two")]),
        ("a\n\nb\n<|endoftext|>\nc<|endoftext|>d", [(1, "a\n\nb"), (5, "c"), (5, "d")]),
    ],
    ids=["lines", "paragraphs", "blank at the end", "blank at the start", "documents"],
)
def test_text(write, text, expected):
    assert [(row.line, row.values["text"]) for row in read(write("a.txt", text))] == expected


def test_directory_of_texts_in_order(write, tmp_path):
    write("texts/b.txt", "two"), write("texts/a.md", "one"), write("texts/in/c.txt.gz", "three")
    write("texts/skip.py", "code"), write("texts/.hidden/d.txt", "no")
    assert [row.values["text"] for row in read(tmp_path / "texts")] == ["one", "two", "three"]


def test_limit_stops_reading(write):
    path = write("a.jsonl", json.dumps(ROWS[0]) + "\n{broken\n")
    assert len(read(path, limit=1)) == 1


def test_rows_are_streamed(write):
    path = write("a.jsonl", json.dumps(ROWS[0]) + "\n{broken\n")
    stream = rows(SourceSpec(path=str(path)), HERE)
    assert next(stream).values == ROWS[0]
    with pytest.raises(BadInput):
        next(stream)


def test_reading_goes_on_behind_a_reported_fault(write):
    path = write("a.jsonl", b'{"text": "a"}\n{broken\n\xff\n[1]\n{"text": "b"}\n')
    faults: list[BadInput] = []
    found = list(rows(SourceSpec(path=str(path)), HERE, report=faults.append))
    assert [row.line for row in found] == [1, 5]
    assert [fault.line for fault in faults] == [2, 3, 4]


def test_names_of_the_hub(monkeypatch):
    asked = []
    made = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name: asked.append((path, name)) or made)
    assert [row.values for row in read("owner/set", subset="small")] == ROWS
    assert read("set", part="train")[0].file == "set"
    assert asked == [("owner/set", "small"), ("set", None)]


def test_name_that_the_hub_does_not_know(monkeypatch):
    def fail(path, name):
        raise FileNotFoundError("does not exist on the Hub")

    monkeypatch.setattr(network, "_reachable", lambda endpoint: True)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(
        BadInput, match=r"no such file, and no data set of the hub.*does not exist on the Hub; found 'owner/set'"
    ):
        read("owner/set")


def test_name_below_a_folder_that_is_here_is_a_missing_file(write, tmp_path, monkeypatch):
    write("data/rows.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"no such file or directory; found 'data/rows'.*Did you mean 'rows\.jsonl'"):
        read("data/rows")


def test_sources_of_one_file_name_are_told_apart(tmp_path):
    from tunewright.data.parts import parts
    from tunewright.recipe import Recipe

    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    sources = [{"path": str(tmp_path / "one" / "rows.jsonl")}, {"path": str(tmp_path / "two" / "rows.jsonl")}]
    sources.append({"path": str(tmp_path / "three" / "rows.jsonl"), "name": "mine"})
    found = parts(Recipe.of(model="nano", data={"sources": sources}))
    assert [one.name for one in found if one.role == "train"] == ["rows.jsonl", "rows.jsonl 2", "mine"]
    assert [one.name for one in found if one.role == "eval"] == ["rows.jsonl", "rows.jsonl 2", "mine"]

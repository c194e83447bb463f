"""What every format promises."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tunewright.data.completing import Completion, completing
from tunewright.data.formats.base import Format
from tunewright.data.prepare import Prepared, prepare
from tunewright.data.reading import Reader
from tunewright.data.records import Record
from tunewright.data.templates import Renderer
from tunewright.document import Keys
from tunewright.recipe import Recipe, SourceSpec
from tunewright.testing.models import tiny_tokenizer

ROLES = {"system", "user", "assistant", "tool"}


class Echo:
    """Stands for a model that writes: the answer tells what was asked, at which temperature and seed."""

    digest = "echo"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, records: Sequence[Record], temperature: float, seed: int) -> list[str]:
        self.calls += 1
        said = [repr((record.prompt, temperature, seed)).encode() for record in records]
        return [f"answer {hashlib.sha256(one).hexdigest()[:8]}" for one in said]


def observe_rows(form: Format) -> dict[str, Any]:
    """What the format makes of its examples: `tokens`, their ids and loss weights."""
    source, read = _read(form, form.examples)
    made = [one for each in _completed(form, read, "train") for one in each]
    rendered = Renderer(tiny_tokenizer(), source).render_many(made)
    return {"tokens": [(whole.ids, whole.weights) for whole in rendered], "error": ""}


class FormatContract:
    """Tests of one format; a subclass gives the fixture `method`."""

    def test_its_examples_become_records(self, method: Format) -> None:
        assert method.examples and method.title and method.required, "title, required and examples say what it is"
        assert method.fields() == {name for need in method.required for name in need} | set(method.optional)
        assert not method.fits(()), "a row without fields is of no format"
        for example in method.examples:
            assert method.fits(example), f"lacks the required fields: {example}"
        made = [one for each in _completed(method, _read(method, method.examples)[1], "train") for one in each]
        assert made, "no example becomes a record"
        for record in made:
            assert record.turns[-1].role == "assistant" and {turn.role for turn in record.turns} <= ROLES, record
            given = [turn.weight for turn in record.turns if turn.weight is not None]
            assert all(math.isfinite(weight) and weight >= 0 for weight in given), record
            assert math.isfinite(record.weight) and record.weight >= 0, record

    def test_the_same_rows_give_the_same_records(self, method: Format) -> None:
        first, again = (_completed(method, _read(method, method.examples)[1], "train") for _ in range(2))
        assert first == again
        if method.writer is None:
            # A row becomes the same whatever rows it is read with.
            read = _read(method, method.examples)[1]
            alone = [_completed(method, [record], "train", read)[0] for record in read]
            assert alone == first

    def test_held_out_rows_stand_in_no_training_prompt(self, method: Format) -> None:
        assert len(method.examples) > 2 or not method.gathers, "three examples at least show what is drawn upon"
        for held in method.examples if len(method.examples) > 1 else ():
            rest = [row for row in method.examples if row is not held]
            said = [
                turn.content for record in _read(method, [held])[1] for turn in record.turns if len(turn.content) > 8
            ]
            others = [turn.content for record in _read(method, rest)[1] for turn in record.turns]
            prepared = _prepared(method, rest, [held])
            shown = [tiny_tokenizer().decode(ids) for ids in _sequences(prepared)]
            for text in said:
                if not any(text in other for other in others):
                    assert not any(text in one for one in shown), f"{text!r} is held out and trained on"

    def test_every_weight_is_explicit(self, method: Format) -> None:
        source, read = _read(method, method.examples)
        made = [one for each in _completed(method, read, "train") for one in each]
        for record, whole in zip(made, Renderer(tiny_tokenizer(), source).render_many(made), strict=True):
            assert len(whole.weights) == len(whole.ids) and whole.weights[0] == 0
            assert all(math.isfinite(weight) and weight >= 0 for weight in whole.weights)
            learned = [turn.content for turn in record.turns if turn.role == "assistant" and turn.weight != 0]
            trained = [index for index, weight in zip(whole.ids, whole.weights, strict=True) if weight]
            said = tiny_tokenizer().decode(trained, skip_special_tokens=True)
            assert "".join(said.split()) in "".join("".join(learned).split()), f"trained on {said!r}, not {learned}"
            assert trained or not any(learned), f"nothing of {learned} is trained on"

    def test_a_model_writes_only_where_that_is_declared(self, method: Format) -> None:
        assert ("teacher" in method.needs) == (method.writer == "teacher")
        echo = Echo()
        _completed(method, _read(method, method.examples)[1], "train", writer=echo)
        assert bool(echo.calls) == (method.writer is not None)
        assert method.completes or not (method.gathers or method.writer), "only `completed` sees other rows or a model"

    def test_a_recipe_may_name_it(self, method: Format) -> None:
        recipe = _recipe(method, "rows.jsonl")
        plain = recipe.plain()
        assert (
            Recipe.of(**{key: plain[key] for key in ("model", "data", "supplies") if key in plain}).data == recipe.data
        )
        assert completing(recipe.data.sources[0]) == (method if method.completes else None)


def _read(form: Format, rows: Iterable[Mapping[str, Any]]) -> tuple[SourceSpec, list[Record]]:
    """The records of rows as the format reads them."""
    with tempfile.TemporaryDirectory() as folder:
        path = _file(Path(folder) / "rows.jsonl", rows)
        source = SourceSpec(path=path, format=form)
        records = list(Reader(source, Keys(None, {})).records())
    return source, [_placed(record) for record in records]


def _placed(record: Record) -> Record:
    return Record(**{name: getattr(record, name) for name in Record.__slots__} | {"file": "rows.jsonl"})


def _completed(
    form: Format,
    read: Sequence[Record],
    role: Literal["train", "eval"],
    pool: Sequence[Record] | None = None,
    writer: Echo | None = None,
) -> list[list[Record]]:
    """The records that stand in the place of those read; other rows are `pool`, by default the same."""
    source = SourceSpec(path="rows.jsonl", format=form)
    writers = {form.writer: writer or Echo()} if form.writer else {}
    rows = {0: list(read if pool is None else pool)} if form.gathers else {}
    return Completion([source], writers, rows).of(source, 0, read, role, lambda record: "chat")  # type: ignore[arg-type]


def _recipe(form: Format, path: str, **data: Any) -> Recipe:
    supplies = dict.fromkeys(form.needs, "unused")
    keys: dict[str, Any] = {"train": path, "format": form, "cache": False, "duplicates": "keep", **data}
    return Recipe.of(model="unused", data=keys, supplies=supplies)


def _prepared(form: Format, rows: Iterable[Mapping[str, Any]], held: Iterable[Mapping[str, Any]]) -> Prepared:
    with tempfile.TemporaryDirectory() as folder:
        train, other = _file(Path(folder) / "train.jsonl", rows), _file(Path(folder) / "eval.jsonl", held)
        writers = {form.writer: Echo()} if form.writer else {}
        recipe = _recipe(form, train, eval=other)
        return prepare(recipe, tiny_tokenizer(), strict=False, writers=writers)  # type: ignore[arg-type]


def _sequences(prepared: Prepared) -> list[list[int]]:
    table = prepared.train
    return [table.ids[int(s) : int(e)].tolist() for s, e in zip(table.starts[:-1], table.starts[1:], strict=True)]


def _file(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)

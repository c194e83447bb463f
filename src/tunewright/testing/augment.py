"""What every augmentation promises."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tunewright.data.augment.base import Around, Augment
from tunewright.data.prepare import Prepared, prepare
from tunewright.data.reading import Reader
from tunewright.data.records import Record
from tunewright.data.templates import Renderer
from tunewright.document import Keys
from tunewright.recipe import Recipe, SourceSpec
from tunewright.testing.models import tiny_tokenizer

WORDS = ("amber", "birch", "cedar", "dune", "ember", "flint", "grove", "heron")

ROWS: dict[str, list[dict[str, Any]]] = {
    "completion": [{"prompt": f"what is {word}", "completion": f" {word[::-1]}"} for word in WORDS],
    "chat": [
        {"messages": [
            {"role": "system", "content": f"be brief about {word}"}, {"role": "user", "content": f"say {word}"},
            {"role": "assistant", "content": word.upper()},
        ]}
        for word in WORDS
    ],
    "classes": [{"text": f"on {word}", "label": ("yes", "no")[n % 2]} for n, word in enumerate(WORDS)],
    "pairs": [{"prompt": f"spell {word}", "chosen": f" {'-'.join(word)}", "rejected": f" {word}"} for word in WORDS],
    "judged": [{"prompt": f"is it {word}", "completion": f" {word}", "label": n != 1} for n, word in enumerate(WORDS)],
}  # fmt: skip
"""Rows of every shape that has a prompt, by a name for the shape."""


def observe_augment(method: Augment) -> dict[str, Any]:
    """What the augmentation makes of all rows: `tokens`, their ids and loss weights."""
    shown = []
    for rows in ROWS.values():
        source, read = _read(method, rows)
        renderer = Renderer(tiny_tokenizer(), source)
        made = [one for record in read for one in _augmented(method, record, read, renderer)]
        shown += [(whole.ids, whole.weights) for whole in renderer.render_many(made)]
    return {"tokens": shown, "error": ""}


class AugmentContract:
    """Tests of one augmentation; a subclass gives the fixture `method`."""

    def test_the_same_record_gives_the_same(self, method: Augment) -> None:
        for rows in ROWS.values():
            source, read = _read(method, rows)
            renderer = Renderer(tiny_tokenizer(), source)
            first = [_augmented(method, record, read, renderer) for record in read]
            again = [_augmented(method, record, read, renderer) for record in reversed(read)]
            assert first == again[::-1]

    def test_held_out_rows_keep_question_and_answer(self, method: Augment) -> None:
        for rows in ROWS.values():
            source, read = _read(method, rows)
            renderer = Renderer(tiny_tokenizer(), source)
            for record in read:
                made = _augmented(method, record, [one for one in read if one is not record], renderer, "eval")
                assert len(made) == 1 and made[0].answer == record.answer and made[0].label == record.label
                assert (made[0].file, made[0].line) == (record.file, record.line)

    def test_what_it_makes_can_be_trained_on(self, method: Augment) -> None:
        for rows in ROWS.values():
            source, read = _read(method, rows)
            renderer = Renderer(tiny_tokenizer(), source)
            made = [one for record in read for one in _augmented(method, record, read, renderer)]
            assert made, "no row becomes a record"
            for record, whole in zip(made, renderer.render_many(made), strict=True):
                assert record.turns[-1].role == "assistant"
                assert record.rejected is None or record.rejected[:-1] == record.turns[:-1], "pairs share their prompt"
                assert len(whole.weights) == len(whole.ids) and whole.trained
                assert all(math.isfinite(weight) and weight >= 0 for weight in whole.weights)

    def test_held_out_rows_stand_in_no_training_row(self, method: Augment) -> None:
        for shape, rows in ROWS.items():
            for held in (0, 2):
                prepared = _prepared(method, [row for n, row in enumerate(rows) if n != held], [rows[held]])
                assert len(prepared.eval) == 1
                for shown in _texts(prepared):
                    assert WORDS[held] not in shown.lower(), f"{shape}: {WORDS[held]} is held out and trained on"

    def test_split_rows_stand_in_no_training_row(self, method: Augment) -> None:
        prepared = _prepared(method, ROWS["completion"], [])
        held = [word for record in prepared.eval_records for word in WORDS if word in record.turns[-2].content]
        assert held and not any(word in shown for shown in _texts(prepared) for word in held)

    def test_other_rows_are_seen_only_where_that_is_declared(self, method: Augment) -> None:
        source, read = _read(method, ROWS["completion"])
        renderer = Renderer(tiny_tokenizer(), source)
        alone, among = ([_augmented(method, one, rows, renderer) for one in read] for rows in ([], read))
        assert (alone != among) == method.gathers

    def test_a_recipe_may_name_it(self, method: Augment) -> None:
        recipe = _recipe(method, "rows.jsonl")
        assert recipe.data.sources[0].augment == (method,) and method in recipe.methods.values()
        plain = recipe.plain()
        assert Recipe.of(model=plain["model"], data=plain["data"]).data == recipe.data


def _read(method: Augment, rows: Sequence[Mapping[str, Any]]) -> tuple[SourceSpec, list[Record]]:
    with tempfile.TemporaryDirectory() as folder:
        source = SourceSpec(path=_file(Path(folder) / "rows.jsonl", rows), augment=(method,))
        return source, list(Reader(source, Keys(None, {})).records())


def _augmented(
    method: Augment,
    record: Record,
    rows: Sequence[Record],
    renderer: Renderer,
    role: Literal["train", "eval"] = "train",
) -> list[Record]:
    return method.augmented(record, Around(role, rows, renderer.mode))


def _recipe(method: Augment, path: str, **data: Any) -> Recipe:
    return Recipe.of(model="unused", data={"train": path, "augment": method, "cache": False, **data})


def _prepared(method: Augment, rows: Sequence[Mapping[str, Any]], held: Sequence[Mapping[str, Any]]) -> Prepared:
    with tempfile.TemporaryDirectory() as folder:
        train = _file(Path(folder) / "train.jsonl", rows)
        data = {"eval": _file(Path(folder) / "eval.jsonl", held)} if held else {"split": 0.3}
        return prepare(_recipe(method, train, **data), tiny_tokenizer(), strict=False)


def _texts(prepared: Prepared) -> list[str]:
    table, decode = prepared.train, tiny_tokenizer().decode
    pairs = zip(table.starts[:-1], table.starts[1:], strict=True)
    return [decode(table.ids[int(start) : int(end)].tolist()) for start, end in pairs]


def _file(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)

"""A tiny model measured by a task on small files of rows, some of which it answers as their references ask.

The files stand in one folder, beside the recipe that is pretended, so that an option may name them:

- `pairs.jsonl`: prompts whose references are the model's own greedy answers of `ANSWER` tokens, as they are, in other
  case, with further punctuation, behind another line, and with other numbers;
- `classes.jsonl`: classification rows with a column `choices`;
- `edits.jsonl`, `spans.jsonl`: rows of the formats of that kind, those of the formats' examples;
- `both.jsonl`: rows with a text and with a prompt and completion;
- `judge.py`: scoring functions `length` and `vowels`.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from tunewright import catalog
from tunewright.data.completing import Completion
from tunewright.data.formats.base import Format
from tunewright.data.reading import Reader
from tunewright.data.records import Record
from tunewright.data.templates import Renderer
from tunewright.document import Keys
from tunewright.errors import BadInput, Fault
from tunewright.evaluate.base import Rows, Scores, Subject, Task
from tunewright.evaluate.metrics.answers import numbers
from tunewright.evaluate.rows import OwnRows
from tunewright.models.generate import Decoding, generate
from tunewright.recipe import Recipe, SourceSpec
from tunewright.testing.models import tiny, tiny_tokenizer
from tunewright.testing.runs import tiny_policy

ANSWER = 6
"""Tokens of the model's answers that the references are made from."""

OWN: dict[str, Format] = {
    "edits.jsonl": catalog.find("format", "edit_span_targets")(),  # type: ignore[dict-item]
    "spans.jsonl": catalog.find("format", "sift_sequence_labeling")(k=0),  # type: ignore[call-arg, dict-item]
}
"""Files with the examples of a format -> the format."""

FILES = ("pairs.jsonl", "classes.jsonl", *OWN)
"""Rows that stand for the held-out ones: the first file whose rows a task takes."""

_JUDGE = """
def length(answer, record):
    return len(answer)


def vowels(answer, record):
    return sum(letter in "aeiou" for letter in answer)
"""


def observe_task(task: Task) -> dict[str, Any]:
    """What measuring the tiny model by the task shows: `output`, everything in its scores, or the `error`."""
    subject = _subjects()[_file(type(task))]
    try:
        shown = [_shown(task.score(subject))]
        if getattr(task, "shots", 0):
            shown.append(_shown(task.score_with_shots(subject)))  # type: ignore[attr-defined]
    except Fault as fault:
        return {"error": str(fault)}
    return {"error": "", "output": shown}


@cache
def _file(task: type[Task]) -> str:
    from tunewright.testing.effects import usual

    for name in FILES:
        try:
            usual(task).score(_subjects()[name])
            return name
        except BadInput as error:
            refused = error
    raise AssertionError(f"{task.name} takes none of the rows {', '.join(FILES)}: {refused}")


def _shown(scores: Scores) -> str:
    return repr({name: getattr(scores, name) for name in scores.__dataclass_fields__})


@cache
def _folder() -> Path:
    """The folder of rows, made once per process."""
    held = tempfile.TemporaryDirectory(prefix="tunewright-tasks-")
    _kept.append(held)
    folder = Path(held.name)
    own = {name.removesuffix(".jsonl"): form.examples for name, form in OWN.items()}
    for name, rows in {"pairs": _pairs(), "classes": _classes(), "both": _both(), **own}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "judge.py").write_text(_JUDGE)
    (folder / "words.json").write_text('{"row": "ora", "label": "nome"}')
    return folder


_kept: list[tempfile.TemporaryDirectory[str]] = []


@cache
def _subjects() -> dict[str, Subject]:
    folder, tokenizer = _folder(), tiny_tokenizer()
    recipe = Recipe.of(model="unused", data=str(folder / "pairs.jsonl"))
    origin = Keys(folder / "recipe.yaml", {})
    recipe = recipe.model_copy(update={"origin": origin})
    policy, read = tiny_policy(tiny("llama", max_position_embeddings=512)), OwnRows(tokenizer, recipe)
    policy.set_reference(nullcontext)

    def subject(name: str) -> Subject:
        source = SourceSpec(path=str(folder / name), format=OWN.get(name, "auto"))
        found = list(Reader(source, origin).records())
        renderer = Renderer(tokenizer, source)
        completed = Completion([source], {}, {0: found}).of(source, 0, found, "eval", renderer.mode)
        rows = Rows([one for made in completed for one in made], (renderer,), None, (name,))
        examples: list[Record] = list(rows.records[:4])
        return Subject(policy, tokenizer, rows, frozenset({2}), read, examples, examples, embedded=True, origin=origin)

    return {name: subject(name) for name in FILES}


def _pairs() -> list[dict[str, str]]:
    """Two rows of each kind; every answer and every reference holds a number."""
    tokenizer, policy = tiny_tokenizer(), tiny_policy(tiny("llama"))
    rng = torch.Generator().manual_seed(0)
    draw = partial(torch.randint, 97, 122, generator=rng)
    prompts = ["".join(map(chr, draw((5,)).tolist())) for _ in range(200)]
    ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    made = generate(policy, tokenizer, ids, Decoding(ANSWER, frozenset({2})))
    answered = [
        (prompt, answer.text)
        for prompt, answer in zip(prompts, made, strict=True)
        if numbers(answer.text) and "\n" not in answer.text and answer.text.strip() != answer.text.swapcase().strip()
    ]
    kinds = (
        lambda text: text,
        str.swapcase,
        lambda text: text + "!?",
        lambda text: "7\n" + text,
        lambda text: f"1{abs(numbers(text)[-1])}",
        lambda text: f"{float(numbers(text)[-1]) * 1.2 + 0.1:.3f}",
    )
    return [
        {"prompt": prompt, "completion": kinds[n % len(kinds)](text)}
        for n, (prompt, text) in enumerate(answered[: 2 * len(kinds)])
    ]


def _classes() -> list[dict[str, Any]]:
    words = ["yes", "no", "perhaps so"]
    return [{"text": f"row {n * 37 % 101}", "label": words[n % 2], "choices": words} for n in range(16)]


def _both() -> list[dict[str, str]]:
    return [{"text": f"text {n}", "prompt": f"prompt {n}", "completion": f" said {n * n}"} for n in range(8)]

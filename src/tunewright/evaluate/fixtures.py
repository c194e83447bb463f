"""One rendering, kept: examples as token ids and answers to canary prompts, stored with a run and replayed later.

Whoever loads the tuned model again (evaluation, chat, export, a server) replays them. A changed template, a doubled
special token or an adapter that is not applied then stops the work instead of quietly making the answers worse.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.data.cache import packed, unpacked
from tunewright.errors import BadInput, shown
from tunewright.evaluate.base import Renderer, Rows, Subject
from tunewright.evaluate.tasks._generated import with_shots
from tunewright.models.generate import Decoding, context_length, generate
from tunewright.models.policy import Policy

FILE = "fixtures.json"
EXAMPLES = 20
CANARIES = 20
POOL = 64
"""Prompts answered by both models, from which those are kept whose answers differ."""

ANSWER_TOKENS = 32


@dataclass(frozen=True)
class Canary:
    """A record, its prompt as token ids, and the greedy answers (token ids) of base and tuned model."""

    record: dict[str, Any]
    prompt: list[int]
    base: list[int]
    tuned: list[int]


class Replay(NamedTuple):
    """What was compared: rendered examples, answers, and how many answers moved (0 in float32, else an error)."""

    examples: int
    answers: int
    moved: int


def answers(subject: Subject) -> list[Canary]:
    """Greedy answers to prompts of the held-out rows: taken before tuning, then given to `keep`."""
    rows = subject.rows.taken(subject.rows.spread(POOL))
    room = context_length(subject.policy.model) or 1 << 62
    pairs = [(record, list(with_shots(rows, record, ()))) for record in rows.records]
    pairs = [(record, prompt) for record, prompt in pairs if len(prompt) < room]
    found = _answered(subject.policy, subject.tokenizer, [prompt for _, prompt in pairs], subject.stop)
    return [
        Canary(json.loads(packed(record)), prompt, ids, ids) for (record, prompt), ids in zip(pairs, found, strict=True)
    ]


def keep(folder: Path, subject: Subject, before: Sequence[Canary]) -> None:
    """Writes `fixtures.json` into the run's folder: rendered examples, and canaries with both models' answers.

    `before` is what `answers` gave for the base model; `subject` is the tuned one. Prompts whose answers differ come
    first.
    """
    found = _answered(subject.policy, subject.tokenizer, [canary.prompt for canary in before], subject.stop)
    canaries = [replace(canary, tuned=ids) for canary, ids in zip(before, found, strict=True)]
    canaries.sort(key=lambda canary: canary.base == canary.tuned)
    rows = subject.rows.taken(subject.rows.spread(EXAMPLES))
    examples = [
        {"record": json.loads(packed(record)), "ids": [int(index) for index in rendered.ids]}
        for record, rendered in zip(rows.records, rows.rendered(rows.records), strict=True)
    ]
    kept = {
        "dtype": _dtype(subject.policy),
        "stop": sorted(subject.stop),
        "examples": examples,
        "canaries": [asdict(canary) for canary in canaries[:CANARIES]],
    }
    (folder / FILE).write_text(json.dumps(kept, indent=1), encoding="utf-8")


def replay(folder: Path, policy: Policy, tokenizer: Any, renderers: Sequence[Renderer]) -> Replay:
    """Renders the examples again and answers the canaries again.

    Raises `BadInput` with both sides at the first rendering that differs; when every answer that told the tuned model
    from its base is the base's again; and, where training and replay compute in float32, at the first answer that is
    not the tuned model's. In shorter formats answers move with batch and machine: there they are counted.
    """
    stored = _stored(folder)
    canaries = [Canary(**canary) for canary in stored["canaries"]]
    for number, example in enumerate(stored["examples"], 1):
        record = unpacked(json.dumps(example["record"]))
        ids = renderers[record.source].render_many([record])[0].ids
        _same(folder, f"example {number} ({record.where})", tokenizer, example["ids"], ids)
    for number, canary in enumerate(canaries, 1):
        record = unpacked(json.dumps(canary.record))
        ids = with_shots(Rows([record], renderers), record, ())
        _same(folder, f"the prompt of canary {number} ({record.where})", tokenizer, canary.prompt, ids)
    found = _answered(policy, tokenizer, [canary.prompt for canary in canaries], frozenset(stored["stop"]))
    _not_the_base(folder, canaries, found)
    moved = [n for n, canary in enumerate(canaries) if found[n] != canary.tuned]
    if moved and stored["dtype"] == _dtype(policy) == "float32":
        where = f"the answer to canary {moved[0] + 1}"
        _same(folder, where, tokenizer, canaries[moved[0]].tuned, found[moved[0]])
    return Replay(len(stored["examples"]), len(canaries), len(moved))


def _answered(policy: Policy, tokenizer: Any, prompts: Sequence[list[int]], stop: frozenset[int]) -> list[list[int]]:
    return [one.ids for one in generate(policy, tokenizer, prompts, Decoding(max_new_tokens=ANSWER_TOKENS, stop=stop))]


def _dtype(policy: Policy) -> str:
    return str(policy.autocast or next(policy.model.parameters()).dtype).removeprefix("torch.")


def _not_the_base(folder: Path, canaries: Sequence[Canary], found: Sequence[list[int]]) -> None:
    told_apart = [n for n, canary in enumerate(canaries) if canary.base != canary.tuned]
    if told_apart and all(found[n] == canaries[n].base for n in told_apart):
        raise BadInput(
            f"the base model answers: each of the {len(told_apart)} prompts whose answer tuning changed gets the base"
            " model's answer", file=folder / FILE, hint="The adapter is not applied, or other weights were loaded.",
        )  # fmt: skip


def _stored(folder: Path) -> dict[str, Any]:
    try:
        stored: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", file=folder / FILE, expected="a finished run") from None
    except ValueError as error:
        raise BadInput(f"not valid JSON: {error}", file=folder / FILE, expected="the file the run wrote") from None
    return stored


def _same(folder: Path, what: str, tokenizer: Any, kept: Sequence[int], found: Sequence[int]) -> None:
    """Raises `BadInput` with the span in which two sequences differ, and a little around it."""
    kept, found = list(kept), [int(index) for index in found]
    if kept == found:
        return
    shorter = min(len(kept), len(found))
    start = next((n for n in range(shorter) if kept[n] != found[n]), shorter)
    end = next((n for n in range(shorter - start) if kept[-1 - n] != found[-1 - n]), shorter - start)
    sides = [tokenizer.decode(ids[max(0, start - 3) : len(ids) - max(0, end - 3)]) for ids in (kept, found)]
    raise BadInput(
        f"{what} is not what it was in the run, from token {start} on", file=folder / FILE, found=sides[1],
        expected=shown(sides[0]), hint="Tokenizer, chat template and weights must be those of the run.",
    )  # fmt: skip

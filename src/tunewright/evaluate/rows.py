"""The rows of a measurement: those the data preparation held out, and those a task names for itself."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from tunewright.data import duplicates
from tunewright.data.completing import Completion
from tunewright.data.parts import own_source, parts
from tunewright.data.prepare import Prepared
from tunewright.data.reading import Reader
from tunewright.data.records import Record
from tunewright.data.templates import Renderer
from tunewright.evaluate.base import Rows, Subject
from tunewright.models.embedding import embedder
from tunewright.models.generate import stop_tokens
from tunewright.models.policy import Policy
from tunewright.recipe import EMBEDDED, Recipe


def subject(policy: Policy, tokenizer: Any, prepared: Prepared, recipe: Recipe, **options: Any) -> Subject:
    """The policy on the recipe's held-out rows; `options` are further fields of `Subject`."""
    rows = Rows(prepared.eval_records, prepared.renderers, prepared.eval, prepared.names)
    stops = stop_tokens(policy.model, tokenizer).union(*(renderer.stops for renderer in prepared.renderers))
    shots, pool = (max((getattr(task, of, 0) for task in recipe.evaluate), default=0) for of in ("shots", "pool"))
    given = {
        "stop": stops,
        "read": OwnRows(tokenizer, recipe, prepared.completion),
        "examples": list(islice(examples(recipe, prepared), shots)) if shots else (),
        "pool": sampled(examples(recipe, prepared), pool) if pool else (),
        "embedded": recipe.model.path == EMBEDDED,
        "origin": recipe.origin,
        "embed": embedder(policy, tokenizer, recipe.supplies.get("embedder"), recipe.model.trust_remote_code),
    }
    return Subject(policy, tokenizer, rows, **{**given, **options})


def examples(recipe: Recipe, prepared: Prepared) -> Iterator[Record]:
    """The training records as they were read, none of them held out."""
    for part in parts(recipe):
        if part.role == "train":
            for one in Reader(part.source, part.origin, part.place, part.number).records():
                if one.label is not False and duplicates.content(one) not in prepared.held:
                    yield one


def sampled(records: Iterable[Record], count: int) -> list[Record]:
    """`count` of the records at random, the same every time, holding no more of them (a reservoir)."""
    kept, rng = list[Record](), random.Random(0)
    for seen, record in enumerate(records):
        place = rng.randrange(seen + 1)
        if seen < count:
            kept.append(record)
        elif place < count:
            kept[place] = record
    return kept


class OwnRows:
    """Reads the rows that tasks name for themselves, each file once."""

    def __init__(self, tokenizer: Any, recipe: Recipe, completion: Completion | None = None) -> None:
        self.tokenizer, self.recipe, self.completion = tokenizer, recipe, completion or Completion()
        self._read: dict[str, Rows] = {}

    def __call__(self, options: Mapping[str, Any], follow: bool = True) -> Rows:
        """The rows at `options['path']`, read as `own_source` says. Raises `BadInput` for the first faulty row."""
        key = repr((sorted(options.items()), follow))
        if key not in self._read:
            self._read[key] = self._rows(options, follow)
        return self._read[key]

    def _rows(self, options: Mapping[str, Any], follow: bool) -> Rows:
        source = own_source(self.recipe, options, follow)
        renderer = Renderer(self.tokenizer, source)
        read = list(Reader(source, self.recipe.origin, ("evaluate",)).records())
        records = [one for made in self.completion.of(source, None, read, "eval", renderer.mode) for one in made]
        return Rows(records, (renderer,), None, (source.path,))

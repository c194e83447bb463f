"""Tuning rows: training rows that tuning trials are measured on and do not train on."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from tunewright.data import duplicates
from tunewright.data.completing import changed
from tunewright.data.parts import parts
from tunewright.data.prepare import Prepared
from tunewright.data.reading import Reader
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.recipe import Recipe

MOST = 0.2
"""Largest share of the training rows that become tuning rows."""


def with_tuning_rows(data: Prepared, recipe: Recipe, wanted: int) -> Prepared:
    """The data with about `wanted` training rows as its evaluation rows, out of the training rows; judging rows gone.

    Rows are chosen by a hash of their prompt, so that rows with one prompt stay on one side. The preparation has
    already removed from the training rows whatever the judging rows hold; should one be among them still, `BadInput`
    says so.
    """
    for method in (one for source in recipe.data.sources for one in changed(source)):
        raise BadInput(
            f"tuning rows cannot be set apart from training rows of the {method.kind} '{method.name}', which differ from"
            " evaluation rows", field="data.train",
            hint="Tune on others with --tune-on data.eval=FILE, or do not tune.",
        )  # fmt: skip
    table = data.train
    file, line, source = (np.asarray(table.columns[name]) for name in ("file", "line", "source"))
    place = {
        (int(s), table.files[int(f)], int(n)): index
        for index, (s, f, n) in enumerate(zip(source, file, line, strict=True))
    }
    found: list[tuple[int, int, Record]] = []
    for part in parts(recipe):
        if part.role == "train":
            for record in Reader(part.source, part.origin, part.place, part.number).records():
                index = place.pop((record.source, record.file, record.line), None)
                if index is not None:
                    found.append((_mixed(duplicates.prompt(record)), index, record))
    found.sort(key=lambda one: one[:2])
    count = min(wanted, int(MOST * len(found)))
    while 0 < count < len(found) and found[count][0] == found[count - 1][0]:
        count += 1
    if not 0 < count < len(found):
        raise BadInput(
            "too few training rows to set some apart for tuning", field="data.train", found=f"{len(found)} rows",
            hint="Add rows, tune on others with --tune-on data.eval=FILE, or do not tune.",
        )  # fmt: skip
    check_apart([record for *_, record in found[:count]], data)
    chosen = np.asarray(sorted(index for _, index, _ in found[:count]), dtype=np.int64)
    by_index = {index: record for _, index, record in found[:count]}
    rest = np.setdiff1d(np.arange(len(table)), chosen)
    return replace(
        data, train=table.taken(rest), eval=table.taken(chosen), eval_records=[by_index[int(index)] for index in chosen]
    )


def check_held(tuning: Prepared, judging: Prepared) -> None:
    """Raises `BadInput` when an evaluation row of the one says what one of the other says, as both were read."""
    check_apart(tuning.eval_records, judging)
    if shared := len(tuning.held & judging.held):
        raise BadInput(
            f"tuning and judging rows overlap: {shared} tuning rows are also judged", field="tune.on",
            hint="Tune on rows that the judging data does not hold.",
        )  # fmt: skip


def check_apart(tuning: list[Record], judging: Prepared) -> None:
    """Raises `BadInput` when a tuning row says what a judging row says."""
    judged = {duplicates.content(record): record for record in judging.eval_records}
    shared = [(one, judged[key]) for one in tuning if (key := duplicates.content(one)) in judged]
    if shared:
        first, other = shared[0]
        raise BadInput(
            f"tuning and judging rows overlap: {len(shared)} of {len(tuning)} tuning rows are also judged",
            file=first.file, line=first.line, field="tune.on", found=f"the same row at {other.where}",
            hint="Tune on rows that the judging data does not hold.",
        )  # fmt: skip


def _mixed(number: int) -> int:
    """Another hash of a hash: the prompt's own decided the split between training and judging."""
    return int.from_bytes(hashlib.blake2b(number.to_bytes(8, "big"), digest_size=8, key=b"tuning").digest(), "big")

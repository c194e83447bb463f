"""Tuning on prompts that hold demonstrations."""

from __future__ import annotations

import random
from typing import ClassVar

from tunewright.catalog import Paper, option
from tunewright.data import duplicates
from tunewright.data.augment.base import Around, Augment
from tunewright.data.demonstrations import drawn, preceded
from tunewright.data.records import Record
from tunewright.errors import BadInput


class SupervisedICL(Augment):
    """Puts `k` solved training rows before every prompt and trains on the answer alone.

    A record (x, y) becomes (x_1, y_1, .., x_k, y_k, x, y) with loss weights 0 but on y, as `train_on` has them. The
    demonstrations are drawn at random for each record by a hash of its text and `seed`: training rows of its source,
    never held-out ones, never one that asks the same question. Held-out rows get demonstrations too, since the tuned
    model is used with them: every task measures with them, and the base model before tuning is few-shot prompting.
    Fewer than `k` stand there where the source has fewer rows. The paper draws others in every epoch; here records are
    made before the run: `draws: n` with one epoch makes n differently drawn records of a row, in the place of n epochs
    over one. The task `self_ensemble` draws demonstrations of its own in their place.

    When to use: few labelled rows, and probabilities that must be believed: averaged over demonstration sets they are
    calibrated better. When not: long rows (a prompt is k + 1 times as long, watch the rows lost to the length limit),
    many rows, or a model that is to answer without demonstrations. Rows of plain text are refused.
    """

    name: ClassVar[str] = "supervised_icl"
    gathers: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="On Task Performance and Model Calibration with Supervised and Self-Ensembled In-Context Learning",
            arxiv="2312.13772",
            card=261,
        ),
    )

    k: int = option(3, "Demonstrations in a prompt.", changes="tokens", to=1, ge=1)
    draws: int = option(
        1, "Records made of each training row, with other demonstrations each.", changes="tokens", to=2, ge=1
    )
    seed: int = option(0, "Seed of the demonstrations.", changes="tokens", to=1, ge=0)

    def augmented(self, record: Record, around: Around) -> list[Record]:
        """The record with demonstrations, `draws` times for training. Raises `BadInput` for a row of plain text."""
        if not record.prompt:
            raise BadInput(
                "plain text has no prompt to put demonstrations before", file=record.file or None,
                line=record.line or None, field="augment", found=self.name, expected="rows with a prompt and an answer",
                hint="Name 'augment' at the sources that have prompts.",
            )  # fmt: skip
        told, mode = duplicates.content(record), around.mode(record)
        chances = [
            random.Random(f"{self.seed} {copy} {told}") for copy in range(self.draws if around.role == "train" else 1)
        ]
        return [preceded(record, drawn(record, around.rows, self.k, rng), mode) for rng in chances]

"""Loss on text the base model knows."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from tunewright.catalog import option
from tunewright.data.records import Record, Turn
from tunewright.evaluate.base import Role, Rows, Scores, Subject, Task
from tunewright.evaluate.tasks.perplexity import text_loss


class Retention(Task):
    """What tuning should not change: the loss on reference text that the base model knows.

    The same loss as `perplexity`, in nats per token. The text is named under `data`; for the embedded model it is text
    of the nanoworld that no tuning data holds. Without either it is left out, with a warning.
    """

    name: ClassVar[str] = "retention"
    role: ClassVar[Role] = "retention"
    like_training: ClassVar[bool] = False

    texts: int = option(200, "Texts drawn for the embedded model when no data is named.", changes="output", to=20, ge=1)

    def omitted(self, subject: Subject) -> str | None:
        """The warning when there is no reference text."""
        if self.data is not None or subject.embedded:
            return None
        return (
            "retention was not measured: no reference text is named. "
            "Add 'evaluate: [{task: retention, data: FILE}]' with text that the base model should still know."
        )

    def all_rows(self, subject: Subject) -> Rows:
        """The named text, else that of the nanoworld."""
        if self.data is not None:
            return super().all_rows(subject)
        from tunewright import nanoworld

        drawn = enumerate(nanoworld.retention(self.texts, seed=0), 1)
        records = [
            Record((Turn("assistant", row["text"]),), "text", file="nanoworld", line=line) for line, row in drawn
        ]
        return replace(subject.rows, records=records, table=None)

    def score(self, subject: Subject) -> Scores:
        """One value per text, in nats per token."""
        return replace(text_loss(self, subject, self.rows(subject)), groups=[])

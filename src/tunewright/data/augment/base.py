"""The Augment protocol: what stands in the place of a record, whatever format it was read in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunewright.catalog import Method
from tunewright.data.records import Record


@dataclass(frozen=True)
class Around:
    """What stands around the record that is augmented.

    `role` is that of the record; `rows` are the training records of its source as they were read, none of them held out
    (empty unless the method `gathers`); `mode` says whether a chat template makes a record's text or its turns are
    joined verbatim.
    """

    role: Literal["train", "eval"]
    rows: Sequence[Record] = ()
    mode: Callable[[Record], Literal["chat", "verbatim"]] = lambda record: "chat"


class Augment(Method):
    """A specification of what is made of records before they are tokenised, after their format has read them.

    Rows are held out and duplicates removed by the records as read, so that no augmented row has a sibling on the
    other side. `gathers` says that the method looks at other training rows.
    """

    kind: ClassVar[str] = "augment"
    gathers: ClassVar[bool] = False

    @abstractmethod
    def augmented(self, record: Record, around: Around) -> list[Record]:
        """The records in the place of one; none leaves it out. A function of its arguments alone.

        A held-out record (`around.role` eval) becomes exactly one with the same answer: other prompts may be asked in
        evaluation, not other questions. Raises `BadInput` for a record that the method cannot treat.
        """

"""Several answers to one prompt, each with a reward."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.data import messages
from tunewright.data.formats._conversations import answered, asked, reply
from tunewright.data.formats.base import Format, Read, Values
from tunewright.data.records import Turn
from tunewright.errors import BadInput
from tunewright.recipe import Reading


class ScoredAnswers(Format):
    """A `prompt`, a list of `answers` (texts or messages) and a list of their `rewards`.

    Objectives of groups learn from all of them, those of pairs from the best and the worst; under any other the answer
    with the highest reward is learned (the first of them).
    """

    name: ClassVar[str] = "scored_answers"
    title: ClassVar[str] = "answers with rewards (prompt/answers/rewards)"
    required: ClassVar = (("prompt", "answers", "rewards"),)
    optional: ClassVar = ("system", "tools")
    precedence: ClassVar[int | None] = 15
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"prompt": "2 + 2 =", "answers": [" 4", " 5", " four"], "rewards": [1.0, 0.0, 0.5]},
    )

    def read(self, values: Values, reading: Reading) -> Read:
        before, given = asked(values, "prompt"), _listed(values, "answers")
        answers = [answered((*before, *_reply(one, f"answers.{at}")), f"answers.{at}") for at, one in enumerate(given)]
        rewards = [_number(one, f"rewards.{at}") for at, one in enumerate(_listed(values, "rewards"))]
        if len(rewards) != len(answers):
            raise BadInput(
                "not one per answer", field="rewards", found=f"{len(rewards)} rewards", expected=str(len(answers))
            )
        best, worst = (answers[rewards.index(end(rewards))] for end in (max, min))
        plain = len(before) == 1 and all(isinstance(one, str) for one in (values["prompt"], *given))
        return Read(
            best, "completion" if plain else "chat", rejected=worst if min(rewards) < max(rewards) else None,
            tools=messages.tools(values.get("tools"), "tools"),
            scored=tuple(zip(answers, rewards, strict=True)),
        )  # fmt: skip


def _listed(values: Values, field: str) -> list[Any]:
    value = values[field]
    if not isinstance(value, list) or len(value) < 2:
        raise BadInput("not a list of two or more", field=field, found=value, expected="a list, one for each answer")
    return value


def _reply(value: Any, field: str) -> tuple[Turn, ...]:
    return reply({field: value}, field)


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadInput("not a reward", field=field, found=value, expected="a finite number")
    return float(value)

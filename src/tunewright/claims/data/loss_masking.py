"""Loss on answers alone against loss on prompts too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.claims._nano import recipe
from tunewright.claims.base import Compared, Criterion

RECIPE = recipe("sentiment", steps=16, tokens=1024, held=200, evaluate=["calibration"])
DATA = RECIPE["data"]


class LossMasking(Compared):
    """Training on answers alone gives better answers than training on prompts and answers.

    Sentiment of short reviews on the embedded model, where prompts are ten times as long as answers. Measured by the
    Brier score over the three answers (0 to 2, lower is better) of 200 held-out rows, which does not depend on which
    tokens were trained on.
    """

    name: ClassVar[str] = "loss_masking"
    sentence: ClassVar[str] = (
        "With short answers to long prompts, loss on the answer tokens alone gives a lower Brier score of held-out "
        "answers than loss on all tokens."
    )
    arms: ClassVar = {"answers": "loss on answer tokens", "everything": "loss on all tokens"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("Brier score, answers alone minus everything", "below", -0.01, "score"),
    )
    seeds: ClassVar[int] = 6
    budget: ClassVar[str] = "16 steps of 1,024 tokens per arm and seed"
    recipe: ClassVar[Mapping[str, Any]] = RECIPE
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "answers": {"data": {**DATA, "train": {**DATA["train"], "train_on": "completion"}}},
        "everything": {"data": {**DATA, "train": {**DATA["train"], "train_on": "all"}}},
    }
    measured: ClassVar[Mapping[str, str]] = {"Brier score, answers alone minus everything": "calibration"}

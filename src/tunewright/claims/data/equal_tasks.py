"""Tasks that count alike in the loss (card 117)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunewright.catalog import Paper
from tunewright.claims._pretrained import with_data
from tunewright.claims._rates import AtBestRate
from tunewright.claims._small import recipe
from tunewright.claims._sources import losses
from tunewright.claims.base import Bench, Criterion, Trial

STEPS = 200
SHARES = {"storytelling": 90, "facts": 9, "translation": 1}
BALANCED = {"method": "mft_multitask_loss", "mode": "task_token"}
MIX = with_data(
    recipe(steps=STEPS),
    sources=[{"path": f"nano:{task}/train", "limit": 800, "weight": share} for task, share in SHARES.items()],
    eval=[{"path": f"nano:{task}/test", "limit": 80, "name": task} for task in SHARES],
)


class EqualTasks(AtBestRate):
    """A loss in which tasks count alike helps the worst of them, and the average does not pay for it.

    A decoder of 0.2 million parameters trained from nothing for 200 steps on stories, facts and translations in shares
    of 90, 9 and 1% of the rows. Measured by the loss of 80 held-out rows of each task, since so small a decoder answers
    few rightly; the worst task has the highest. Weights by speed measure 16 rows of each task kept from training, every
    4 steps. Focal weights and the slope scheme of the same code base are not tested, nor is generated code.
    """

    name: ClassVar[str] = "equal_tasks"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="MFTCoder: Boosting Code LLMs with Multitask Fine-Tuning", arxiv="2311.02303", card=117),
    )
    sentence: ClassVar[str] = (
        "With shares of 90, 9 and 1%, counting tasks alike, with and without weights by speed, lowers the loss of the "
        "worst task, and without them raises the average loss by less than 0.05."
    )
    arms: ClassVar = {
        "tokens": "all tokens count alike",
        "tasks": "tasks count alike",
        "speed": "tasks count alike, more where the loss falls more slowly",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("worst loss, tasks alike minus tokens alike", "below", -0.05, "nats per token"),
        Criterion("worst loss, by speed minus tokens alike", "below", -0.05, "nats per token"),
        Criterion("average loss, tasks alike minus tokens alike", "below", 0.05, "nats per token"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "200 steps of 512 tokens, two rates on one seed, then five seeds"
    recipe: ClassVar[Mapping[str, Any]] = MIX
    rates: ClassVar[Sequence[float]] = (3e-3, 1e-2)
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        arm: with_data(MIX, order=order)
        for arm, order in {
            "tokens": {**BALANCED, "mode": "token"},
            "tasks": BALANCED,
            "speed": {**BALANCED, "scheme": "speed", "update_every": 4},
        }.items()
    }
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "worst loss, tasks alike minus tokens alike": ("worst", "tasks", "tokens"),
        "worst loss, by speed minus tokens alike": ("worst", "speed", "tokens"),
        "average loss, tasks alike minus tokens alike": ("average", "tasks", "tokens"),
    }

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The loss of every task, the highest, and their average."""
        found = losses(trial)
        return {**found, "worst": max(found.values()), "average": sum(found.values()) / len(found)}

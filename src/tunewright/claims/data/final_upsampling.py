"""Drawing small sources more often at the end of training (card 211)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunewright.catalog import Paper
from tunewright.claims._pretrained import with_data
from tunewright.claims._rates import AtBestRate
from tunewright.claims._small import recipe
from tunewright.claims._sources import losses
from tunewright.claims.base import Bench, Criterion, Trial

STEPS = 300
SHARES = {"storytelling": 0.9, "arithmetic": 0.05, "functions": 0.05}
MIX = with_data(
    recipe(steps=STEPS),
    sources=[{"path": f"nano:{name}/train", "limit": 800, "weight": share} for name, share in SHARES.items()],
    eval=[
        {"path": f"nano:{name}/test", "limit": 80, "name": name, "train_on": "all" if share > 0.5 else "completion"}
        for name, share in SHARES.items()
    ],
)


class FinalUpsampling(AtBestRate):
    """More of two small sources in the last fifth of training helps both, costs the large one little, and each is helped
    by itself.

    A decoder of 0.2 million parameters trained from nothing for 300 steps, 90% of the rows stories, 5% arithmetic and
    5% short programs; in the last 60 steps 50, 25 and 25%, or 67, none and 33%. Measured by the loss of 80 held-out
    rows of each source, of arithmetic and programs on the answers alone, since so small a decoder answers few rightly.
    The paper's ladder of lengths (5, 10, 20, 30%) is not tested.
    """

    name: ClassVar[str] = "final_upsampling"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Does your data spark joy? Performance gains from domain upsampling at the end of training",
            arxiv="2406.03476",
            card=211,
        ),
    )
    sentence: ClassVar[str] = (
        "Five times more arithmetic and code in the last fifth of training lowers the loss on arithmetic at a small cost "
        "on the large source; leaving arithmetic out of that part removes the gain and not that on code."
    )
    arms: ClassVar = {
        "base": "the same shares to the end",
        "raised": "50, 25 and 25% in the last fifth",
        "left_out": "67, 0 and 33% in the last fifth",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("arithmetic loss, raised minus base", "below", -0.05, "nats per token"),
        Criterion("stories' loss, raised minus base", "below", 0.05, "nats per token"),
        Criterion("arithmetic loss, left out minus base", "above", -0.03, "nats per token"),
        Criterion("code loss, left out minus base", "below", -0.05, "nats per token"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "300 steps of 512 tokens, two rates on one seed, then five seeds"
    recipe: ClassVar[Mapping[str, Any]] = MIX
    rates: ClassVar[Sequence[float]] = (3e-3, 1e-2)
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "base": {},
        **{
            arm: with_data(MIX, order={"method": "domain_upsampling", "share": 0.2, "factors": factors})
            for arm, factors in {"raised": [5 / 9, 5.0, 5.0], "left_out": [20 / 27, 0.0, 20 / 3]}.items()
        },
    }
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "arithmetic loss, raised minus base": ("arithmetic", "raised", "base"),
        "stories' loss, raised minus base": ("storytelling", "raised", "base"),
        "arithmetic loss, left out minus base": ("arithmetic", "left_out", "base"),
        "code loss, left out minus base": ("functions", "left_out", "base"),
    }

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The loss of each source."""
        return losses(trial)

"""What objectives over pairs of answers share: log-probabilities of both answers, rewards, and a loss of the margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tunewright.catalog import Need
from tunewright.data.answers import CHOSEN
from tunewright.data.batches import Batch
from tunewright.models.policy import Policy
from tunewright.objectives.base import Loss, Objective, per_sequence, sequence_loss


@dataclass(frozen=True)
class Side:
    """One answer of every pair, each tensor [pairs].

    `logp` = sum_i w_i log p(y_i | x, y_<i) over the answer's tokens, `weight` = sum_i w_i; `anchors` hold `logp` under
    the models that do not train, by name; `columns` what the rows bring along.
    """

    logp: Tensor
    weight: Tensor
    anchors: Mapping[str, Tensor]
    columns: Mapping[str, Tensor]

    @property
    def mean(self) -> Tensor:
        """log p per token."""
        return self.logp / self.weight

    @property
    def gain(self) -> Tensor:
        """log p minus that of the reference."""
        return self.logp - self.anchors["reference"]


class Pairs(Objective):
    """A loss of reward(better) - reward(worse); a family member says what the reward is and which loss.

    Every pair counts once, whatever its length. A pair takes part where both answers have tokens with weight. The
    share of pairs whose better answer has the higher reward is logged as `preference_accuracy`.
    """

    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    """The models that the policy is compared with: `reference`, or `start`, the policy as the run began."""

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"pairs", "reference"} if "reference" in self.anchors else {"pairs"})

    def reward(self, side: Side) -> Tensor:
        """The implicit reward [pairs] of an answer."""
        raise NotImplementedError

    def pair_loss(self, margin: Tensor, better: Side) -> Tensor:
        """The loss [pairs] where the better answer's reward exceeds the worse one's by `margin`."""
        raise NotImplementedError

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        better = batch.columns[CHOSEN] == 1
        weights = batch.weights[batch.kept]
        sums = {"logp": per_sequence(weights * policy.logprobs(batch), batch), "weight": per_sequence(weights, batch)}
        known: dict[int, Tensor] = {}  # the reference and the start may be one
        for name in self.anchors:
            with getattr(policy, name)() as other:
                if id(other) not in known:
                    known[id(other)] = per_sequence(weights * other.logprobs(batch), batch)
                sums[name] = known[id(other)]
        kept = per_sequence(weights.new_ones(len(weights)), batch) > 0
        taken = kept[better] & kept[~better]
        sides = [
            Side(
                sums["logp"][which][taken],
                sums["weight"][which][taken],
                {name: sums[name][which][taken] for name in self.anchors},
                {name: column[which][taken] for name, column in batch.columns.items()},
            )
            for which in (better, ~better)
        ]
        margin = self.reward(sides[0]) - self.reward(sides[1])
        at = better.nonzero()[:, 0][taken]
        spread = lambda values: sums["logp"].new_zeros(len(better)).index_add(0, at, values.to(sums["logp"].dtype))
        return sequence_loss(
            spread(self.pair_loss(margin, sides[0])),
            spread(taken[taken]),
            {"preference_accuracy": spread(margin.detach() > 0)},
        )

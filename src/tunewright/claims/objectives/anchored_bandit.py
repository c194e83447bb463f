"""Anchored preferences under noise (card 280)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tunewright.catalog import Paper
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.objectives.preference.adpo import listwise

CONTEXTS, FEATURES, ACTIONS, STEPS = 1024, 16, 6, 400
FLIPPED, SOFTNESS, TAU = 0.3, 1.0, 0.8


class AnchoredBandit(Claim):
    """A softmax over all of a prompt's answers, anchored at the start, withstands noisy rewards best.

    A contextual bandit: 1,024 contexts of 16 features, 6 actions with linear rewards; in 30% of the contexts the
    rewards seen are negated. The policy is a linear softmax, the start a noisy copy of the true reward. Hard pairs (DPO
    with beta 1/tau), soft pairs (the chance that the seen difference of rewards means) and the whole list, each fitted
    to the contexts with Adam for 400 steps; tau 0.8. Win mass is the probability of the truly best action on 1,024
    other contexts. The last criterion distils a sharper teacher and measures KL(teacher || policy).
    """

    name: ClassVar[str] = "anchored_bandit"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="ADPO: Anchored Direct Preference Optimization", arxiv="2510.18913", card=280),
    )
    sentence: ClassVar[str] = (
        "With 30% of the rewards flipped, listwise anchored preferences put more probability on the best action than "
        "DPO, than soft pairs and than the list without an anchor; in distillation the anchor ends nearer the teacher."
    )
    arms: ClassVar = {
        "list": "all actions, anchored",
        "soft": "soft pairs, anchored",
        "hard": "DPO",
        "free": "all actions, no anchor",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("win mass, list minus DPO", "above", 0.01, "share"),
        Criterion("win mass, list minus soft pairs", "above", 0.01, "share"),
        Criterion("win mass, list minus list without anchor", "above", 0.01, "share"),
        Criterion("KL to the teacher, anchored minus free", "below", 0.0, "nats"),
    )
    seeds: ClassVar[int] = 10
    budget: ClassVar[str] = "400 steps on 1,024 contexts per arm and seed"

    def findings(self, bench: Bench) -> Findings:
        """Win masses and divergences per seed."""
        runs = [self._seed(bench, seed) for seed in range(self.seeds)]
        names = ("hard", "soft", "free")
        values = {
            c.quantity: [run["list"] - run[n] for run in runs] for c, n in zip(self.criteria, names, strict=False)
        }
        values[self.criteria[3].quantity] = [run["distilled"] - run["distilled free"] for run in runs]
        return Findings(values, {"means": {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}})

    def _seed(self, bench: Bench, seed: int) -> dict[str, float]:
        rng = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(*shape, generator=rng)
        truth = draw(FEATURES, ACTIONS)
        start = 0.5 * truth + draw(FEATURES, ACTIONS)
        x, held = draw(CONTEXTS, FEATURES), draw(CONTEXTS, FEATURES)
        reward = x @ truth / FEATURES**0.5 * 2
        seen = torch.where(torch.rand(CONTEXTS, 1, generator=rng) < FLIPPED, -reward, reward)
        anchor = F.log_softmax(x @ start / FEATURES**0.5, -1)
        wanted = torch.softmax(seen / SOFTNESS, -1)
        first, second = (torch.randint(ACTIONS, (CONTEXTS, 4), generator=rng) for _ in range(2))
        chance = torch.sigmoid((seen.gather(1, first) - seen.gather(1, second)) / SOFTNESS)

        def paired(target: Tensor) -> Callable[[Tensor], Tensor]:
            labels = torch.stack([target, 1 - target], -1)

            def loss(logp: Tensor) -> Tensor:
                gain = (logp - anchor) / TAU
                return listwise(torch.stack([gain.gather(1, first), gain.gather(1, second)], -1), labels)

            return loss

        losses = {
            "list": lambda logp: listwise((logp - anchor) / TAU, wanted),
            "soft": paired(chance),
            "hard": paired((chance > 0.5).float()),
            "free": lambda logp: listwise(logp / TAU, wanted),
        }
        best = (held @ truth).argmax(-1, keepdim=True)
        found = {}
        for name, loss in losses.items():
            policy = _fitted(x, start, loss)
            found[name] = float(torch.softmax(held @ policy / FEATURES**0.5, -1).gather(1, best).mean())
            bench.note(name, STEPS, STEPS * CONTEXTS)
        teacher = torch.softmax(2 * held @ truth / FEATURES**0.5, -1)
        sharp = torch.softmax(2 * reward, -1)
        distilled: dict[str, Callable[[Tensor], Tensor]] = {
            "distilled": lambda logp: listwise((logp - anchor) / TAU, sharp),
            "distilled free": lambda logp: listwise(logp / TAU, sharp),
        }
        for name, loss in distilled.items():
            policy = _fitted(x, start, loss)
            found[name] = float(listwise(held @ policy / FEATURES**0.5, teacher).mean())
        return found


def _fitted(x: Tensor, start: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The linear policy [features, actions] after training from `start`."""
    policy = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([policy], lr=0.03)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(F.log_softmax(x @ policy / FEATURES**0.5, -1)).mean().backward()
        optimizer.step()
    return policy.detach()

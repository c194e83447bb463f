"""Full tuning over clients that exchange a few numbers per round (card 66)."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunewright.catalog import Paper
from tunewright.claims._pretrained import pretrained, tuning
from tunewright.claims._rates import TUNING_SEED
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.data.batches import Batch
from tunewright.optimize.optimizers.mezo import MeZO, chances, exchanged

SKILLS = ("instructions", "word_problems", "sentiment", "entailment", "arithmetic")
CLIENTS, DRAWN, ROUNDS, LOCAL, ROWS = 8, 4, 15, 20, 4
SEEDS = 256
FIRST = 400
RATES = {"uniform": (3e-5, 1e-4, 3e-4), "pro": (3e-5, 1e-4, 3e-4), "average": (3e-4, 1e-3, 3e-3)}


class SeededRounds(Claim):
    """Clients that send a number per direction gain most of what clients gain that send all their weights.

    A decoder of 0.23 million parameters, first trained on five other skills, is tuned whole on five skills of short
    questions and answers that eight clients hold, the rows of each skill dealt by Dirichlet(0.5). Fifteen rounds: four
    clients take 20 steps each of 4 rows, and the server adds up what they found, weighed by their rows. FedKSeed takes
    steps along one of 256 directions, found by two losses; Pro draws them by the slopes they had. FedAvg has clients
    with AdamW, new in every round, and averages their weights. All arms of a seed see the same clients and rows.
    """

    name: ClassVar[str] = "seeded_rounds"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Federated Full-Parameter Tuning of Billion-Sized Language Models with Communication Cost under 18 Kilobytes",
            arxiv="2312.06353",
            card=66,
        ),
    )
    sentence: ClassVar[str] = (
        "Each at the best of three rates, FedKSeed lowers the loss over all clients' skills by more than half of what "
        "FedAvg gains in as many steps, and drawing directions by their slopes ends no more than 0.01 nats higher."
    )
    arms: ClassVar = {
        "uniform": "FedKSeed, directions drawn alike",
        "pro": "FedKSeed-Pro, directions drawn by their slopes",
        "average": "FedAvg of all weights",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("gain of FedKSeed over that of FedAvg", "above", 0.5, "ratio"),
        Criterion("loss, Pro minus uniform", "below", 0.01, "nats per token"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "15 rounds of 4 clients with 20 steps of 4 rows, three rates on one seed, then four seeds"

    def findings(self, bench: Bench) -> Findings:
        """Gains and differences per seed, and the bytes that a client exchanges in a round."""
        with TemporaryDirectory() as folder:
            model = pretrained(bench, folder, FIRST, layers=2)
            tuned = Federation(bench, model, TUNING_SEED, "tuning")
            rates = {arm: min(tried, key=lambda rate: tuned.ran(arm, rate)) for arm, tried in RATES.items()}
            runs = []
            for seed in range(self.seeds):
                held = Federation(bench, model, seed, "test")
                runs.append({"before": held.loss(), **{arm: held.ran(arm, rate) for arm, rate in rates.items()}})
            numbers = sum(value.numel() for value in held.start.values())
        gain = lambda run, arm: run["before"] - run[arm]
        values = {
            self.criteria[0].quantity: [gain(run, "uniform") / gain(run, "average") for run in runs],
            self.criteria[1].quantity: [run["pro"] - run["uniform"] for run in runs],
        }
        # Pro also sends the probabilities down, and a number per step instead of one per seed up.
        sent = {
            "uniform": exchanged(SEEDS, LOCAL), "pro": 4 * SEEDS + exchanged(SEEDS, LOCAL), "average": 8 * numbers,
        }  # fmt: skip
        means = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        return Findings(values, {"means": means, "rates": rates, "bytes per client and round, at most": sent})


class Federation:
    """Eight clients that share a model, and hold the rows of every skill in unequal parts.

    `start` are the weights that every run begins with. Which clients take part, their rows and their uniform draws of
    directions depend on the seed and the round alone.
    """

    def __init__(self, bench: Bench, model: str, seed: int, split: str) -> None:
        made: dict[str, Any] = tuning(1, SKILLS, seed=seed, model={"path": model})
        evals = [{**one, "path": one["path"].replace("/test", f"/{split}")} for one in made["data"]["eval"]]
        self.bench, self.seed = bench, seed
        self.trial = bench.trial("uniform", {**made, "data": {**made["data"], "eval": evals}})
        self.loop = self.trial.loop
        self.weights: dict[str, Tensor] = dict(self.trial.attached.trained())
        self.start = self._copied()
        self.working = list(enumerate(self.weights.values()))
        rng, parts = self._random(), list[list[NDArray[np.int64]]]()
        sources = np.asarray(self.loop.table.columns["source"])
        for source in range(len(SKILLS)):
            rows = rng.permutation(np.flatnonzero(sources == source))
            ends = (np.cumsum(rng.dirichlet([0.5] * CLIENTS)) * len(rows)).round().astype(int)
            parts.append(np.split(rows, ends[:-1]))
        self.rows = [np.concatenate(own) for own in zip(*parts, strict=True)]

    def ran(self, arm: str, rate: float) -> float:
        """The loss after all rounds of an arm."""
        self._load(self.start)
        if arm == "average":
            self._averaged(rate)
        else:
            self._seeded(rate, arm == "pro")
        self.bench.note(arm, ROUNDS * DRAWN * LOCAL, ROUNDS * DRAWN * LOCAL * ROWS)
        return self.loss()

    def loss(self) -> float:
        """Nats per token on held-out rows of all skills."""
        return float(self.trial.scores()["perplexity"].score)

    def _seeded(self, rate: float, pro: bool) -> None:
        method = MeZO(lr=rate, seeds=SEEDS, pool=self.seed)
        history: list[list[float]] = [[] for _ in range(SEEDS)]
        for turn in range(ROUNDS):
            held, moved, chance = self._copied(), np.zeros(SEEDS), chances(history) if pro else None
            for client, share in self._drawn(turn):
                self._load(held)
                drawn = self._random(turn, client, 1).choice(SEEDS, LOCAL, p=chance)
                for direction, batches in zip(drawn.tolist(), self._batches(turn, client), strict=True):
                    slope = method.slope(self.working, direction, lambda: self._measured(batches))  # noqa: B023
                    if slope is None:
                        continue
                    moved[direction] += share * slope
                    history[direction].append(slope)
                    with torch.no_grad():
                        for index, value in self.working:
                            value.sub_(method.direction(value, direction, index), alpha=rate * slope)
            self._load(method.rebuilt(held, moved.tolist(), rate))

    def _averaged(self, rate: float) -> None:
        for turn in range(ROUNDS):
            held = self._copied()
            mean = {name: torch.zeros_like(value) for name, value in held.items()}
            for client, share in self._drawn(turn):
                self._load(held)
                optimizer = torch.optim.AdamW(self.weights.values(), lr=rate, weight_decay=0.0)
                for batches in self._batches(turn, client):
                    optimizer.zero_grad()
                    losses = [self.loop.losses(batch) for batch in batches]
                    (sum(one.total for one in losses) / sum(one.weight for one in losses)).backward()
                    optimizer.step()
                for name, value in self.weights.items():
                    mean[name].add_(value.detach(), alpha=share)
            self._load(mean)

    def _drawn(self, turn: int) -> list[tuple[int, float]]:
        """The clients of a round, each with its share of their rows."""
        holding = [client for client, rows in enumerate(self.rows) if len(rows)]
        chosen = self._random(turn).choice(holding, DRAWN, replace=False).tolist()
        total = sum(len(self.rows[client]) for client in chosen)
        return [(client, len(self.rows[client]) / total) for client in chosen]

    def _batches(self, turn: int, client: int) -> Iterator[list[Batch]]:
        """The micro-batches of each of a client's steps."""
        rng, rows = self._random(turn, client), self.rows[client]
        for _ in range(LOCAL):
            yield self.loop.batches_of(rng.choice(rows, min(ROWS, len(rows)), replace=False))

    def _measured(self, batches: list[Batch]) -> float:
        alike = torch.zeros(len(self.loop.table), dtype=torch.int64, device=self.loop.world.device)
        total, weight = self.loop.measured(batches, alike, 1)
        return float(total / weight)

    def _random(self, *which: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *which])

    def _copied(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.weights.items()}

    @torch.no_grad()
    def _load(self, values: dict[str, Tensor]) -> None:
        for name, value in self.weights.items():
            value.copy_(values[name])

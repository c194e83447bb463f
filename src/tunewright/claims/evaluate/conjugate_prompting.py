"""Forgotten or only suppressed: asking through a transform (card 52)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunewright.catalog import Paper
from tunewright.claims.base import Bench, Claim, Criterion, Findings

DIM, KNOWN, SIGMA, PAIRS, WIDTH, LAYERS = 2, 3, 0.3, 7, 64, 3
PRETRAIN, TUNE, BATCH = 4000, 300, 64
GAMMA, TESTED, CHUNK = 1.5, 40_000, 5_000


class ConjugatePrompting(Claim):
    """Tuning on a few tasks hides in-context learning of others; scaled labels bring part of it back.

    A causal transformer (3 layers of width 64) reads x_1 y_1 .. x_7 y_7 with y = w x + 0.3 noise in two dimensions and
    predicts every y. Pretraining: 4,000 steps of 64 prompts, half with one of three fixed w, half with w ~ N(0, s^2 I),
    s uniform in 0.5 to 3. Tuning: 300 steps on the fixed w alone, learning rate 1e-4. Loss: squared error of the fifth
    prediction on prompts with w ~ N(0, I). Conjugate prompt: labels times 1.5, prediction divided by 1.5. Shown beside:
    the same after 600 steps. The first run, tested on 2,000 prompts per seed, left the third criterion undecided; now 40,000.
    """

    name: ClassVar[str] = "conjugate_prompting"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Understanding Catastrophic Forgetting in Language Models via Implicit Inference",
            arxiv="2309.10105",
            card=52,
        ),
    )
    sentence: ClassVar[str] = (
        "Tuning on few tasks raises the loss of in-context learning on others; prompts with scaled labels take back part of "
        "the rise in the tuned model and nothing in the base."
    )
    arms: ClassVar = {"base": "pretrained on few and many tasks", "tuned": "then tuned on the few"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("rise of the loss by tuning", "above", 0.02, "squared error"),
        Criterion("loss of the tuned model, scaled minus plain labels", "below", -0.005, "squared error"),
        Criterion("loss of the base model, scaled minus plain labels", "above", -0.005, "squared error"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "4,000 steps of 64 prompts once, 300 further steps per seed"

    def findings(self, bench: Bench) -> Findings:
        """The three quantities for every tuning seed."""
        fixed = torch.randn(KNOWN, DIM, generator=torch.Generator().manual_seed(52))
        base = _pretrained(fixed)
        bench.note("base", PRETRAIN, PRETRAIN * BATCH)
        rows, later = [], []
        for seed in range(self.seeds):
            tuned = _Predictor()
            tuned.load_state_dict(base.state_dict())
            rng = torch.Generator().manual_seed(1000 + seed)
            _train(tuned, lambda rng=rng: _fixed(fixed, rng), TUNE, 1e-4, constant=True)
            bench.note("tuned", TUNE, TUNE * BATCH)
            plain = {name: _loss(model, 1.0, seed) for name, model in (("base", base), ("tuned", tuned))}
            scaled = {name: _loss(model, GAMMA, seed) for name, model in (("base", base), ("tuned", tuned))}
            rows.append([plain["tuned"] - plain["base"], *(scaled[name] - plain[name] for name in ("tuned", "base"))])
            _train(tuned, lambda rng=rng: _fixed(fixed, rng), TUNE, 1e-4, constant=True)
            later.append(_loss(tuned, GAMMA, seed) - _loss(tuned, 1.0, seed))
        shown = {"loss of the base": plain["base"], "scaled minus plain after 600 steps": sum(later) / len(later)}
        return Findings({c.quantity: [row[k] for row in rows] for k, c in enumerate(self.criteria)}, shown)


class _Predictor(nn.Module):
    """Inputs [batch, 2 PAIRS, DIM + 1] -> a prediction of y at every x [batch, PAIRS]."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.read = nn.Linear(DIM + 1, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(2 * PAIRS, WIDTH))
        self.body = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 1)
        self.mask = nn.Transformer.generate_square_subsequent_mask(2 * PAIRS)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Predictions of y [batch, PAIRS] from x [batch, PAIRS, DIM] and the labels before each."""
        tokens = torch.zeros(len(x), 2 * PAIRS, DIM + 1)
        tokens[:, 0::2, :DIM], tokens[:, 1::2, DIM] = x, y
        hidden = self.body(self.read(tokens) + self.place, mask=self.mask, is_causal=True)
        made: Tensor = self.head(hidden[:, 0::2])[..., 0]
        return made


def _pretrained(fixed: Tensor) -> _Predictor:
    with torch.random.fork_rng():
        torch.manual_seed(52)
        model = _Predictor()
    rng = torch.Generator().manual_seed(53)

    def drawn() -> tuple[Tensor, Tensor]:
        scales = 0.5 + 2.5 * torch.rand(BATCH, 1, generator=rng)
        many = scales * torch.randn(BATCH, DIM, generator=rng)
        few = fixed[torch.randint(KNOWN, (BATCH,), generator=rng)]
        return _prompts(torch.where(torch.rand(BATCH, 1, generator=rng) < 0.5, few, many), rng)

    _train(model, drawn, PRETRAIN, 1e-3)
    return model


def _fixed(fixed: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return _prompts(fixed[torch.randint(KNOWN, (BATCH,), generator=rng)], rng)


def _prompts(w: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(len(w), PAIRS, DIM, generator=rng)
    y = (x @ w[:, :, None])[..., 0] + SIGMA * torch.randn(len(w), PAIRS, generator=rng)
    return x, y


def _train(model: nn.Module, draw: Any, steps: int, lr: float, constant: bool = False) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    model.train()
    for step in range(steps):
        factor = 1.0 if constant else min(1.0, step / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * factor
        x, y = draw()
        loss = F.mse_loss(model(x, y), y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@torch.no_grad()
def _loss(model: nn.Module, gamma: float, seed: int) -> float:
    """Squared error of the prediction after four pairs on prompts with w ~ N(0, I)."""
    rng = torch.Generator().manual_seed(9000 + seed)
    model.eval()
    found = []
    for _ in range(TESTED // CHUNK):
        x, y = _prompts(torch.randn(CHUNK, DIM, generator=rng), rng)
        found.append(F.mse_loss(model(x, gamma * y)[:, 4] / gamma, y[:, 4]).item())
    return sum(found) / len(found)

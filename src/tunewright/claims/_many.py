"""Many small networks trained at once: every tensor has a leading axis [models], so that one pass trains them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rule = Literal["adamw", "momentum", "sgd"]

Losses = Callable[[Sequence[Tensor], Tensor], Tensor]
"""(parameters, rows of the data to use int64 [batch]) -> the loss of each model [models]."""


class Stepper:
    """An optimizer over models [models], each with its own learning rate [models] and momentum [models].

    `rules` say per model which update it takes; AdamW has beta2 0.999 and no weight decay.
    """

    def __init__(self, parameters: Sequence[Tensor], rules: Sequence[Rule], lr: Tensor, momentum: Tensor) -> None:
        self.parameters, self.lr, self.momentum, self.count = parameters, lr, momentum, 0
        self.adam = torch.tensor([rule == "adamw" for rule in rules])
        self.plain = torch.tensor([rule == "sgd" for rule in rules])
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, losses: Tensor) -> None:
        """One update by the gradient of each model's loss [models]; a model that diverged stands still."""
        gradients = torch.autograd.grad(losses, self.parameters, torch.ones_like(losses))
        self.count += 1
        for p, g, m, v in zip(self.parameters, gradients, self.first, self.second, strict=True):
            wide = lambda each, like=p: each.view(-1, *[1] * (like.ndim - 1))
            adam, beta = wide(self.adam), wide(torch.where(self.plain, 0.0, self.momentum))
            m.mul_(beta).add_(torch.where(adam, (1 - beta) * g, g))
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            corrected = m / (1 - beta**self.count) / ((v / (1 - 0.999**self.count)).sqrt() + 1e-8)
            update = wide(self.lr) * torch.where(adam, corrected, m)
            p.sub_(torch.nan_to_num(update, 0.0, 0.0, 0.0).clamp(-1e3, 1e3))


class Workload(NamedTuple):
    """A small task: parameter shapes of one model with their scale, its loss, and how many rows it has."""

    name: str
    shapes: Sequence[tuple[tuple[int, ...], float]]
    losses: Losses
    train: int
    held_out: int

    def parameters(self, seeds: Sequence[int]) -> list[Tensor]:
        """Initial values, one model per seed."""
        drawn = [torch.Generator().manual_seed(seed) for seed in seeds]
        return [
            torch.stack([scale * torch.randn(shape, generator=rng) for rng in drawn]).requires_grad_()
            for shape, scale in self.shapes
        ]

    def course(
        self, rules: Sequence[Rule], lr: Tensor, momentum: Tensor, seeds: Sequence[int], steps: int, every: int
    ) -> NDArray[np.float64]:
        """The held-out loss of each model every `every` steps: [models, steps / every]; infinite where it diverged."""
        parameters = self.parameters(seeds)
        stepper = Stepper(parameters, rules, lr, momentum)
        rng = torch.Generator().manual_seed(sum(seeds))
        held = torch.arange(self.train, self.train + self.held_out)
        seen = []
        for step in range(1, steps + 1):
            rows = torch.randint(self.train, (32,), generator=rng)
            stepper.step(self.losses(parameters, rows))
            if step % every == 0:
                with torch.no_grad():
                    seen.append(self.losses(parameters, held).double().numpy())
        found = np.stack(seen, axis=1)
        return np.where(np.isfinite(found), found, np.inf)


def workloads(seed: int = 0) -> list[Workload]:
    """Ill-conditioned regression, a classifier of clusters, a small convolution, a small language model."""
    return [_regression(seed), _classifier(seed), _convolution(seed), language(seed)]


def _regression(seed: int, n: int = 1200, d: int = 32) -> Workload:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=rng) * torch.logspace(0, -1.5, d)
    y = x @ (torch.randn(d, generator=rng) / torch.logspace(0, -1.5, d)) + 0.1 * torch.randn(n, generator=rng)

    def losses(parameters: Sequence[Tensor], rows: Tensor) -> Tensor:
        [w] = parameters
        return (w @ x[rows].T - y[rows]).pow(2).mean(1)

    return Workload("regression", [((d,), 0.1)], losses, n - 200, 200)


def _classifier(seed: int, n: int = 2400, d: int = 16, classes: int = 8) -> Workload:
    rng = torch.Generator().manual_seed(seed + 1)
    centres = 1.5 * torch.randn(classes * 3, d, generator=rng)
    which = torch.randint(len(centres), (n,), generator=rng)
    x, y = centres[which] + torch.randn(n, d, generator=rng), which % classes

    def losses(parameters: Sequence[Tensor], rows: Tensor) -> Tensor:
        inner, bias, outer = parameters
        hidden = (x[rows] @ inner + bias[:, None]).relu()
        return _cross_entropy(hidden @ outer, y[rows])

    return Workload("classifier", [((d, 48), d**-0.5), ((48,), 0.0), ((48, classes), 48**-0.5)], losses, n - 400, 400)


def _convolution(seed: int, n: int = 2400, length: int = 24, classes: int = 4) -> Workload:
    rng = torch.Generator().manual_seed(seed + 2)
    motifs = torch.randn(classes, 5, generator=rng)
    y = torch.randint(classes, (n,), generator=rng)
    x = 0.7 * torch.randn(n, length, generator=rng)
    starts = torch.randint(length - 5, (n,), generator=rng)
    for place in range(5):
        x[torch.arange(n), starts + place] += motifs[y, place]
    windows = x.unfold(1, 5, 1)

    def losses(parameters: Sequence[Tensor], rows: Tensor) -> Tensor:
        kernel, bias, outer = parameters
        seen = windows[rows].reshape(-1, 5) @ kernel + bias[:, None]
        pooled = seen.relu().view(len(kernel), len(rows), -1, kernel.shape[-1]).amax(2)
        return _cross_entropy(pooled @ outer, y[rows])

    return Workload("convolution", [((5, 12), 0.4), ((12,), 0.0), ((12, classes), 0.3)], losses, n - 400, 400)


def language(seed: int, n: int = 4000, words: int = 24, context: int = 3) -> Workload:
    """A language model over a random chain of second order: embeddings of three words, one hidden layer."""
    rng = torch.Generator().manual_seed(seed + 3)
    chain = torch.softmax(2.0 * torch.randn(words, words, words, generator=rng), -1)
    text = [0, 1]
    for _ in range(n + context):
        text.append(int(torch.multinomial(chain[text[-2], text[-1]], 1, generator=rng)))
    ids = torch.tensor(text)
    x, y = ids[: n + context].unfold(0, context, 1)[:n], ids[context : n + context]

    def losses(parameters: Sequence[Tensor], rows: Tensor) -> Tensor:
        embedding, inner, outer = parameters
        seen = embedding[:, x[rows]].flatten(2)
        return _cross_entropy((seen @ inner).tanh() @ outer, y[rows])

    shapes = [((words, 12), 0.3), ((12 * context, 48), 0.2), ((48, words), 0.1)]
    return Workload("language", shapes, losses, n - 500, 500)


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """The mean loss of each model [models] from logits [models, rows, classes]."""
    return -logits.log_softmax(-1).gather(-1, y.expand(len(logits), -1)[..., None])[..., 0].mean(1)

"""Batched generation with a key-value cache: one loop for every architecture and every way of choosing tokens.

Rows of different prompt lengths advance in step without any padding. All rows stand at the same position; a row whose
prompt reaches further is fed its own prompt tokens, a row whose prompt is over is fed what it generated. So every row
sees exactly the positions and the attention it would see alone, on any architecture.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunewright.errors import BadInput
from tunewright.models.policy import Policy


class Step(NamedTuple):
    """Where the loop stands when a token is to be chosen.

    `rows` int64 [live] are the indices of the prompts whose next token is chosen; `ids` int64 [live, width] are the
    prompt and what was generated so far.
    """

    rows: Tensor
    ids: Tensor


LogitsProcessor = Callable[[Tensor, Step], Tensor]
"""(logits float32 [live, vocabulary], step) -> logits of the same shape."""


@dataclass(frozen=True)
class Sampler:
    """How a token is chosen from logits: the likeliest at temperature 0, else drawn.

    p = softmax(logits / temperature), cut to the `top_k` likeliest tokens and to the smallest set whose probability
    reaches `top_p`.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        for name, low, value in (("temperature", 0.0, self.temperature), ("top_k", 1, self.top_k)):
            if value is not None and not low <= value < float("inf"):
                raise BadInput("out of range", field=name, found=value, expected=f"a number from {low}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise BadInput("out of range", field="top_p", found=self.top_p, expected="above 0 and at most 1")

    def __call__(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Token ids [live] from logits [live, vocabulary] and one uniform number in [0, 1) per row [live]."""
        if self.temperature == 0:
            return logits.argmax(-1)
        scaled, order = (logits / self.temperature).sort(dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            scaled, order = scaled[:, : self.top_k], order[:, : self.top_k]
        reached = scaled.double().softmax(-1).cumsum(-1)
        if self.top_p is not None:
            last = (reached < self.top_p).sum(-1, keepdim=True).clamp(max=reached.shape[-1] - 1)
        else:
            last = reached.new_full((len(reached), 1), reached.shape[-1] - 1, dtype=torch.int64)
        target = uniform.double()[:, None] * reached.gather(-1, last)
        place = torch.minimum((reached <= target).sum(-1, keepdim=True), last)
        return order.gather(-1, place)[:, 0]


@dataclass(frozen=True)
class Decoding:
    """What ends an answer and how its tokens are chosen.

    `stop` are the token ids that end an answer. `processors` change the logits in order before `sampler` chooses.
    `seed` fixes the draws: they depend on the prompt's index and the token's place alone, not on batch or order.
    """

    max_new_tokens: int = 128
    stop: frozenset[int] = frozenset()
    sampler: Sampler = Sampler()
    processors: tuple[LogitsProcessor, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """One generated answer.

    `ids` are the chosen tokens, the stop token included; `text` is decoded without it and without special tokens;
    `stopped` says that the model ended by itself; `logprobs` holds log p(token) of each chosen token under the model,
    before any processor or temperature.
    """

    ids: list[int]
    text: str
    stopped: bool
    logprobs: list[float] = field(repr=False)

    @property
    def length(self) -> int:
        """Generated tokens without the stop token."""
        return len(self.ids) - self.stopped


@contextmanager
def evaluating(policy: Policy) -> Iterator[None]:
    """The policy in evaluation mode, without gradients, in its arithmetic; every module's mode is put back."""
    modes = [(module, module.training) for module in policy.modules()]
    policy.eval()
    try:
        with torch.no_grad(), policy.computing():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def context_length(model: Any) -> int | None:
    """The longest sequence the model's positions allow, or None where its configuration names none.

    A model whose attribute `positions_before` is set has that many positions taken before every sequence.
    """
    config = model.config.get_text_config()
    taken = getattr(model, "positions_before", 0)
    names = ("max_position_embeddings", "n_positions")
    return next((int(getattr(config, name)) - taken for name in names if getattr(config, name, None)), None)


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end an answer: the tokenizer's end token and those of the model's generation settings."""
    settings = getattr(model, "generation_config", None)
    named = [getattr(tokenizer, "eos_token_id", None), getattr(settings, "eos_token_id", None)]
    flat = [item for entry in named for item in (entry if isinstance(entry, list | tuple) else [entry])]
    return frozenset(int(item) for item in flat if item is not None)


def generate(
    policy: Policy,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding = Decoding(),
    batch_tokens: int = 16384,
) -> list[Answer]:
    """Answers to prompts of token ids, in the order of the prompts.

    At most `batch_tokens` positions (rows x longest sequence) are held at once. An answer also ends where the model's
    context does. The global random state is neither used nor changed. Raises `BadInput` for a prompt that is empty or
    leaves no room in the context.
    """
    context = context_length(policy.model) or 1 << 30
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    for index in np.flatnonzero((lengths == 0) | (lengths >= context)).tolist():
        raise BadInput(
            f"prompt {index} cannot be answered", found=f"a prompt of {lengths[index]} tokens",
            expected=f"1 to {context - 1} tokens",
        )  # fmt: skip
    draws = torch.rand(
        (len(prompts), decoding.max_new_tokens) if decoding.sampler.temperature else (0, 0),
        generator=torch.Generator().manual_seed(decoding.seed),
    )
    answers: dict[int, Answer] = {}
    with evaluating(policy):
        for group in _groups(lengths, decoding.max_new_tokens, batch_tokens):
            run = _Run(policy, group, [prompts[i] for i in group], decoding, draws, context)
            for index, ids, logprobs, stopped in run.answers():
                text = tokenizer.decode(ids[:-1] if stopped else ids, skip_special_tokens=True)
                answers[index] = Answer(ids, text, stopped, logprobs)
    return [answers[index] for index in range(len(prompts))]


WIDEST = 64
"""Largest difference of the prompt lengths of rows that advance together."""


def _groups(lengths: NDArray[np.int64], new: int, batch_tokens: int) -> list[list[int]]:
    """Indices that advance together, longest first, so that a run that does not fit fails at once.

    Prompt lengths of a group differ by at most `new` and `WIDEST`: a wider group spends more steps on feeding its
    longest prompts than a second group spends on generating.
    """
    width = min(new, WIDEST)
    groups: list[list[int]] = []
    for index in np.argsort(-lengths, kind="stable").tolist():
        longest = int(lengths[groups[-1][0]]) if groups else 0
        fits = groups and (len(groups[-1]) + 1) * (longest + new) <= batch_tokens
        if fits and longest - lengths[index] <= width:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


KEPT_SHARE = 0.9
"""Finished rows leave the cache once at most this share of its rows still generates: leaving copies the cache."""


class _Run:
    """One group of rows on its way: tokens known so far, the cache, and which rows still generate."""

    def __init__(
        self,
        policy: Policy,
        rows: list[int],
        prompts: list[Sequence[int]],
        decoding: Decoding,
        draws: Tensor,
        context: int,
    ) -> None:
        self.policy, self.decoding, self.draws = policy, decoding, draws
        self.rows = torch.tensor(rows)
        self.prompt = torch.tensor([len(prompt) for prompt in prompts])
        self.end = (self.prompt + decoding.max_new_tokens).clamp(max=context)
        self.known = self.prompt.clone()
        self.ids = torch.zeros(len(prompts), int(self.end.max()), dtype=torch.int64)
        for row, prompt in zip(self.ids, prompts, strict=True):
            row[: len(prompt)] = torch.as_tensor(prompt)
        self.logprobs = torch.zeros(self.ids.shape)
        self.stopped = torch.zeros(len(prompts), dtype=torch.bool)
        self.stop = torch.tensor(sorted(decoding.stop), dtype=torch.int64)

    def answers(self) -> Iterator[tuple[int, list[int], list[float], bool]]:
        """(prompt index, chosen ids, their logprobs, stopped) of every row."""
        self._advance()
        for n, row in enumerate(self.rows.tolist()):
            made = slice(int(self.prompt[n]), int(self.known[n]))
            yield row, self.ids[n, made].tolist(), self.logprobs[n, made].tolist(), bool(self.stopped[n])

    def _advance(self) -> None:
        forward = Forward(self.policy)
        fed = torch.arange(len(self.rows))  # the rows the cache holds
        while (going := self._going(fed)).any():
            if going.sum() <= KEPT_SHARE * len(fed):
                forward.keep(going.nonzero()[:, 0])
                fed = fed[going]
                going = torch.ones(len(fed), dtype=torch.bool)
            at = int(self.known[fed[going]].min())
            logits = forward(self.ids[fed, forward.seen : at])[:, -1]
            choosing = going & (self.known[fed] == at)
            self._choose(fed[choosing], logits[choosing.to(logits.device)])

    def _going(self, rows: Tensor) -> Tensor:
        return ~self.stopped[rows] & (self.known[rows] < self.end[rows])

    def _choose(self, rows: Tensor, logits: Tensor) -> None:
        at = int(self.known[rows[0]])
        raw = logits = logits.float()
        for process in self.decoding.processors:
            logits = process(logits, Step(self.rows[rows], self.ids[rows, :at]))
        uniform = self.draws[self.rows[rows], at - self.prompt[rows]] if len(self.draws) else self.draws
        chosen = self.decoding.sampler(logits, uniform.to(logits.device))
        self.logprobs[rows, at] = (raw.gather(-1, chosen[:, None])[:, 0] - raw.logsumexp(-1)).cpu()
        self.ids[rows, at] = chosen.cpu()
        self.known[rows] += 1
        self.stopped[rows] = torch.isin(chosen.cpu(), self.stop)


class Forward:
    """The model over growing sequences: tokens it has seen are not computed again, where it can keep a cache.

    Use it inside `evaluating`. `cached` says whether the model keeps one; without, every call computes all tokens.
    """

    def __init__(self, policy: Policy) -> None:
        from transformers import DynamicCache

        model = policy.model
        taken = inspect.signature(type(model).forward).parameters
        self.policy, self.device, self.seen = policy, policy.device, 0
        self.cached = "past_key_values" in taken
        self.cache = DynamicCache(config=model.config) if self.cached else None
        self.some_only = "logits_to_keep" in taken

    def __call__(self, ids: Tensor, last: int = 1) -> Tensor:
        """Logits [rows, last, vocabulary] after the `last` last of the tokens from `seen` on, ids [rows, new]."""
        keep = {"logits_to_keep": last} if self.some_only else {}
        past = {"past_key_values": self.cache} if self.cached else {}
        out = self.policy.run(input_ids=ids.to(self.device), use_cache=self.cached, **past, **keep)
        self.seen += ids.shape[1] if self.cached else 0
        logits: Tensor = out.logits[:, -last:]
        return logits

    def keep(self, rows: Tensor) -> None:
        """Goes on with these of its rows [kept]; a row may be named several times."""
        if self.cache is not None:
            self.cache.batch_select_indices(rows.to(self.device))

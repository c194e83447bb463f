"""Generation: equal to transformers' own, whatever the batch, on every architecture."""

from __future__ import annotations

import pytest
import torch
from conftest import ARCHITECTURES, VOCABULARY, Words, build

from tunewright.models.generate import Decoding, generate
from tunewright.models.policy import Policy


def prompts(n: int, seed: int = 0) -> list[list[int]]:
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 20, (n,), generator=rng).tolist()
    return [torch.randint(3, VOCABULARY, (length,), generator=rng).tolist() for length in lengths]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_equals_transformers(name: str, words: Words) -> None:
    model = build(name)
    given = prompts(7)
    ours = generate(Policy(model), words, given, Decoding(max_new_tokens=12, stop=frozenset({2, 5})))
    for prompt, answer in zip(given, ours, strict=True):
        out = model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=[2, 5], pad_token_id=0,
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        )  # fmt: skip
        assert answer.ids == out[0, len(prompt) :].tolist()
        assert answer.stopped == (answer.ids[-1] in (2, 5))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_answers_do_not_move_with_batch_size(name: str, words: Words) -> None:
    policy, given = Policy(build(name)), prompts(12, seed=1)
    decoding = Decoding(max_new_tokens=10, stop=frozenset({2}))
    whole = generate(policy, words, given, decoding)
    for size in (1, 90):
        cut = generate(policy, words, given, decoding, batch_tokens=size)
        assert [a.ids for a in cut] == [a.ids for a in whole]
        for one, other in zip(cut, whole, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=2e-5)

"""Generation: equal to transformers' own, whatever the batch, on every architecture."""

from __future__ import annotations

import pytest
import torch
from evaluate_models import ARCHITECTURES, VOCABULARY, build, policy, tokenizer
from torch import Tensor

from tunewright.errors import BadInput
from tunewright.models.generate import Decoding, Sampler, Step, evaluating, generate, stop_tokens
from tunewright.models.policy import Policy

WORDS = tokenizer()


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 20, (count,), generator=rng).tolist()
    return [torch.randint(3, VOCABULARY, (length,), generator=rng).tolist() for length in lengths]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_equals_transformers(name: str) -> None:
    model, given = build(name), prompts(7)
    ours = generate(Policy(model), WORDS, given, Decoding(max_new_tokens=12, stop=frozenset({2, 5})))
    for prompt, answer in zip(given, ours, strict=True):
        out = model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=[2, 5], pad_token_id=0,
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        )  # fmt: skip
        assert answer.ids == out[0, len(prompt) :].tolist()
        assert answer.stopped == (answer.ids[-1] in (2, 5))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_do_not_move_with_batch_size(name: str, temperature: float) -> None:
    model, given = Policy(build(name)), prompts(12, seed=1)
    decoding = Decoding(10, frozenset({2, 7}), Sampler(temperature))
    whole = generate(model, WORDS, given, decoding)
    for size in (1, 90):
        cut = generate(model, WORDS, given, decoding, batch_tokens=size)
        assert [one.ids for one in cut] == [one.ids for one in whole]
        for one, other in zip(cut, whole, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=2e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_logprobs_are_those_of_one_pass(name: str) -> None:
    model, given = build(name), prompts(5)
    for prompt, answer in zip(given, generate(Policy(model), WORDS, given, Decoding(9)), strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer.ids])).logits[0, len(prompt) - 1 : -1]
        wanted = logits.log_softmax(-1).gather(-1, torch.tensor(answer.ids)[:, None])[:, 0]
        assert answer.logprobs == pytest.approx(wanted.tolist(), abs=2e-5)


def test_stop_token_ends_the_text_and_the_length() -> None:
    model, given = policy(), prompts(20)
    free = generate(model, WORDS, given, Decoding(8))
    stop = free[0].ids[3]
    ended = generate(model, WORDS, given, Decoding(8, frozenset({stop})))[0]
    first = free[0].ids.index(stop)
    assert ended.stopped and ended.ids == free[0].ids[: first + 1] and ended.length == first
    assert ended.text == WORDS.decode(free[0].ids[:first], skip_special_tokens=True)
    assert not free[0].stopped and free[0].length == 8


def test_sampling_follows_the_distribution() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).expand(20000, 4)
    uniform = torch.rand(20000, generator=torch.Generator().manual_seed(0))
    share = lambda **options: torch.bincount(Sampler(1.0, **options)(logits, uniform), minlength=4) / 20000
    assert torch.allclose(share(), torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.01)
    assert torch.allclose(share(top_k=2), torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.01)
    assert torch.allclose(share(top_p=0.6), torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.01)
    assert torch.allclose(share(top_p=0.5), torch.tensor([1.0, 0.0, 0.0, 0.0]))
    hot = torch.bincount(Sampler(100.0)(logits, uniform), minlength=4) / 20000
    assert torch.allclose(hot, torch.full((4,), 0.25), atol=0.02)


def test_seed_decides_and_the_global_state_stays() -> None:
    model, given = policy(), prompts(4)
    before = torch.get_rng_state()
    draw = lambda seed: [one.ids for one in generate(model, WORDS, given, Decoding(6, sampler=Sampler(1.0), seed=seed))]
    assert draw(0) == draw(0) != draw(1)
    assert torch.equal(before, torch.get_rng_state())


def test_processors_see_the_rows_and_change_the_choice() -> None:
    seen: list[Step] = []

    def only_seven(logits: Tensor, step: Step) -> Tensor:
        seen.append(step)
        return torch.full_like(logits, float("-inf")).index_fill(-1, torch.tensor([7]), 0.0)

    given = prompts(5)
    answers = generate(policy(), WORDS, given, Decoding(3, processors=(only_seven,)))
    assert all(answer.ids == [7, 7, 7] for answer in answers)
    for step in seen:
        for row, ids in zip(step.rows.tolist(), step.ids.tolist(), strict=True):
            assert ids[: len(given[row])] == given[row] and set(ids[len(given[row]) :]) <= {7}


def test_modes_are_put_back() -> None:
    model = policy().train()
    model.model.lm_head.eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules()) and not torch.is_grad_enabled()
    assert model.training and model.model.model.training and not model.model.lm_head.training


def test_answer_ends_with_the_context() -> None:
    [answer] = generate(policy(), WORDS, [[9] * 120], Decoding(50))
    assert len(answer.ids) == 8 and not answer.stopped
    for bad in ([9] * 128, []):
        with pytest.raises(BadInput, match=r"prompt 1 cannot be answered.*1 to 127 tokens"):
            generate(policy(), WORDS, [[9], bad], Decoding(4))


def test_bfloat16_and_autocast() -> None:
    given = prompts(5)
    for model in (Policy(build().bfloat16()), Policy(build(), autocast=torch.bfloat16)):
        answers = generate(model, WORDS, given, Decoding(6))
        assert all(len(answer.ids) == 6 for answer in answers)


@pytest.mark.parametrize(
    "options", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0}]
)
def test_sampler_refuses(options: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Sampler(**options)  # type: ignore[arg-type]


def test_stop_tokens_come_from_tokenizer_and_model() -> None:
    model = build()
    model.generation_config.eos_token_id = [5, 6]
    assert stop_tokens(model, WORDS) == {2, 5, 6}

"""The three rules of the paper, each by what it does to log-odds."""

import pytest
import torch

from tunewright.decode.rule_adapter import RuleAdapter
from tunewright.errors import BadInput
from tunewright.models.generate import Step
from tunewright.testing.decoders import answered
from tunewright.testing.models import tiny_tokenizer

END, PROMPT = 2, [5, 9]
OFF = {"eos_max": 0.0, "repeat_penalty": 0.0, "hard_cap": 10**6}


def ruled(method, answer):
    """(logits, what became of them) for one row with this answer so far."""
    tokenizer = tiny_tokenizer()
    logits = torch.randn(1, len(tokenizer), generator=torch.Generator().manual_seed(1))
    act = method.processor(tokenizer, [PROMPT], frozenset({END}))
    return logits[0], act(logits, Step(torch.tensor([0]), torch.tensor([[*PROMPT, *answer]])))[0]


def gain(method, length, token=END, against=20):
    """How much the log-odds of a token against another one rise."""
    before, after = ruled(method, [30] * length)
    return float((after[token] - after[against]) - (before[token] - before[against]))


def test_without_rules_the_distribution_is_the_models():
    before, after = ruled(RuleAdapter(**OFF), [7, 7, 8])
    assert torch.allclose(after.log_softmax(-1), before.log_softmax(-1), atol=1e-6)
    assert [one.ids for one in answered(RuleAdapter(**OFF))] == [one.ids for one in answered(None)]


@pytest.mark.parametrize(("length", "expected"), [(0, 0.0), (125, 7.5), (250, 15.0), (600, 15.0), (1025, 115.0)])
def test_the_end_gains_linearly_and_then_stays(length, expected):
    method = RuleAdapter(repeat_penalty=0.0)
    assert gain(method, length) == pytest.approx(expected, abs=1e-4)
    assert gain(method, length, token=40, against=41) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(("length", "expected"), [(125, 7.5), (249, 14.94), (250, 0.0), (1025, 0.0)])
def test_the_released_code_forgets_the_end(length, expected):
    assert gain(RuleAdapter(repeat_penalty=0.0, legacy_eos=True), length) == pytest.approx(expected, abs=1e-4)


def test_a_token_that_stands_there_loses_exactly_the_penalty_once():
    method = RuleAdapter(**{**OFF, "repeat_penalty": 1.5})
    for seen in (30, *PROMPT):
        assert gain(method, 3, token=seen, against=20) == pytest.approx(-1.5, abs=1e-4)
    assert gain(method, 3, token=40, against=20) == pytest.approx(0.0, abs=1e-4)


def test_the_end_is_no_repetition():
    before, after = ruled(RuleAdapter(**{**OFF, "repeat_penalty": 1.5}), [END])
    assert float(after[END] - after[20]) == pytest.approx(float(before[END] - before[20]), abs=1e-4)


def test_offsets_shift_single_tokens_at_every_step():
    tokenizer = tiny_tokenizer()
    piece = tokenizer.convert_ids_to_tokens(40)
    method = RuleAdapter(**OFF, token_offsets={piece: -4.0})
    assert gain(method, 1, token=40) == pytest.approx(-4.0, abs=1e-4)
    assert gain(method, 9, token=40) == pytest.approx(-4.0, abs=1e-4)


def test_an_offset_for_several_tokens_is_refused_before_training():
    with pytest.raises(BadInput, match="not a single token") as caught:
        RuleAdapter(token_offsets={"a long text of many tokens": 1.0}).processor(tiny_tokenizer(), [], frozenset())
    assert caught.value.field == "decode.token_offsets"

"""What every decoder promises."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from tunewright.decode.base import Decoder
from tunewright.errors import Fault
from tunewright.models.generate import Answer, Decoding, Step, generate
from tunewright.models.policy import Policy
from tunewright.testing.models import tiny_tokenizer
from tunewright.testing.runs import tiny_policy

PROMPTS = [[5, 9, 11], [7, 5], [9, 30, 12, 8, 41], [11], [6, 6, 21, 40]]
LENGTH = 12
STOP = frozenset({2})


class DecoderContract:
    """Tests of one decoder; a subclass gives the fixture `method`."""

    def test_a_row_depends_on_itself_alone(self, method: Decoder) -> None:
        act, logits, ids = _acting(method), _logits(), torch.tensor([prompt[:1] * 8 for prompt in PROMPTS])
        rows = torch.arange(len(PROMPTS))
        together = act(logits, Step(rows, ids))
        assert together.shape == logits.shape and not together.isnan().any()
        for some in (rows.flip(0), rows[[2]], rows[[4, 1]]):
            assert torch.allclose(act(logits[some], Step(some, ids[some])), together[some], atol=1e-6)

    def test_what_it_was_given_stays(self, method: Decoder) -> None:
        logits, ids = _logits(), torch.full((len(PROMPTS), 8), 5)
        before = logits.clone(), ids.clone()
        _acting(method)(logits, Step(torch.arange(len(PROMPTS)), ids))
        assert torch.equal(logits, before[0]) and torch.equal(ids, before[1])

    def test_answers_do_not_move_with_the_batch(self, method: Decoder) -> None:
        at_once = [answer.ids for answer in answered(method)]
        assert at_once == [answer.ids for answer in answered(method, batch_tokens=1)]
        assert at_once == [answer.ids for answer in answered(method)]

    def test_it_can_be_checked_without_prompts(self, method: Decoder) -> None:
        method.processor(tiny_tokenizer(), [], frozenset())

    def test_the_base_answers_without_it(self, method: Decoder) -> None:
        """A recipe names it under `decode`, and it acts where the adapter does."""
        from tunewright.recipe import Recipe

        made = Recipe.of(model="nano", data="nano:facts/train", decode=[method])
        assert made.decode == (method,) and ("decode", 0) in made.methods
        again = Recipe.of(model="nano", data="nano:facts/train", decode=made.plain()["decode"])
        assert again.decode == made.decode


def observe_decoder(method: Decoder) -> dict[str, Any]:
    """The answers of a tiny model through the decoder (`output`), or the `error`."""
    try:
        return {"error": "", "output": [(answer.ids, answer.stopped) for answer in answered(method)]}
    except Fault as fault:
        return {"error": str(fault)}


def answered(method: Decoder | None, batch_tokens: int = 4096) -> list[Answer]:
    """Greedy answers of a tiny model to `PROMPTS`."""
    processors = () if method is None else (_acting(method),)
    return generate(_policy(), tiny_tokenizer(), PROMPTS, Decoding(LENGTH, STOP, processors=processors), batch_tokens)


@cache
def _policy() -> Policy:
    return tiny_policy()


def _acting(method: Decoder) -> Any:
    return method.processor(tiny_tokenizer(), PROMPTS, STOP)


def _logits() -> torch.Tensor:
    return torch.randn(len(PROMPTS), len(tiny_tokenizer()), generator=torch.Generator().manual_seed(0))

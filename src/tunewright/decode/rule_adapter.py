"""Three rules instead of tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tunewright.catalog import Paper, option
from tunewright.decode.base import Decoder
from tunewright.errors import BadInput
from tunewright.models.generate import LogitsProcessor, Step

CAPPED = 100.0
"""What an answer longer than the cap adds to the logit of its end."""


class RuleAdapter(Decoder):
    """Multiplies the model's distribution by three rules: end after a while, shift some tokens, do not repeat.

    log p'(v) = log softmax(logits)_v + log softmax(r)_v + const, with t the tokens of the answer so far and
    r_v = eos_max min(t, eos_span) / eos_span [v ends an answer] + 100 [v ends an answer and t > hard_cap]
        + token_offsets_v - repeat_penalty [v stands in the prompt or the answer]. Special tokens never count as repeated.
    An `eos_max` and `repeat_penalty` of 0 without offsets leave the model's distribution as it is.

    The paper finds that a base model under such rules follows instructions about as well as after tuning on one narrow
    kind of answers; its 15 offsets (marks of formatting -4, "I" -5, "We" -3, "What" -5, "should" -6, bullets, line ends
    and headings +1) belong to one tokenizer and are the user's to give. `legacy_eos` is the released code: the first
    term falls back to 0 from `eos_span` tokens on, and the cap is not added.

    When to use: as the control that shows how little instruction following needs. When not: for good answers.
    """

    name: ClassVar[str] = "rule_adapter"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Instruction Following without Instruction Tuning", arxiv="2409.14254", card=3),
    )

    eos_max: float = option(
        15.0, "What the end of an answer gains after `eos_span` tokens.", changes="output", to=500.0
    )
    eos_span: int = option(
        250, "Tokens over which the end gains.", changes="output", given={"decoder.eos_max": 500.0}, to=1, ge=1
    )
    hard_cap: int = option(1024, "Tokens from which on an answer is to end.", changes="output", to=2, ge=1)
    legacy_eos: bool = option(
        False, "The end's term as in the released code.", changes="output", to=True, given={"decoder.hard_cap": 2}
    )
    repeat_penalty: float = option(1.5, "What a token loses that stands there already.", changes="output", to=50.0)
    token_offsets: dict[str, float] = option(
        {}, "Text of a single token -> what is added to it at every step.", changes="output", to={"e": 50.0}
    )

    def processor(self, tokenizer: Any, prompts: Sequence[Sequence[int]], stop: frozenset[int]) -> LogitsProcessor:
        """The rules over these prompts. Raises `BadInput` for an offset whose text is no single token."""
        begins = torch.tensor([len(prompt) for prompt in prompts])
        ends, exempt = torch.tensor(sorted(stop), dtype=torch.int64), sorted({*stop, *tokenizer.all_special_ids})
        offsets = {_single(tokenizer, text): value for text, value in self.token_offsets.items()}

        def ruled(logits: Tensor, step: Step) -> Tensor:
            rules = torch.zeros_like(logits)
            rules.scatter_(1, step.ids.to(logits.device), -self.repeat_penalty)
            rules[:, [index for index in exempt if index < logits.shape[-1]]] = 0.0
            for index, value in offsets.items():
                rules[:, index] += value
            gain = self.ending(step.ids.shape[1] - begins[step.rows]).to(rules)
            rules[:, ends.to(rules.device)] += gain[:, None]
            return logits.log_softmax(-1) + rules.log_softmax(-1)

        return ruled

    def ending(self, length: Tensor) -> Tensor:
        """What the end of an answer gains after int64 [rows] tokens, float32 [rows]."""
        gain = self.eos_max * length.clamp(max=self.eos_span) / self.eos_span
        if self.legacy_eos:
            return torch.where(length < self.eos_span, gain, 0.0)
        return gain + CAPPED * (length > self.hard_cap)


def _single(tokenizer: Any, text: str) -> int:
    """The id of a text that is one token, alone or as a piece of the vocabulary."""
    known = tokenizer.get_vocab().get(text)
    ids = [known] if known is not None else tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise BadInput(
            "not a single token of this tokenizer", field="decode.token_offsets", found=text,
            expected="a text that is one token", hint=f"It is {tokenizer.convert_ids_to_tokens(ids)}.",
        )  # fmt: skip
    return int(ids[0])

"""Prompt tuning: vectors in front of the input embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from tunewright.adapters.base import Adapter, Attached, PromptExport
from tunewright.adapters.prompts._front import AttachedPrompt, Prompt, drawn, reader
from tunewright.catalog import Paper, option


class PromptTuning(Adapter):
    """Trains a soft prompt: vectors in front of the input embeddings of the frozen model.

    With m = num_virtual_tokens and d the width, P [m, d] begins as the embeddings of m tokens drawn from the vocabulary;
    the model reads [P; E(x)], P at positions 0..m-1, token i at m + i. m d numbers train. With the adapter off, tokens
    stand at the positions they have without it: exactly the model before.

    The prompt stands before the sequence at the first call with an empty cache. Left padding is understood through
    `attention_mask`. Records are not packed, and the model's context is m positions shorter. A run leaves the prompt in
    PEFT's format too (`PromptTuning`); there is nothing to merge.

    The paper trains 100 vectors with Adafactor at a rate of 0.3 over 30,000 steps and finds little gain beyond 20, the
    default here; of its ways to begin, the one with words of the vocabulary is taken. Rates far above those of `lora`
    are needed.

    When to use: many small tasks on one served model, some ten kilobytes each. When not: small models or few steps,
    where it learns much less than `lora` or `prefix_tuning`.
    """

    name: ClassVar[str] = "prompt_tuning"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="The Power of Scale for Parameter-Efficient Prompt Tuning", arxiv="2104.08691"),
    )

    num_virtual_tokens: int = option(20, "Vectors m of the prompt.", changes="parameters", to=5, ge=1)

    @property
    def neutral(self) -> bool:
        return False

    @property
    def packs(self) -> bool:
        return False

    @property
    def positions(self) -> int:
        return self.num_virtual_tokens

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> Attached:
        reader(model)
        prompt = drawn(model, self.num_virtual_tokens)
        model.requires_grad_(False)
        return AttachedSoftPrompt(model, self.name, Prompt(prompt))


class AttachedSoftPrompt(AttachedPrompt):
    """The prompt alone, as PEFT has it too."""

    def as_prompt(self, state: Mapping[str, Tensor]) -> PromptExport:
        length, width = state["prompt"].shape
        return PromptExport("PROMPT_TUNING", state["prompt"], {"num_virtual_tokens": length, "token_dim": width})

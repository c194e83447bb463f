"""Models that write part of the training rows, for formats that ask one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from tunewright.data.completing import asked
from tunewright.data.records import Record
from tunewright.data.templates import Renderer
from tunewright.models.generate import Decoding, Sampler, context_length, generate, stop_tokens
from tunewright.models.load import load, load_tokenizer, locate, resolve_precision
from tunewright.recipe import ModelSpec, Reading, Recipe


class ModelWriter:
    """Answers records with a model, which is loaded when the first is asked for."""

    def __init__(self, spec: ModelSpec, precision: Literal["bf16", "fp32"], device: torch.device | str) -> None:
        self.spec, self.precision, self.device = spec, precision, device
        self._policy: Any = None

    @property
    def digest(self) -> str:
        """What identifies the model: its keys, and each file of its folder by content, weights by size and time."""
        told = [repr(self.spec), self.precision]
        folder = Path(locate(self.spec))
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix in (".json", ".jinja"):
                told.append(hashlib.sha256(path.read_bytes()).hexdigest())
            elif path.is_file():
                told.append(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}")
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    def __call__(self, records: Sequence[Record], temperature: float, seed: int) -> list[str]:
        """An answer to each record's prompt, of at most as many tokens as the record's own.

        Empty where the prompt leaves no room in the model's context.
        """
        if self._policy is None:
            self._policy = load(self.spec, self.precision, self.device).policy
        tokenizer = load_tokenizer(self.spec)
        renderer = Renderer(tokenizer, Reading())
        stop = stop_tokens(self._policy.model, tokenizer).union(renderer.stops)
        room = (context_length(self._policy.model) or 1 << 30) - 1
        prompts = {n: renderer.prompt(record) for n, record in enumerate(records)}
        fitting = [n for n, prompt in prompts.items() if 0 < len(prompt) <= room]
        limits = {n: len(renderer.encoder.ids([records[n].answer])[0]) for n in fitting}
        decoding = Decoding(
            max_new_tokens=max(limits.values(), default=1), stop=stop, sampler=Sampler(temperature), seed=seed
        )
        answers = generate(self._policy, tokenizer, [prompts[n] for n in fitting], decoding)
        texts = dict.fromkeys(prompts, "")
        for n, answer in zip(fitting, answers, strict=True):
            kept = [index for index in answer.ids[: limits[n]] if index not in stop]
            texts[n] = tokenizer.decode(kept, skip_special_tokens=True)
        return list(texts.values())

    def unload(self) -> None:
        """Frees the model's memory; it is loaded again when it is asked again."""
        self._policy = None


def writers(recipe: Recipe, device: torch.device | str = "cpu") -> dict[str, ModelWriter]:
    """The models that the recipe's formats ask, by the name in `Format.writer`."""
    specs = {"model": recipe.model.model_copy(update={"adapter": None, "quantize": None})}
    if "teacher" in recipe.supplies:
        trusted = recipe.model.trust_remote_code
        specs["teacher"] = ModelSpec(path=recipe.supplies["teacher"], trust_remote_code=trusted)
    precision = resolve_precision(recipe.train.precision)
    return {name: ModelWriter(specs[name], precision, device) for name in sorted(asked(recipe)) if name in specs}

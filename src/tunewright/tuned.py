"""A finished run, loaded again: the tuned model beside its base, held to the fixtures of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from tunewright import output
from tunewright.adapters._peft import WEIGHTS, from_peft
from tunewright.assembly import Assembly, assemble
from tunewright.catalog import Method
from tunewright.data.records import Record, Style, Turn
from tunewright.errors import BadInput
from tunewright.evaluate import fixtures
from tunewright.evaluate.base import Scores
from tunewright.evaluate.measure import Measure, Spread, compare, measure, spread, with_shots
from tunewright.models.generate import Decoding, generate
from tunewright.recipe import Recipe


@dataclass(frozen=True)
class Tuned:
    """A tuned model of a run folder, joined with its recipe's data."""

    folder: Path
    assembly: Assembly

    def answer(self, prompt: str | Sequence[Mapping[str, str]], decoding: Decoding | None = None) -> tuple[str, str]:
        """The (base, tuned) answers to a prompt, or to a conversation of {"role", "content"} messages.

        A bare prompt is put to the model as the training rows were: through the chat template where they were chats.
        """
        renderer = self.assembly.data.renderers[0]
        ids = renderer.prompt(_record(prompt, self.assembly.data.eval_records[0]))
        subject = self.assembly.subject()
        chosen = decoding or Decoding(max_new_tokens=256, stop=subject.stop)
        policy, tokenizer = self.assembly.policy, self.assembly.loaded.tokenizer
        with self.assembly.attached.disabled():
            [base] = generate(policy, tokenizer, [ids], chosen)
        ruled = replace(chosen, processors=(*subject.processors([ids]), *chosen.processors))
        [tuned] = generate(policy, tokenizer, [ids], ruled)
        return base.text, tuned.text

    def evaluate(self, tasks: Sequence[Method] | None = None) -> list[Measure]:
        """Base and tuned model on the recipe's tasks (or others), paired by example."""
        return compare(*self.scores(tasks))

    def scores(self, tasks: Sequence[Method] | None = None) -> tuple[list[Scores], list[Scores], list[Scores]]:
        """The scores of the base, of the tuned model, and of the base with few-shot prompts."""
        wanted = self.assembly.recipe.evaluate if tasks is None else tasks
        subject = self.assembly.subject()
        with self.assembly.policy.start():
            before, shots = measure(subject, wanted), with_shots(subject, wanted)
        return before, measure(subject, wanted), shots

    def spread(self, batches: Sequence[int] = (512, 2048, 8192)) -> list[Spread]:
        """The tuned model's scores at several batch sizes (positions computed at once): in float32 they are equal."""
        return spread(self.assembly.subject(), self.assembly.recipe.evaluate, batches)


def load(folder: str | Path, changes: Sequence[str] = ()) -> Tuned:
    """Loads the tuned model of a run folder and replays the run's fixtures.

    `changes` are changes to its recipe (`evaluate=[...]`). Raises `BadInput` when the folder is not a finished run, or
    when tokens or answers differ from those of the run.
    """
    folder = Path(folder)
    if not (folder / output.RECIPE).is_file() or not (folder / output.ADAPTER).is_dir():
        raise BadInput(
            "not the folder of a finished run", file=folder, expected=f"{output.RECIPE} and {output.ADAPTER}/"
        )
    recipe = Recipe.read(folder / output.RECIPE, changes)
    if recipe.model.adapter_as == "start":
        # The trained adapter holds what it started from.
        recipe = Recipe.read(folder / output.RECIPE, [*changes, "model.adapter=null"])
    assembly = assemble(recipe)
    peft, own = folder / output.ADAPTER / WEIGHTS, folder / output.ADAPTER / output.OWN_WEIGHTS
    try:
        state = load_file(own) if own.is_file() or not peft.is_file() else from_peft(load_file(peft))
    except (OSError, SafetensorError) as error:
        raise BadInput(f"the trained weights cannot be read: {error}", file=folder / output.ADAPTER) from None
    assembly.attached.load_state(state)
    fixtures.replay(folder, assembly.policy, assembly.loaded.tokenizer, assembly.data.renderers)
    return Tuned(folder, assembly)


def _record(prompt: str | Sequence[Mapping[str, str]], like: Record) -> Record:
    if not isinstance(prompt, str):
        turns = tuple(Turn(message["role"], message["content"]) for message in prompt)
        return Record((*turns, Turn("assistant", "")), "chat")
    style: Style = "completion" if like.style == "text" else like.style
    return Record((Turn("user", prompt), Turn("assistant", "")), style)

"""What every vocabulary promises."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tunewright.catalog import AnyMethod
from tunewright.errors import BadInput
from tunewright.models.load import describe, load, load_tokenizer
from tunewright.models.vocabulary.base import Vocabulary, carried, tables
from tunewright.recipe import ModelSpec
from tunewright.testing.models import VOCABULARY, tiny, tiny_tokenizer

WORDS = ("the", "and", "other", "two", "some", "ing")
CHAT = "{% for m in messages %}<|turn|>{{ m.content }}{% endfor %}"
TEXT = "the other two and some"


def family(folder: Path, architecture: str = "llama", **changes: Any) -> Path:
    """Folders of models of one family: `base`, `tuned` (with a token of its own, a chat template and other embeddings),
    and, with whole words in their vocabularies, `donor` and `other`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # rows that are added are drawn
        return _family(folder, architecture, **changes)


def _family(folder: Path, architecture: str, **changes: Any) -> Path:
    base = tiny(architecture, **changes)
    _save(base, tiny_tokenizer(), folder / "base")
    tuned, own = tiny(architecture, **changes), tiny_tokenizer()
    own.add_tokens(["<|turn|>"], special_tokens=True)
    own.eos_token, own.chat_template = "<|turn|>", CHAT
    tuned.resize_token_embeddings(len(own), mean_resizing=False)
    tuned.config.eos_token_id = tuned.generation_config.eos_token_id = VOCABULARY
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for table in {id(p): p for p in _weights(tuned)}.values():
            table.add_(0.1 * torch.randn(table.shape, generator=generator))
    _save(tuned, own, folder / "tuned")
    for name, words in (("donor", WORDS), ("other", WORDS[:2])):
        donor, new = tiny(architecture, seed=4, **changes), tiny_tokenizer(words)
        donor.resize_token_embeddings(len(new), mean_resizing=False)
        _save(donor, new, folder / name)
    return folder


def placed(method: AnyMethod, folder: Path) -> AnyMethod:
    """The method with the files that it names taken from `folder`."""
    given = {name: getattr(method, name) for name in method.files}
    return method.model_copy(update={name: str(folder / value) for name, value in given.items() if value})


def observe_vocabulary(method: Vocabulary) -> Mapping[str, Any]:
    """What a tiny tuned model shows under a new vocabulary: the tokens of a text, its rows, their number."""
    with tempfile.TemporaryDirectory() as place:
        spec = ModelSpec(path=str(family(Path(place)) / "tuned"), vocabulary=placed(method, Path(place)))
        try:
            loaded = load(spec)
        except BadInput as fault:
            return {"error": str(fault)}
    rows = tables(loaded.policy.model)
    return {
        "tokens": loaded.tokenizer(TEXT)["input_ids"],
        "output": [table.tolist() for table in rows],
        "parameters": [tuple(table.shape) for table in rows],
        "error": "",
    }


class VocabularyContract:
    """Tests of one vocabulary; a subclass gives the fixture `method`, whose files are names of folders of `family`."""

    architectures: Sequence[tuple[str, dict[str, Any]]] = (
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("gpt2", {}),
        ("phi", {}),
    )

    def test_model_and_tokenizer_have_the_new_tokens(self, method: Vocabulary, tmp_path: Path) -> None:
        for number, (architecture, changes) in enumerate(self.architectures):
            folder = family(tmp_path / str(number), architecture, **changes)
            spec = ModelSpec(path=str(folder / "tuned"), vocabulary=placed(method, folder))
            loaded = load(spec)
            rows = {table.shape[0] for table in tables(loaded.policy.model)}
            assert rows == {max(loaded.tokenizer.get_vocab().values()) + 1} == {describe(spec)[1]}
            assert loaded.tokenizer.get_vocab() == load_tokenizer(spec).get_vocab()
            ids = loaded.tokenizer(TEXT, return_tensors="pt")["input_ids"]
            assert loaded.tokenizer.decode(ids[0]) == TEXT
            with torch.no_grad():
                assert torch.isfinite(loaded.policy.model(input_ids=ids).logits).all()

    def test_nothing_but_rows_changes(self, method: Vocabulary, tmp_path: Path) -> None:
        folder = family(tmp_path)
        before = load(ModelSpec(path=str(folder / "tuned"))).policy.model
        after = load(ModelSpec(path=str(folder / "tuned"), vocabulary=placed(method, folder))).policy.model
        rows = {name for name, p in before.named_parameters() if any(p is one for one in _weights(before))}
        found = dict(after.named_parameters())
        assert all(torch.equal(p, found[name]) for name, p in before.named_parameters() if name not in rows)

    def test_special_tokens_keep_rows_roles_and_template(self, method: Vocabulary, tmp_path: Path) -> None:
        for number, (architecture, changes) in enumerate(self.architectures):
            folder = family(tmp_path / str(number), architecture, **changes)
            plain = load(ModelSpec(path=str(folder / "tuned")))
            new = load(ModelSpec(path=str(folder / "tuned"), vocabulary=placed(method, folder)))
            kept = carried(plain.tokenizer, new.tokenizer)
            assert len(kept) == 5
            for old, table in zip(tables(plain.policy.model), tables(new.policy.model), strict=True):
                assert torch.equal(table[list(kept)], old[list(kept.values())])
            end = new.tokenizer.convert_tokens_to_ids("<|turn|>")
            settings = (new.policy.model.config, new.policy.model.generation_config)
            assert [one.eos_token_id for one in settings] == [end, end] and end not in kept.values()
            assert new.tokenizer.eos_token_id == end and new.tokenizer.chat_template == CHAT
            assert new.tokenizer("a<|turn|>b")["input_ids"][1] == end

    def test_is_the_same_every_time(self, method: Vocabulary, tmp_path: Path) -> None:
        folder = family(tmp_path)
        spec = ModelSpec(path=str(folder / "tuned"), vocabulary=placed(method, folder))
        one, other = (tables(load(spec).policy.model) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    def test_files_that_are_not_there_are_named(self, method: Vocabulary, tmp_path: Path) -> None:
        folder = family(tmp_path)
        for name in method.files:
            if getattr(method, name):
                missing = placed(method, folder).model_copy(update={name: str(folder / "nothing")})
                try:
                    load(ModelSpec(path=str(folder / "tuned"), vocabulary=missing))
                except BadInput as fault:
                    assert "nothing" in str(fault)
                else:
                    raise AssertionError(f"{name} may be missing")


def _weights(model: Any) -> list[torch.nn.Parameter]:
    holders = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [holder.weight for holder in holders]


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

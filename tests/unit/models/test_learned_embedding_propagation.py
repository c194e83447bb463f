"""Learned embedding propagation: the linear map, pieces of tokens, and what is refused."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import tunewright
from tunewright import pipeline
from tunewright.chain import _chained
from tunewright.errors import BadInput
from tunewright.export import export
from tunewright.models.load import EMBEDDED_FOLDER, load, load_tokenizer
from tunewright.models.vocabulary import LearnedEmbeddingPropagation
from tunewright.models.vocabulary._pieces import pieces, pooled
from tunewright.models.vocabulary.base import carried, tables
from tunewright.models.vocabulary.learned_embedding_propagation import mapping
from tunewright.recipe import ModelSpec, Recipe
from tunewright.testing.models import tiny, tiny_tokenizer
from tunewright.testing.runs import differs, logits_of
from tunewright.testing.vocabularies import WORDS, family

MODES = ("conversion", "overlap", "direct")


def tables_of(folder):
    return [table.double() for table in tables(load(ModelSpec(path=str(folder))).policy.model)]


def propagated(folder, mode, tuned):
    """(new tables, the tokenizer they are for) of the model in the folder `tuned`."""
    method = LearnedEmbeddingPropagation(donor=str(folder / "donor"), base=str(folder / "base"), mode=mode)
    own = load_tokenizer(ModelSpec(path=str(tuned)))
    new = method.tokenizer(own)
    return method.rows(tables_of(tuned), own, new), own, new


def like(folder, name, change):
    """A tuned model whose rows are those of the base after `change`."""
    model = load(ModelSpec(path=str(folder / "base"))).policy.model
    with torch.no_grad():
        for holder in (model.get_input_embeddings(), model.get_output_embeddings()):
            holder.weight.copy_(change(holder.weight.double()))
    model.save_pretrained(folder / name)
    tiny_tokenizer().save_pretrained(folder / name)
    return folder / name


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("words", [WORDS, WORDS[:2]], ids=["six", "two"])
def test_equal_embeddings_give_the_donors(tmp_path, mode, words):
    folder = family(tmp_path)
    if words != WORDS:
        (folder / "donor").rename(folder / "six")
        (folder / "other").rename(folder / "donor")
    found, own, new = propagated(folder, mode, folder / "base")
    others = [number for number in range(len(new)) if number not in carried(own, new)]
    for table, donor in zip(found, tables_of(folder / "donor"), strict=True):
        assert (table[others] - donor[others]).abs().max() < 1e-6


@pytest.mark.parametrize("mode", MODES)
def test_a_linear_change_is_recovered(tmp_path, mode):
    folder = family(tmp_path)
    generator = torch.Generator().manual_seed(0)
    turn = torch.eye(32, dtype=torch.float64) + 0.3 * torch.randn(32, 32, generator=generator, dtype=torch.float64)
    tuned = like(folder, "turned", lambda rows: rows @ turn)
    found, own, new = propagated(folder, mode, tuned)
    others = [number for number in range(len(new)) if number not in carried(own, new)]
    for table, donor in zip(found, tables_of(folder / "donor"), strict=True):
        apart = (table[others] - donor[others] @ turn).abs().max()
        assert apart > 0.1 if mode == "direct" else apart < 1e-4


def test_directions_without_pairs_are_left_alone():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    y = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    found = mapping(x, y)
    assert torch.allclose(x @ found, y, atol=1e-10)
    apart = torch.linalg.svd(x)[2][3:]
    assert torch.allclose(apart @ found, apart, atol=1e-10)
    assert torch.allclose(mapping(x, x), torch.eye(8, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(found, torch.eye(8, dtype=torch.float64) + torch.linalg.pinv(x) @ (y - x), atol=1e-10)


def test_tied_rows_are_mapped_once(tmp_path):
    folder = family(tmp_path, tie_word_embeddings=True)
    method = LearnedEmbeddingPropagation(donor=str(folder / "donor"), base=str(folder / "base"))
    model = load(ModelSpec(path=str(folder / "tuned"), vocabulary=method)).policy.model
    assert len(tables(model)) == 1 and model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_the_bias_of_a_head_goes_with_its_rows(tmp_path):
    folder = family(tmp_path, "phi")
    method = LearnedEmbeddingPropagation(donor=str(folder / "donor"), base=str(folder / "base"), mode="direct")
    loaded = load(ModelSpec(path=str(folder / "tuned"), vocabulary=method))
    donor = load(ModelSpec(path=str(folder / "donor")))
    the = loaded.tokenizer.convert_tokens_to_ids("the")
    bias = [one.policy.model.get_output_embeddings().bias[the] for one in (loaded, donor)]
    assert bias[0] == bias[1] != 0


def test_without_a_base_rows_are_means_of_pieces(tmp_path):
    folder = family(tmp_path)
    spec = ModelSpec(path=str(folder / "base"), vocabulary=LearnedEmbeddingPropagation(donor=str(folder / "donor")))
    loaded = load(spec)
    own = tiny_tokenizer()
    for before, after in zip(tables_of(folder / "base"), tables(loaded.policy.model), strict=True):
        the = after[loaded.tokenizer.convert_tokens_to_ids("the")]
        assert torch.allclose(the.double(), before[own("the")["input_ids"]].mean(0), atol=1e-6)
        space = after[loaded.tokenizer.convert_tokens_to_ids(" ")]
        assert torch.equal(space.double(), before[own.convert_tokens_to_ids(" ")])


def byte_level(texts, size=400):
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")


def with_spaces_marked(texts, size=60):
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.train_from_iterator(
        texts,
        trainers.UnigramTrainer(vocab_size=size, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False),
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="<|end|>")


TEXTS = [
    "das Haus und der Garten",
    "der Garten und das Haus am Wasser",
    "ein Haus, ein Garten, größer als das Meer",
] * 9


def test_pieces_spell_the_token():
    own = load_tokenizer(ModelSpec())
    new = byte_level(TEXTS)
    found = pieces(own, new)
    names = {number: name for name, number in own.get_vocab().items()}
    spelled = {name: "".join(names[i] for i in found[number]) for name, number in new.get_vocab().items()}
    del spelled["<|end|>"]
    assert all(name == text for name, text in spelled.items()) and "ĠHaus" in spelled
    assert any(len(ids) == 1 for ids in found) and any(len(ids) > 1 for ids in found)


def test_pieces_where_spaces_are_written_in_another_way():
    own, new = load_tokenizer(ModelSpec()), with_spaces_marked(TEXTS)
    vocabulary, found = new.get_vocab(), pieces(own, new)
    name = max((one for one in vocabulary if one.startswith("▁")), key=len)
    assert own.decode(found[vocabulary[name]]) == name.replace("▁", " ")


def test_what_has_no_text_gets_the_mean_of_all():
    table = torch.arange(8, dtype=torch.float64).view(4, 2)
    assert pooled(table, [[0, 2], [], [3]]).tolist() == [[2.0, 3.0], table.mean(0).tolist(), [6.0, 7.0]]


def test_the_embedded_model_learns_a_vocabulary(tmp_path):
    byte_level(TEXTS).save_pretrained(tmp_path / "words")
    method = LearnedEmbeddingPropagation(donor=str(tmp_path / "words"))
    loaded = load(ModelSpec(vocabulary=method))
    plain = load(ModelSpec())
    text = "das Haus und der Garten"
    assert len(loaded.tokenizer(text)["input_ids"]) < len(plain.tokenizer(text)["input_ids"])
    ids = loaded.tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=True)["input_ids"]
    assert loaded.tokenizer.convert_ids_to_tokens(ids)[:2] == ["<|bos|>", "<|user|>"]
    assert loaded.policy.model.generation_config.eos_token_id == loaded.tokenizer.convert_tokens_to_ids("<|end|>")


def test_models_of_other_families_are_refused(tmp_path):
    folder = family(tmp_path)
    wide = tiny(hidden_size=64)
    wide.save_pretrained(folder / "wide")
    tiny_tokenizer().save_pretrained(folder / "wide")
    spec = lambda **given: ModelSpec(
        path=str(folder / "tuned"),
        vocabulary=LearnedEmbeddingPropagation(
            **{"donor": str(folder / "donor"), "base": str(folder / "base"), **given}
        ),
    )
    with pytest.raises(BadInput, match="the base has embeddings of another shape"):
        load(spec(base=str(folder / "wide")))
    with pytest.raises(BadInput, match="the donor has embeddings of another shape"):
        load(spec(donor=str(folder / "wide")))
    with pytest.raises(BadInput, match="the base has another vocabulary"):
        load(spec(base=str(folder / "donor")))
    with pytest.raises(BadInput, match="tokenizer cannot be loaded"):
        load(spec(donor=str(folder / "none")))


def test_a_recipe_names_folders_beside_itself(tmp_path):
    folder = family(tmp_path)
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (folder / "recipe.yaml").write_text(
        "model: {path: tuned, vocabulary: {method: learned_embedding_propagation, donor: donor, base: nano}}\n"
        "data: rows.jsonl\n"
    )
    made = Recipe.read(folder / "recipe.yaml").model.vocabulary
    assert made.donor == str(folder / "donor") and made.base == "nano"
    assert EMBEDDED_FOLDER.is_dir()


@pytest.mark.parametrize("base", [None, "base"])
def test_a_run_its_evaluation_and_its_export_use_the_new_tokens(tmp_path, base):
    folder = family(tmp_path)
    rows = [{"prompt": f"the {n} and", "completion": f" some {n}"} for n in range(20)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    method = LearnedEmbeddingPropagation(donor=str(folder / "donor"), base=base and str(folder / base))
    recipe = Recipe.of(
        model={"path": str(folder / "tuned"), "vocabulary": method},
        data={"train": str(folder / "rows.jsonl"), "cache": False},
        train={"steps": 2, "rehearsal": False, "trackers": (), "precision": "fp32"},
        evaluate=["perplexity"],
    )
    run = pipeline.run(recipe, folder / "run", quiet=True)
    the = run.assembly.loaded.tokenizer.convert_tokens_to_ids("the")
    assert the in run.assembly.data.train.ids and the in run.assembly.data.eval.ids
    tuned = tunewright.load(folder / "run")
    export(tuned, folder / "merged")
    again = load(ModelSpec(path=str(folder / "merged")))
    assert again.tokenizer(rows[0]["prompt"]) == run.assembly.loaded.tokenizer(rows[0]["prompt"])
    tuned.assembly.attached.merge()
    policies = (tuned.assembly.policy, again.policy)
    one, other = (torch.cat(logits_of(policy, tuned.assembly.data.eval)) for policy in policies)
    assert differs(one, other) < 1e-5
    with pytest.raises(BadInput, match="another base than it was trained on"):
        export(tuned, folder / "adapter", "adapter")


def test_a_chain_takes_a_vocabulary_up_once(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    methods = [LearnedEmbeddingPropagation(donor=name) for name in ("one", "one", "two")]
    recipes = [Recipe.of(model={"vocabulary": one}, data=str(tmp_path / "rows.jsonl")) for one in methods]
    found = _chained(recipes, [tmp_path / "0", tmp_path / "1"])
    assert [stage.model.vocabulary for stage in found] == [methods[0], None, methods[2]]

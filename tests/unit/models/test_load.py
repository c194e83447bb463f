"""Loading: what is refused, with one message, and how new tokens begin."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunewright.errors import BadInput
from tunewright.models.load import context_of, load, load_tokenizer, locate
from tunewright.recipe import AddedTokens, ModelSpec
from tunewright.testing.models import ARCHITECTURES, VOCABULARY, tiny, tiny_folder


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("saved") / "llama")


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def spec(folder, tokens=(), init="subwords", **options):
    return ModelSpec(path=str(folder), add_tokens=AddedTokens(tokens=tokens, init=init), **options)


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def lose_config(folder):
    (folder / "config.json").unlink()


def lose_weights(folder):
    (folder / "model.safetensors").unlink()


def only_pickles(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    lose_weights(folder)


def truncate(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def truncate_header(folder):
    (folder / "model.safetensors").write_bytes(b"\x10\x00")


def lose_a_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def misshape_a_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(31)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def lose_a_shard(folder):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def break_index(folder):
    (folder / "model.safetensors.index.json").write_text("{")


def break_config(folder):
    (folder / "config.json").write_text("{not json")


def unknown_architecture(folder):
    edit(folder / "config.json", model_type="nonesuch", architectures=["Nonesuch"])


def lose_end_token(folder):
    edit(folder / "tokenizer_config.json", eos_token=None)


def lose_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def small_embedding(folder):
    shutil.copytree(folder, folder / "old")
    tiny(vocab_size=90).save_pretrained(folder)


BROKEN = {
    lose_config: "the model folder has no config.json",
    lose_weights: "lacks its weights; expected model.safetensors",
    only_pickles: "'pytorch_model.bin' is a pickle, which can run code",
    truncate: "the model cannot be loaded",
    truncate_header: "the model cannot be loaded",
    lose_a_tensor: "1 tensors lack or do not fit, such as 'model.norm.weight'",
    misshape_a_tensor: "model.norm.weight",
    lose_a_shard: "lacks its weights; expected model-00001-of-00002.safetensors",
    break_index: "not a readable index of weights",
    break_config: "cannot be loaded",
    unknown_architecture: "cannot be loaded",
    lose_end_token: "names no end-of-sequence token",
    lose_tokenizer: "the tokenizer cannot be loaded",
    small_embedding: "found a vocabulary of 97 and 90 embedding rows",
}


@pytest.mark.parametrize("breaking", BROKEN, ids=lambda breaking: breaking.__name__)
def test_a_broken_folder_is_refused_in_one_line(breaking, folder):
    breaking(folder)
    with pytest.raises(BadInput) as caught:
        load(spec(folder))
    message = str(caught.value)
    assert BROKEN[breaking] in message and str(folder) in message and "model.path" in message
    assert "\n" not in message


@pytest.mark.parametrize("path", ["./absent", "/no/such/folder", "a/b/c", "not a name"])
def test_a_path_that_is_no_model(path):
    with pytest.raises(BadInput, match="no such model folder"):
        locate(ModelSpec(path=path))


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="no such model folder"):
        locate(ModelSpec(path=str(tmp_path / "file")))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_good_folder_loads_as_it_was_saved(saved, precision):
    loaded = load(spec(saved), precision)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    wanted = tiny().to(dtype).state_dict()
    found = loaded.policy.model.state_dict()
    assert all(torch.equal(found[name], value) and found[name].dtype == dtype for name, value in wanted.items())
    assert not loaded.policy.model.training and loaded.context == 128 and loaded.policy.plain_head


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_context_is_found(architecture):
    assert context_of(tiny(architecture).config) == 128


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("init", ["subwords", "mean", "zero"])
@pytest.mark.parametrize("spare", [0, 5])
def test_new_tokens_begin_as_named(init, tied, spare, tmp_path):
    tiny_folder(tmp_path / "m", tie_word_embeddings=tied, vocab_size=VOCABULARY + spare)
    before = load(spec(tmp_path / "m")).policy.model
    loaded = load(spec(tmp_path / "m", ["<ab>", "<c>"], init))
    model, tokenizer = loaded.policy.model, loaded.tokenizer
    assert tokenizer("x<ab>", add_special_tokens=False)["input_ids"][1:] == [VOCABULARY]
    assert model.get_input_embeddings().weight.shape[0] == max(VOCABULARY + 2, VOCABULARY + spare)
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    pieces = tokenizer.convert_tokens_to_ids(list("<ab>"))
    for old, new in zip(_tables(before), _tables(model), strict=True):
        assert torch.equal(old[:VOCABULARY], new[:VOCABULARY]), "an old row changed"
        wanted = {"zero": torch.zeros(32), "mean": old[:VOCABULARY].mean(0), "subwords": old[pieces].mean(0)}[init]
        assert torch.allclose(new[VOCABULARY], wanted, atol=1e-6)
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0]


def test_a_token_that_exists_keeps_its_row(saved):
    before = load(spec(saved)).policy.model.get_input_embeddings().weight
    after = load(spec(saved, ["a", "<new>"], "zero")).policy.model.get_input_embeddings().weight
    assert torch.equal(before, after[:VOCABULARY]) and after.shape[0] == VOCABULARY + 1
    assert not after[VOCABULARY].any()


def test_added_tokens_may_be_special(saved):
    plain, special = (
        load_tokenizer(ModelSpec(path=str(saved), add_tokens=AddedTokens(tokens=["<t>"], special=flag)))
        for flag in (False, True)
    )
    ids = plain("a<t>", add_special_tokens=False)["input_ids"]
    assert "<t>" in plain.decode(ids, skip_special_tokens=True)
    assert "<t>" not in special.decode(ids, skip_special_tokens=True)


def test_a_chat_template_file(saved, tmp_path):
    (tmp_path / "t.jinja").write_text("{{ messages[0].content }}!")
    tokenizer = load_tokenizer(spec(saved, chat_template=str(tmp_path / "t.jinja")))
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi!"
    (tmp_path / "t.jinja").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "absent.jinja", tmp_path / "t.jinja"):
        with pytest.raises(BadInput, match="cannot be read"):
            load_tokenizer(spec(saved, chat_template=str(path)))


def _tables(model):
    return model.get_input_embeddings().weight.data, model.get_output_embeddings().weight.data

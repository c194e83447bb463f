"""Shifted grouped attention against a literal one, what it sees, and positions."""

import json

import pytest
import torch
from torch.nn import functional as F

import tunewright
from tunewright import assembly, pipeline
from tunewright.errors import BadInput
from tunewright.export import export
from tunewright.models.context import LongLoRA
from tunewright.models.context.longlora import grouped, shifted
from tunewright.models.load import context_of, describe, load
from tunewright.recipe import Recipe
from tunewright.testing.models import tiny, tiny_folder
from tunewright.testing.runs import extended


def tensors(n, heads=4, own=4, rows=2, d=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    make = lambda count: torch.randn(rows, count, n, d, generator=generator, dtype=torch.float64)
    return make(heads), make(own), make(own)


def literal(query, key, value, group, mask=None):
    """Rolled by half a group in the second half of the heads, folded, attended, folded back, rolled back; in the group
    that glues end to start, the start does not see the end."""
    rows, heads, n, _ = query.shape
    key, value = (one.repeat_interleave(heads // one.shape[1], 1) for one in (key, value))
    half = heads // 2
    turn = lambda x, by: torch.cat([x[:, :half], x[:, half:].roll(by, 2)], 1)
    q, k, v = (turn(one, -group // 2) for one in (query, key, value))
    place = turn(torch.arange(n).expand(rows, heads, n)[..., None], -group // 2)[..., 0]
    fold = lambda x: x.unflatten(2, (n // group, group))
    at = fold(place)
    order = torch.arange(group)
    sees = (order[:, None] >= order) & (at[..., :, None] >= at[..., None, :])
    if mask is not None:
        rows_of, cols = at[..., :, None].expand_as(sees), at[..., None, :].expand_as(sees)
        sees &= mask[0, 0][rows_of, cols]
    out = F.scaled_dot_product_attention(fold(q), fold(k), fold(v), attn_mask=sees)
    return turn(out.flatten(2, 3), group // 2)


@pytest.mark.parametrize("own", [1, 2, 4])
@pytest.mark.parametrize(("n", "group"), [(16, 4), (16, 8), (24, 8), (16, 16)])
def test_equals_rolling_and_folding(n, group, own):
    q, k, v = tensors(n, own=own)
    assert torch.allclose(shifted(q, k, v, None, group), literal(q, k, v, group), atol=1e-12)


@pytest.mark.parametrize("n", [1, 3, 5, 13, 17])
def test_rows_of_any_length_are_as_those_filled_up(n):
    q, k, v = tensors(n)
    filled = [F.pad(one, (0, 0, 0, 24 - n)) for one in (q, k, v)]
    assert torch.allclose(shifted(q, k, v, None, 8), literal(*filled, 8)[:, :, :n], atol=1e-12)


def test_a_mask_restricts_further():
    n, at = 24, torch.arange(24)
    window = ((at[:, None] - at[None]) < 3) & (at[:, None] >= at[None])
    mask = window.expand(2, 1, n, n)
    q, k, v = (one.requires_grad_() for one in tensors(21))
    found = shifted(q, k, v, mask[:, :, :21, :21], 8)
    filled = [F.pad(one, (0, 0, 0, 3)) for one in (q, k, v)]
    assert torch.allclose(found, literal(*filled, 8, mask)[:, :, :21], atol=1e-12)
    found.sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in (q, k, v))


def test_one_group_without_shift_is_full_attention():
    q, k, v = tensors(16)
    full = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.allclose(grouped(q, k, v, None, 16, 0), full, atol=1e-12)
    assert not torch.allclose(shifted(q, k, v, None, 16), full, atol=1e-2)
    assert torch.allclose(shifted(q, k, v, None, 32), full, atol=1e-12)


@pytest.mark.parametrize("n", [16, 21])
def test_each_head_sees_its_own_group_alone(n):
    group, half = 4, 2
    q, k, v = tensors(n)
    before = shifted(q, k, v, None, group)
    for at in range(n):
        changed = [one.clone() for one in (k, v)]
        for one in changed:
            one[:, :, at] += 1.0
        moved = (shifted(q, *changed, None, group) - before).abs().amax((0, 3)) > 1e-9
        for head in range(4):
            place = lambda i, head=head: (i + (0 if head < half else group // 2)) // group
            seen = [i for i in range(n) if i >= at and place(i) == place(at)]
            assert torch.nonzero(moved[head])[:, 0].tolist() == seen


def test_groups_join_in_the_next_layer():
    model = extended(LongLoRA(length=256, group_ratio=1 / 64), tiny()).train()
    ids = torch.randint(3, 90, (1, 12), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0, 0] = (ids[0, 0] + 5) % 90 + 3
    with torch.no_grad():
        moved = (model(input_ids=ids).logits - model(input_ids=changed).logits).abs().amax(-1)[0] > 1e-6
    # In two layers of groups of 4, shifted by 2, position 0 reaches 1 and 3, and through 2 and 3 the group up to 5.
    assert moved.tolist() == [True] * 6 + [False] * 6


def test_evaluation_and_short_rows_see_everything():
    model = extended(LongLoRA(length=256, group_ratio=1 / 16), tiny())
    ids = torch.randint(3, 90, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        short = [model.train(mode)(input_ids=ids[:, :8]).logits for mode in (True, False)]
        long = [model.train(mode)(input_ids=ids).logits for mode in (True, False)]
    assert torch.allclose(*short, atol=1e-6) and not torch.allclose(*long, atol=1e-2)


@pytest.mark.parametrize(("length", "factor"), [(256, 2.0), (257, 3.0), (500, 4.0), (129, 2.0)])
def test_positions_are_divided_by_a_whole_factor(length, factor):
    plain, longer = tiny(), extended(LongLoRA(length=length), tiny())
    assert torch.allclose(longer.model.rotary_emb.inv_freq, plain.model.rotary_emb.inv_freq / factor)
    assert context_of(longer.config) == length


def test_a_linear_scaling_that_is_there_is_kept():
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    longer = extended(LongLoRA(length=256), tiny(rope_parameters=scaled))
    assert longer.config.rope_parameters["factor"] == 4.0


def test_other_scalings_and_shorter_lengths_are_refused():
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    with pytest.raises(BadInput, match="scaled already"):
        extended(LongLoRA(length=256), tiny(rope_parameters=scaled))
    with pytest.raises(BadInput, match="takes longer sequences already"):
        extended(LongLoRA(length=100), tiny())


def test_a_model_extended_before_keeps_its_positions():
    once = extended(LongLoRA(length=256), tiny())
    once.set_attn_implementation("sdpa")  # as it is when it is loaded again
    again = extended(LongLoRA(length=256), once)
    assert torch.equal(again.model.rotary_emb.inv_freq, once.model.rotary_emb.inv_freq)
    assert extended(LongLoRA(length=512), once).config.rope_parameters["factor"] == 4.0


def test_the_group_is_even():
    assert [LongLoRA(length=n).group for n in (4, 256, 260, 1000)] == [2, 64, 66, 250]


def recipe(folder, **keys):
    rows = [{"prompt": f"{n} and", "completion": " so on" * (10 + n)} for n in range(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = {
        "path": str(tiny_folder(folder / "model")),
        "context": {"method": "longlora", "length": 256, "group_ratio": 1 / 16},
    }
    return Recipe.of(
        model=model, data={"train": str(folder / "rows.jsonl"), **keys.pop("data", {})}, evaluate=[],
        train={"steps": 2, "rehearsal": False, "trackers": (), "precision": keys.pop("precision", "fp32")}, **keys,
    )  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_data_and_model_know_the_new_length(tmp_path, precision):
    made = recipe(tmp_path, precision=precision, adapter={"method": "lora", "train_modules": ["embed_tokens", "norm"]})
    assert describe(made.model)[0] == 256 and load(made.model).context == 256
    run = pipeline.run(made, tmp_path / "run", quiet=True)
    assert run.assembly.data.limit == 256 and run.assembly.data.train.lengths.max() > 64
    assert run.assembly.settings.layout == "padded"


def test_a_length_beyond_the_new_one_is_refused(tmp_path):
    with pytest.raises(BadInput, match="longer than the model's context"):
        assembly.read(recipe(tmp_path, data={"max_length": 300}))


def test_packing_is_refused(tmp_path):
    with pytest.raises(BadInput, match="would mix packed records"):
        recipe(tmp_path, data={"packing": "on"})


def test_a_teacher_must_take_the_length_too(tmp_path):
    keys = {"objective": "logit_distillation", "supplies": {"teacher": str(tmp_path / "model")}}
    with pytest.raises(BadInput, match="takes shorter sequences"):
        assembly.assemble(recipe(tmp_path, **keys))
    (tmp_path / "again").mkdir()
    keys["supplies"] = {"teacher": str(tmp_path / "again" / "model")}
    assembly.assemble(recipe(tmp_path / "again", data={"max_length": 128, "max_lost": 1.0}, **keys))


def test_a_merged_checkpoint_knows_its_positions(tmp_path):
    adapter = {"method": "lora", "train_modules": ["embed_tokens", "norm", "input_layernorm"]}
    pipeline.run(recipe(tmp_path, precision="bf16", adapter=adapter), tmp_path / "run", quiet=True)
    tuned = tunewright.load(tmp_path / "run")
    export(tuned, tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["max_position_embeddings"] == 256 and config["rope_parameters"]["factor"] == 2.0
    with pytest.raises(BadInput, match="another base than it was trained on"):
        export(tuned, tmp_path / "adapter", "adapter")

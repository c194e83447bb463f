"""What a run's adapter folder holds: PEFT's files, and the tensors under their own names where those differ."""

from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from tunewright import output, results
from tunewright.adapters import S2FT, AdaLoRA, LoRA, PiSSA
from tunewright.adapters._peft import WEIGHTS, from_peft
from tunewright.testing.runs import attach, differing_bits, disturb, logits_of, tiny_policy
from tunewright.testing.tables import random_table

TABLE = random_table()


@pytest.mark.parametrize(
    ("method", "files"),
    [
        (LoRA(rank=2), {WEIGHTS}),
        (PiSSA(rank=2), {WEIGHTS, output.OWN_WEIGHTS}),
        (AdaLoRA(rank=2, target_rank=1), {WEIGHTS, output.OWN_WEIGHTS}),
        (S2FT(), {WEIGHTS, output.OWN_WEIGHTS}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_is_saved_can_be_loaded_again(method, files, tmp_path):
    policy, fresh = tiny_policy(), tiny_policy()
    made, again = attach(method, policy), attach(method, fresh)
    disturb(made)
    recipe = SimpleNamespace(model=SimpleNamespace(path="tiny"))
    results.save_adapter(tmp_path / "adapter", SimpleNamespace(attached=made, recipe=recipe))
    assert {file.name for file in (tmp_path / "adapter").glob("*.safetensors")} == files
    own, peft = (tmp_path / "adapter" / name for name in (output.OWN_WEIGHTS, WEIGHTS))
    again.load_state(load_file(own) if own.is_file() else from_peft(load_file(peft)))
    assert not differing_bits(made.state(), again.state())
    assert all(a.equal(b) for a, b in zip(logits_of(policy, TABLE), logits_of(fresh, TABLE), strict=True))

"""Full tuning."""

import pytest
import torch

from tunewright.adapters import Full
from tunewright.errors import BadInput
from tunewright.testing.models import tiny
from tunewright.testing.runs import attach, disturb, tiny_policy


def test_everything_trains_by_default():
    model = tiny(dtype=torch.bfloat16)
    attached = Full().attach(model)
    assert set(attached.trained()) == {name for name, _ in model.named_parameters()}
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize(
    ("patterns", "count"), [(("mlp",), 6), (("lm_head",), 1), (("*norm*",), 5), (("layers.1.mlp.up_proj",), 1)]
)
def test_named_modules_train_alone(patterns, count):
    assert len(Full(train_modules=patterns).attach(tiny()).trained()) == count


def test_tied_tensors_are_one_parameter():
    names = Full(train_modules=("lm_head",)).attach(tiny(tie_word_embeddings=True)).trained()
    assert list(names) == ["model.embed_tokens.weight"]


def test_a_pattern_that_matches_nothing():
    with pytest.raises(BadInput, match="no module with parameters matches 'mpl'"):
        Full(train_modules=("mpl",)).attach(tiny())


def test_the_originals_stay_in_their_format():
    policy = tiny_policy(tiny(dtype=torch.bfloat16))
    attached = attach(Full(), policy)
    disturb(attached)
    with attached.disabled():
        assert {p.dtype for p in policy.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in policy.parameters()} == {torch.float32}

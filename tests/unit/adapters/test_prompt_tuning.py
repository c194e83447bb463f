"""Prompt tuning: what the model reads, how it begins. Padding, cache, PEFT and resuming stand with prefix tuning."""

import pytest
import torch

from tunewright.adapters import DePT, PromptTuning
from tunewright.testing.models import tiny
from tunewright.testing.runs import attach, bits, differing_bits, differs, disturb, tiny_policy

IDS = torch.arange(3, 14)[None]
SMALL = PromptTuning(num_virtual_tokens=5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
def test_the_model_reads_the_prompt_and_the_sequence(architecture):
    policy = tiny_policy(tiny(architecture))
    made = attach(SMALL, policy)
    disturb(made, size=0.3)
    with torch.no_grad():
        found = policy.model(input_ids=IDS).logits
        with made.disabled():
            read = torch.cat([made.trains.prompt[None], policy.model.get_input_embeddings()(IDS)], 1)
            wanted = policy.model(inputs_embeds=read).logits[:, 5:]
    assert differs(wanted, found) < 1e-6


def test_it_begins_as_words_of_the_vocabulary():
    model = tiny()
    before = bits(model)
    made = attach(SMALL, tiny_policy(model))
    table = model.get_input_embeddings().weight
    assert [*made.trained()] == ["prompt"] and all((table == row).all(1).any() for row in made.trains.prompt)
    made.detach()
    assert not differing_bits(before, bits(model))


def test_it_is_dept_without_the_update():
    prompted, updated = tiny_policy(), tiny_policy()
    attach(SMALL, prompted, seed=3)
    attach(DePT(prompt_length=5, rank=1), updated, seed=3)
    with torch.no_grad():
        assert differs(updated.model(IDS).logits, prompted.model(IDS).logits) < 1e-6

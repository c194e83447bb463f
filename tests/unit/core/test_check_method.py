"""A user's own methods are held to the contract of their kind, and told what they do not keep."""

import pytest

from tunewright import catalog
from tunewright.errors import BadInput
from tunewright.testing.checking import CONTRACTS, check, check_file

OWN = '''
from typing import ClassVar

import torch
from tunewright.catalog import option
from tunewright.objectives.base import Objective, token_loss


class {name}(Objective):
    """Weighs hard tokens more: (1 - p)^gamma (-log p)."""

    name: ClassVar[str] = "{stem}"
    gamma: float = option(2.0, "Power.", changes="loss", to=0.0, ge=0)
    {more}

    def loss(self, policy, batch):
        def value(logits, targets, columns):
            log = torch.log_softmax(logits.float(), -1).gather(-1, targets[:, None])[:, 0]
            return -((1 - log.exp()) ** self.gamma) * log
        return token_loss(policy(batch, value), batch)
'''


def written(tmp_path, name, stem, more="pass"):
    file = tmp_path / f"{stem}.py"
    file.write_text(OWN.format(name=name, stem=stem, more=more))
    return file


def test_a_method_that_keeps_everything_has_no_fault(tmp_path):
    findings = list(check_file(written(tmp_path, "Focal", "own_focal")))
    assert len(findings) >= 6 and not [one for one in findings if one.fault]


def test_an_option_that_does_nothing_is_named(tmp_path):
    more = 'idle: float = option(2.0, "Does nothing.", changes="loss", to=0.0, ge=0)'
    broken = [one for one in check_file(written(tmp_path, "Idle", "own_idle", more)) if one.fault]
    assert [one.promise for one in broken] == ["option idle has the effect it declares"]
    assert "changes nothing about 'loss'" in broken[0].fault


def test_a_file_without_methods_is_refused(tmp_path):
    file = tmp_path / "nothing.py"
    file.write_text("x = 1\n")
    with pytest.raises(BadInput, match="defines no method"):
        list(check_file(file))


@pytest.mark.parametrize("kind", ["schedule", "order"])
def test_our_own_methods_keep_theirs(kind):
    method = next(iter(catalog.methods(kind)))
    assert not [one for one in check(method) if one.fault]


def test_every_kind_that_trains_has_a_contract():
    assert set(CONTRACTS) == set(catalog.ROOMS) - {"task", "claim"}

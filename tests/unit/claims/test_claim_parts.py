"""Parts of claims with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tunewright.claims._many import Stepper, workloads
from tunewright.claims.evaluate.continuous_metrics import _pseudo
from tunewright.claims.search.bayes_opt import branin, hartmann
from tunewright.claims.search.tuning_seeds import _chosen, _configurations


def test_tuning_and_test_seeds_may_not_overlap() -> None:
    configurations = _configurations(np.full((2, 3), 0.5))
    with pytest.raises(ValueError, match="overlap"):
        _chosen(configurations, range(5), range(4, 9))
    tuned, tested = _chosen(configurations, range(5), range(5, 9))
    assert tuned != tested


@pytest.mark.parametrize("rule", ["adamw", "momentum", "sgd"])
def test_many_models_at_once_step_like_torch(rule: str) -> None:
    start = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    many = start.clone().requires_grad_()
    rates, momenta = torch.tensor([0.1, 0.01, 0.3]), torch.tensor([0.9, 0.5, 0.0])
    stepper = Stepper([many], [rule] * 3, rates, momenta)  # type: ignore[list-item]
    loss = lambda x: ((x - torch.arange(4.0)) ** 2).sum(-1)
    for _ in range(5):
        stepper.step(loss(many))
    for place in range(3):
        one = start[place].clone().requires_grad_()
        lr, momentum = float(rates[place]), float(momenta[place])
        theirs = (
            torch.optim.AdamW([one], lr=lr, betas=(momentum, 0.999), weight_decay=0.0)
            if rule == "adamw"
            else torch.optim.SGD([one], lr=lr, momentum=momentum if rule == "momentum" else 0.0)
        )
        for _ in range(5):
            theirs.zero_grad()
            loss(one).backward()
            theirs.step()
        assert torch.allclose(many[place], one, rtol=1e-4, atol=1e-5)


def test_every_workload_learns_and_a_model_that_diverges_leaves_the_others_alone() -> None:
    for work in workloads():
        rates = torch.tensor([0.01, 1e6])
        course = work.course(["adamw", "sgd"], rates, torch.full((2,), 0.9), [1, 1], 40, 20)
        assert course.shape == (2, 2) and course[0, 1] < course[0, 0]
        alone = work.course(["adamw"], rates[:1], torch.full((1,), 0.9), [1], 40, 20)
        if work.name == "regression":
            assert np.isfinite(alone).all()


def test_the_test_functions_have_their_known_minimum() -> None:
    assert branin({"x0": np.pi, "x1": 2.275}) == pytest.approx(0.397887, abs=1e-6)
    best = [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]
    assert hartmann({f"x{k}": x for k, x in enumerate(best)}) == pytest.approx(-3.32237, abs=1e-5)


def test_jackknife_values_of_a_mean_are_the_values() -> None:
    values = [1.0, 4.0, 2.5, 7.0]
    found = _pseudo(lambda keep: float(np.mean([values[i] for i in keep])), 4)
    assert found == pytest.approx(values)

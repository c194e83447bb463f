"""Two processes compute what one does, in loss, gradient and weights; whole and sharded."""

import distributed
import numpy as np
import pytest

from tunewright import catalog


def apart(one, other):
    return float(np.linalg.norm(one - other) / np.linalg.norm(one))


def assert_same_run(one, other):
    assert other["tokens"] == one["tokens"]
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert other["norm"] == pytest.approx(one["norm"], rel=1e-4)
    assert [sorted(s) for s in other["sources"]] == [sorted(s) for s in one["sources"]]
    assert apart(one["gradients"][0], other["gradients"][0]) <= 1e-5
    for name, value in one["state"].items():
        assert np.allclose(value, other["state"][name], atol=2e-4), name


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("options", [{}, {"micro": 10_000}, {"layout": "packed"}], ids=["even", "one turn", "packed"])
def test_two_processes_equal_one(pair, adapter, sharded, options):
    first, second = pair.call(
        distributed.trained, adapter, options.get("micro", 32), options.get("layout", "padded"), sharded
    )
    one = distributed.alone(adapter, **options)
    for other in (first, second):
        assert_same_run(one, other)
    for name in first["state"]:
        assert np.array_equal(first["state"][name], second["state"][name]), f"{name} drifted apart"


@pytest.mark.parametrize("adapter", sorted(set(catalog.names("adapter")) - {"lora", "full"}))
@pytest.mark.parametrize("sharded", [False, True])
def test_other_forms_of_adapters_are_the_same_in_two_processes(pair, adapter, sharded):
    # Seven steps, so that spiel exchanges weights, after the fifth.
    one = distributed.alone(adapter, steps=7)
    for other in pair.call(distributed.trained, adapter, 32, "padded", sharded, 50, 7):
        assert_same_run(one, other)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("objective", "optimizer", "layers", "regularizer") for name in catalog.names(kind)],
)
def test_every_method_of_the_loop_is_the_same_in_two_processes(pair, kind, name):
    losses, weights = distributed.composed(distributed.ALONE, kind, name)
    for other, moved in pair.call(distributed.composed, kind, name):
        assert other == pytest.approx(losses, rel=1e-4)
        # Adam's first steps are signs of gradients: sums in another order may turn one that is next to zero.
        assert all(np.abs(one - two).mean() <= 1e-4 for one, two in zip(weights, moved, strict=True))


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("micro", [32, 10_000])
def test_what_an_objective_asks_of_a_step_is_asked_of_all_processes(pair, micro, layout):
    losses, weights = distributed.surveyed(distributed.ALONE, micro, layout)
    for other, moved in pair.call(distributed.surveyed, micro, layout):
        assert other == pytest.approx(losses, rel=1e-5)
        assert all(np.allclose(one, two, atol=1e-6) for one, two in zip(weights, moved, strict=True))


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("micro", [32, 10_000])
@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "focal"}, {"scheme": "speed", "famo_lr": 0.5}, {"scheme": "slope", "coba_warmup": 1}],
    ids=["equal", "focal", "speed", "slope"],
)
def test_tasks_are_balanced_over_all_processes(pair, options, micro, sharded):
    losses, state, weights = distributed.balanced(distributed.ALONE, options, micro)
    for other, remembered, moved in pair.call(distributed.balanced, options, micro, sharded):
        assert other == pytest.approx(losses, rel=1e-5)
        for name, value in state.items():
            assert np.allclose(np.ravel(remembered[name]), np.ravel(value), rtol=1e-4, atol=1e-6), name
        assert all(np.allclose(one, two, atol=1e-6) for one, two in zip(weights, moved, strict=True))


@pytest.mark.parametrize("micro", [13, 30, 10_000])
def test_processes_share_a_step_without_overlap(pair, micro):
    (counts, first), (others, second) = pair.call(distributed.batches_of, micro)
    assert counts == others
    [(_, wanted)] = [distributed.batches_of(distributed.ALONE, micro)]
    for one, other, whole in zip(first, second, wanted, strict=True):
        assert sorted(one + other) == sorted(whole)


def test_parameters_without_a_gradient_count_as_zero(pair):
    for sums, means, none in pair.call(distributed.changing_set):
        assert sums == [2.0, 5.0]
        assert means == [2.0, 1.0, 3.0] and none


def test_an_empty_turn_counts_no_tokens(pair):
    (weight, tokens), (empty, none) = pair.call(distributed.empty_turn)
    assert weight > 0 and tokens > 0 and (empty, none) == (0.0, 0)

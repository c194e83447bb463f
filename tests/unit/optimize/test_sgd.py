"""SGD against its formula."""

import pytest
from literal import assert_close, transcribed, walked

from tunewright.optimize.optimizers import SGD


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True), (0.0, True)])
def test_equals_its_formula(momentum, nesterov):
    lr, decay = 0.05, 0.3

    def rule(p, g, state, step, factor, decay):
        g = g + decay * p
        b = state["b"] = momentum * state.get("b", 0) + g
        return p - lr * factor * (momentum * b + g if nesterov else b)

    method = SGD(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    assert_close(walked(method), transcribed(rule, decay))

"""Lion against its formula."""

from literal import assert_close, transcribed, walked

from tunewright.optimize.optimizers import Lion


def test_equals_its_formula():
    lr, b1, b2, decay = 0.01, 0.7, 0.9, 0.3

    def rule(p, g, state, step, factor, decay):
        m = state.get("m", 0 * g)
        step_along = (b1 * m + (1 - b1) * g).sign()
        state["m"] = b2 * m + (1 - b2) * g
        return p - lr * factor * (step_along + decay * p)

    assert_close(walked(Lion(lr=lr, beta1=b1, beta2=b2, weight_decay=decay)), transcribed(rule, decay))

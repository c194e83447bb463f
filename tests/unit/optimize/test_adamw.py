"""AdamW against its formula."""

from literal import assert_close, transcribed, walked

from tunewright.optimize.optimizers import AdamW


def test_equals_its_formula():
    lr, b1, b2, eps, decay = 0.05, 0.8, 0.95, 1e-3, 0.3

    def rule(p, g, state, step, factor, decay):
        m = state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
        v = state["v"] = b2 * state.get("v", 0) + (1 - b2) * g**2
        t = step + 1
        direction = m / (1 - b1**t) / ((v / (1 - b2**t)).sqrt() + eps)
        return p - lr * factor * (direction + decay * p)

    method = AdamW(lr=lr, beta1=b1, beta2=b2, eps=eps, weight_decay=decay)
    assert_close(walked(method), transcribed(rule, decay))

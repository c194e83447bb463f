"""Adafactor against its formula."""

import pytest
from literal import assert_close, transcribed, walked

from tunewright.optimize.optimizers import Adafactor


@pytest.mark.parametrize("threshold", [1.0, 1.5])
def test_equals_its_formula(threshold):
    lr, exponent, eps, decay = 0.05, -0.6, 1e-3, 0.3
    rms = lambda x: (x**2).mean().sqrt()

    def rule(p, g, state, step, factor, decay):
        t, rate = step + 1, lr * factor
        beta = 1 - t**exponent
        scale = max(eps, rms(p)) * min(rate, t**-0.5)
        if p.ndim > 1:
            r = state["r"] = beta * state.get("r", 0) + (1 - beta) * (g**2).mean(1)
            c = state["c"] = beta * state.get("c", 0) + (1 - beta) * (g**2).mean(0)
            v = r[:, None] * c[None] / r.mean()
        else:
            v = state["v"] = beta * state.get("v", 0) + (1 - beta) * g**2
        u = g / v.sqrt()
        return p * (1 - rate * decay) - scale * u / max(1, rms(u) / threshold)

    method = Adafactor(lr=lr, beta2_decay=exponent, eps=eps, clip_threshold=threshold, weight_decay=decay)
    assert_close(walked(method), transcribed(rule, decay))


def test_state_of_a_matrix_is_a_row_and_a_column():
    import torch
    from torch import nn

    matrix = nn.Parameter(torch.randn(30, 50))
    optimizer = Adafactor().build({"w": matrix})
    matrix.grad = torch.randn(30, 50)
    optimizer.step()
    held = sum(value.numel() for value in optimizer.state[matrix].values() if value.ndim)
    assert held == 80

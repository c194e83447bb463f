"""Steps of an optimizer over one matrix and one vector, along given gradients."""

import torch
from torch import nn


def start():
    generator = torch.Generator().manual_seed(3)
    return {"w": torch.randn(4, 6, generator=generator), "b": torch.randn(6, generator=generator)}


def gradients(steps=4):
    generator = torch.Generator().manual_seed(4)
    return [
        {"w": torch.randn(4, 6, generator=generator), "b": torch.randn(6, generator=generator)} for _ in range(steps)
    ]


def walked(method, steps=4):
    """The parameters after `steps` steps of `method`, at falling rates."""
    parameters = {name: nn.Parameter(value) for name, value in start().items()}
    optimizer = method.build(parameters)
    for step, gradient in enumerate(gradients(steps)):
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor(step)
        for name, parameter in parameters.items():
            parameter.grad = gradient[name].clone()
        optimizer.step()
    return {name: p.detach().double() for name, p in parameters.items()}


def factor(step):
    return 1.0 / (1 + step)


def transcribed(rule, decays, steps=4):
    """The same by a formula: rule(p, g, state, step, factor, decayed) -> new p, in float64."""
    found = {}
    for name, value in start().items():
        p, state = value.double(), {}
        for step, gradient in enumerate(gradients(steps)):
            p = rule(p, gradient[name].double(), state, step, factor(step), decays if p.ndim > 1 else 0.0)
        found[name] = p
    return found


def assert_close(one, other, within=1e-5):
    for name in one:
        assert torch.allclose(one[name], other[name], rtol=within, atol=within), name

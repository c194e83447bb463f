"""Steps of a projected optimizer over one matrix of a block."""

import torch
from torch import nn

NAME = "model.layers.0.mlp.up_proj.weight"


def gradients(shape, steps, seed=4):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(steps)]


def stepped(method, along, start=None, name=NAME):
    """(the matrix before and after each step, the optimizer's state of it)."""
    matrix = nn.Parameter(torch.zeros(along[0].shape) if start is None else start.clone())
    optimizer = method.build({name: matrix})
    seen = [matrix.detach().clone()]
    for gradient in along:
        matrix.grad = gradient.clone()
        optimizer.step()
        seen.append(matrix.detach().clone())
    return seen, optimizer.state[matrix]

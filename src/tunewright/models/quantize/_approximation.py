"""The best approximation of a matrix by one of low rank."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

Pair = tuple[Tensor, Tensor]
Matrix = NDArray[np.float64]

EXACT = 512
"""Largest smaller side of a matrix whose approximation is exact."""

OVERSAMPLING = 10
"""Dimensions beyond the rank in which larger ones are approximated."""


def factors(matrix: Tensor, rank: int) -> Pair:
    """U sqrt(S) [out, rank] and sqrt(S) V^T [rank, in] of the best approximation of that rank.

    From the leading eigenvectors, in float64, of the smaller of R R^T and R^T R. A matrix R whose smaller side is above
    512 is first brought into rank + 10 dimensions at random, with two power iterations.
    """
    if matrix.shape[0] > matrix.shape[1]:
        up, down = factors(matrix.T, rank)
        return down.T.contiguous(), up.T.contiguous()
    within = _range(matrix, rank + OVERSAMPLING).double() if len(matrix) > EXACT else None
    exact = matrix.double()
    small: Matrix = (exact if within is None else within.T @ exact).cpu().numpy()
    size, count = len(small), min(rank, len(small))
    values, vectors = eigh(small @ small.T, subset_by_index=[size - count, size - 1])
    sizes, left = np.sqrt(values[::-1].clip(min=0)), np.ascontiguousarray(vectors[:, ::-1])
    # A singular value of zero has no right vector to divide out.
    over = np.divide(1, np.sqrt(sizes), out=np.zeros(count), where=sizes > 1e-12 * sizes[0])
    on = lambda found: torch.from_numpy(found).to(matrix.device)
    up = on(left * np.sqrt(sizes))
    return (up if within is None else within @ up).float(), on(over[:, None] * (left.T @ small)).float()


def _range(matrix: Tensor, dimensions: int) -> Tensor:
    """Orthonormal columns [out, dimensions] that hold most of the matrix."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(matrix.shape[1], min(dimensions, len(matrix)), generator=generator).to(matrix.device)
    columns = torch.linalg.qr(matrix @ drawn).Q
    for _ in range(2):
        columns = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ columns).Q).Q
    return columns

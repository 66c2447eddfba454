"""Quadrature for the laws, by Gauss-Legendre on pieces."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def integrate(function: Callable[[Tensor], Tensor], pieces: int = 200, order: int = 16) -> float:
    """The integral over (0, 1) of a function of a float64 vector; pieces crowd toward both ends."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    grid = np.linspace(0, 1, pieces + 1)
    edges = grid**3 * (10 - 15 * grid + 6 * grid**2)
    left, width = edges[:-1, None], np.diff(edges)[:, None]
    t = left + width * (nodes + 1) / 2
    values = function(torch.from_numpy(t.reshape(-1))).numpy().reshape(t.shape)
    return float((values * weights * width / 2).sum())

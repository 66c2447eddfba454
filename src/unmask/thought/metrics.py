"""Numbers that say whether thoughts carry anything."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def effective_rank(thoughts: Float[Tensor, "N *D"]) -> float:
    """In how many directions thoughts differ: exp of the entropy of the centred singular values' shares of energy.

    Between 1 (they lie on a line, or are all the same) and min(N - 1, numbers).
    """
    flat = thoughts.flatten(1).double()
    energy = torch.linalg.svdvals(flat - flat.mean(0)).square()
    if float(energy.sum()) <= 1e-12 * max(1.0, float(flat.square().sum())):
        return 1.0
    share = energy / energy.sum()
    return math.exp(float(-(share * share.clamp(min=1e-300).log()).sum()))


def spread(thoughts: Float[Tensor, "N *D"]) -> float:
    """Mean standard deviation of each number over thoughts; 0 when all are the same."""
    flat = thoughts.flatten(1).float()
    return float(flat.std(0).mean()) if len(flat) > 1 else 0.0


def stability(path: Float[Tensor, "T B *D"]) -> float:
    """Mean correlation between a thought and itself one step later; 1 is still (seed 002's target: above 0.8)."""
    flat = path.flatten(2).double()
    centred = F.normalize(flat - flat.mean(-1, keepdim=True), dim=-1)
    return float((centred[1:] * centred[:-1]).sum(-1).mean())


def step_variance(path: Float[Tensor, "T B *D"]) -> float:
    """Mean squared step of each number, over the variance of the numbers themselves."""
    flat = path.flatten(2).double()
    return float((flat[1:] - flat[:-1]).square().mean() / flat.var().clamp(min=1e-12))


def retrieval_accuracy(thoughts: Float[Tensor, "N E"], texts: Float[Tensor, "N E"]) -> float:
    """How often a thought's nearest text (by cosine) is its own; chance is 1 / N."""
    closest = (F.normalize(thoughts, dim=-1) @ F.normalize(texts, dim=-1).T).argmax(-1)
    return float((closest == torch.arange(len(closest), device=closest.device)).float().mean())


def recovered(thoughts: Float[Tensor, "N n"], texts: Float[Tensor, "N E"], *, ridge: float = 1.0) -> float:
    """R^2 of the texts' embeddings by a ridge regression on thoughts, fitted on the first half, measured on the second.

    Raises:
        ValueError: fewer than 4 thoughts.
    """
    if len(thoughts) < 4:
        raise ValueError(f"a probe needs at least 4 thoughts, not {len(thoughts)}")
    half = len(thoughts) // 2
    x, y = thoughts.double(), texts.double()
    x = (x - x[:half].mean(0)) / x[:half].std(0).clamp(min=1e-6)
    mean = y[:half].mean(0)
    # the dual form: as many unknowns as thoughts
    gram = x[:half] @ x[:half].T + ridge * x.shape[1] * torch.eye(half, dtype=x.dtype, device=x.device)
    weights = x[:half].T @ torch.linalg.solve(gram, y[:half] - mean)
    left = (y[half:] - mean - x[half:] @ weights).square().sum()
    return float(1 - left / (y[half:] - mean).square().sum())


def recovered_by_dimension(
    thoughts: Float[Tensor, "N *D"], texts: Float[Tensor, "N E"], dimensions: list[int]
) -> dict[int, float]:
    """`recovered` from the thoughts' leading principal components only: information kept against dimensions kept."""
    flat = thoughts.flatten(1).double()
    half = len(flat) // 2
    centre = flat[:half].mean(0)
    _, _, axes = torch.linalg.svd(flat[:half] - centre, full_matrices=False)
    parts = (flat - centre) @ axes.T
    return {count: recovered(parts[:, :count], texts, ridge=0.1) for count in dimensions if 0 < count <= parts.shape[1]}


def entropy(thoughts: Float[Tensor, "N *D"]) -> float:
    """Entropy of a Gaussian with the thoughts' variances, nats a number, less that of N(0, 1): about 0 at most."""
    variance = thoughts.flatten(1).double().var(0).clamp(min=1e-12)
    return float(0.5 * variance.log().mean())

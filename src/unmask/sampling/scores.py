"""Scores: how ready each masked position is to be revealed; higher goes first.

A score sees the distribution and a uniform random number, never the drawn token: ordering by the probability of the
draw biases even one-by-one sampling (on a small joint by a total variation of 0.3, see tests/laws).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.types import Logits

Score = Callable[[Logits, Float[Tensor, " N"]], Float[Tensor, " N"]]


def confidence(log_probs: Logits, u: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The largest probability."""
    return steady(log_probs.double().amax(-1).exp(), u)


def entropy(log_probs: Logits, u: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Minus the entropy, nats."""
    log_probs = log_probs.double()
    return steady(torch.xlogy(log_probs.exp(), log_probs.exp()).sum(-1), u)


def margin(log_probs: Logits, u: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The largest probability minus the second."""
    first, second = log_probs.double().topk(2, -1).values.exp().unbind(-1)
    return steady(first - second, u)


def random(log_probs: Logits, u: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Uniform on (0, 1): every order alike, as in the training."""
    return u


def steady(score: Float[Tensor, " N"], u: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """To the nearest 2^-14, ties by chance.

    An empty canvas gives every position the same distribution up to rounding errors, which depend on the batch; so errors
    far smaller than any difference worth heeding must not choose the order.
    """
    grid = 2.0**14
    return (score * grid).round() / grid + u / (2 * grid)


SCORES: dict[str, Score] = {"confidence": confidence, "entropy": entropy, "margin": margin, "random": random}

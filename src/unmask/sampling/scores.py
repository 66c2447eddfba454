"""Scores: how ready each masked position is to be revealed; higher goes first.

A score sees the distribution and a uniform random number, never the drawn token: ordering by the probability of the
draw biases even one-by-one sampling (on a small joint by a total variation of 0.3, see tests/laws).
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from unmask.sampling.step import Candidates, steady
from unmask.types import Logits

Score = Callable[[Candidates], Float[Tensor, " N"]]


def confidence(seen: Candidates) -> Float[Tensor, " N"]:
    """The largest probability."""
    return steady(seen.log_probs.amax(-1).double().exp(), seen.u)


def entropy(seen: Candidates) -> Float[Tensor, " N"]:
    """Minus the entropy, nats."""
    return steady(-entropies(seen.log_probs), seen.u)


def entropies(log_probs: Logits) -> Float[Tensor, " N"]:
    """The entropy of each distribution, nats."""
    # where p = 0, p log p is 0, not -inf times 0
    terms = log_probs.exp() * log_probs.clamp(min=-1e4)
    return -terms.double().sum(-1)


def margin(seen: Candidates) -> Float[Tensor, " N"]:
    """The largest probability minus the second."""
    first, second = seen.log_probs.topk(2, -1).values.double().exp().unbind(-1)
    return steady(first - second, seen.u)


def random(seen: Candidates) -> Float[Tensor, " N"]:
    """Uniform on (0, 1): every order alike, as in the training."""
    return seen.u.double()


def position(seen: Candidates) -> Float[Tensor, " N"]:
    """From left to right."""
    return -seen.place.double()


def willing(seen: Candidates) -> Float[Tensor, " N"]:
    """The probability of any token rather than "not yet", in a model that may answer so."""
    assert seen.not_yet is not None
    return 1 - seen.not_yet.double()


SCORES: dict[str, Score] = {
    "confidence": confidence,
    "entropy": entropy,
    "margin": margin,
    "random": random,
    "position": position,
    "willing": willing,
}

"""Doubt: a model trained to repair answers "mask" where a visible token is wrong, and such tokens are reopened."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.sampling.adaptive import check_share
from unmask.types import Logits, Positions


@dataclass(frozen=True)
class Doubt:
    """What seed 001 trains and never uses: settled tokens that the model flags are masked again.

    Each position is reopened a few times at most, so that no two tokens replace each other for ever.

    Attributes:
        threshold: the probability of "this is wrong" above which a token is reopened.
        times: reopenings of one position.
    """

    threshold: float = 0.5
    times: int = 2

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        check_share("the threshold of doubt", self.threshold)
        if self.times < 1:
            raise ValueError(f"times must be at least 1, not {self.times}")

    def reopen(self, doubt: Float[Tensor, "B L"], settled: Positions, reopened: Int[Tensor, "B L"]) -> Positions:
        """The settled positions to mask; `reopened` counts how often each was."""
        return settled & (doubt > self.threshold) & (reopened < self.times)


def set_apart(log_probs: Logits, mask_id: int) -> tuple[Logits, Float[Tensor, " N"]]:
    """A frank model's answer in two: log p of each token given that it is one, and the log-probability of the mask."""
    mask = log_probs[:, mask_id]
    forbidden = torch.zeros(log_probs.shape[-1], dtype=log_probs.dtype, device=log_probs.device)
    forbidden[mask_id] = -torch.inf
    return torch.log_softmax(log_probs + forbidden, -1), mask

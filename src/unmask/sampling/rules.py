"""Unmasking rules: which masked positions are revealed on the way from t to s."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.diffusion.schedules import Schedule
from unmask.types import Positions, Times


@runtime_checkable
class UnmaskRule(Protocol):
    """Chooses positions by their scores."""

    def __call__(
        self,
        score: Float[Tensor, "B L"],
        masked: Positions,
        s: Times,
        t: Times,
        total: Int[Tensor, " B"],
    ) -> Positions:
        """The positions to reveal, among `masked`.

        `score` is -inf where not masked; `total` counts what each row had to fill at the start.
        """
        ...


@dataclass(frozen=True)
class Ancestral:
    """Each position on its own with the posterior's probability (alpha_s - alpha_t) / (1 - alpha_t).

    Its score must be `random`: a uniform number above 1 - p happens with probability p.
    """

    schedule: Schedule

    def __call__(
        self, score: Float[Tensor, "B L"], masked: Positions, s: Times, t: Times, total: Int[Tensor, " B"]
    ) -> Positions:
        """The exact reverse step of the schedule."""
        stay = self.schedule.masked(s) / self.schedule.masked(t)
        return masked & (score > stay[:, None])


@dataclass(frozen=True)
class TopK:
    """The best-scored positions, as many as the schedule asks for: total * m(s) / m(1) stay masked.

    The count is taken from the start, not from the step before, so rounding never piles up into a burst at the end.
    """

    schedule: Schedule

    def count(self, masked: Positions, s: Times, total: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """How many each row reveals on the way to s."""
        share = self.schedule.masked(s.double()) / self.schedule.masked(torch.ones_like(s, dtype=torch.float64))
        stay = (total * share + 0.5).floor().long()
        return (masked.sum(-1) - stay).clamp(min=0)

    def __call__(
        self, score: Float[Tensor, "B L"], masked: Positions, s: Times, t: Times, total: Int[Tensor, " B"]
    ) -> Positions:
        """The first `count` by score; ties go to the earlier position."""
        return masked & (rank(score) < self.count(masked, s, total)[:, None])


@dataclass(frozen=True)
class Threshold:
    """All positions whose score reaches tau, and the best one if none does (Fast-dLLM, Wu et al., 2025)."""

    tau: float = 0.9

    def __post_init__(self) -> None:
        """Refuse a threshold that is no probability."""
        if not 0 <= self.tau <= 1:
            raise ValueError(f"the threshold tau must be in [0, 1], not {self.tau}")

    def __call__(
        self, score: Float[Tensor, "B L"], masked: Positions, s: Times, t: Times, total: Int[Tensor, " B"]
    ) -> Positions:
        """As many as are sure; never none."""
        return masked & ((score >= self.tau) | (rank(score) == 0))


def rank(score: Float[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """0 for each row's highest score, 1 for the next, ...; ties in order of position."""
    return score.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)

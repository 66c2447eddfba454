"""Unmasking rules that follow a schedule: how many of the masked positions are revealed on the way from t to s."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.sampling.draws import Purpose
from unmask.sampling.step import Step, rank
from unmask.types import Positions


@runtime_checkable
class UnmaskRule(Protocol):
    """Chooses positions by their scores."""

    def __call__(self, score: Float[Tensor, "B L"], step: Step) -> Positions:
        """The positions to reveal, among `step.masked`; `score` is -inf elsewhere."""
        ...


@dataclass(frozen=True)
class Ancestral:
    """Each position on its own with the posterior's probability (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t).

    Its score must be `random`: a uniform number above 1 - p happens with probability p. sigma is ReMDM's probability of
    reopening (Wang et al., 2025); at 0 this is the reverse step of MDLM.
    """

    def __call__(self, score: Float[Tensor, "B L"], step: Step) -> Positions:
        """The exact reverse step of the schedule."""
        alpha = 1 - step.before
        stay = (step.after[:, None] - step.sigma * alpha[:, None]) / step.before.clamp(min=1e-12)[:, None]
        return step.masked & (score > stay)


@dataclass(frozen=True)
class TopK:
    """The best-scored positions, as many as the schedule asks for: total * m(s) / m(1) stay masked.

    The count is taken from the start, not from the step before, so rounding never piles up into a burst at the end; and
    what is reopened in the step is made up for in the same step.

    Attributes:
        score_temperature: 0 takes the best; above it, positions are drawn one after the other with probabilities
            proportional to exp(score / score_temperature) (Dream's alg_temp), which keeps the order from freezing early.
    """

    score_temperature: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a negative temperature."""
        if not 0 <= self.score_temperature < float("inf"):
            raise ValueError(f"score_temperature must be 0 or more, not {self.score_temperature}")

    def count(self, step: Step) -> Int[Tensor, " B"]:
        """How many each row reveals on the way to s."""
        stay = (step.total * step.after / step.start + 0.5).floor().long()
        return (step.masked.sum(-1) + step.reopening - stay).clamp(min=0)

    def __call__(self, score: Float[Tensor, "B L"], step: Step) -> Positions:
        """The first `count` by score."""
        return step.masked & (rank(self.ordered(score, step)) < self.count(step)[:, None])

    def ordered(self, score: Float[Tensor, "B L"], step: Step) -> Float[Tensor, "B L"]:
        """Scores with Gumbel noise: their order is a draw without replacement."""
        if not self.score_temperature:
            return score
        gumbel = -(-step.uniforms(Purpose.ORDER).log()).log()
        return score / self.score_temperature + gumbel


@dataclass(frozen=True)
class LinearQuota(TopK):
    """LLaDA's counts (Nie et al., 2025): total // steps at every step, one more at the first total % steps."""

    def count(self, step: Step) -> Int[Tensor, " B"]:
        """How many each row reveals in this step."""
        done = step.index + 1
        revealed = step.total // step.budget * done + torch.minimum(done, step.total % step.budget)
        return (step.masked.sum(-1) + step.reopening - (step.total - revealed)).clamp(min=0)


@dataclass(frozen=True)
class Rate(TopK):
    """Dream's counts (Ye et al., 2025): the whole part of masked * (1 - s / t), whatever earlier roundings left undone.

    Attributes:
        shared: as published, one count for all rows, from the mean of their masks.
    """

    shared: bool = False

    def count(self, step: Step) -> Int[Tensor, " B"]:
        """How many each row reveals in this step; in float32, as published."""
        masked = step.masked.sum(-1).float()
        if self.shared:
            masked = masked.mean().expand_as(masked)
        share = torch.where(step.s == 0, 1.0, 1 - step.s.float() / step.t.float())
        return (masked * share).long()


@dataclass(frozen=True)
class One:
    """The best position alone."""

    def __call__(self, score: Float[Tensor, "B L"], step: Step) -> Positions:
        """One a row."""
        return step.masked & (rank(score) == 0)

"""Unmasking rules that look at the text: they reveal much where it is easy, and never nothing."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.sampling.draws import Purpose
from unmask.sampling.step import Step, rank
from unmask.types import Positions


@dataclass(frozen=True)
class Threshold:
    """All positions whose score reaches tau, and the best one if none does (Fast-dLLM, Wu et al., 2025)."""

    tau: float = 0.9

    def __post_init__(self) -> None:
        """Refuse a threshold that is no probability."""
        check_share("the threshold tau", self.tau)

    def __call__(self, score: Float[Tensor, "B L"], step: Step) -> Positions:
        """As many as are sure."""
        return step.masked & ((score >= self.tau) | (rank(score) == 0))


@dataclass(frozen=True)
class ByChance:
    """Each position with its score for a probability, and the best one if none comes.

    With the score `willing` this is seed 001's generation: a draw in which the mask is a legal answer, "not yet".
    """

    def __call__(self, score: Float[Tensor, "B L"], step: Step) -> Positions:
        """As many as chance wants."""
        chosen = step.masked & (step.uniforms(Purpose.ORDER) < score)
        return chosen | (step.masked & (rank(score) == 0) & ~chosen.any(-1, keepdim=True))


@dataclass(frozen=True)
class DynamicThreshold:
    """A threshold that relaxes as the canvas fills: `high` on the empty canvas, `low` at the last token, linear between.

    Early mistakes are built upon, late ones are not; so the first tokens must be surer than the last.
    """

    high: float = 0.95
    low: float = 0.6

    def __post_init__(self) -> None:
        """Refuse thresholds that are no probabilities, or rise."""
        check_share("the threshold high", self.high)
        check_share("the threshold low", self.low)
        if self.low > self.high:
            raise ValueError(f"the threshold low ({self.low}) must not be above high ({self.high})")

    def __call__(self, score: Float[Tensor, "B L"], step: Step) -> Positions:
        """As many as are sure enough for this moment."""
        left = step.masked.sum(-1) / step.total.clamp(min=1)
        tau = self.low + (self.high - self.low) * left
        return step.masked & ((score >= tau[:, None]) | (rank(score) == 0))


@dataclass(frozen=True)
class Factor:
    """The largest n for which (n + 1) (1 - c) < factor, c being the n-th largest confidence (Fast-dLLM).

    When all n are that sure, choosing them together is choosing them one by one.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a factor that reveals nothing on purpose."""
        if not 0 <= self.factor < float("inf"):
            raise ValueError(f"factor must be 0 or more, not {self.factor}")

    def __call__(self, score: Float[Tensor, "B L"], step: Step) -> Positions:
        """The first n by score; at least one."""
        ordered = score.sort(dim=-1, descending=True, stable=True).values
        n = torch.arange(1, score.shape[1] + 1, device=score.device)
        # a steadied score may be up to 2^-15 above one
        fits = (n + 1) * (1 - ordered.clamp(max=1)) < self.factor
        largest = (fits * n).amax(-1).clamp(min=1)
        return step.masked & (rank(score) < largest[:, None])


@dataclass(frozen=True)
class EntropyBound:
    """EB-Sampler (Ben-Hamu et al., 2025): the largest prefix by entropy with (sum of H) - (largest H) <= gamma nats.

    That sum bounds how far independent draws can be from joint ones. Its score must be `entropy`.
    """

    gamma: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a negative bound."""
        if not 0 <= self.gamma < float("inf"):
            raise ValueError(f"gamma must be 0 or more, not {self.gamma}")

    def __call__(self, score: Float[Tensor, "B L"], step: Step) -> Positions:
        """The prefix; its first position always."""
        # a steadied score may be up to 2^-15 above zero
        entropy = (-score.sort(dim=-1, descending=True, stable=True).values).clamp(min=0)
        # in order of entropy the largest so far is the last
        beyond = entropy.cumsum(-1) - entropy
        size = (beyond <= self.gamma).sum(-1)
        return step.masked & (rank(score) < size[:, None])


@dataclass(frozen=True)
class Stable:
    """KLASS (Kim et al., 2025): sure (confidence >= tau) and settled in its mind (KL to earlier predictions < drift).

    Attributes:
        tau: the confidence.
        drift: the largest KL between successive predictions, nats.
        window: how many successive ones must be that close.
    """

    tau: float = 0.9
    drift: float = 0.01
    window: int = 2

    def __post_init__(self) -> None:
        """Refuse what can never be, or always is."""
        check_share("the threshold tau", self.tau)
        if not self.drift > 0:
            raise ValueError(f"drift must be above 0, not {self.drift}")
        if self.window < 1:
            raise ValueError(f"window must be at least 1, not {self.window}")

    def __call__(self, score: Float[Tensor, "B L"], step: Step) -> Positions:
        """All that are sure and stable; the surest if none is."""
        assert step.drift is not None
        return step.masked & (((score >= self.tau) & (step.drift < self.drift)) | (rank(score) == 0))


def check_share(name: str, value: float) -> None:
    """Refuse what is not in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], not {value}")

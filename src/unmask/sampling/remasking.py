"""Remasking while the canvas fills: the probability sigma with which settled positions are reopened from t to s.

ReMDM (Wang et al., 2025): any sigma up to sigma_max = min(1, (1 - alpha_s) / alpha_t) leaves every marginal of the
process as it is, provided that the masked positions are revealed that much more often; the rules see to that. So mistakes
can be mended without biasing the text, unlike reopening at a constant rate.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.sampling.adaptive import check_share
from unmask.types import Positions, Times


@runtime_checkable
class Remask(Protocol):
    """How often settled positions are reopened."""

    def __call__(
        self, before: Times, after: Times, t: Times, settled: Positions, confidence: Float[Tensor, "B L"]
    ) -> Float[Tensor, "B L"]:
        """Sigma in [0, 1], from the masked shares at t and s, the time t, and how sure each settled position was."""
        ...


def largest(before: Times, after: Times) -> Times:
    """sigma_max."""
    return (after / (1 - before).clamp(min=1e-12)).clamp(max=1)


@dataclass(frozen=True)
class Cap:
    """ReMDM-cap: at most eta a step."""

    eta: float = 0.02

    def __post_init__(self) -> None:
        """Refuse what is no probability."""
        check_share("eta", self.eta)

    def __call__(
        self, before: Times, after: Times, t: Times, settled: Positions, confidence: Float[Tensor, "B L"]
    ) -> Float[Tensor, "B L"]:
        """min(eta, sigma_max)."""
        return largest(before, after).clamp(max=self.eta)[:, None].expand_as(confidence)


@dataclass(frozen=True)
class Rescale:
    """ReMDM-rescale: the share eta of sigma_max."""

    eta: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        check_share("eta", self.eta)

    def __call__(
        self, before: Times, after: Times, t: Times, settled: Positions, confidence: Float[Tensor, "B L"]
    ) -> Float[Tensor, "B L"]:
        """Eta sigma_max."""
        return (self.eta * largest(before, after))[:, None].expand_as(confidence)


@dataclass(frozen=True)
class LeastSure:
    """ReMDM-conf: sigma_max shared out by softmax(-confidence) over what is settled; about one position a step."""

    def __call__(
        self, before: Times, after: Times, t: Times, settled: Positions, confidence: Float[Tensor, "B L"]
    ) -> Float[Tensor, "B L"]:
        """softmax(-confidence) sigma_max; 0 where masked."""
        share = (-confidence.double()).masked_fill(~settled, -torch.inf).softmax(-1).nan_to_num(0.0)
        return share * largest(before, after)[:, None]


@dataclass(frozen=True)
class Plateau:
    """ReMDM-loop's middle phase: eta a step while the schedule stands still between the times `on` and `off`."""

    eta: float = 0.02
    on: float = 0.55
    off: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what is no probability, or times out of order."""
        check_share("eta", self.eta)
        if not 0 < self.off < self.on < 1:
            raise ValueError(f"off and on must be times with 0 < off < on < 1, not {self.off} and {self.on}")

    def __call__(
        self, before: Times, after: Times, t: Times, settled: Positions, confidence: Float[Tensor, "B L"]
    ) -> Float[Tensor, "B L"]:
        """Eta inside the plateau, 0 outside."""
        inside = (t <= self.on) & (t > self.off)
        return (largest(before, after).clamp(max=self.eta) * inside)[:, None].expand_as(confidence)


@dataclass(frozen=True)
class Corrector:
    """Extra steps forward and backward at once: sigma = beta_t (alpha_s - alpha_t) / alpha_t.

    With exponent 0 and scale 1 it is the forward-backward corrector (Campbell et al., 2022); beta_t = scale (t (1 -
    t))^exponent is the corrector of discrete flow matching (Gat et al., 2024), published with 10 and 0.25.
    """

    scale: float = 1.0
    exponent: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what would run backwards."""
        if not self.scale >= 0 or not self.exponent >= 0:
            raise ValueError(f"scale and exponent must be 0 or more, not {self.scale} and {self.exponent}")

    def __call__(
        self, before: Times, after: Times, t: Times, settled: Positions, confidence: Float[Tensor, "B L"]
    ) -> Float[Tensor, "B L"]:
        """Sigma, at most sigma_max."""
        beta = self.scale * (t * (1 - t)) ** self.exponent
        sigma = beta * (before - after) / (1 - before).clamp(min=1e-12)
        return torch.minimum(sigma, largest(before, after))[:, None].expand_as(confidence)

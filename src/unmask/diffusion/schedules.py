"""Schedules: how much is masked at time t.

A schedule is written by its masked share m(t) = 1 - alpha(t), which keeps full precision near t = 0, where the weight
of the bound, m'(t)/m(t), is largest. Adding one is one function and one entry in SCHEDULES.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.types import Times

Curve = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Schedule:
    """A noise schedule on t in [0, 1].

    Attributes:
        name: its key in SCHEDULES.
        masked: m(t), the masked share; rises from about 0 at t = 0 to about 1 at t = 1.
        dmasked: the derivative m'(t).
        unmasked_at: the inverse of m: the time at which a given share is masked.
    """

    name: str
    masked: Curve
    dmasked: Curve
    unmasked_at: Curve

    def alpha(self, t: Times) -> Times:
        """The share of tokens that are still themselves at time t."""
        return 1 - self.masked(t)

    def dalpha(self, t: Times) -> Times:
        """The derivative of alpha."""
        return -self.dmasked(t)

    def weight(self, t: Times) -> Times:
        """The bound's weight of a masked token's cross-entropy: -alpha'(t) / (1 - alpha(t)); unbounded at t = 0."""
        return self.dmasked(t) / self.masked(t)

    def inverse(self, alpha: Times) -> Times:
        """The time at which the share `alpha` is left; where alpha is flat, the earliest such time."""
        return self.unmasked_at(1 - alpha)


def linear() -> Schedule:
    """M = t: the schedule of MDLM's and LLaDA's bounds, weight 1/t."""
    return Schedule("linear", lambda t: t, torch.ones_like, lambda m: m)


def log_linear(floor: float = 1e-3) -> Schedule:
    """M = (1 - floor) t: MDLM's log-linear noise, sigma(t) = -log(1 - (1 - floor) t) (Sahoo et al., 2024)."""
    rate = 1 - floor
    return Schedule("log_linear", lambda t: rate * t, lambda t: torch.full_like(t, rate), lambda m: m / rate)


def cosine(s: float = 0.008, ceiling: float = 0.999) -> Schedule:
    """Seed 003's cosine: m = 1 - cos^2(pi/2 (t+s)/(1+s)) / cos^2(pi/2 s/(1+s)), clipped at `ceiling`."""
    start = math.pi / 2 * s / (1 + s)
    scale = math.cos(start) ** 2
    rate = math.pi / 2 / (1 + s)

    def angle(t: Tensor) -> Tensor:
        return rate * (t + s)

    def masked(t: Tensor) -> Tensor:
        # cos^2 a - cos^2 b = sin(b - a) sin(b + a): no cancellation at t = 0
        return (torch.sin(rate * t) * torch.sin(angle(t) + start) / scale).clamp(max=ceiling)

    def dmasked(t: Tensor) -> Tensor:
        slope = rate * torch.sin(2 * angle(t)) / scale
        return torch.where(masked(t) < ceiling, slope, torch.zeros_like(slope))

    def unmasked_at(m: Tensor) -> Tensor:
        m = m.clamp(max=ceiling)
        # sin^2 b = sin^2 a + m cos^2 a, by the same identity
        sine = torch.sqrt(math.sin(start) ** 2 + m * scale)
        return (torch.asin(sine) - start) / rate

    return Schedule("cosine", masked, dmasked, unmasked_at)


def cosine_md4() -> Schedule:
    """M = sin(pi t / 2): MD4's cosine, alpha = 1 - cos(pi/2 (1 - t)) (Shi et al., 2024)."""
    half = math.pi / 2
    return Schedule(
        "cosine_md4",
        lambda t: torch.sin(half * t),
        lambda t: half * torch.cos(half * t),
        lambda m: torch.asin(m) / half,
    )


def polynomial(power: float = 2.0) -> Schedule:
    """M = t^power (MD4's polynomial)."""
    return Schedule(
        "polynomial",
        lambda t: t**power,
        lambda t: power * t ** (power - 1),
        lambda m: m ** (1 / power),
    )


def geometric(low: float = 1e-5, high: float = 20.0) -> Schedule:
    """M = 1 - exp(-sigma), sigma = low^(1-t) high^t: the geometric noise of SEDD and MD4."""
    growth = math.log(high / low)

    def sigma(t: Tensor) -> Tensor:
        return low * torch.exp(growth * t)

    return Schedule(
        "geometric",
        lambda t: -torch.expm1(-sigma(t)),
        lambda t: growth * sigma(t) * torch.exp(-sigma(t)),
        # outside the schedule's own range of shares the nearest end is meant
        lambda m: (torch.log(-torch.log1p(-m) / low) / growth).clamp(0, 1),
    )


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "linear": linear,
    "log_linear": log_linear,
    "cosine": cosine,
    "cosine_md4": cosine_md4,
    "polynomial": polynomial,
    "geometric": geometric,
}

"""Clocks: the time that each step of a block leads to; and the plateau that ReMDM-loop lays into it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.diffusion.schedules import Schedule
from unmask.types import Times


@runtime_checkable
class Clock(Protocol):
    """Where a row goes from t."""

    def __call__(
        self,
        t: Times,
        index: Int[Tensor, " B"],
        budget: Int[Tensor, " B"],
        masks: Int[Tensor, " B"],
        u: Float[Tensor, " B"],
    ) -> Times:
        """S < t, from the row's step (from 0) of `budget`, its number of masks, and a uniform random number."""
        ...


@dataclass(frozen=True)
class Even:
    """Steps of one length, down to `floor`; the last one always ends at 0.

    Dream's grid ends at 1e-3, ours at 0.
    """

    floor: float = 0.0

    def __call__(
        self,
        t: Times,
        index: Int[Tensor, " B"],
        budget: Int[Tensor, " B"],
        masks: Int[Tensor, " B"],
        u: Float[Tensor, " B"],
    ) -> Times:
        """1 - (index + 1) / budget."""
        s = 1 - (1 - self.floor) * (index + 1) / budget
        return torch.where(index + 1 >= budget, 0.0, s)


@dataclass(frozen=True)
class FirstHitting:
    """The time at which the next token is revealed, drawn exactly (Zheng et al., 2024): m(s) = m(t) u^(1 / masks).

    With one token revealed at each such time, masked diffusion is sampled without any error of discretisation.
    """

    schedule: Schedule

    def __call__(
        self,
        t: Times,
        index: Int[Tensor, " B"],
        budget: Int[Tensor, " B"],
        masks: Int[Tensor, " B"],
        u: Float[Tensor, " B"],
    ) -> Times:
        """The first of `masks` independent reveals; 0 when the budget is spent."""
        share = self.schedule.masked(t.double()) * u ** (1 / masks.clamp(min=1))
        s = torch.minimum(self.schedule.unmasked_at(share), t.double()).clamp(min=1e-12)
        return torch.where(index + 1 >= budget, 0.0, s).to(t.dtype)


def with_plateau(schedule: Schedule, on: float = 0.55, off: float = 0.05, alpha: float = 0.9) -> Schedule:
    """A schedule that comes to alpha at time `on`, stands still until `off`, and then goes on (ReMDM-loop)."""
    still = schedule.inverse(torch.tensor([alpha], dtype=torch.float64))

    def inner(t: Tensor) -> Tensor:
        hold = still.to(t)
        early = hold + (1 - hold) * (t - on) / (1 - on)
        late = hold * t / off
        return torch.where(t > on, early, torch.where(t > off, hold, late))

    def slope(t: Tensor) -> Tensor:
        hold = still.to(t)
        speed = torch.where(t > on, (1 - hold) / (1 - on), torch.where(t > off, 0.0, hold / off))
        return schedule.dmasked(inner(t)) * speed

    def unmasked_at(share: Tensor) -> Tensor:
        hold, t = still.to(share), schedule.unmasked_at(share)
        # where the schedule stands still, the earliest time
        return torch.where(t > hold, on + (t - hold) / (1 - hold) * (1 - on), t / hold * off)

    return Schedule(f"{schedule.name} with a plateau", lambda t: schedule.masked(inner(t)), slope, unmasked_at)

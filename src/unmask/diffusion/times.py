"""Which times a training batch sees: uniform, antithetic, or where the loss is largest."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.types import Times


@runtime_checkable
class TimeSampler(Protocol):
    """Draws one time a row, with the weight that keeps the expectation unbiased."""

    def sample(self, rows: int, generator: torch.Generator) -> tuple[Times, Times]:
        """T in (0, 1] and 1 / density(t), both (rows,)."""
        ...

    def update(self, t: Times, row_loss: Times) -> None:
        """Learn from the loss that each row had at its time."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What `update` has learned."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take `state_dict`'s result back."""
        ...


class Memoryless:
    """A time sampler that learns nothing."""

    def update(self, t: Times, row_loss: Times) -> None:
        """Nothing to learn."""

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing to take back."""


class UniformTimes(Memoryless):
    """Independent times."""

    def sample(self, rows: int, generator: torch.Generator) -> tuple[Times, Times]:
        """T ~ U(0, 1]."""
        t = 1 - torch.rand(rows, generator=generator, device=generator.device)
        return t, torch.ones_like(t)


class AntitheticTimes(Memoryless):
    """Times spread evenly over the batch behind one common random shift (low discrepancy; VDM, MDLM)."""

    def sample(self, rows: int, generator: torch.Generator) -> tuple[Times, Times]:
        """t_i = 1 - ((u + i / rows) mod 1): each uniform, together one to each of `rows` equal parts."""
        shift = torch.rand(1, generator=generator, device=generator.device)
        t = 1 - (shift + torch.arange(rows, device=generator.device) / rows) % 1
        return t, torch.ones_like(t)


class ImportanceTimes:
    """Times drawn in proportion to the root mean square of the loss there (Nichol & Dhariwal, 2021, eq. 18).

    The density is constant on `bins` equal parts of (0, 1] and never falls below `floor`, so the weights stay bounded.
    """

    def __init__(self, bins: int = 20, decay: float = 0.99, floor: float = 0.2) -> None:
        self.decay, self.floor = decay, floor
        self.square = torch.zeros(bins)
        self.seen = torch.zeros(bins)

    def density(self) -> Float[Tensor, " bins"]:
        """The density of each bin: uniform until every bin has been seen."""
        if not bool((self.seen > 0).all()):
            return torch.ones_like(self.square)
        size = (self.square / self.seen).sqrt()
        return self.floor + (1 - self.floor) * size / size.mean()

    def sample(self, rows: int, generator: torch.Generator) -> tuple[Times, Times]:
        """Stratified over the density's quantiles, so the batch stays evenly spread."""
        even, _ = AntitheticTimes().sample(rows, generator)
        density = self.density().to(even.device)
        bins = len(density)
        edges = torch.cat([density.new_zeros(1), (density / bins).cumsum(0)])
        index = torch.searchsorted(edges[1:-1].contiguous(), even)
        t = (index + (even - edges[index]) / (edges[index + 1] - edges[index]).clamp(min=1e-9)) / bins
        return t.clamp(min=torch.finfo(t.dtype).tiny, max=1), 1 / density[index]

    def update(self, t: Times, row_loss: Times) -> None:
        """Move each seen bin's mean square toward this batch's."""
        bins = len(self.square)
        index = (t * bins).long().clamp(max=bins - 1).cpu()
        fade = torch.where(torch.bincount(index, minlength=bins) > 0, self.decay, 1.0)
        loss = row_loss.detach().float().cpu()
        self.square = (self.square * fade).index_add(0, index, loss.square())
        self.seen = (self.seen * fade).index_add(0, index, torch.ones_like(loss))

    def state_dict(self) -> dict[str, Tensor]:
        """The history that the density is made of."""
        return {"square": self.square, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved history."""
        self.square, self.seen = state["square"], state["seen"]


TIMES: dict[str, type[UniformTimes] | type[AntitheticTimes] | type[ImportanceTimes]] = {
    "uniform": UniformTimes,
    "antithetic": AntitheticTimes,
    "importance": ImportanceTimes,
}

"""A denoiser that remembers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch

from unmask.diffusion.denoiser import Denoised, Denoiser
from unmask.thought.memory import Memory
from unmask.types import Lengths, Positions, Times, Tokens


@dataclass(frozen=True)
class Recalling:
    """A denoiser with one memory, which every row reads.

    Attributes:
        denoiser: one whose backbone reads thoughts.
        memory: of one row.
    """

    denoiser: Denoiser
    memory: Memory

    @property
    def mask_id(self) -> int:
        """The mask."""
        return self.denoiser.mask_id

    @property
    def time_dependent(self) -> bool:
        """As the denoiser."""
        return self.denoiser.time_dependent

    def __call__(self, xt: Tokens, t: Times, *, lengths: Lengths | None = None, select: Positions) -> Denoised:
        """Log p(x_0 | x_t) at `select`, given the memory."""
        everyone = torch.zeros(len(xt), dtype=torch.long, device=xt.device)
        return cast(Callable[..., Denoised], self.denoiser)(
            xt, t, lengths=lengths, select=select, memory=self.memory.rows(everyone)
        )

"""QBERT's rule and its refinement (seed 000): spaced positions at first, then the surest, and the unsure again and again."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.sampling.adaptive import check_share
from unmask.sampling.draws import Purpose, uniforms
from unmask.sampling.step import Look, Step, rank, steady
from unmask.types import Positions


@dataclass(frozen=True)
class Spaced:
    """A fixed number of positions a step: evenly spaced at first, by score later; what is looked at again comes on top.

    Attributes:
        positions: new positions a step.
    """

    positions: int = 10

    def __post_init__(self) -> None:
        """Refuse a step of nothing."""
        if self.positions < 1:
            raise ValueError(f"parallel_positions must be at least 1, not {self.positions}")

    def __call__(self, score: Float[Tensor, "B L"], step: Step) -> Positions:
        """The positions of a step."""
        assert step.again is not None
        fresh = step.masked & ~step.again
        best = fresh & (rank(score.masked_fill(~fresh, -torch.inf)) < self.positions)
        return torch.where((step.index == 0)[:, None], spread(fresh, self.positions), best) | (step.masked & step.again)


def spread(among: Positions, count: int) -> Positions:
    """At most `count` of these positions in each row, evenly spaced from the first on."""
    total = among.sum(-1, keepdim=True)
    number, wanted = among.cumsum(-1) - 1, total.clamp(max=count)
    # the i-th of n is taken where i * wanted / n passes a whole number
    ahead = (number * wanted) // total.clamp(min=1)
    behind = ((number - 1) * wanted) // total.clamp(min=1)
    return among & (ahead > behind)


@dataclass(frozen=True)
class Refine:
    """A share of the settled tokens is dropped after every step and drawn again, given all others.

    While masks are left, and then until `steps` steps are done or the text has converged; a long text, which takes more steps
    to fill, gets one turn when it is full.

    Attributes:
        dropout: the share that is dropped.
        steps: steps in all, those that fill the text included.
        threshold: the share of changed tokens below which a full text has converged.
        uncertain: drop the tokens whose distribution had the largest entropy, not any.
    """

    dropout: float = 0.2
    steps: int = 5
    threshold: float = 0.01
    uncertain: bool = True

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        check_share("position_dropout", self.dropout)
        check_share("convergence_threshold", self.threshold)
        if self.steps < 1:
            raise ValueError(f"diffusion_steps must be at least 1, not {self.steps}")

    def reopen(self, look: Look) -> Positions:
        """The least sure of the settled tokens, or any."""
        u = uniforms(look.seeds, look.number, look.settled.shape[1], Purpose.REVIEW)
        order = steady(look.entropy.double(), u) if self.uncertain else u
        total = look.settled.sum(-1)
        chosen = rank(order.masked_fill(~look.settled, -torch.inf)) < self.count(total)[:, None]
        more = torch.where(look.ended, self.unfinished(look, total), look.left > 0)
        return look.settled & chosen & more[:, None]

    def count(self, total: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """How many are dropped: the nearest whole number."""
        return (total * self.dropout + 0.5).floor().long()

    def unfinished(self, look: Look, total: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Rows that are full, and go on."""
        moved = (look.changed > 0) & (look.changed >= self.threshold * total) & (look.number < self.steps)
        return moved | ((look.turns == 0) & (self.steps > 1))

    def confirms(self, old: Float[Tensor, " N"], best: Float[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Never: what is dropped is drawn again."""
        return torch.zeros_like(old, dtype=torch.bool)

"""Reviews: settled tokens are masked again, looked at once more, and confirmed or redrawn."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.sampling.adaptive import check_share
from unmask.sampling.draws import Purpose, uniforms
from unmask.sampling.step import Look, rank
from unmask.types import Positions


@runtime_checkable
class Review(Protocol):
    """What is reopened after a step, and which of the old tokens stand the second look."""

    def reopen(self, look: Look) -> Positions:
        """The positions to mask, among `look.settled`; a row that has ended and gets none is done."""
        ...

    def confirms(self, old: Float[Tensor, " N"], best: Float[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Whether an old token stays, by its probability now and that of the likeliest token."""
        ...


@dataclass(frozen=True)
class Gibbs:
    """Sweeps over the finished text: every filled position, in random order, is redrawn given all others.

    With one site at a time the sweeps converge to the model's joint whatever the text was.

    Attributes:
        sweeps: times that each position is redrawn.
        sites: positions redrawn together; more are faster, and exact no longer.
    """

    sweeps: int = 1
    sites: int = 1

    def __post_init__(self) -> None:
        """Refuse less than one."""
        if self.sweeps < 1 or self.sites < 1:
            raise ValueError(f"sweeps and sites must be at least 1, not {self.sweeps} and {self.sites}")

    def reopen(self, look: Look) -> Positions:
        """The next sites of the row's own order."""
        total = look.settled.sum(-1)
        turns = -(-total // self.sites)
        sweep = (look.turns // turns.clamp(min=1)).clamp(max=self.sweeps)
        first = look.turns % turns.clamp(min=1) * self.sites
        # one order a sweep: the random numbers belong to the sweep, not to the step
        order = torch.stack(
            [
                uniforms(look.seeds, number, look.settled.shape[1], Purpose.REVIEW)
                for number in range(int(sweep.max()) + 1)
            ]
        )[sweep, torch.arange(len(sweep), device=sweep.device)]
        place = rank(order.masked_fill(~look.settled, -torch.inf))
        chosen = (place >= first[:, None]) & (place < (first + self.sites)[:, None])
        return look.settled & chosen & (look.ended & (sweep < self.sweeps))[:, None]

    def confirms(self, old: Float[Tensor, " N"], best: Float[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Never: a Gibbs step forgets the old token."""
        return torch.zeros_like(old, dtype=torch.bool)


@dataclass(frozen=True)
class Verify:
    """WINO (Hong et al., 2025), wide in and narrow out: what a step drew is judged in the next, given what else it drew.

    Of two or more tokens drawn together, all but the surest whose confidence is below tau are masked again; those that
    the model, knowing the others, then gives at least tau stay. No forward pass is added.
    """

    tau: float = 0.9

    def __post_init__(self) -> None:
        """Refuse a threshold that is no probability."""
        check_share("the threshold tau", self.tau)

    def reopen(self, look: Look) -> Positions:
        """The unsure drafts; never all, so that each step leaves more text."""
        unsure = look.new & (look.confidence < self.tau) & (look.surest(look.new) > 0)
        return unsure & (~look.ended & (look.t > 0))[:, None]

    def confirms(self, old: Float[Tensor, " N"], best: Float[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Those that reach tau."""
        return old >= self.tau


@dataclass(frozen=True)
class SelfCorrection:
    """Rounds over the finished text in which the model disagrees with itself.

    Each round masks the least likely tokens and redraws those to which the model, seeing the rest, prefers another by
    more than `margin`; it ends early when it agrees with all (GIDD's self-correction, von Rütte et al., 2025, for models
    that read masks only).

    Attributes:
        rounds: at most this many.
        share: of the filled positions, looked at in each round.
        margin: how much likelier another token must be.
    """

    rounds: int = 4
    share: float = 0.2
    margin: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, not {self.rounds}")
        check_share("share", self.share)
        check_share("margin", self.margin)

    def reopen(self, look: Look) -> Positions:
        """The least likely, in rows that still change."""
        total = look.settled.sum(-1)
        trusted = (total * (1 - self.share)).floor()
        more = look.ended & (look.turns < self.rounds) & ((look.changed > 0) | (look.turns == 0))
        return look.settled & (look.surest(look.settled) >= trusted[:, None]) & more[:, None]

    def confirms(self, old: Float[Tensor, " N"], best: Float[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Unless another is clearly likelier."""
        return best - old <= self.margin

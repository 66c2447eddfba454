"""Pickers: which token each position gets once the rule has chosen the positions."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.sampling.controls import Controls
from unmask.sampling.draws import categorical
from unmask.types import Logits, Positions, Tokens


@dataclass(frozen=True)
class Proposal:
    """The positions that are revealed in a step.

    Attributes:
        number: steps taken before this one.
        tokens: the canvases, (B, L).
        visible: what has a token before the step; padding is not.
        given: what the request gave.
        owner: the row of each revealed position, (N,).
        place: where it stands there.
        log_probs: what the model says of each, (N, V).
        u: a uniform random number for each.
        controls: the rows' settings.
    """

    number: int
    tokens: Tokens
    visible: Positions
    given: Positions
    owner: Int[Tensor, " N"]
    place: Int[Tensor, " N"]
    log_probs: Logits
    u: Float[Tensor, " N"]
    controls: Controls


@runtime_checkable
class Picker(Protocol):
    """Chooses tokens; a row's choice depends on its own canvas, settings and numbers only."""

    def __call__(self, proposal: Proposal) -> Int[Tensor, " N"]:
        """A token for each revealed position."""
        ...


@dataclass(frozen=True)
class Narrowing:
    """Progressive width (seed 000): drawn among the likeliest, of which fewer are kept at every step.

    Attributes:
        width: candidates at the first step.
        steps: over which it narrows to `least`; 0: it never narrows.
        least: candidates at the end.
    """

    width: int = 50
    steps: int = 5
    least: int = 5

    def at(self, number: int, vocab_size: int) -> int:
        """The width of a step."""
        left = max(self.steps - number, 0)
        width = self.width * left // self.steps if self.steps else self.width
        return min(max(self.least, width), vocab_size)

    def __call__(self, proposal: Proposal) -> Int[Tensor, " N"]:
        """By the row's own temperature among the step's candidates; at temperature 0 the likeliest."""
        candidates, log_probs = shortlist(proposal, self.at(proposal.number, proposal.log_probs.shape[-1]))
        return candidates.gather(-1, settle(proposal, log_probs)[:, None])[:, 0]


def shortlist(proposal: Proposal, width: int) -> tuple[Int[Tensor, "N C"], Float[Tensor, "N C"]]:
    """The likeliest tokens after temperature (0: as if it were 1) and truncation, and their log-probabilities."""
    tempered = proposal.controls.tempered(proposal.log_probs, proposal.owner)
    # in order of id: rounding errors, which depend on the batch, must not decide the order of like ones
    candidates = tempered.topk(width, -1).indices.sort(-1).values
    return candidates, tempered.gather(-1, candidates)


def settle(proposal: Proposal, weights: Float[Tensor, "N C"]) -> Int[Tensor, " N"]:
    """Which candidate: drawn by its weight (a log-probability), or where the temperature is 0 the one of most weight."""
    frozen = proposal.controls.temperature[proposal.owner] == 0
    return torch.where(frozen, weights.argmax(-1), categorical(weights, proposal.u))

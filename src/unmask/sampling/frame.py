"""Frames: every state that a canvas passes through, for the terminal, the plots and the page alike."""

from dataclasses import dataclass
from enum import IntEnum

from jaxtyping import Float, Int
from torch import Tensor

from unmask.types import Lengths, Times, Tokens


class State(IntEnum):
    """What a position is, seen from one frame to the next."""

    PROMPT = 0
    """Given by the request; never changes."""
    MASKED = 1
    """Still open."""
    NEW = 2
    """Revealed or changed in this step."""
    KEPT = 3
    """Revealed in an earlier step."""
    REMASKED = 4
    """Reopened in this step."""


@dataclass(frozen=True)
class Frame:
    """A batch of canvases after a step.

    Attributes:
        step: steps done; 0 is the canvas before the first.
        t: each row's time, from 1 down to 0.
        tokens: the canvases; what lies beyond `lengths` is padding.
        states: a `State` for each position.
        confidence: the model's probability of each token when it was revealed; 1 for the prompt, 0 where masked.
        nfe: network forward evaluations spent on each row so far.
        lengths: real tokens of each row.
        doubt: where a model trained to repair has looked at visible tokens in this step, its probability that each is wrong;
            0 elsewhere. None for samplers that do not ask.
    """

    step: int
    t: Times
    tokens: Tokens
    states: Int[Tensor, "B L"]
    confidence: Float[Tensor, "B L"]
    nfe: Int[Tensor, " B"]
    lengths: Lengths
    doubt: Float[Tensor, "B L"] | None = None

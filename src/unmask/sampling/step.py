"""What scores, rules and revisions see: one step of the loop on the way from t to s, for every row at once."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.sampling.draws import Purpose, uniforms
from unmask.types import Logits, Positions, Times


@dataclass(frozen=True)
class Candidates:
    """The open positions of a batch, row by row.

    Attributes:
        log_probs: what the model says of each.
        u: a uniform random number for each.
        place: where each stands in its row.
        drawn: the token drawn for each, for samplers that ask to see it.
        not_yet: the probability with which a model trained to repair leaves each masked; for samplers that ask it.
    """

    log_probs: Logits
    u: Float[Tensor, " N"]
    place: Int[Tensor, " N"]
    drawn: Int[Tensor, " N"] | None = None
    not_yet: Float[Tensor, " N"] | None = None


@dataclass(frozen=True)
class Step:
    """A step of each row, inside the row's current block.

    Attributes:
        number: steps taken so far, by any row.
        seeds: one a row.
        index: steps that the row has taken in this block.
        budget: steps that it may take there.
        t: the row's time in this block, from 1 down.
        s: the time that the step leads to; 0 at the block's last step.
        before: m(t), the masked share that the schedule wants at t.
        after: m(s).
        start: m(1).
        masked: positions that may be revealed.
        total: positions of the block.
        sigma: the probability with which each position is reopened, if it is settled.
        reopening: how many are reopened in this step.
        drift: how much the prediction moved lately, nats; inf where that is not known.
        again: positions that a review has reopened, (B, L).
    """

    number: int
    seeds: Int[Tensor, " B"]
    index: Int[Tensor, " B"]
    budget: Int[Tensor, " B"]
    t: Times
    s: Times
    before: Times
    after: Times
    start: Times
    masked: Positions
    total: Int[Tensor, " B"]
    sigma: Float[Tensor, "B L"]
    reopening: Int[Tensor, " B"]
    drift: Float[Tensor, "B L"] | None = None
    again: Positions | None = None

    def uniforms(self, purpose: Purpose) -> Float[Tensor, "B L"]:
        """Fresh random numbers for this step."""
        return uniforms(self.seeds, self.number, self.masked.shape[1], purpose)


@dataclass(frozen=True)
class Look:
    """What a review sees after a step.

    Attributes:
        number: steps taken so far, by any row.
        seeds: one a row.
        new: positions that this step drew (those that a review confirmed are not among them).
        settled: positions that were given as masks and are revealed now, in the row's block; in all blocks once it has ended.
        confidence: of each, when it was last drawn or confirmed.
        ended: where the row's last step has left no mask: what is reopened from here on is review only.
        turns: review turns that the row has had since then.
        changed: tokens that the last step changed, a row.
        t: the time left in the row's block.
        entropy: of the distribution that each settled token was drawn from, nats.
        left: masks that are left there, a row.
    """

    number: int
    seeds: Int[Tensor, " B"]
    new: Positions
    settled: Positions
    confidence: Float[Tensor, "B L"]
    ended: Bool[Tensor, " B"]
    turns: Int[Tensor, " B"]
    changed: Int[Tensor, " B"]
    t: Times
    entropy: Float[Tensor, "B L"]
    left: Int[Tensor, " B"]

    def surest(self, among: Positions) -> Int[Tensor, "B L"]:
        """0 for the surest of these positions, 1 for the next, ...; ties, up to rounding errors, by chance."""
        u = uniforms(self.seeds, self.number, among.shape[1], Purpose.REVIEW)
        return rank(steady(self.confidence.double(), u).masked_fill(~among, -torch.inf))


def steady(score: Float[Tensor, "*S"], u: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """To the nearest 2^-14, ties by chance.

    An empty canvas gives every position the same distribution up to rounding errors, which depend on the batch; so errors
    far smaller than any difference worth heeding must not choose the order.
    """
    grid = 2.0**14
    return (score * grid).round() / grid + u / (2 * grid)


def rank(score: Float[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """0 for each row's highest score, 1 for the next, ...; ties in order of position."""
    order = score.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(score.shape[1], device=score.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)

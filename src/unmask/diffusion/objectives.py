"""Objectives: a number to descend, and the bound beside it whatever that number is.

`nelbo` is the negative evidence lower bound. `cross_entropy` is seed 003's mean over masked tokens: often a better
thing to descend (see docs/log.md), but not a bound on anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.diffusion.corruption import Corrupted
from unmask.diffusion.denoiser import Denoised
from unmask.diffusion.schedules import Schedule
from unmask.types import Times


@dataclass(frozen=True)
class Loss:
    """An objective's answer for one batch.

    Attributes:
        value: the scalar to descend.
        per_token: its terms, nats, at the scored positions (N,).
        row: each row's own loss (B,), what importance sampling of t learns from.
        metrics: scalars for the log, still on the device: `nelbo` and `masked_ce`, nats a token.
    """

    value: Float[Tensor, ""]
    per_token: Float[Tensor, " N"]
    row: Times
    metrics: dict[str, Tensor]


@runtime_checkable
class Objective(Protocol):
    """One call for every way of training."""

    def __call__(self, denoised: Denoised, corrupted: Corrupted) -> Loss:
        """The loss of a batch."""
        ...


def token_nll(denoised: Denoised, corrupted: Corrupted) -> Float[Tensor, " N"]:
    """-log p(target) at the scored positions, nats."""
    target = corrupted.target[denoised.select]
    return -denoised.log_probs.gather(-1, target[:, None])[:, 0]


def row_sum(per_token: Float[Tensor, " N"], corrupted: Corrupted) -> Times:
    """Sum the scored positions of each row."""
    rows = corrupted.scored.nonzero()[:, 0]
    return per_token.new_zeros(len(corrupted.t)).index_add(0, rows, per_token)


def absorbing_bound(nll: Float[Tensor, " N"], corrupted: Corrupted, schedule: Schedule) -> Times:
    """Each row's term of the bound, nats a token: weight(t) * (sum over masked of CE) / L (MDLM, MD4).

    The sum, never the mean over masked tokens: that times 1/t would be 1/t^2.
    """
    length = corrupted.valid.sum(-1).clamp(min=1)
    return schedule.weight(corrupted.t) * row_sum(nll, corrupted) / length


def uniform_bound(denoised: Denoised, corrupted: Corrupted, schedule: Schedule) -> Float[Tensor, " N"]:
    """Each token's term of the bound for uniform noise in continuous time, nats.

    With r(j|x0) = q(x_t=j|x0) / q(x_t=i|x0) the reverse rate from the shown token i to j is beta/K r(j|x0), and the
    model's is its average over p(x0 | x_t). The term is the divergence of two jump processes,
    sum over j of [model - true + true log(true / model)].
    """
    rows = denoised.select.nonzero()[:, 0]
    shown, target = corrupted.xt[denoised.select], corrupted.target[denoised.select]
    probs = denoised.log_probs.exp()
    kinds = probs.shape[-1] - 1
    tiny = torch.finfo(probs.dtype).eps
    alpha = schedule.alpha(corrupted.t)[rows, None].clamp(min=tiny)
    rate = -schedule.dalpha(corrupted.t)[rows] / alpha[:, 0] / kinds
    noise = ((1 - alpha) / kinds).clamp(min=tiny)
    up, down = (alpha + noise) / noise, noise / (alpha + noise)

    p_shown = probs.gather(-1, shown[:, None])
    model = p_shown * down + probs * up + (1 - p_shown - probs)
    is_target = torch.nn.functional.one_hot(target, kinds + 1).to(probs)
    true = torch.where((shown == target)[:, None], down.expand_as(probs), 1 + is_target * (up - 1))
    terms = model - true + true * (true.log() - model.clamp(min=tiny**2).log())
    # neither staying put nor the mask is a jump
    terms = terms.scatter(-1, shown[:, None], 0.0)
    return rate * terms[:, :kinds].sum(-1)


def mean(row: Times, corrupted: Corrupted) -> Float[Tensor, ""]:
    """The batch's mean, unbiased under importance-sampled t."""
    return (row * corrupted.importance).mean()


@dataclass(frozen=True)
class Nelbo:
    """The negative evidence lower bound of masked diffusion, nats a token."""

    schedule: Schedule

    def __call__(self, denoised: Denoised, corrupted: Corrupted) -> Loss:
        """weight(t) * sum over masked of CE / L, averaged over rows."""
        nll = token_nll(denoised, corrupted)
        row = absorbing_bound(nll, corrupted, self.schedule)
        value = mean(row, corrupted)
        return Loss(value, nll, row, {"nelbo": value.detach(), "masked_ce": nll.detach().sum() / max(1, len(nll))})


@dataclass(frozen=True)
class CrossEntropy:
    """Seed 003's loss: the plain mean of CE over the batch's masked tokens. Not a bound."""

    schedule: Schedule

    def __call__(self, denoised: Denoised, corrupted: Corrupted) -> Loss:
        """Mean CE over masked tokens; `metrics["nelbo"]` is the bound all the same."""
        nll = token_nll(denoised, corrupted)
        counts = corrupted.scored.sum(-1)
        total = row_sum(nll, corrupted)
        value = (total * corrupted.importance).sum() / (counts * corrupted.importance).sum().clamp(min=1)
        bound = mean(absorbing_bound(nll.detach(), corrupted, self.schedule), corrupted)
        return Loss(value, nll, total / counts.clamp(min=1), {"nelbo": bound, "masked_ce": value.detach()})


@dataclass(frozen=True)
class UniformNelbo:
    """The bound of uniform diffusion, nats a token (the continuous-time limit of D3PM's; UDLM)."""

    schedule: Schedule

    def __call__(self, denoised: Denoised, corrupted: Corrupted) -> Loss:
        """The divergence of the jump rates, averaged over tokens and rows."""
        per_token = uniform_bound(denoised, corrupted, self.schedule)
        row = row_sum(per_token, corrupted) / corrupted.valid.sum(-1).clamp(min=1)
        value = mean(row, corrupted)
        nll = token_nll(denoised, corrupted).detach()
        return Loss(value, per_token, row, {"nelbo": value.detach(), "masked_ce": nll.sum() / max(1, len(nll))})


@dataclass(frozen=True)
class UniformCrossEntropy:
    """The mean CE of every token under uniform noise. Not a bound."""

    schedule: Schedule

    def __call__(self, denoised: Denoised, corrupted: Corrupted) -> Loss:
        """Mean CE over all tokens; `metrics["nelbo"]` is the bound all the same."""
        nll = token_nll(denoised, corrupted)
        length = corrupted.valid.sum(-1).clamp(min=1)
        row = row_sum(nll, corrupted) / length
        value = mean(row, corrupted)
        bound = mean(row_sum(uniform_bound(denoised, corrupted, self.schedule).detach(), corrupted) / length, corrupted)
        return Loss(value, nll, row, {"nelbo": bound, "masked_ce": value.detach()})


@dataclass(frozen=True)
class Autoregressive:
    """-log p of a text, token by token from the left: not a bound but the thing itself, nats a token."""

    schedule: Schedule

    def __call__(self, denoised: Denoised, corrupted: Corrupted) -> Loss:
        """Mean of -log p(x_i | x_<i); `metrics["nelbo"]` is the same number, comparable with a diffusion model's bound."""
        nll = token_nll(denoised, corrupted)
        row = row_sum(nll, corrupted) / corrupted.valid.sum(-1).clamp(min=1)
        value = row.mean()
        return Loss(value, nll, row, {"nelbo": value.detach(), "masked_ce": value.detach()})


@dataclass(frozen=True)
class RepairLoss:
    """Seed 001's weighted cross-entropy over all tokens. Not a bound.

    Attributes:
        mask_id: the mask.
        penalty_keep_mask: weight where a mask should be filled and the model says "not yet" (honest).
        penalty_mask_correct: weight where a right token is called wrong (nervous).
    """

    mask_id: int
    penalty_keep_mask: float = 0.25
    penalty_mask_correct: float = 0.5

    def __post_init__(self) -> None:
        """Refuse penalties that are no shares."""
        for name in ("penalty_keep_mask", "penalty_mask_correct"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], not {getattr(self, name)}")

    def __call__(self, denoised: Denoised, corrupted: Corrupted) -> Loss:
        """Mean over tokens of weight * CE; the weight follows the model's own likeliest answer.

        `metrics["masked_ce"]` (and, until it is evaluated, `"nelbo"`) is the mean CE of the masked tokens with the mask ruled
        out as an answer; `"flagged"` the share of wrong tokens that the model calls wrong.
        """
        nll = token_nll(denoised, corrupted)
        says_mask = denoised.log_probs.argmax(-1) == self.mask_id
        masked, wrong = (part[denoised.select] for part in (corrupted.masked, corrupted.replaced))
        weight = torch.ones_like(nll)
        weight = torch.where(masked & says_mask, self.penalty_keep_mask, weight)
        weight = torch.where(~masked & ~wrong & says_mask, self.penalty_mask_correct, weight)
        per_token = weight * nll
        row = row_sum(per_token, corrupted) / corrupted.valid.sum(-1).clamp(min=1)
        value = mean(row, corrupted)
        with torch.no_grad():
            at_mask = denoised.log_probs[:, self.mask_id].exp().clamp(max=1 - 1e-6)
            # log p(x | not the mask) = log p(x) - log(1 - p(mask))
            filled = (nll + torch.log1p(-at_mask)) * masked
            masked_ce = filled.sum() / masked.sum().clamp(min=1)
            flagged = (says_mask & wrong).sum() / wrong.sum().clamp(min=1)
        return Loss(value, per_token, row, {"nelbo": masked_ce, "masked_ce": masked_ce, "flagged": flagged})


OBJECTIVES: dict[tuple[str, str], Callable[[Schedule], Objective]] = {
    ("absorbing", "nelbo"): Nelbo,
    ("absorbing", "cross_entropy"): CrossEntropy,
    ("uniform", "nelbo"): UniformNelbo,
    ("uniform", "cross_entropy"): UniformCrossEntropy,
    ("none", "autoregressive"): Autoregressive,
    ("none", "nelbo"): Autoregressive,
}

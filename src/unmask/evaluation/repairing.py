"""How well a model sees and mends wrong tokens: detection, restoration, harm."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.types import Positions, Tokens


@dataclass(frozen=True)
class RepairQuality:
    """Figures over all tokens of some damaged texts.

    Attributes:
        auc: the probability that a wrong token is doubted more than a right one (ties count half).
        restored: the share of wrong tokens that are the original again.
        harmed: the share of right tokens that are others now.
        wrong: the number of wrong tokens.
        right: the number of right ones.
    """

    auc: float
    restored: float
    harmed: float
    wrong: int
    right: int


def damage(x0: Tokens, mask_id: int, vocab_size: int, share: float, generator: torch.Generator) -> Tokens:
    """Each token with probability `share` replaced by another one, never the mask."""
    kinds = vocab_size - 1
    turn = torch.randint(1, kinds, x0.shape, generator=generator, device=x0.device)
    # a turn through the tokens that are not the mask never comes back to the token itself
    other = (x0 - (x0 > mask_id).long() + turn) % kinds
    other = other + (other >= mask_id).long()
    return torch.where(torch.rand(x0.shape, generator=generator, device=x0.device) < share, other, x0)


def area_under_curve(score: Float[Tensor, "*S"], positive: Positions) -> float:
    """Of the ROC: P(score of a positive > score of a negative), ties counting half (Mann-Whitney)."""
    flags = positive.flatten()
    values, inverse, counts = score.flatten().double().unique(return_inverse=True, return_counts=True)
    # the mean rank of equal scores
    rank = (counts.cumsum(0).double() - (counts - 1) / 2)[inverse]
    above = int(flags.sum())
    below = len(flags) - above
    if not above or not below:
        return float("nan")
    return float((rank[flags].sum() - above * (above + 1) / 2) / (above * below)) if len(values) > 1 else 0.5


def repair_quality(x0: Tokens, damaged: Tokens, repaired: Tokens, doubt: Float[Tensor, "B L"]) -> RepairQuality:
    """All figures at once."""
    wrong = damaged != x0
    return RepairQuality(
        auc=area_under_curve(doubt, wrong),
        restored=float((repaired == x0)[wrong].double().mean()),
        harmed=float((repaired != x0)[~wrong].double().mean()),
        wrong=int(wrong.sum()),
        right=int((~wrong).sum()),
    )

"""What training asks of thoughts beside the text's loss (seeds 002 and 004); each is 0 at its best, and bounded."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def thought_loss(predicted: Float[Tensor, "B *D"], target: Float[Tensor, "B *D"]) -> Float[Tensor, ""]:
    """Mean squared error of a thought told from a noisy one."""
    return F.mse_loss(predicted.float(), target.float())


def likeness(thoughts: Float[Tensor, "B n"]) -> Float[Tensor, "B B"]:
    """Cosines between the thoughts of a batch."""
    unit = F.normalize(thoughts.float(), dim=-1)
    return unit @ unit.T


def coherence_loss(
    predicted: Float[Tensor, "B *D"], target: Float[Tensor, "B *D"], ratio: float = 0.75
) -> Float[Tensor, ""]:
    """Meaningful compression: the first `ratio` of each memory token's numbers say which thoughts are alike.

    Mean squared difference between the cosines of the cut predictions and of the whole targets; at most 4.

    Raises:
        ValueError: a ratio outside (0, 1].
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"the compression ratio must be in (0, 1], not {ratio}")
    tokens = predicted.flatten(2)
    kept = tokens[..., : max(1, round(tokens.shape[-1] * ratio))]
    return F.mse_loss(likeness(kept.flatten(1)), likeness(target.flatten(1)))


@dataclass(frozen=True)
class Alignment:
    """A contrastive loss, nats, and how often each finds its other half among the batch (both ways, in [0, 1])."""

    loss: Float[Tensor, ""]
    accuracy: Float[Tensor, ""]


def alignment(thoughts: Float[Tensor, "B E"], texts: Float[Tensor, "B E"], temperature: float = 0.1) -> Alignment:
    """InfoNCE between thoughts and texts, both ways (CLIP, Radford et al., 2021)."""
    logits = F.normalize(thoughts.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T / temperature
    own = torch.arange(len(logits), device=logits.device)
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    found = (logits.argmax(-1) == own).float().mean() + (logits.argmax(0) == own).float().mean()
    return Alignment(loss, found / 2)


def consistency_loss(
    new: Float[Tensor, "B *D"], last: Float[Tensor, "B *D"], has: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """Mean squared step from the thought before, where there was one: a mind does not jump. At most 4 on the sphere."""
    step = (new - last).float().square().flatten(1).mean(-1)
    return (step * has).sum() / has.sum().clamp(min=1)


def diversity_loss(thoughts: Float[Tensor, "B *D"]) -> Float[Tensor, ""]:
    """Variance and covariance (VICReg, Bardes et al., 2022): numbers vary over the batch, and not all in the same way.

    The mean shortfall of the standard deviations below 1, plus the mean squared correlation-like covariance off the diagonal;
    nothing is gained by larger numbers, so nothing runs away.
    """
    flat = thoughts.flatten(1).float()
    rows, numbers = flat.shape
    centred = flat - flat.mean(0)
    variance = centred.square().sum(0) / max(1, rows - 1)
    shortfall = F.relu(1 - (variance + 1e-4).sqrt()).mean()
    # |C|^2 from the rows' products: B x B instead of n x n
    everything = (centred @ centred.T / max(1, rows - 1)).square().sum()
    return shortfall + (everything - variance.square().sum()) / numbers**2


def sparsity_loss(thoughts: Float[Tensor, "B *D"]) -> Float[Tensor, ""]:
    """Mean magnitude; on the sphere it is least where few numbers say everything."""
    return thoughts.float().abs().mean()


def curriculum(step: int, ramp: int) -> float:
    """How much the losses above count: min(1, step / ramp); 1 without a ramp."""
    return 1.0 if ramp <= 0 else min(1.0, step / ramp)

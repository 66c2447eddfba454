"""The model's bound on what stands in the holes, and how likely it finds each token."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.schedules import Schedule
from unmask.sampling.draws import Purpose, uniforms
from unmask.sampling.step import rank
from unmask.types import Lengths, Positions, Tokens

CHUNK = 32


def masked_nll(
    denoiser: Denoiser, schedule: Schedule, tokens: Tokens, hidden: Positions, lengths: Lengths
) -> Float[Tensor, "B L"]:
    """-log p of each hidden token given the others, nats; 0 elsewhere."""
    nll = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
    for rows in torch.arange(len(tokens), device=tokens.device).split(CHUNK):
        part, size = hidden[rows], lengths[rows]
        # the time at which this share is masked
        t = schedule.inverse(1 - part.sum(-1) / size).clamp(0, 1)
        canvas = tokens[rows].masked_fill(part, denoiser.mask_id)
        padded = None if bool((size == tokens.shape[1]).all()) else size
        with torch.no_grad():
            log_probs = denoiser(canvas, t, lengths=padded, select=part).log_probs
        found = torch.zeros(part.shape, dtype=torch.float64, device=tokens.device)
        found[part] = -log_probs.gather(-1, tokens[rows][part][:, None])[:, 0].double()
        nll[rows] = found
    return nll


def fill_bound(
    denoiser: Denoiser,
    schedule: Schedule,
    tokens: Tokens,
    holes: Positions,
    lengths: Lengths,
    seeds: Int[Tensor, " B"],
    draws: int,
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B L"]]:
    """K draws of each row's bound on -log p(holes | rest), nats; and the mean -log p of each token in the holes.

    The mean is NaN for tokens that no draw has hidden.

    A draw hides k of the n positions at random and counts n / k times their -log p: with k uniform on 1..n its mean is
    the chain rule's, averaged over all orders. The k of a row's draws are spread evenly over 1..n. A row needs one
    forward pass a draw.
    """
    rows, length = tokens.shape
    n = holes.sum(-1)
    hidden, weights = [], []
    for draw in range(draws):
        u = (draw + uniforms(seeds, draw, 1, Purpose.TIME)[:, 0]) / draws
        k = torch.minimum((u * n).ceil().long().clamp(min=1), n)
        order = uniforms(seeds, draw, length, Purpose.PLACE).masked_fill(~holes, -torch.inf)
        hidden.append(holes & (rank(order) < k[:, None]))
        weights.append(n / k.clamp(min=1))
    chosen, every = torch.stack(hidden, 1), torch.arange(rows, device=tokens.device).repeat_interleave(draws)
    nll = masked_nll(denoiser, schedule, tokens[every], chosen.flatten(0, 1), lengths[every]).view(rows, draws, length)
    # 0 / 0 is not a number: no draw has hidden that token
    mean = torch.where(holes, nll.sum(1) / chosen.sum(1), 0.0)
    return nll.sum(-1) * torch.stack(weights, 1), mean


def token_nll(
    denoiser: Denoiser, schedule: Schedule, tokens: Tokens, scored: Positions, groups: int = 8
) -> Float[Tensor, "B L"]:
    """-log p of each scored token given all but every `groups`-th of the others, nats; `groups` forward passes a row."""
    number = scored.cumsum(-1) - 1
    hidden = torch.stack([scored & (number % groups == group) for group in range(groups)], 1)
    every = torch.arange(len(tokens), device=tokens.device).repeat_interleave(groups)
    lengths = torch.full((len(every),), tokens.shape[1], device=tokens.device)
    nll = masked_nll(denoiser, schedule, tokens[every], hidden.flatten(0, 1), lengths)
    return nll.view(len(tokens), groups, -1).sum(1)

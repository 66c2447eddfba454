"""The model's bound on what stands in the holes, and how likely it finds each token."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.schedules import Schedule
from unmask.sampling.draws import Purpose, uniforms
from unmask.sampling.step import rank
from unmask.types import Lengths, Logits, Positions, Tokens

CHUNK = 32


def masked_nll(
    denoiser: Denoiser, schedule: Schedule, tokens: Tokens, hidden: Positions, lengths: Lengths
) -> Float[Tensor, "B L"]:
    """-log p of each hidden token given the others, nats; 0 elsewhere."""
    nll = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
    for rows, part, log_probs in hidden_log_probs(denoiser, schedule, tokens, hidden, lengths):
        found = torch.zeros(part.shape, dtype=torch.float64, device=tokens.device)
        found[part] = -log_probs.gather(-1, tokens[rows][part][:, None])[:, 0].double()
        nll[rows] = found
    return nll


def hidden_log_probs(
    denoiser: Denoiser, schedule: Schedule, tokens: Tokens, hidden: Positions, lengths: Lengths
) -> Iterator[tuple[Int[Tensor, " R"], Positions, Logits]]:
    """For some rows at a time: which they are, what is hidden in them, and log p there given the rest."""
    for rows in torch.arange(len(tokens), device=tokens.device).split(CHUNK):
        part, size = hidden[rows], lengths[rows]
        # the time at which this share is masked
        t = schedule.inverse(1 - part.sum(-1) / size).clamp(0, 1)
        canvas = tokens[rows].masked_fill(part, denoiser.mask_id)
        padded = None if bool((size == tokens.shape[1]).all()) else size
        with torch.no_grad():
            yield rows, part, denoiser(canvas, t, lengths=padded, select=part).log_probs


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
    every, hidden, lengths = in_groups(tokens, scored, groups)
    nll = masked_nll(denoiser, schedule, tokens[every], hidden, lengths)
    return nll.view(len(tokens), groups, -1).sum(1)


def disagreement(
    denoiser: Denoiser, schedule: Schedule, tokens: Tokens, scored: Positions, groups: int = 8
) -> Float[Tensor, "B L"]:
    """How much likelier than each scored token the model finds its first choice there, in [0, 1]; 0 where they are one."""
    every, hidden, lengths = in_groups(tokens, scored, groups)
    gap = torch.zeros(hidden.shape, dtype=torch.float64, device=tokens.device)
    for rows, part, log_probs in hidden_log_probs(denoiser, schedule, tokens[every], hidden, lengths):
        found = torch.zeros(part.shape, dtype=torch.float64, device=tokens.device)
        probs = log_probs.double().exp()
        found[part] = probs.amax(-1) - probs.gather(-1, tokens[every[rows]][part][:, None])[:, 0]
        gap[rows] = found
    return gap.view(len(tokens), groups, -1).sum(1)


def in_groups(
    tokens: Tokens, scored: Positions, groups: int
) -> tuple[Int[Tensor, " R"], Bool[Tensor, "R L"], Int[Tensor, " R"]]:
    """Each row `groups` times, with another every-`groups`-th scored token hidden; and their lengths."""
    number = scored.cumsum(-1) - 1
    hidden = torch.stack([scored & (number % groups == group) for group in range(groups)], 1).flatten(0, 1)
    every = torch.arange(len(tokens), device=tokens.device).repeat_interleave(groups)
    return every, hidden, torch.full((len(every),), tokens.shape[1], device=tokens.device)

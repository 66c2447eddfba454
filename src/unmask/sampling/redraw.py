"""Sampling under uniform noise: every open position is redrawn from the posterior at each step; there are no masks."""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.diffusion.corruption import Corruption
from unmask.diffusion.denoiser import Denoiser
from unmask.sampling.controls import Controls
from unmask.sampling.draws import Purpose, categorical, uniforms
from unmask.sampling.frame import Frame, State
from unmask.sampling.review import SelfCorrection
from unmask.sampling.step import rank
from unmask.types import Lengths, Tokens


def redraw(
    denoiser: Denoiser,
    canvas: Tokens,
    corruption: Corruption,
    *,
    steps: Int[Tensor, " B"],
    seeds: Int[Tensor, " B"],
    controls: Controls,
    lengths: Lengths | None = None,
) -> Iterator[Frame]:
    """Fill every mask of a canvas by the reverse process of `corruption` (see `denoise` for the arguments).

    Masks start as random tokens. At each row's last step the model's own clean tokens are drawn, with its controls.
    """
    if bool((steps < 1).any()):
        raise ValueError(f"steps must be at least 1, not {int(steps.min())}")
    rows, length = canvas.shape
    lengths = torch.full((rows,), length, device=canvas.device) if lengths is None else lengths
    is_open = (canvas == denoiser.mask_id) & (torch.arange(length, device=canvas.device) < lengths[:, None])
    owner, place = is_open.nonzero().unbind(-1)
    noise = (uniforms(seeds, -1, length, Purpose.TOKEN) * (corruption.vocab_size - 1)).long()
    given = (torch.arange(length, device=canvas.device) < lengths[:, None]) & ~is_open
    tokens = torch.where(is_open, noise, canvas)
    states = torch.where(is_open, State.NEW, State.PROMPT)
    confidence = (~is_open).float()
    nfe = torch.zeros(rows, dtype=torch.long, device=canvas.device)
    yield Frame(0, torch.ones(rows, device=canvas.device), tokens, states, confidence, nfe, lengths)
    for step in range(int(steps[is_open.any(-1)].max()) if len(owner) else 0):
        t, s = ((1 - index / steps).clamp(min=0) for index in (step, step + 1))
        # a row that is done stays as it is, and is not computed
        rows = ((t > 0) & is_open.any(-1)).nonzero()[:, 0]
        at = (t > 0)[owner]
        row, where = owner[at], place[at]
        sizes = lengths[rows]
        with torch.no_grad():
            log_probs = denoiser(tokens[rows], t[rows], lengths=sizes, select=is_open[rows]).log_probs
        log_probs = controls.shape(log_probs, tokens, given, row, where)
        u = uniforms(seeds, step, length, Purpose.TOKEN)[row, where]
        final = controls.draw(log_probs, row, u)
        posterior = corruption.posterior(
            tokens[row, where][:, None], log_probs.double().exp()[:, None], s[row].double(), t[row].double()
        )[:, 0]
        drawn = torch.where(s[row] == 0, final, categorical(posterior.log(), u))
        before, tokens, confidence = tokens, tokens.clone(), confidence.clone()
        tokens[row, where] = drawn
        confidence[row, where] = log_probs.gather(-1, drawn[:, None])[:, 0].exp().float()
        changed = torch.where(tokens != before, State.NEW, State.KEPT)
        states = torch.where(is_open, changed, State.PROMPT)
        nfe = nfe.index_add(0, rows, torch.ones_like(rows))
        yield Frame(step + 1, s, tokens, states, confidence, nfe, lengths)


def self_correct(
    denoiser: Denoiser,
    last: Frame,
    review: SelfCorrection,
    *,
    seeds: Int[Tensor, " B"],
    controls: Controls,
) -> Iterator[Frame]:
    """GIDD's self-correction (von Rütte et al., 2025) of a finished text, by a model that also judges visible tokens.

    Each round is one forward pass over the whole text; of the filled tokens to which the model prefers another by more
    than `review.margin`, the share with the largest gap is drawn again. A row is done when there is none left.
    """
    is_open = last.states != State.PROMPT
    is_open &= torch.arange(is_open.shape[1], device=is_open.device) < last.lengths[:, None]
    owner, place = is_open.nonzero().unbind(-1)
    tokens, nfe, confidence = last.tokens, last.nfe, last.confidence
    most = (is_open.sum(-1) * review.share).ceil()
    going = is_open.any(-1)
    for turn in range(review.rounds):
        if not bool(going.any()):
            return
        nfe = nfe + going
        # almost clean: at t = 0 the model would be sure that nothing is wrong
        t = torch.full((len(tokens),), 0.05, device=tokens.device)
        with torch.no_grad():
            log_probs = denoiser(tokens, t, lengths=last.lengths, select=is_open).log_probs
        log_probs = controls.shape(log_probs, tokens, ~is_open, owner, place)
        probs = log_probs.exp()
        old = probs.gather(-1, tokens[owner, place][:, None])[:, 0]
        gap = torch.full(is_open.shape, -1.0, device=tokens.device)
        gap[owner, place] = torch.where(review.confirms(old, probs.amax(-1)), -1.0, probs.amax(-1) - old)
        wrong = (gap > 0) & (rank(gap) < most[:, None]) & going[:, None]
        u = uniforms(seeds, -2 - turn, is_open.shape[1], Purpose.REVIEW)[owner, place]
        drawn = torch.where(wrong[owner, place], controls.draw(log_probs, owner, u), tokens[owner, place])
        before, tokens, confidence = tokens, tokens.clone(), confidence.clone()
        tokens[owner, place] = drawn
        confidence[owner, place] = probs.gather(-1, drawn[:, None])[:, 0].float()
        changed = tokens != before
        going = changed.any(-1)
        states = torch.where(changed, State.NEW, State.KEPT).masked_fill(~is_open, State.PROMPT)
        yield Frame(last.step + turn + 1, last.t, tokens, states, confidence, nfe, last.lengths)

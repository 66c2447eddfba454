"""The one loop: a canvas with masks goes in, every state until no mask is left comes out."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.schedules import Schedule
from unmask.sampling.controls import Controls
from unmask.sampling.draws import Purpose, uniforms
from unmask.sampling.frame import Frame, State
from unmask.sampling.rules import UnmaskRule
from unmask.sampling.scores import Score
from unmask.types import Lengths, Logits, Positions, Times, Tokens


@dataclass(frozen=True)
class Sampler:
    """An order in which positions are revealed.

    Attributes:
        score: how ready a position is.
        rule: which are revealed at each step.
        adaptive: whether the rule itself decides when to stop; then `steps` is only a cap.
    """

    score: Score
    rule: UnmaskRule
    adaptive: bool = False


class Predictions:
    """The denoiser's answers at the masked positions, kept while a row's canvas stays as it is.

    A model that does not read t says the same of the same canvas: a step that reveals nothing costs no forward pass.
    """

    def __init__(self, denoiser: Denoiser, lengths: Lengths, rows: int) -> None:
        self.denoiser = denoiser
        self.lengths = lengths
        self.nfe = torch.zeros(rows, dtype=torch.long, device=lengths.device)
        self._rows = torch.zeros(0, dtype=torch.long, device=lengths.device)
        self._log_probs: Tensor | None = None

    def at(self, tokens: Tokens, masked: Positions, t: Times, changed: Bool[Tensor, " B"]) -> Logits:
        """Log p(x_0 | x_t) at `masked`, in row-major order; `changed` says which rows' canvases are new."""
        if self.denoiser.time_dependent:
            changed = torch.ones_like(changed)
        ask = (changed & masked.any(-1)).nonzero()[:, 0]
        kept = ~changed[self._rows]
        parts, rows = [], [self._rows[kept]]
        if self._log_probs is not None:
            parts.append(self._log_probs[kept])
        if len(ask):
            lengths = self.lengths[ask]
            padded = None if bool((lengths == tokens.shape[1]).all()) else lengths
            with torch.no_grad():
                fresh = self.denoiser(tokens[ask], t[ask], lengths=padded, select=masked[ask])
            parts.append(fresh.log_probs)
            rows.append(ask[masked[ask].nonzero()[:, 0]])
            self.nfe = self.nfe.index_add(0, ask, torch.ones_like(ask))
        self._rows = torch.cat(rows)
        order = self._rows.argsort(stable=True)
        self._rows, self._log_probs = self._rows[order], torch.cat(parts)[order]
        return self._log_probs


def denoise(
    denoiser: Denoiser,
    canvas: Tokens,
    sampler: Sampler,
    *,
    steps: Int[Tensor, " B"],
    seeds: Int[Tensor, " B"],
    controls: Controls,
    lengths: Lengths | None = None,
    trained_with: Schedule | None = None,
) -> Iterator[Frame]:
    """Fill every mask of a canvas.

    Args:
        denoiser: log p(x_0 | x_t).
        canvas: (B, L); the mask's id marks what is to be filled, everything else is kept as it is.
        sampler: score and rule.
        steps: steps of each row, at least 1; at its last step a row reveals what is left.
        seeds: one a row; a row's result depends on its own canvas, settings and seed only.
        controls: temperature, top-k and top-p of each row.
        lengths: real tokens of each row, when rows are padded on the right.
        trained_with: the schedule of the model's training: a model that reads t then hears the time at which the canvas's
            share of masks is the usual one (a prompt makes it smaller than the step says).

    Yields:
        The canvas as given, then one frame a step. No mask is left in the last.

    Raises:
        ValueError: fewer than one step.
        FloatingPointError: the model's output is not a number.
    """
    if bool((steps < 1).any()):
        raise ValueError(f"steps must be at least 1, not {int(steps.min())}")
    rows, length = canvas.shape
    lengths = torch.full((rows,), length, device=canvas.device) if lengths is None else lengths
    valid = torch.arange(length, device=canvas.device) < lengths[:, None]
    tokens = canvas.clone()
    masked = (tokens == denoiser.mask_id) & valid
    total = masked.sum(-1)
    states = torch.where(masked, State.MASKED, State.PROMPT)
    confidence = (~masked).float()
    predictions = Predictions(denoiser, lengths, rows)
    changed = torch.ones(rows, dtype=torch.bool, device=canvas.device)
    step = 0
    while True:
        t = (1 - step / steps).clamp(min=0)
        yield Frame(step, t, tokens, states, confidence, predictions.nfe, lengths)
        if not bool(masked.any()):
            return
        s = (1 - (step + 1) / steps).clamp(min=0)
        heard = t
        if trained_with is not None:
            heard = trained_with.inverse(1 - masked.sum(-1) / lengths.clamp(min=1)).clamp(0, 1)
        log_probs = predictions.at(tokens, masked, heard, changed)
        if bool(log_probs.isnan().any()):
            raise FloatingPointError(f"the model's output is not a number at step {step + 1}")
        owner, place = masked.nonzero().unbind(-1)
        score = torch.full(masked.shape, -torch.inf, dtype=torch.float64, device=canvas.device)
        score[owner, place] = sampler.score(log_probs, uniforms(seeds, step, length, Purpose.SCORE)[owner, place])
        reveal = masked & (sampler.rule(score, masked, s, t, total) | (s == 0)[:, None])

        chosen = reveal[owner, place]
        owner, place, log_probs = owner[chosen], place[chosen], log_probs[chosen]
        drawn = controls.draw(log_probs, owner, uniforms(seeds, step, length, Purpose.TOKEN)[owner, place])
        tokens, confidence = tokens.clone(), confidence.clone()
        tokens[owner, place] = drawn
        confidence[owner, place] = log_probs.gather(-1, drawn[:, None])[:, 0].exp().float()
        states = torch.where(states == State.NEW, State.KEPT, states).masked_fill(reveal, State.NEW)
        masked, changed = masked & ~reveal, reveal.any(-1)
        step += 1

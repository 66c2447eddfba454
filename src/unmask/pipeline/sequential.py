"""Seed 000's first mode: a masked language model writes from left to right, and looks back as it goes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.diffusion.denoiser import Denoised
from unmask.diffusion.schedules import SCHEDULES
from unmask.pipeline.options import Settings
from unmask.pipeline.results import Request
from unmask.sampling.controls import Controls
from unmask.sampling.frame import Frame, State
from unmask.sampling.loop import denoise
from unmask.sampling.picking import Picker, Proposal
from unmask.sampling.rules import One
from unmask.sampling.sampler import Sampler
from unmask.sampling.scores import SCORES, entropies
from unmask.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from unmask.pipeline.pipeline import Pipeline

STRIDE = 1 << 20
"""Between the seeds of one token and the next."""


def one_by_one(pipe: "Pipeline", request: Request, picker: Picker | None, window: int) -> Iterator[Frame]:
    """A frame a token, of all samples of a request; `lengths` says how much no longer changes.

    Two forward passes a token: one writes it, one draws the least sure of the last `window` tokens again.
    """
    settings = Settings(request.options, pipe.tokenizer)
    canvas, mask_id = request.layout.canvases[0], pipe.tokenizer.mask_id
    start, rows = canvas.index(mask_id), settings.samples
    tokens = torch.tensor([canvas[:start]] * rows, device=pipe.device)
    seeds = torch.arange(rows, device=pipe.device) + settings.seed
    controls = Controls.join([settings.controls] * rows).to(pipe.device)
    sampler = Sampler(SCHEDULES["linear"](), SCORES["position"], One(), adaptive=True, picker=picker)
    if sampler.picker is not None:
        sampler = replace(sampler, picker=Onward(sampler.picker, start))
    watch = Watched(pipe)
    doubts = torch.zeros(rows, start, device=pipe.device)
    confidence = torch.ones(rows, start, device=pipe.device)
    nfe = torch.zeros(rows, dtype=torch.long, device=pipe.device)
    steps = torch.ones_like(nfe)
    total = len(canvas) - start
    for number in range(total):
        tokens = torch.cat([tokens, tokens.new_full((rows, 1), mask_id)], 1)
        doubts, confidence = (torch.cat([part, torch.zeros_like(part[:, :1])], 1) for part in (doubts, confidence))
        places = [tokens.shape[1] - 1]
        for turn, place in enumerate([torch.full_like(nfe, places[0]), None]):
            if place is None:
                first = max(start, tokens.shape[1] - window)
                if first == tokens.shape[1] - 1:
                    continue
                place = first + doubts[:, first:].argmax(-1)
            tokens = tokens.scatter(1, place[:, None], mask_id)
            *_, frame = denoise(
                watch,
                tokens,
                sampler,
                steps=steps,
                seeds=seeds + STRIDE * (2 * number + turn + 1),
                controls=controls,
                trained_with=SCHEDULES[pipe.config.diffusion.schedule](),
            )
            tokens, nfe = frame.tokens, nfe + frame.nfe
            doubts = doubts.scatter(1, place[:, None], watch.entropy[:, None])
            confidence = confidence.scatter(1, place[:, None], frame.confidence.gather(1, place[:, None]))
        settled = tokens.shape[1] - window if number < total - 1 else tokens.shape[1]
        states = torch.full_like(tokens, State.NEW)
        states[:, :start] = State.PROMPT
        t = torch.full((rows,), 1 - (number + 1) / total, device=pipe.device)
        lengths = torch.full_like(nfe, max(start, settled))
        yield Frame(number + 1, t, tokens, states, confidence, nfe, lengths)


@dataclass(frozen=True)
class Onward:
    """A picker that takes for given only what the request gave, not what was written since."""

    picker: Picker
    start: int

    def __call__(self, proposal: Proposal) -> Int[Tensor, " N"]:
        """The inner picker's choice."""
        beginning = torch.arange(proposal.tokens.shape[1], device=proposal.tokens.device) < self.start
        return self.picker(replace(proposal, given=beginning.expand_as(proposal.given)))


class Watched:
    """A denoiser that remembers the entropy of what it said last."""

    def __init__(self, pipe: "Pipeline") -> None:
        self.inner = pipe.denoiser
        self.mask_id, self.time_dependent = self.inner.mask_id, self.inner.time_dependent
        self.entropy = torch.zeros(0)

    def __call__(self, xt: Tensor, t: Tensor, *, lengths: Tensor | None = None, select: Tensor) -> Denoised:
        """The same."""
        found = self.inner(xt, t, lengths=lengths, select=select)
        self.entropy = entropies(found.log_probs).float()
        return found


def words(frames: Iterator[Frame], tokenizer: Tokenizer) -> Iterator[str]:
    """The first row's text as it settles, in whole words; the pieces together are the text."""
    said, frame = "", None
    for frame in frames:
        text = tokenizer.decode(frame.tokens[0, : int(frame.lengths[0])].tolist())
        end = max(text.rfind(" "), text.rfind("\n"))
        # a decoder may still join the last word to what follows
        if end > len(said) and text.startswith(said):
            yield text[len(said) : end]
            said = text[:end]
    if frame is not None:
        text = tokenizer.decode(frame.tokens[0].tolist())
        if text.startswith(said):
            yield text[len(said) :]

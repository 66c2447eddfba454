"""The one loop: a canvas with masks goes in, every state until no mask is left comes out."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.schedules import Schedule
from unmask.sampling.controls import Controls
from unmask.sampling.frame import Frame
from unmask.sampling.sampler import Sampler
from unmask.sampling.walk import Walk
from unmask.types import Lengths, Positions, Tokens

Stop = Callable[[Tokens, Positions, Lengths], Lengths]
"""(canvases, masked positions, lengths) -> the lengths at which the texts end; a shorter one ends its row."""


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
    stop: Stop | None = None,
    free: Positions | None = None,
) -> Iterator[Frame]:
    """Fill every mask of a canvas.

    Args:
        denoiser: log p(x_0 | x_t).
        canvas: (B, L); the mask's id marks what is to be filled, everything else is kept as it is.
        sampler: score, rule and revisions.
        steps: steps of each row, at least 1, shared out over its blocks by their sizes (a block takes at least one); at a
            block's last step what is left of it is revealed. Reviews come on top.
        seeds: one a row; a row's result depends on its own canvas, settings and seed only.
        controls: temperature, truncation, penalties and guidance of each row.
        lengths: real tokens of each row, when rows are padded on the right.
        trained_with: the schedule of the model's training: a model that reads t then hears the time at which the canvas's
            share of masks is the usual one (a prompt makes it smaller than the step says).
        stop: says where rows end early.
        free: positions that may be changed, (B, L): the masked ones, which is the default, and the tokens of a draft. Only
            a sampler with doubts ever changes the latter.

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
    walk = Walk(denoiser, canvas, sampler, steps, seeds, controls, lengths, trained_with, free)
    yield walk.frame()
    while walk.goes_on():
        walk.advance()
        if stop is not None:
            walk.cut(stop(walk.tokens, walk.masked, walk.lengths))
        yield walk.frame()

"""From noise to a thought, step by step, perhaps toward a property."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.thought.noise import less_noise
from unmask.types import Times

Predict = Callable[[Float[Tensor, "B *D"], Times], Float[Tensor, "B *D"]]
"""(noisy thought, t) -> the expected clean thought."""
Property = Callable[[Float[Tensor, "B *D"]], Float[Tensor, " B"]]
"""(clean thought) -> a score a row, higher is better; must be differentiable."""


@dataclass(frozen=True)
class ThoughtFrame:
    """One state of a thought that is being denoised.

    Attributes:
        step, t: how far.
        noisy: the thought as it is.
        clean: what it is expected to be.
        score: the property of that, (B,); None without one.
    """

    step: int
    t: float
    noisy: Float[Tensor, "B *D"]
    clean: Float[Tensor, "B *D"]
    score: Tensor | None


def denoise_thought(
    predict: Predict,
    noisy: Float[Tensor, "B *D"],
    *,
    start: float = 1.0,
    steps: int = 20,
    toward: Property | None = None,
    strength: float = 1.0,
) -> Iterator[ThoughtFrame]:
    """Denoise a thought that is at time `start`.

    With a property, each step's expected clean thought is moved up the property's gradient, taken through the denoiser to the
    noisy thought (classifier guidance, Dhariwal & Nichol, 2021): by `strength` times t times a thought's length.

    Yields:
        Every step; the last frame's `clean` is the thought.

    Raises:
        ValueError: fewer than one step, a start outside (0, 1], or a property that is not differentiable.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not 0 < start <= 1:
        raise ValueError(f"start must be in (0, 1], not {start}")
    times = [start * (1 - step / steps) for step in range(steps + 1)]
    for step, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        now, later = (torch.full((len(noisy),), time, device=noisy.device) for time in (t, s))
        if toward is None:
            with torch.no_grad():
                clean, score = predict(noisy, now), None
        else:
            clean, score, uphill = climb(predict, noisy, now, toward)
            clean = clean + strength * t * uphill
        noisy = less_noise(noisy, clean, now, later) if s > 0 else clean
        yield ThoughtFrame(step + 1, s, noisy, clean, score)


def climb(
    predict: Predict, noisy: Float[Tensor, "B *D"], t: Times, toward: Property
) -> tuple[Float[Tensor, "B *D"], Float[Tensor, " B"], Float[Tensor, "B *D"]]:
    """The expected clean thought, its property, and the direction in which it grows, at a mean square of 1 as thoughts are."""
    with torch.enable_grad():
        at = noisy.detach().requires_grad_()
        clean = predict(at, t)
        score = cast(object, toward(clean))
        if not isinstance(score, Tensor) or not score.requires_grad:
            raise ValueError(
                "a property to steer by must be differentiable: compute it from the thought with torch, without .item(), "
                ".detach() or argmax"
            )
        (gradient,) = torch.autograd.grad(score.sum(), at)
    size = gradient.flatten(1).norm(dim=-1).clamp(min=1e-12)
    length = noisy[0].numel() ** 0.5
    return clean.detach(), score.detach(), gradient * (length / size).view(-1, *[1] * (noisy.ndim - 1))

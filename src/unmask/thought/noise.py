"""Noise on thoughts: a Gaussian process beside the text's masks, slower, and gentler where a thought says most.

    z_t = sqrt(1 - t^2) z + t (1 - strength (1 - t) saliency(z)) e,   e ~ N(0, 1)

The share of noise is t^2: less than the share t of masked text at every time ("slower corruption", seed 002). At t = 1
nothing of z is left, its saliency neither, so that generation may start from plain noise.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.types import Times

STRENGTH = 0.5


@dataclass(frozen=True)
class NoisyThought:
    """A thought at time t, and the noise in it (of standard deviation 1)."""

    noisy: Float[Tensor, "B *D"]
    noise: Float[Tensor, "B *D"]


def saliency(thought: Float[Tensor, "B *D"]) -> Float[Tensor, "B *D"]:
    """How much of what a thought says is said by each number, in [0, 1]: its energy, over the largest in the thought."""
    energy = thought.square()
    return energy / energy.flatten(1).amax(-1).clamp(min=1e-12).view(-1, *[1] * (thought.ndim - 1))


def signal_share(t: Times) -> Times:
    """What a clean thought is multiplied by: sqrt(1 - t^2)."""
    return (1 - t.square()).clamp(min=0).sqrt()


def noise_scale(thought: Float[Tensor, "B *D"], t: Times, strength: float = STRENGTH) -> Float[Tensor, "B *D"]:
    """The standard deviation of the noise on each number of a clean thought."""
    t = t.view(-1, *[1] * (thought.ndim - 1))
    return t * (1 - strength * (1 - t) * saliency(thought))


def add_noise(
    thought: Float[Tensor, "B *D"], t: Times, generator: torch.Generator, strength: float = STRENGTH
) -> NoisyThought:
    """A clean thought at time t in [0, 1].

    Raises:
        ValueError: a strength outside [0, 1).
    """
    if not 0 <= strength < 1:
        raise ValueError(f"the strength of saliency must be in [0, 1), not {strength}")
    noise = torch.randn(thought.shape, generator=generator, device=thought.device, dtype=thought.dtype)
    scale = signal_share(t).view(-1, *[1] * (thought.ndim - 1))
    return NoisyThought(scale * thought + noise_scale(thought, t, strength) * noise, noise)


def less_noise(
    noisy: Float[Tensor, "B *D"], clean: Float[Tensor, "B *D"], t: Times, s: Times, strength: float = STRENGTH
) -> Float[Tensor, "B *D"]:
    """From time t to s < t without new noise (DDIM, Song et al., 2021), given what the clean thought is expected to be."""
    shape = (-1, *[1] * (noisy.ndim - 1))
    now, later = signal_share(t).view(shape), signal_share(s).view(shape)
    noise = (noisy - now * clean) / noise_scale(clean, t, strength).clamp(min=1e-6)
    return later * clean + noise_scale(clean, s, strength) * noise

"""Between thoughts: along the sphere on which every memory token lies."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.thought.decoder import on_sphere


def interpolate(a: Float[Tensor, "B *D"], b: Float[Tensor, "B ..."], alpha: float) -> Float[Tensor, "B *D"]:
    """Spherical interpolation of each memory token: alpha 0 is a, 1 is b (slerp, Shoemake, 1985).

    Raises:
        ValueError: alpha outside [0, 1], or thoughts of different dims.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], not {alpha}")
    if a.shape != b.shape:
        raise ValueError(f"thoughts of {tuple(a.shape[1:])} and {tuple(b.shape[1:])} cannot be blended")
    first, second = on_sphere(a.flatten(2)), on_sphere(b.flatten(2))
    cosine = (first * second).mean(-1, keepdim=True).clamp(-1, 1)
    angle = torch.acos(cosine)
    # nearly the same: a straight line is the arc
    narrow = angle < 1e-4
    sine = torch.sin(angle).masked_fill(narrow, 1.0)
    left = torch.where(narrow, 1 - alpha, torch.sin((1 - alpha) * angle) / sine)
    right = torch.where(narrow, alpha, torch.sin(alpha * angle) / sine)
    return on_sphere(left * first + right * second).view(a.shape)


def blend(thoughts: Sequence[Float[Tensor, "B *D"]], weights: Sequence[float] | None = None) -> Float[Tensor, "B *D"]:
    """Several thoughts' weighted mean, put back on the sphere.

    Raises:
        ValueError: no thoughts, not one weight each, a negative one, or none above 0.
    """
    weights = [1.0] * len(thoughts) if weights is None else list(weights)
    if not thoughts or len(weights) != len(thoughts):
        raise ValueError(f"{len(thoughts)} thoughts and {len(weights)} weights cannot be blended: give one each")
    if min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(f"weights must be 0 or more, and not all 0: {weights}")
    mixed = sum(weight * on_sphere(thought.flatten(2)) for weight, thought in zip(weights, thoughts, strict=True))
    assert isinstance(mixed, Tensor)
    return on_sphere(mixed / sum(weights)).view(thoughts[0].shape)

"""Denoising thoughts, freely and toward a property, with denoisers that are exact."""

import pytest
import torch
from torch import Tensor

from unmask.thought.denoising import ThoughtFrame, denoise_thought
from unmask.thought.noise import signal_share

CENTRES = torch.tensor([[[3.0, 0.0]], [[-3.0, 0.0]]])


def two_thoughts(z: Tensor, t: Tensor) -> Tensor:
    """E[thought | z_t] where there are two thoughts, left and right, of equal probability."""
    a = signal_share(t)[:, None, None]
    away = (z[:, None] - a[:, None] * CENTRES).square().flatten(2).sum(-1) / (2 * t[:, None].square())
    weight = torch.softmax(-away, -1)
    return (weight[:, :, None, None] * CENTRES).sum(1)


def noise(rows: int) -> Tensor:
    return torch.randn(rows, 1, 2, generator=torch.Generator().manual_seed(0))


def last(frames: list[ThoughtFrame]) -> Tensor:
    return frames[-1].clean


def to_the_right(z: Tensor) -> Tensor:
    return z[:, 0, 0]


def test_noise_becomes_one_of_the_thoughts_there_are() -> None:
    end = last(list(denoise_thought(two_thoughts, noise(400), steps=50)))
    distance = (end[:, None] - CENTRES).flatten(2).norm(dim=-1).amin(-1)
    assert (distance < 0.2).float().mean() > 0.95
    assert float((end[:, 0, 0] > 0).float().mean()) == pytest.approx(0.5, abs=0.08)


def test_a_property_turns_more_of_them_its_way() -> None:
    frames = list(denoise_thought(two_thoughts, noise(400), steps=50, toward=to_the_right, strength=2.0))
    assert float((last(frames)[:, 0, 0] > 0).float().mean()) > 0.75
    assert frames[0].score is not None
    assert [frame.step for frame in frames] == list(range(1, 51))
    assert frames[-1].t == 0


def test_a_start_on_the_way_stays_near_where_it_was() -> None:
    z = 0.9 * CENTRES[:1].expand(20, -1, -1) + 0.3 * noise(20)
    assert (last(list(denoise_thought(two_thoughts, z, start=0.4, steps=10)))[:, 0, 0] > 2.5).all()


def test_a_property_that_is_not_differentiable_is_refused() -> None:
    for toward in (lambda z: (z[:, 0, 0] > 0).float(), lambda z: z.detach()[:, 0, 0], lambda z: 1.0):
        with pytest.raises(ValueError, match="must be differentiable"):
            list(denoise_thought(two_thoughts, noise(2), toward=toward))  # type: ignore[arg-type]


def test_steps_and_start_are_checked() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1"):
        list(denoise_thought(two_thoughts, noise(2), steps=0))
    with pytest.raises(ValueError, match="start must be in"):
        list(denoise_thought(two_thoughts, noise(2), start=0.0))

"""Between thoughts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.thought.blending import blend, interpolate
from unmask.thought.decoder import on_sphere


def thought(seed: int) -> torch.Tensor:
    z = torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(seed))
    return on_sphere(z.flatten(2)).view(z.shape)


@settings(max_examples=40, deadline=None)
@given(alpha=st.floats(0, 1), seed=st.integers(0, 50))
def test_the_arc_is_walked_at_an_even_pace_and_stays_on_the_sphere(alpha: float, seed: int) -> None:
    a, b = thought(seed), thought(seed + 100)
    between = interpolate(a, b, alpha)
    assert torch.allclose(between.flatten(2).square().mean(-1), torch.ones(2, 3), atol=1e-4)

    def angle(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        # from the chord: acos is useless near 0
        chord = (x - y).flatten(2).square().mean(-1).sqrt()
        return 2 * torch.asin((chord / 2).clamp(max=1))

    assert torch.allclose(angle(a, between), alpha * angle(a, b), atol=1e-3)


def test_the_ends_are_the_thoughts() -> None:
    a, b = thought(0), thought(1)
    assert torch.allclose(interpolate(a, b, 0.0), a, atol=1e-5)
    assert torch.allclose(interpolate(a, b, 1.0), b, atol=1e-5)
    assert torch.allclose(interpolate(a, a, 0.5), a, atol=1e-5)


def test_blends_are_weighted() -> None:
    a, b = thought(0), thought(1)
    assert torch.allclose(blend([a, b], [1.0, 0.0]), a, atol=1e-5)
    assert torch.allclose(blend([a, b]), interpolate(a, b, 0.5), atol=1e-4)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_outside_0_to_1_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\]"):
        interpolate(thought(0), thought(1), alpha)


def test_what_cannot_be_blended_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be blended"):
        interpolate(thought(0), torch.zeros(2, 3, 5), 0.5)
    with pytest.raises(ValueError, match="give one each"):
        blend([thought(0)], [1.0, 2.0])
    with pytest.raises(ValueError, match="not all 0"):
        blend([thought(0)], [0.0])

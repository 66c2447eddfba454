"""The Gaussian process of thoughts, by its moments and by an exact denoiser."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.diffusion.schedules import SCHEDULES
from unmask.thought.noise import add_noise, less_noise, noise_scale, saliency, signal_share


def test_it_is_slower_than_the_text() -> None:
    t = torch.linspace(0.01, 0.99, 99)
    noise = 1 - signal_share(t).square()
    for name in ("linear", "log_linear", "cosine", "cosine_md4"):
        assert (noise <= SCHEDULES[name]().masked(t) + 1e-6).all(), name


def test_a_standard_thought_keeps_its_variance_without_saliency() -> None:
    generator = torch.Generator().manual_seed(0)
    thought = torch.randn(4000, 4, 8, generator=generator)
    for t in (0.0, 0.3, 0.8, 1.0):
        noisy = add_noise(thought, torch.full((4000,), t), generator, strength=0.0).noisy
        assert noisy.var().item() == pytest.approx(1.0, abs=0.02)


def test_saliency_is_the_share_of_the_largest_energy() -> None:
    thought = torch.tensor([[[2.0, -1.0], [0.0, 4.0]]])
    assert saliency(thought).flatten().tolist() == [0.25, 0.0625, 0.0, 1.0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), t=st.floats(0.05, 0.95), strength=st.floats(0.1, 0.9))
def test_important_numbers_get_less_noise(seed: int, t: float, strength: float) -> None:
    thought = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(seed))
    scale = noise_scale(thought, torch.tensor([t]), strength).flatten()
    order = saliency(thought).flatten().argsort()
    assert (scale[order].diff() <= 1e-7).all()
    assert scale.min() > 0
    assert scale.max() <= t + 1e-6


def test_nothing_of_the_thought_is_left_at_the_end() -> None:
    thought = 5 * torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(2)
    assert signal_share(ones).abs().max() == 0
    assert noise_scale(thought, ones).equal(torch.ones_like(thought))
    assert add_noise(thought, torch.zeros(2), torch.Generator()).noisy.equal(thought)


def test_an_exact_denoiser_turns_noise_into_the_right_distribution() -> None:
    # thoughts ~ N(2, 0.5^2), each number on its own: E[z | z_t] in closed form
    mean, variance = 2.0, 0.25
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(5000, 2, 2, generator=generator)
    times = torch.linspace(1, 0, 201)
    for t, s in zip(times[:-1], times[1:], strict=True):
        now = torch.full((5000,), float(t))
        a = signal_share(now)[:, None, None]
        gain = a * variance / (a.square() * variance + now[:, None, None].square())
        clean = mean + gain * (z - a * mean)
        z = less_noise(z, clean, now, torch.full((5000,), float(s)), strength=0.0)
    assert z.mean().item() == pytest.approx(mean, abs=0.02)
    assert z.std().item() == pytest.approx(math.sqrt(variance), abs=0.02)


def test_knowing_the_thought_gives_it_back_from_anywhere() -> None:
    generator = torch.Generator().manual_seed(0)
    thought = torch.randn(3, 4, 8, generator=generator)
    t, s = torch.tensor([0.9, 0.5, 0.2]), torch.tensor([0.4, 0.3, 0.1])
    made = add_noise(thought, t, generator)
    later = less_noise(made.noisy, thought, t, s)
    expected = signal_share(s)[:, None, None] * thought + noise_scale(thought, s) * made.noise
    assert torch.allclose(later, expected, atol=1e-5)
    assert torch.allclose(less_noise(later, thought, s, torch.zeros(3)), thought, atol=1e-5)


def test_a_strength_that_leaves_no_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="strength of saliency"):
        add_noise(torch.zeros(1, 1, 1), torch.zeros(1), torch.Generator(), strength=1.0)

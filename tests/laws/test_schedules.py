"""Each schedule against calculus."""

import math

import pytest
import torch

from quadrature import integrate
from unmask.diffusion.schedules import SCHEDULES

TIMES = torch.linspace(0.001, 0.999, 997, dtype=torch.float64)


@pytest.mark.parametrize("name", SCHEDULES)
def test_alpha_falls_from_one_to_zero(name: str) -> None:
    schedule = SCHEDULES[name]()
    alpha = schedule.alpha(TIMES)
    assert (alpha.diff() <= 0).all()
    ends = schedule.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends[0] == pytest.approx(1, abs=2e-5)
    assert ends[1] == pytest.approx(0, abs=1.1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_dalpha_is_the_derivative_of_alpha(name: str) -> None:
    schedule = SCHEDULES[name]()
    t = TIMES.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(schedule.alpha(t).sum(), t)
    torch.testing.assert_close(schedule.dalpha(TIMES), derivative, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_inverse_undoes_alpha(name: str) -> None:
    schedule = SCHEDULES[name]()
    t = TIMES[schedule.dalpha(TIMES) != 0]
    # geometric noise is flat at both ends, where float64 itself cannot tell times apart
    t = t[(schedule.alpha(t) > 1e-6) & (schedule.alpha(t) < 1 - 1e-9)]
    torch.testing.assert_close(schedule.inverse(schedule.alpha(t)), t, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_weight_keeps_its_precision_in_float32(name: str) -> None:
    schedule = SCHEDULES[name]()
    t = torch.logspace(-6, -0.01, 200, dtype=torch.float64)
    torch.testing.assert_close(schedule.weight(t.float()).double(), schedule.weight(t), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_uniform_model_has_nelbo_log_v(name: str) -> None:
    """E_t[weight(t) * masked share * log V] = log V (alpha(0) - alpha(1)), by quadrature."""
    schedule = SCHEDULES[name]()
    vocabulary = 50
    value = integrate(lambda t: schedule.weight(t) * schedule.masked(t) * math.log(vocabulary))
    ends = schedule.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert value == pytest.approx(math.log(vocabulary) * float(ends[0] - ends[1]), rel=1e-5)


def test_cosine_is_seed_003s_formula() -> None:
    t, s = TIMES, 0.008
    numerator = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    expected = (1 - numerator / math.cos(s / (1 + s) * math.pi / 2) ** 2).clamp(0, 0.999)
    torch.testing.assert_close(SCHEDULES["cosine"]().masked(t), expected)


def test_md4_cosine_is_its_papers_formula() -> None:
    expected = 1 - torch.cos(math.pi / 2 * (1 - TIMES))
    torch.testing.assert_close(SCHEDULES["cosine_md4"]().alpha(TIMES), expected)

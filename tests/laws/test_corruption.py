"""Corruptions and their posteriors by enumeration."""

import pytest
import torch
from torch import Tensor

from unmask.diffusion.corruption import Absorbing, Corruption, Uniform
from unmask.diffusion.schedules import SCHEDULES

VOCAB, MASK = 5, 4
KINDS = {"absorbing": Absorbing, "uniform": Uniform}
DOUBLE = torch.float64


def build(kind: str, schedule: str) -> Corruption:
    return KINDS[kind](SCHEDULES[schedule](), VOCAB, MASK)


def marginal(kind: str, alpha: Tensor) -> Tensor:
    """q(x_t | x_0) as a (V, V) table, written from the definition."""
    noise = torch.zeros(VOCAB, VOCAB, dtype=DOUBLE)
    if kind == "absorbing":
        noise[:, MASK] = 1
    else:
        noise[:, :MASK] = 1 / MASK
    return alpha * torch.eye(VOCAB, dtype=DOUBLE) + (1 - alpha) * noise


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("s", "t"), [(0.1, 0.4), (0.3, 0.9), (0.5, 0.52)])
def test_posteriors_sum_to_one_and_compose(kind: str, schedule: str, s: float, t: float) -> None:
    """sum over x_t of q(x_s | x_t, x_0) q(x_t | x_0) = q(x_s | x_0) for every x_0."""
    corruption = build(kind, schedule)
    times = [torch.tensor([value], dtype=DOUBLE) for value in (s, t)]
    q_s, q_t = (marginal(kind, corruption.schedule.alpha(time)) for time in times)
    for x0 in range(MASK):
        known = torch.zeros(1, VOCAB, VOCAB, dtype=DOUBLE)
        known[..., x0] = 1
        posterior = corruption.posterior(torch.arange(VOCAB)[None], known, *times)[0]
        reachable = q_t[x0] > 0
        torch.testing.assert_close(posterior.sum(-1)[reachable], torch.ones(int(reachable.sum()), dtype=DOUBLE))
        torch.testing.assert_close(q_t[x0] @ posterior, q_s[x0])


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_is_bayes_rule(kind: str) -> None:
    """Against q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0), averaged over a distribution of x_0."""
    corruption = build(kind, "cosine_md4")
    s, t = torch.tensor([0.3], dtype=DOUBLE), torch.tensor([0.7], dtype=DOUBLE)
    alpha_s, alpha_t = corruption.schedule.alpha(s), corruption.schedule.alpha(t)
    q_s, q_t, step = marginal(kind, alpha_s), marginal(kind, alpha_t), marginal(kind, alpha_t / alpha_s)
    p = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0], dtype=DOUBLE)
    for xt in range(VOCAB if kind == "absorbing" else MASK):
        expected = torch.zeros(VOCAB, dtype=DOUBLE)
        for x0 in range(MASK):
            if q_t[x0, xt] > 0:
                # a visible token under masking determines x_0
                weight = p[x0] if kind == "uniform" or xt == MASK else float(x0 == xt)
                expected += weight * step[:, xt] * q_s[x0] / q_t[x0, xt]
        found = corruption.posterior(torch.tensor([[xt]]), p[None, None], s, t)[0, 0]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_has_its_rate(kind: str) -> None:
    corruption = build(kind, "linear")
    x0 = torch.randint(MASK, (200, 500), generator=torch.Generator().manual_seed(0))
    corrupted = corruption.corrupt(x0, torch.full((200,), 0.3), torch.Generator().manual_seed(1))
    changed = (corrupted.xt != x0).float().mean()
    expected = 0.3 if kind == "absorbing" else 0.3 * (1 - 1 / MASK)
    assert changed == pytest.approx(expected, abs=5 * (expected * (1 - expected) / x0.numel()) ** 0.5)
    assert (corrupted.masked == (corrupted.xt == MASK)).all()
    assert (corrupted.replaced == ((corrupted.xt != x0) & ~corrupted.masked)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_left_alone(kind: str) -> None:
    x0 = torch.randint(MASK, (3, 8), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([8, 3, 1])
    corrupted = build(kind, "linear").corrupt(x0, torch.ones(3), torch.Generator().manual_seed(1), lengths=lengths)
    padding = torch.arange(8) >= lengths[:, None]
    assert (corrupted.xt[padding] == x0[padding]).all()
    assert not corrupted.scored[padding].any()
    assert (corrupted.valid == ~padding).all()

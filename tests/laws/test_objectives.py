"""Bounds against quantities that are known exactly."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from quadrature import integrate
from unmask.diffusion.corruption import Absorbing, Corrupted, Uniform
from unmask.diffusion.denoiser import Denoised, Subs
from unmask.diffusion.objectives import (
    CrossEntropy,
    Nelbo,
    UniformCrossEntropy,
    UniformNelbo,
    absorbing_bound,
    uniform_bound,
)
from unmask.diffusion.schedules import SCHEDULES
from unmask.diffusion.times import TIMES

PRIOR = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
ENTROPY = float(-(PRIOR * PRIOR.log()).sum())


def single(x0: Tensor, xt: Tensor, t: Tensor, scored: Tensor) -> Corrupted:
    """A batch of one-token texts."""
    blank = torch.zeros_like(scored)
    return Corrupted(x0, xt, t, scored, blank, x0, scored, torch.ones_like(scored), torch.ones_like(t))


@pytest.mark.parametrize("schedule", ["linear", "cosine_md4", "polynomial"])
def test_exact_denoiser_of_one_token_has_nelbo_equal_to_the_entropy_under_masks(schedule: str) -> None:
    curve = SCHEDULES[schedule]()

    def integrand(t: Tensor) -> Tensor:
        total = torch.zeros_like(t)
        for x0, p in enumerate(PRIOR):
            scored = torch.ones(len(t), 1, dtype=torch.bool)
            batch = single(torch.full((len(t), 1), x0), torch.full((len(t), 1), 4), t, scored)
            nll = torch.full((len(t),), -math.log(p), dtype=torch.float64)
            # the token is masked with probability m(t); otherwise the term is 0
            total = total + p * curve.masked(t) * absorbing_bound(nll, batch, curve)
        return total

    assert integrate(integrand) == pytest.approx(ENTROPY, rel=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "cosine_md4", "polynomial"])
def test_exact_denoiser_of_one_token_has_nelbo_equal_to_the_entropy_under_uniform_noise(schedule: str) -> None:
    """With alpha(1) = 0 the continuous-time bound of an exact model is tight: it is the entropy itself."""
    curve = SCHEDULES[schedule]()
    eye = torch.eye(4, dtype=torch.float64)

    def integrand(t: Tensor) -> Tensor:
        alpha = curve.alpha(t)[:, None, None]
        forward = alpha * eye + (1 - alpha) / 4
        joint = PRIOR[:, None] * forward
        log_posterior = (joint / joint.sum(1, keepdim=True)).log()
        total = torch.zeros_like(t)
        for x0, xt in product(range(4), range(4)):
            scored = torch.ones(len(t), 1, dtype=torch.bool)
            batch = single(torch.full((len(t), 1), x0), torch.full((len(t), 1), xt), t, scored)
            log_probs = torch.cat([log_posterior[:, :, xt], torch.full((len(t), 1), -torch.inf)], -1)
            total = total + joint[:, x0, xt] * uniform_bound(Denoised(log_probs, scored), batch, curve)
        return total

    assert integrate(integrand) == pytest.approx(ENTROPY, rel=1e-4)


def test_uniform_bound_is_the_limit_of_discrete_steps() -> None:
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) / (t - s) from the corruption's own posterior, with a wrong model."""
    curve = SCHEDULES["linear"]()
    corruption = Uniform(curve, 5, 4)
    model = torch.tensor([[0.4, 0.3, 0.2, 0.1, 0.0]], dtype=torch.float64)
    t = torch.tensor([0.6], dtype=torch.float64)
    for x0, xt in product(range(4), range(4)):
        scored = torch.ones(1, 1, dtype=torch.bool)
        tokens = torch.tensor([[xt]])
        found = uniform_bound(Denoised(model.log(), scored), single(torch.tensor([[x0]]), tokens, t, scored), curve)
        known = torch.nn.functional.one_hot(torch.tensor([[x0]]), 5).double()
        small = 1e-5
        true = corruption.posterior(tokens, known, t - small, t)[0, 0, :4]
        ours = corruption.posterior(tokens, model[None], t - small, t)[0, 0, :4]
        divergence = float((true * (true / ours).log()).sum()) / small
        assert float(found) == pytest.approx(divergence, rel=1e-3, abs=1e-4)


def random_case(seed: int, scored_share: float = 0.5) -> tuple[Corrupted, Denoised]:
    generator = torch.Generator().manual_seed(seed)
    corruption = Absorbing(SCHEDULES["linear"](), 7, 6)
    x0 = torch.randint(6, (5, 11), generator=generator)
    corrupted = corruption.corrupt(x0, torch.rand(5, generator=generator) * 0.9 + 0.1, generator)
    logits = torch.randn(int(corrupted.scored.sum()), 7, generator=generator)
    return corrupted, Denoised(logits.log_softmax(-1), corrupted.scored)


def test_nelbo_is_mdlms_formula() -> None:
    """Re-derived row by row: 1/t for the linear schedule, the *sum* over masked tokens, divided by L."""
    corrupted, denoised = random_case(0)
    index, expected = 0, 0.0
    for row in range(5):
        for place in range(11):
            if corrupted.masked[row, place]:
                expected -= (
                    float(denoised.log_probs[index, corrupted.x0[row, place]]) / float(corrupted.t[row]) / 11 / 5
                )
                index += 1
    loss = Nelbo(SCHEDULES["linear"]())(denoised, corrupted)
    assert float(loss.value) == pytest.approx(expected, rel=1e-5)


def test_nelbo_is_md4s_formula() -> None:
    """MD4 weighs by alpha'(t) / (1 - alpha(t)) with its own cosine."""
    corrupted, denoised = random_case(1)
    half = math.pi / 2
    t = corrupted.t
    weight = -(half * torch.sin(half * (1 - t))) / (1 - (1 - torch.cos(half * (1 - t)))) * -1
    dense = torch.zeros(5, 11)
    dense[corrupted.scored] = -denoised.log_probs.gather(-1, corrupted.x0[corrupted.scored][:, None])[:, 0]
    loss = Nelbo(SCHEDULES["cosine_md4"]())(denoised, corrupted)
    assert float(loss.value) == pytest.approx(float((weight * dense.sum(-1) / 11).mean()), rel=1e-4)


def test_cross_entropy_is_the_mean_over_masked_tokens_and_reports_the_bound() -> None:
    corrupted, denoised = random_case(2)
    expected = torch.nn.functional.nll_loss(denoised.log_probs, corrupted.x0[corrupted.scored])
    loss = CrossEntropy(SCHEDULES["linear"]())(denoised, corrupted)
    torch.testing.assert_close(loss.value, expected)
    torch.testing.assert_close(
        loss.metrics["nelbo"], Nelbo(SCHEDULES["linear"]())(denoised, corrupted).value, rtol=1e-5, atol=1e-6
    )


def test_a_batch_without_masks_has_loss_zero() -> None:
    corrupted, _ = random_case(3)
    none = torch.zeros_like(corrupted.scored)
    empty = single(corrupted.x0, corrupted.x0, corrupted.t, none)
    denoised = Denoised(torch.zeros(0, 7), none)
    for objective in (Nelbo(SCHEDULES["linear"]()), CrossEntropy(SCHEDULES["linear"]())):
        loss = objective(denoised, empty)
        assert float(loss.value) == 0
        assert all(torch.isfinite(value) for value in loss.metrics.values())


def test_uniform_cross_entropy_reports_the_uniform_bound() -> None:
    corruption = Uniform(SCHEDULES["linear"](), 7, 6)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randint(6, (4, 9), generator=generator)
    corrupted = corruption.corrupt(x0, torch.rand(4, generator=generator), generator)
    logits = torch.randn(36, 7, generator=generator)
    logits[:, 6] = -torch.inf
    denoised = Denoised(logits.log_softmax(-1), corrupted.scored)
    plain, bound = (kind(SCHEDULES["linear"]())(denoised, corrupted) for kind in (UniformCrossEntropy, UniformNelbo))
    torch.testing.assert_close(plain.metrics["nelbo"], bound.value)
    torch.testing.assert_close(plain.value, -denoised.log_probs.gather(-1, x0.view(-1, 1)).mean())


def test_subs_never_predicts_the_mask_and_computes_only_the_selected() -> None:
    seen: list[Tensor] = []

    def backbone(tokens: Tensor, t: Tensor, *, lengths: Tensor | None, select: Tensor) -> Tensor:
        seen.append(select)
        return torch.zeros(int(select.sum()), 7)

    xt = torch.tensor([[6, 1, 6], [2, 6, 3]])
    denoised = Subs(backbone, 6)(xt, torch.ones(2), select=xt == 6)
    assert (seen[0] == (xt == 6)).all()
    assert denoised.log_probs.shape == (3, 7)
    assert (denoised.log_probs[:, 6] == -torch.inf).all()
    torch.testing.assert_close(denoised.log_probs.exp().sum(-1), torch.ones(3))


@pytest.mark.parametrize("name", TIMES)
def test_time_samplers_are_unbiased(name: str) -> None:
    """E[importance * f(t)] = integral of f, after the importance sampler has learned a steep loss."""
    sampler, generator = TIMES[name](), torch.Generator().manual_seed(0)
    for _ in range(50):
        t, _ = sampler.sample(64, generator)
        sampler.update(t, 5 * t**3 + 0.1)
    draws = [sampler.sample(64, generator) for _ in range(2000)]
    t, weight = (torch.cat(part) for part in zip(*draws, strict=True))
    assert ((t > 0) & (t <= 1)).all()
    assert float((weight * t**3).mean()) == pytest.approx(0.25, abs=0.004)
    assert float(weight.mean()) == pytest.approx(1, abs=0.01)


def test_importance_sampling_lowers_the_variance() -> None:
    errors = {}
    for name in ("antithetic", "importance"):
        sampler, generator = TIMES[name](), torch.Generator().manual_seed(0)
        noise = torch.Generator().manual_seed(1)
        estimates = []
        for step in range(600):
            t, weight = sampler.sample(16, generator)
            # a loss whose noise, too, is all at late times
            loss = t**4 * torch.randn(16, generator=noise).exp()
            sampler.update(t, loss)
            if step >= 100:
                estimates.append((weight * loss).mean())
        errors[name] = float(torch.stack(estimates).std())
    assert errors["importance"] < 0.8 * errors["antithetic"]


def test_antithetic_times_put_one_in_each_part() -> None:
    t, _ = TIMES["antithetic"]().sample(32, torch.Generator().manual_seed(3))
    parts = ((1 - t) * 32).floor().long().sort().values
    # one shift moves all of them by less than a part
    assert len(parts.unique()) >= 31


def test_importance_state_survives_saving() -> None:
    first, second = TIMES["importance"](), TIMES["importance"]()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        t, _ = first.sample(64, generator)
        first.update(t, t)
    second.load_state_dict(first.state_dict())
    a, b = (sampler.sample(64, torch.Generator().manual_seed(9)) for sampler in (first, second))
    assert (a[0] == b[0]).all()
    assert (a[1] == b[1]).all()

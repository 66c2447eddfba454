"""Three estimates of the same bound agree: Monte Carlo over t, exact k, and the chain rule of an exact model."""

import pytest
import torch
from joint import Joint, correlated_joint

from unmask.diffusion.corruption import Absorbing
from unmask.diffusion.objectives import Nelbo
from unmask.diffusion.schedules import SCHEDULES
from unmask.evaluation.likelihood import evaluate_likelihood


def texts_of(joint: Joint, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return joint.texts[torch.multinomial(joint.probs, rows, replacement=True, generator=generator)]


@pytest.mark.parametrize("schedule", ["linear", "cosine_md4", "cosine"])
def test_exact_k_monte_carlo_and_the_chain_rule_agree(schedule: str) -> None:
    """For an exact denoiser the bound is tight: all three are -log p(x) / L."""
    joint = correlated_joint(kinds=3, length=4)
    rows = texts_of(joint, 1500)
    truth = float(-joint.probs[joint.index(rows)].log().mean() / 4)
    curve = SCHEDULES[schedule]()
    corruption = Absorbing(curve, 4, 3)
    exact, sampled = (
        evaluate_likelihood(joint, rows, corruption, Nelbo(curve), exact_k=exact_k, draws=16)
        for exact_k in (True, False)
    )
    # the text is the same, so only the corruptions' noise is left, far below the interval over texts
    assert exact.nelbo.mean == pytest.approx(truth, abs=0.4 * exact.nelbo.ci95)
    # the monte carlo bound stops where its schedule stops
    range_of_alpha = float((curve.alpha(torch.zeros(1)) - curve.alpha(torch.ones(1)))[0])
    assert sampled.nelbo.mean == pytest.approx(truth * range_of_alpha, abs=0.8 * sampled.nelbo.ci95 + 0.01)


def test_a_uniform_model_scores_log_v_in_bits_a_byte_too() -> None:
    joint = Joint(torch.full((2**6,), 2.0**-6, dtype=torch.float64), 2, 6)
    curve = SCHEDULES["linear"]()
    result = evaluate_likelihood(joint, texts_of(joint, 40), Absorbing(curve, 3, 2), Nelbo(curve), bytes_per_token=2.0)
    assert result.nelbo.mean == pytest.approx(0.6931, abs=1e-3)
    assert result.bits_per_byte is not None
    assert result.bits_per_byte.mean == pytest.approx(0.5, abs=1e-3)
    assert result.perplexity_bound == pytest.approx(2, abs=1e-3)
    assert result.masked_ce.mean == pytest.approx(0.6931, abs=1e-3)


def test_the_interval_covers_the_truth_about_19_times_in_20() -> None:
    joint = correlated_joint(kinds=2, length=4)
    curve = SCHEDULES["linear"]()
    entropy = float(-(joint.probs * joint.probs.log()).sum() / 4)
    hits = 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        rows = joint.texts[torch.multinomial(joint.probs, 100, replacement=True, generator=generator)]
        found = evaluate_likelihood(joint, rows, Absorbing(curve, 3, 2), Nelbo(curve), draws=4, seed=seed).nelbo
        hits += abs(found.mean - entropy) <= found.ci95
    assert 50 <= hits <= 60

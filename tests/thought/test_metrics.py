"""Metrics on thoughts whose answers are known."""

import math

import pytest
import torch

from unmask.thought.metrics import (
    effective_rank,
    entropy,
    recovered,
    recovered_by_dimension,
    retrieval_accuracy,
    spread,
    stability,
    step_variance,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_effective_rank_counts_directions() -> None:
    basis = torch.linalg.qr(normal(20, 20)).Q
    for rank in (1, 3, 8):
        inside = torch.cat([basis[:rank], -basis[:rank]])
        assert effective_rank(inside) == pytest.approx(rank, rel=1e-6)
    assert effective_rank(torch.ones(5, 3, 3)) == 1.0
    assert spread(torch.ones(5, 3, 3)) == 0.0
    assert spread(normal(4000, 4)) == pytest.approx(1.0, abs=0.03)


def test_stability_is_a_correlation() -> None:
    first = normal(50, 6, 40)
    noise = normal(50, 6, 40, seed=1)
    rho = 0.8
    path = torch.stack([first, rho * first + math.sqrt(1 - rho**2) * noise])
    assert stability(path) == pytest.approx(rho, abs=0.02)
    assert stability(first.expand(3, -1, -1, -1)) == pytest.approx(1.0)
    assert stability(torch.stack([first, -first])) == pytest.approx(-1.0)
    assert step_variance(first.expand(2, -1, -1, -1)) == 0
    assert step_variance(torch.stack([first, noise])) == pytest.approx(2.0, abs=0.1)


def test_retrieval_finds_its_own() -> None:
    texts = normal(30, 16)
    assert retrieval_accuracy(2 * texts + 0.01 * normal(30, 16, seed=1), texts) == 1.0
    assert retrieval_accuracy(texts.roll(1, 0), texts) == 0.0


def test_a_probe_recovers_what_is_there() -> None:
    thoughts = normal(400, 3, 4)
    texts = thoughts.flatten(1) @ normal(12, 5, seed=1)
    assert recovered(thoughts.flatten(1), texts, ridge=1e-6) > 0.999
    assert recovered(normal(400, 12, seed=2), texts) < 0.05
    by_dimension = recovered_by_dimension(thoughts, texts, [1, 6, 12, 99])
    assert list(by_dimension) == [1, 6, 12]
    assert by_dimension[1] < by_dimension[6] < by_dimension[12]
    with pytest.raises(ValueError, match="at least 4"):
        recovered(thoughts[:3].flatten(1), texts[:3])


def test_entropy_of_normal_thoughts_is_0_and_falls_with_their_spread() -> None:
    thoughts = normal(5000, 4, 4)
    assert entropy(thoughts) == pytest.approx(0, abs=0.02)
    assert entropy(thoughts / 2) == pytest.approx(-math.log(2), abs=0.02)

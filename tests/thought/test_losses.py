"""Each loss: its minimum, that its gradient leads there, and its bound."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unmask.thought.decoder import on_sphere
from unmask.thought.losses import (
    alignment,
    coherence_loss,
    consistency_loss,
    curriculum,
    diversity_loss,
    sparsity_loss,
    thought_loss,
)
from unmask.thought.metrics import effective_rank, spread

TARGET = on_sphere(torch.randn(16, 4, 8, generator=torch.Generator().manual_seed(1)))
YES = torch.ones(16, dtype=torch.bool)


def start(seed: int = 0) -> Tensor:
    return torch.randn(16, 4, 8, generator=torch.Generator().manual_seed(seed))


def descend(loss: Callable[[Tensor], Tensor], steps: int = 300, lr: float = 0.05) -> tuple[Tensor, float, float]:
    """Adam on the thoughts themselves, which stay on the sphere: the end, and the loss before and after."""
    free = start().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=lr)
    first = float(loss(on_sphere(free)).detach())
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(on_sphere(free))
        value.backward()
        optimizer.step()
    return on_sphere(free).detach(), first, float(loss(on_sphere(free)).detach())


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: thought_loss(z, TARGET),
        lambda z: coherence_loss(z, TARGET, 1.0),
        lambda z: consistency_loss(z, TARGET, YES),
    ],
    ids=["thought", "coherence", "consistency"],
)
def test_the_target_is_the_minimum_and_the_gradient_finds_it(loss: Callable[[Tensor], Tensor]) -> None:
    _, first, last = descend(loss)
    assert last < 0.02 * first
    assert float(loss(TARGET)) == pytest.approx(0, abs=1e-9)


def test_coherence_looks_at_the_first_part_only_and_at_likeness_only() -> None:
    cut = TARGET.clone().requires_grad_()
    coherence_loss(cut, start(3), 0.75).backward()
    assert cut.grad is not None
    assert cut.grad[..., 6:].abs().max() == 0
    assert cut.grad[..., :6].abs().max() > 0
    assert float(coherence_loss(3 * TARGET, TARGET, 1.0)) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="compression ratio"):
        coherence_loss(TARGET, TARGET, 0.0)


def test_consistency_asks_nothing_where_there_was_no_thought_before() -> None:
    none = torch.zeros(16, dtype=torch.bool)
    assert float(consistency_loss(start(), TARGET, none)) == 0
    one = none.clone()
    one[3] = True
    expected = (start()[3] - TARGET[3]).square().mean()
    assert float(consistency_loss(start(), TARGET, one)) == pytest.approx(float(expected))
    opposite = float(consistency_loss(-TARGET, TARGET, YES))
    assert opposite == pytest.approx(4.0, abs=1e-4)


def test_alignment_is_log_of_the_batch_for_strangers_and_0_for_pairs() -> None:
    same = torch.ones(8, 4)
    strangers = alignment(same, same)
    assert float(strangers.loss) == pytest.approx(math.log(8))
    pairs = alignment(torch.eye(8), 3 * torch.eye(8), temperature=0.01)
    assert float(pairs.loss) < 1e-6
    assert float(pairs.accuracy) == 1.0
    swapped = alignment(torch.eye(8), torch.eye(8).roll(1, 0))
    assert float(swapped.accuracy) == 0.0


def test_the_gradient_of_alignment_brings_pairs_together() -> None:
    texts = torch.randn(16, 32, generator=torch.Generator().manual_seed(2))
    end, first, last = descend(lambda z: alignment(z.flatten(1), texts).loss)
    assert last < 0.05 * first
    assert float(alignment(end.flatten(1), texts).accuracy) == 1.0


def test_diversity_undoes_a_collapse_and_cannot_run_away() -> None:
    same = start()[:1].expand(16, -1, -1) + 1e-3 * start(5)
    free = same.clone().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.05)
    assert float(diversity_loss(free).detach()) == pytest.approx(1.0, abs=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        diversity_loss(free).backward()
        optimizer.step()
    assert spread(free.detach()) > 0.9
    assert effective_rank(free.detach()) > 10
    # past a deviation of 1 nothing more is gained: numbers stay where they are
    assert float(free.detach().abs().max()) < 10
    assert float(diversity_loss(100 * torch.randn(5000, 1, 3))) < float(diversity_loss(1e4 * torch.randn(5000, 1, 3)))


def test_diversity_equals_the_covariance_written_out() -> None:
    z = start(7)
    covariance = torch.cov(z.flatten(1).T)
    off = covariance - torch.diag(covariance.diagonal())
    shortfall = torch.relu(1 - (covariance.diagonal() + 1e-4).sqrt()).mean()
    assert float(diversity_loss(z)) == pytest.approx(float(shortfall + off.square().sum() / 32**2), rel=1e-5)


def test_sparsity_is_least_where_one_number_says_everything() -> None:
    _, first, last = descend(sparsity_loss, steps=600)
    assert last == pytest.approx(8**-0.5, rel=0.15)  # one of 8 numbers, of size sqrt(8)
    assert last < first


def test_the_curriculum_rises_to_1_and_stays() -> None:
    assert [curriculum(step, 4) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert curriculum(0, 0) == 1

"""The figures of repair, against counting."""

import torch

from unmask.evaluation.repairing import area_under_curve, damage, repair_quality


def test_area_under_curve_is_the_share_of_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.randint(0, 5, (7, 9), generator=generator).float()
    positive = torch.rand(7, 9, generator=generator) < 0.3
    above, below = score[positive], score[~positive]
    pairs = (above[:, None] > below).double() + 0.5 * (above[:, None] == below).double()
    assert abs(area_under_curve(score, positive) - float(pairs.mean())) < 1e-12
    assert area_under_curve(positive.float(), positive) == 1
    assert area_under_curve(torch.ones(7, 9), positive) == 0.5
    assert area_under_curve(score, torch.zeros(7, 9, dtype=torch.bool)) != area_under_curve(score, positive)


def test_damage_is_what_is_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randint(0, 8, (400, 50), generator=generator)
    x0 = x0 + (x0 >= 3).long()
    damaged = damage(x0, 3, 9, 0.1, generator)
    assert not (damaged == 3).any()
    share = float((damaged != x0).double().mean())
    assert abs(share - 0.1) < 5 * (0.09 / x0.numel()) ** 0.5


def test_what_is_restored_and_what_is_harmed() -> None:
    x0 = torch.tensor([[0, 1, 2, 3, 4, 5]])
    damaged = torch.tensor([[0, 1, 9, 9, 4, 5]])
    repaired = torch.tensor([[7, 1, 2, 9, 4, 5]])
    doubt = torch.tensor([[0.9, 0.1, 0.8, 0.1, 0.1, 0.0]])
    found = repair_quality(x0, damaged, repaired, doubt)
    assert (found.restored, found.harmed, found.wrong, found.right) == (0.5, 0.25, 2, 4)
    # 8 pairs: 0.8 beats 0.1, 0.1, 0.0 and not 0.9; 0.1 ties with two and beats one
    assert found.auc == (3 + 1 + 1) / 8

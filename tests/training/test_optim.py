"""Optimizers, learning rates, precision."""

import pytest
import torch

from conftest import random_model
from unmask.backbones.precision import resolve_precision
from unmask.config import OptimConfig
from unmask.training.checkpoint import Average
from unmask.training.optim import build_optimizers, set_lr


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = random_model(bias=True)
    adamw, muon = build_optimizers(model, OptimConfig(), torch.device("cpu"))
    ids = {id(parameter) for group in muon.param_groups for parameter in group["params"]}
    expected = {id(p) for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}
    assert ids == expected
    rest = {id(parameter) for group in adamw.param_groups for parameter in group["params"]}
    assert rest == {id(p) for p in model.parameters()} - expected
    assert type(muon) is torch.optim.Muon


def test_vectors_are_never_decayed() -> None:
    (adamw,) = build_optimizers(random_model(), OptimConfig(name="adamw", weight_decay=0.1), torch.device("cpu"))
    for group in adamw.param_groups:
        assert group["weight_decay"] == (0.0 if group["params"][0].ndim < 2 else 0.1)


def test_learning_rates_against_torchs_schedulers() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    for name, scheduler in (
        ("linear", lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, 90)),
        ("cosine", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 90, 0.1)),
    ):
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        theirs = scheduler(optimizer)
        config = OptimConfig(schedule=name, warmup=10)
        for step in range(90):
            assert config.lr_scale(10 + step, 100) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
            optimizer.step()
            theirs.step()
        assert [round(config.lr_scale(step, 100), 3) for step in (0, 4, 9)] == [0.1, 0.5, 1.0]


def test_set_lr_keeps_the_ratio_of_the_groups() -> None:
    optimizers = build_optimizers(random_model(), OptimConfig(lr=0.1, muon_lr=0.4), torch.device("cpu"))
    set_lr(optimizers, 0.5)
    rates = {group["lr"] for optimizer in optimizers for group in optimizer.param_groups}
    assert rates == {0.05, 0.2}


def test_the_average_is_an_exponential_one() -> None:
    weights = {"a": torch.tensor([0.0])}
    average = Average(weights, 0.5)
    weights["a"] = torch.tensor([1.0])
    for step in range(100, 103):
        average.update(weights, step)
    assert float(average.weights["a"]) == pytest.approx(1 - 0.5**3)


def test_precision_is_taken_at_its_word() -> None:
    assert resolve_precision("fp32") == "fp32"
    assert resolve_precision("bf16") == "bf16"
    assert resolve_precision("auto") in ("fp32", "bf16")


@pytest.mark.parametrize("values", [{"lr": 0.0}, {"muon_lr": -1.0}, {"clip": -1.0}, {"warmup": -1}])
def test_values_that_cannot_train_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"optim.{next(iter(values))}"):
        OptimConfig(**values)

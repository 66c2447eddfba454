"""Optimizers and learning-rate schedules: AdamW, or Muon for the matrices and AdamW for the rest."""

import torch
from torch import nn
from torch.optim import Optimizer

from unmask.backbones.lowrank import is_adapter
from unmask.config import OptimConfig


def build_optimizers(model: nn.Module, config: OptimConfig, device: torch.device) -> list[Optimizer]:
    """One optimizer for each kind of parameter, each group remembering its peak as `peak_lr`."""
    hidden: list[nn.Parameter] = []
    tables: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif config.name == "muon" and "blocks." in name and not is_adapter(name):
            hidden.append(parameter)
        else:
            tables.append(parameter)
    groups = [
        {"params": tables, "lr": config.lr, "peak_lr": config.lr, "weight_decay": config.weight_decay},
        {"params": vectors, "lr": config.lr, "peak_lr": config.lr, "weight_decay": 0.0},
    ]
    fused = device.type in ("cuda", "cpu")
    filled = [group for group in groups if group["params"]]
    optimizers: list[Optimizer] = [torch.optim.AdamW(filled, betas=config.betas, eps=1e-10, fused=fused)]
    if hidden:
        muon = torch.optim.Muon(
            [{"params": hidden, "lr": config.muon_lr, "peak_lr": config.muon_lr}],
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            ns_steps=config.ns_steps,
        )
        optimizers.append(muon)
    return optimizers


def set_lr(optimizers: list[Optimizer], scale: float) -> None:
    """Every group's learning rate = its peak * scale."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * scale
